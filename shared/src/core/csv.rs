//! CSV by RFC 4180: fields joined by commas and quoted where necessary, lines that end in CR LF.

/// Appends a row to `text`.
///
/// A field that begins with `=`, `+`, `-` or `@` is not escaped, although a spreadsheet reads it as
/// a formula: the callers' fields are constants, numbers, times, and ids, which begin with a letter
/// or a digit.
pub fn write_row(text: &mut String, fields: &[&str]) {
    for (position, field) in fields.iter().enumerate() {
        if position > 0 {
            text.push(',');
        }
        if field.contains([',', '"', '\r', '\n']) {
            text.push('"');
            text.push_str(&field.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(field);
        }
    }
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads one line of fields, by the grammar of RFC 4180.
    fn read(line: &str) -> Vec<String> {
        let mut fields = vec![String::new()];
        let mut quoted = false;
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' if quoted && chars.peek() == Some(&'"') => {
                    fields.last_mut().unwrap().extend(chars.next());
                }
                '"' => quoted = !quoted,
                ',' if !quoted => fields.push(String::new()),
                c => fields.last_mut().unwrap().push(c),
            }
        }
        fields
    }

    proptest! {
        #[test]
        fn every_text_comes_back_from_its_field(texts in proptest::collection::vec("[a-z,\"\r\n ]{0,12}", 1..5)) {
            let mut text = String::new();
            write_row(&mut text, &texts.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(text.strip_suffix("\r\n").map(read), Some(texts));
        }
    }
}
