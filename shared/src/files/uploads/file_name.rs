//! What a user calls a file.

use serde::{Deserialize, Deserializer, Serialize};

/// Longest name, in bytes of UTF-8: what file systems take.
pub const MAX_FILE_NAME_BYTES: usize = 255;

/// The name of a file, without a path, and with nothing that a terminal or a header would act on. It is shown and given
/// back, and part of no key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct FileName(String);

/// Text that is no file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a fileName has 1 to {MAX_FILE_NAME_BYTES} bytes of UTF-8, no control characters, no / and \\, and is not . or .."
)]
pub struct InvalidFileName;

impl FileName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for FileName {
    type Err = InvalidFileName;

    /// White space around the name is dropped.
    fn from_str(text: &str) -> Result<Self, InvalidFileName> {
        let name = text.trim();
        let fits = (1..=MAX_FILE_NAME_BYTES).contains(&name.len())
            && !matches!(name, "." | "..")
            && !name.chars().any(|c| c.is_control() || breaks_or_turns_text(c) || matches!(c, '/' | '\\'));
        if fits { Ok(Self(name.to_owned())) } else { Err(InvalidFileName) }
    }
}

/// Line breaks that are no control characters, and marks that change the direction in which text is read: with one of them
/// `gpj.exe` looks like `exe.jpg`.
fn breaks_or_turns_text(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl<'de> Deserialize<'de> for FileName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_any_alphabet_are_taken_as_they_are() {
        for name in ["a", "plan.pdf", "報告 2026.csv", "naïve \"quoted\"; x=1.txt", "...", "🙂.png"] {
            assert_eq!(name.parse::<FileName>().unwrap().as_str(), name);
        }
        assert_eq!(" plan.pdf\n".parse::<FileName>().unwrap().as_str(), "plan.pdf");
        assert!("é".repeat(127).parse::<FileName>().is_ok());
    }

    #[test]
    fn paths_control_characters_and_nothing_are_no_names() {
        let too_long = "é".repeat(128);
        let refused =
            ["", " ", ".", "..", "a/b", "/etc/passwd", "..\\a", "a\nb", "a\0b", "a\u{7f}b", "a\u{85}b"];
        for name in refused.into_iter().chain([
            "cod\u{202e}gpj.exe",
            "a\u{2028}b",
            "a\u{061c}b",
            "a\u{200e}b",
            "a\u{200f}b",
            too_long.as_str(),
        ]) {
            assert_eq!(name.parse::<FileName>(), Err(InvalidFileName), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_is_taken_again(text in "\\PC{0,300}") {
            if let Ok(name) = text.parse::<FileName>() {
                prop_assert_eq!(name.as_str().parse::<FileName>(), Ok(name));
            }
        }
    }
}
