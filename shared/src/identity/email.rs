//! E-mail addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// An e-mail address, in lower case: two spellings of one address are one account.
///
/// The plain form that mail providers assign: `local@domain`, ASCII, with letters, digits and
/// ``!#$%&'*+/=?^_`{|}~-.`` before the `@` and a domain of two labels or more after it (RFC 5321;
/// no quoted local parts, no address literals; international domains in their `xn--` form).
/// RFC 5321 lets local parts differ by case. No provider does, and it would allow look-alike
/// accounts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Email(String);

/// Text that is not an e-mail address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not an e-mail address of the form name@example.com, at most {} characters",
    Email::MAX_CHARS
)]
pub struct InvalidEmail;

impl Email {
    /// Longest address (RFC 5321, section 4.5.3.1.3, without the angle brackets).
    pub const MAX_CHARS: usize = 254;
    /// Longest part before the `@` (section 4.5.3.1.1).
    const MAX_LOCAL_CHARS: usize = 64;
    /// Longest label of a domain (RFC 1035, section 2.3.4).
    const MAX_LABEL_CHARS: usize = 63;

    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Email {
    type Err = InvalidEmail;

    fn from_str(text: &str) -> Result<Self, InvalidEmail> {
        let address = text.trim();
        let (local, domain) = address.rsplit_once('@').ok_or(InvalidEmail)?;
        if address.len() <= Self::MAX_CHARS && is_local_part(local) && is_domain(domain) {
            Ok(Self(address.to_ascii_lowercase()))
        } else {
            Err(InvalidEmail)
        }
    }
}

fn is_local_part(text: &str) -> bool {
    let is_atom = |atom: &str| {
        !atom.is_empty()
            && atom.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-".contains(&b))
    };
    text.len() <= Email::MAX_LOCAL_CHARS && text.split('.').all(is_atom)
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=Email::MAX_LABEL_CHARS).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.contains('.') && text.split('.').all(is_label)
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Email {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings_of_one_address_are_one_address() {
        let spelled: Email = " Ann.Lee+Shop@Example.COM ".parse().unwrap();
        assert_eq!(spelled.as_str(), "ann.lee+shop@example.com");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long_local = format!("{}@example.com", "a".repeat(65));
        let long = format!("a@{}example.com", "abcdefgh.".repeat(30));
        for text in [
            "",
            "@",
            "ann",
            "ann@",
            "@example.com",
            "ann@localhost",
            "a b@example.com",
            "a@b@example.com",
            "a..b@example.com",
            ".a@example.com",
            "a.@example.com",
            "a@-b.com",
            "a@b-.com",
            "a@b..com",
            "a@.com",
            "a@b.com.",
            "\"a b\"@example.com",
            "a@[127.0.0.1]",
            "a\n@example.com",
            "a@exam\u{0}ple.com",
            "zoë@example.com",
            "a@exämple.com",
            "a<b>@example.com",
            &long_local,
            &long,
        ] {
            assert_eq!(text.parse::<Email>(), Err(InvalidEmail), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_parses_parses_again_to_itself(text in "\\PC{0,20}@?[a-zA-Z.-]{0,20}") {
            if let Ok(email) = text.parse::<Email>() {
                prop_assert_eq!(email.as_str().parse::<Email>(), Ok(email.clone()));
                prop_assert!(!email.as_str().contains(|c: char| c.is_whitespace() || c.is_uppercase()));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,300}") {
            prop_assert!(text.parse::<Email>().map_or(true, |email| email.as_str().len() <= Email::MAX_CHARS));
        }
    }
}
