//! A request's payload in 32 bytes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::core::json;

/// SHA-256 of a payload's canonical JSON ([`json::canonical`]): members sorted by name, no white
/// space, one spelling for each number, so `2` and `2.0` are equal. What an operation takes from
/// its path is part of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of `payload`.
    pub fn of(payload: &Value) -> Self {
        let mut text = String::new();
        write_canonical(payload, &mut text);
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// The stored form.
    pub fn to_text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = URL_SAFE_NO_PAD.decode(String::deserialize(deserializer)?).ok();
        let digest = bytes.and_then(|bytes| bytes.try_into().ok());
        digest.map(Self).ok_or_else(|| serde::de::Error::custom("not a SHA-256 in base64url"))
    }
}

/// Sorts members itself: a feature of `serde_json` that any dependency can switch on changes their
/// order.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            write_list(out, ['{', '}'], members, |(name, value), out| {
                write_canonical(&Value::from(name.as_str()), out);
                out.push(':');
                write_canonical(value, out);
            });
        }
        Value::Array(items) => write_list(out, ['[', ']'], items, write_canonical),
        Value::Number(number) => out.push_str(&json::canonical(number)),
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn write_list<T>(
    out: &mut String,
    [open, close]: [char; 2],
    items: impl IntoIterator<Item = T>,
    write: impl Fn(T, &mut String),
) {
    out.push(open);
    for (position, item) in items.into_iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(close);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parsed(text: &str) -> Fingerprint {
        Fingerprint::of(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn order_of_members_and_white_space_do_not_matter() {
        assert_eq!(
            parsed(r#"{"a": 1, "b": {"d": [1, 2], "c": null}}"#),
            parsed(r#"{"b":{"c":null,"d":[1,2]},"a":1}"#)
        );
    }

    #[test]
    fn order_of_items_and_kinds_of_values_do() {
        assert_ne!(parsed("[1,2]"), parsed("[2,1]"));
        assert_ne!(parsed(r#""1""#), parsed("1"));
        assert_ne!(parsed(r#"{"a":{}}"#), parsed(r#"{"a":[]}"#));
    }

    #[test]
    fn a_number_is_the_same_however_it_is_written() {
        for two in ["2.0", "2e0", "20e-1"] {
            assert_eq!(parsed(&format!(r#"{{"quantity":{two}}}"#)), parsed(r#"{"quantity":2}"#), "{two}");
        }
        assert_ne!(parsed("9007199254740993"), parsed("9007199254740992"));
        assert_ne!(parsed("1e400"), parsed("1e401"));
    }

    #[test]
    fn canonical_form_is_the_one_that_is_documented() {
        let mut text = String::new();
        write_canonical(&json!({"b": [true, "x\"y"], "a": {}}), &mut text);
        assert_eq!(text, r#"{"a":{},"b":[true,"x\"y"]}"#);
    }

    proptest! {
        #[test]
        fn two_texts_share_a_fingerprint_only_if_they_are_equal(a in "\\PC{0,20}", b in "\\PC{0,20}") {
            let same = Fingerprint::of(&json!({"text": a})) == Fingerprint::of(&json!({"text": b}));
            prop_assert_eq!(same, a == b);
        }

        #[test]
        fn the_stored_form_reads_back(text in "\\PC{0,20}") {
            let made = Fingerprint::of(&json!(text));
            let stored = serde_json::to_value(made).unwrap();
            prop_assert_eq!(serde_json::from_value::<Fingerprint>(stored).unwrap(), made);
        }
    }
}
