//! `wildcard`: `*` is any run of characters; `\*` and `\\` are the characters themselves.

use super::{PatternError, invalid};

/// The texts between the `*`, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wildcard(Vec<String>);

impl Wildcard {
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        let mut parts = vec![String::new()];
        let mut after_star = false;
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '*' if after_star => return Err(invalid("consecutive wildcard characters")),
                '*' => parts.push(String::new()),
                '\\' => match (characters.next(), parts.last_mut()) {
                    (Some(escaped @ ('*' | '\\')), Some(part)) => part.push(escaped),
                    _ => return Err(invalid("an invalid escape character in wildcard")),
                },
                other => parts.last_mut().into_iter().for_each(|part| part.push(other)),
            }
            after_star = character == '*';
        }
        Ok(Self(parts))
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let (first, last, middle) = match self.0.as_slice() {
            [] => return text.is_empty(),
            [only] => return text == only,
            [first, middle @ .., last] => (first, last, middle),
        };
        let Some(mut rest) =
            text.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str()))
        else {
            return false;
        };
        // The earliest place of each part leaves the most room for the next one.
        for part in middle {
            match rest.find(part.as_str()) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        true
    }
}
