//! Headers with a single value, and list headers.
//!
//! A proxy may join the lines of a repeated header by commas (RFC 9110, section 5.3); API Gateway
//! does so for every function. That does not change a list. Of any other header, two values would
//! become one that nobody sent, or that two readers interpret differently: such a header is
//! refused.

use std::borrow::Cow;

use lambda_http::http::HeaderMap;

use crate::core::problem::{Problem, ProblemType};

/// The value of a header that may occur once. A value that is not ASCII counts as empty: no valid
/// one is so.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut lines = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default());
    let first = lines.next();
    if lines.next().is_some() || first.is_some_and(has_comma) {
        let detail = format!("the header {name} must occur once, with one value");
        return Err(Problem::new(ProblemType::InvalidRequest, detail));
    }
    Ok(first)
}

/// All lines of a list. A line that is not ASCII makes the list invalid.
pub(crate) fn list<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
    let lines = headers.get_all(name).iter().map(|line| Cow::Borrowed(line.to_str().unwrap_or("\u{fffd}")));
    lines.reduce(|list, line| Cow::Owned(format!("{list},{line}")))
}

/// Whether there is a comma outside of quoted strings.
fn has_comma(value: &str) -> bool {
    let (mut is_quoted, mut is_escaped) = (false, false);
    value.bytes().any(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ => {}
        }
        byte == b',' && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| ("x".parse().unwrap(), line.parse().unwrap())).collect()
    }

    #[test]
    fn a_header_that_comes_twice_is_refused_however_the_two_travel() {
        for twice in [&["k", "k"][..], &["k, k"], &["k,k"], &["\"k\",\"k\""], &["a; b=\"c\\\",\", d"], &[","]]
        {
            let refused = single(&headers(twice), "x").unwrap_err();
            assert_eq!(refused.kind, ProblemType::InvalidRequest, "{twice:?}");
        }
    }

    #[test]
    fn a_comma_in_quotes_is_part_of_the_value() {
        for once in ["k", "", "a/b; c=\"d,e\"", "\"a\\\",b\""] {
            assert_eq!(single(&headers(&[once]), "x").unwrap(), Some(once));
        }
        assert_eq!(single(&headers(&[]), "x").unwrap(), None);
    }

    #[test]
    fn the_lines_of_a_list_are_one_list() {
        assert_eq!(list(&headers(&["\"1\"", "\"2\", \"3\""]), "x").unwrap(), "\"1\",\"2\", \"3\"");
        assert_eq!(list(&headers(&[]), "x"), None);
    }
}
