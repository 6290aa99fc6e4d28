//! `Content-Type` and `Content-Encoding` of a body.

/// Whether a `Content-Type` (RFC 9110, section 8.3.1) means JSON in UTF-8: `application/json`, or a
/// type with the suffix `+json` (RFC 6839). Parameters are allowed; a `charset` must be `utf-8`,
/// the only encoding of JSON (RFC 8259, section 8.1).
pub(super) fn is_json(content_type: &str) -> bool {
    let Some(MediaType { kind, subtype, charset }) = MediaType::parse(content_type) else { return false };
    let is_utf8 = charset.is_none_or(|charset| charset.eq_ignore_ascii_case("utf-8"));
    let is_plain = kind.eq_ignore_ascii_case("application") && subtype.eq_ignore_ascii_case("json");
    let has_suffix = subtype
        .split_at_checked(subtype.len().saturating_sub("+json".len()))
        .is_some_and(|(name, suffix)| !name.is_empty() && suffix.eq_ignore_ascii_case("+json"));
    is_utf8 && (is_plain || has_suffix)
}

/// Whether a body with this `Content-Encoding` is not compressed.
pub(super) fn is_identity(content_encoding: &str) -> bool {
    let mut codings = content_encoding.split(',').map(trim).filter(|coding| !coding.is_empty());
    codings.all(|coding| coding.eq_ignore_ascii_case("identity"))
}

/// A media type and its `charset`.
#[derive(Debug, PartialEq, Eq)]
struct MediaType<'a> {
    kind: &'a str,
    subtype: &'a str,
    charset: Option<String>,
}

impl<'a> MediaType<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (kind, rest) = token(trim(text))?;
        let (subtype, mut rest) = token(rest.strip_prefix('/')?)?;
        let mut charset = None;
        loop {
            rest = trim(rest);
            if rest.is_empty() {
                return Some(Self { kind, subtype, charset });
            }
            // Nothing may be between two semicolons.
            rest = trim(rest.strip_prefix(';')?);
            let Some((name, behind)) = token(rest) else { continue };
            let (value, behind) = value(behind.strip_prefix('=')?)?;
            if name.eq_ignore_ascii_case("charset") && charset.replace(value).is_some() {
                return None;
            }
            rest = behind;
        }
    }
}

/// The token at the start of `text`, and the rest.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let end = text.bytes().position(|byte| !is_part(byte)).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(token, _)| !token.is_empty())
}

/// The token or quoted string at the start of `text`, and the rest.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(value, behind)| (value.to_owned(), behind));
    };
    let (mut value, mut chars) = (String::new(), quoted.chars());
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            other => value.push(other),
        }
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_is_told_by_its_type_or_its_suffix() {
        for json in [
            "application/json",
            "Application/JSON",
            " application/json ",
            "application/json;charset=utf-8",
            "application/json ; charset=\"UTF-8\"; v=\"a;,b\"",
            "application/merge-patch+json",
            "text/x.y+JSON",
            "application/json;",
            "application/json;;v=1",
        ] {
            assert!(is_json(json), "{json}");
        }
    }

    #[test]
    fn what_is_no_media_type_or_no_json_in_utf_8_is_neither() {
        for other in [
            "",
            "json",
            "+json",
            "application/+json",
            "/json",
            "application/",
            "application",
            "text/plain",
            "application/jsonp",
            "application/json, text/plain",
            "application/json charset=utf-8",
            "application/json; charset",
            "application/json; charset=",
            "application/json; charset=\"utf-8",
            "application/json; charset=utf-16",
            "application/json; charset=latin1",
            "application/json; charset=utf-8; charset=utf-8",
            "application /json",
            "applic\u{e4}tion/json",
        ] {
            assert!(!is_json(other), "{other}");
        }
    }

    #[test]
    fn only_identity_is_no_coding() {
        assert!(["identity", "Identity, identity", "", " , "].into_iter().all(is_identity));
        assert!(!["gzip", "identity, br", "deflate", "identity;q=1"].into_iter().any(is_identity));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-z/;=\"\\\\+ ]{0,30}|\\PC{0,40}") {
            let _ = is_json(&text);
        }
    }
}
