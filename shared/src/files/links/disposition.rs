//! Whether a browser saves or shows a download: `Content-Disposition` (RFC 6266), with names of any
//! alphabet (RFC 8187).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The characters of an extended value that need no encoding: `attr-char` of RFC 8187, section
/// 3.2.1.
const NOT_ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// Types that may be shown in a browser, because nothing in them runs. SVG, HTML and XML can
/// contain scripts.
const SHOWN: &[&str] =
    &["image/avif", "image/gif", "image/jpeg", "image/png", "image/webp", "text/plain", "application/pdf"];

/// Whether a download is saved or shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Disposition {
    #[default]
    Attachment,
    /// It is shown, if its type is one that browsers only show.
    Inline,
}

/// Text that is neither of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a disposition is either attachment or inline")]
pub struct InvalidDisposition;

impl std::str::FromStr for Disposition {
    type Err = InvalidDisposition;

    fn from_str(text: &str) -> Result<Self, InvalidDisposition> {
        match text {
            "attachment" => Ok(Self::Attachment),
            "inline" => Ok(Self::Inline),
            _ => Err(InvalidDisposition),
        }
    }
}

impl Disposition {
    /// This disposition for a file of `content_type`: inline only for types on a short list.
    #[must_use]
    pub fn of_type(self, content_type: &str) -> Self {
        match self {
            Self::Inline if SHOWN.contains(&content_type) => Self::Inline,
            _ => Self::Attachment,
        }
    }
}

/// The header's value for a file with this name, always ASCII. The name is given twice, as RFC 6266
/// recommends (appendix D): for old clients with `_` in place of ambiguous characters, and encoded
/// for all others.
pub fn content_disposition(disposition: Disposition, file_name: &str) -> String {
    let kind = match disposition {
        Disposition::Attachment => "attachment",
        Disposition::Inline => "inline",
    };
    // Quotes and backslashes end or escape, and some clients decode percent signs.
    let plain = |c: char| if (' '..='~').contains(&c) && !matches!(c, '"' | '\\' | '%') { c } else { '_' };
    let mut value = format!("{kind}; filename=\"");
    value.extend(file_name.chars().map(plain));
    value.push_str("\"; filename*=UTF-8''");
    value.extend(utf8_percent_encode(file_name, NOT_ATTR_CHAR));
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    fn attachment(name: &str) -> String {
        content_disposition(Disposition::Attachment, name)
    }

    #[test]
    fn a_name_comes_twice_once_for_clients_that_know_only_ascii() {
        assert_eq!(
            attachment("naïve plan €.pdf"),
            "attachment; filename=\"na_ve plan _.pdf\"; filename*=UTF-8''na%C3%AFve%20plan%20%E2%82%AC.pdf"
        );
        assert!(attachment("報告.csv").ends_with("filename*=UTF-8''%E5%A0%B1%E5%91%8A.csv"));
        assert!(content_disposition(Disposition::Inline, "a.png").starts_with("inline; filename=\"a.png\";"));
    }

    #[test]
    fn no_name_adds_a_parameter_a_header_or_a_path() {
        let value = attachment("a\"; filename=\"b.exe\r\nSet-Cookie: x\\..\\%2e");
        assert_eq!(
            value,
            "attachment; filename=\"a_; filename=_b.exe__Set-Cookie: x_..__2e\"; \
             filename*=UTF-8''a%22%3B%20filename%3D%22b.exe%0D%0ASet-Cookie%3A%20x%5C..%5C%252e"
        );
    }

    #[test]
    fn only_what_does_not_run_is_shown() {
        for shown in ["image/png", "image/webp", "text/plain", "application/pdf"] {
            assert_eq!(Disposition::Inline.of_type(shown), Disposition::Inline);
            assert_eq!(Disposition::Attachment.of_type(shown), Disposition::Attachment);
        }
        for saved in ["text/html", "image/svg+xml", "application/xml", "text/css", "application/zip", ""] {
            assert_eq!(Disposition::Inline.of_type(saved), Disposition::Attachment, "{saved}");
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back_and_nothing_leaves_its_quotes(name in "\\PC{0,60}|[ -~\\r\\n\\x00]{0,60}") {
            let value = attachment(&name);
            prop_assert!(value.bytes().all(|b| (b' '..=b'~').contains(&b)));
            let rest = value.strip_prefix("attachment; filename=\"").unwrap();
            let (plain, extended) = rest.split_once("\"; filename*=UTF-8''").unwrap();
            prop_assert!(!plain.contains('"') && !plain.contains('\\'));
            prop_assert_eq!(percent_decode_str(extended).decode_utf8().unwrap(), name);
            prop_assert!(!extended.contains([';', ' ', '"', '\'', '*']));
        }
    }
}
