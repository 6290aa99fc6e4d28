//! The wire format: one message contains one or more entries.
//!
//! A message is JSON text: `{"v":1,"entries":[{"id":"…","at":1700000000000,"payload":…}]}`. `at` is
//! in milliseconds since 1970. The payload is embedded as JSON, not as a string, so nothing is
//! escaped twice. The code points U+FFFE and U+FFFF, which SQS refuses, are written as escapes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{BufferError, Entry};

/// The version of the format. A reader refuses any other.
const VERSION: u8 = 1;

const HEAD: &str = r#"{"v":1,"entries":["#;
const TAIL: &str = "]}";

/// What a message of one entry adds to the entry's own text.
pub(super) const OVERHEAD_BYTES: usize = HEAD.len() + TAIL.len();

#[derive(Serialize)]
struct Written<'a> {
    id: &'a str,
    at: i64,
    payload: &'a RawValue,
}

#[derive(Deserialize)]
struct Message<'a> {
    v: u8,
    #[serde(borrow)]
    entries: Vec<Read<'a>>,
}

#[derive(Deserialize)]
struct Read<'a> {
    id: String,
    at: i64,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// The text of one entry.
pub(super) fn text(entry: &Entry) -> Result<String, BufferError> {
    const NOT_JSON: BufferError = BufferError::Invalid("its payload is not JSON text");
    let payload: &RawValue = serde_json::from_str(&entry.payload).map_err(|_| NOT_JSON)?;
    let written = Written { id: &entry.id, at: entry.offered_at.as_millisecond(), payload };
    Ok(escaped(serde_json::to_string(&written).map_err(|_| NOT_JSON)?))
}

/// These code points can only occur inside strings, where an escape means the same.
fn escaped(text: String) -> String {
    if text.contains(['\u{fffe}', '\u{ffff}']) {
        text.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff")
    } else {
        text
    }
}

/// One message of the entries with these texts.
pub(super) fn join(texts: &[String]) -> String {
    let bytes: usize = texts.iter().map(|text| text.len() + 1).sum();
    let mut message = String::with_capacity(bytes + OVERHEAD_BYTES);
    message.push_str(HEAD);
    for (position, text) in texts.iter().enumerate() {
        if position > 0 {
            message.push(',');
        }
        message.push_str(text);
    }
    message.push_str(TAIL);
    message
}

/// One message for each entry.
pub(super) fn one_by_one(batch: &[Entry]) -> Result<Vec<String>, BufferError> {
    batch.iter().map(|entry| Ok(join(&[text(entry)?]))).collect()
}

/// The entries of a message, as an event source delivers it.
///
/// # Errors
/// [`BufferError::Unreadable`] if no producer of this version wrote it.
pub fn decode(message: &[u8]) -> Result<Vec<Entry>, BufferError> {
    // The position of the error, and not the text there, which may be personal data.
    let unreadable = |error: serde_json::Error| {
        BufferError::Unreadable(format!("{:?} at byte {}", error.classify(), error.column()))
    };
    let Message { v, entries } = serde_json::from_slice(message).map_err(unreadable)?;
    if v != VERSION {
        return Err(BufferError::Unreadable(format!("its version is {v}")));
    }
    let entry = |Read { id, at, payload }: Read<'_>| {
        let offered_at = Timestamp::from_millisecond(at)
            .map_err(|_| BufferError::Unreadable("its time is not valid".to_owned()))?;
        Ok(Entry { id, offered_at, payload: payload.get().to_owned() })
    };
    entries.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(id: &str, payload: &str) -> Entry {
        Entry {
            id: id.to_owned(),
            offered_at: "2026-11-20T09:30:00.123Z".parse().unwrap(),
            payload: payload.to_owned(),
        }
    }

    fn texts(entries: &[Entry]) -> Vec<String> {
        entries.iter().map(|entry| text(entry).unwrap()).collect()
    }

    #[test]
    fn what_was_written_is_read_to_the_last_digit() {
        let entries = [
            entry("a\"b\\c", r#"{"n":1.2300000000000000000001,"s":"<&\"é\u0000>"}"#),
            entry("b", "null"),
            entry("c", "[1, 2]"),
        ];
        assert_eq!(decode(join(&texts(&entries)).as_bytes()).unwrap(), entries);
    }

    #[test]
    fn no_message_has_a_character_that_sqs_refuses() {
        let message = join(&texts(&[entry("a", "\"\u{fffe}\u{ffff}\u{10fffd}\"")]));
        let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
        assert!(message.chars().all(allowed));
        let payload: String = serde_json::from_str(&decode(message.as_bytes()).unwrap()[0].payload).unwrap();
        assert_eq!(payload, "\u{fffe}\u{ffff}\u{10fffd}");
    }

    #[test]
    fn a_payload_that_is_not_json_is_refused() {
        for payload in ["", "{", "view", "1,2", "{}{}"] {
            assert!(matches!(text(&entry("a", payload)), Err(BufferError::Invalid(_))), "{payload}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_without_what_it_holds() {
        let cases = [
            "",
            "s3cret",
            r#"{"v":1}"#,
            r#"{"v":2,"entries":[]}"#,
            r#"{"v":1,"entries":[{"id":"s3cret","at":"s3cret","payload":1}]}"#,
            r#"{"v":1,"entries":[{"id":"a","at":9223372036854775807,"payload":1}]}"#,
        ];
        for message in cases {
            let error = decode(message.as_bytes()).unwrap_err();
            assert!(matches!(error, BufferError::Unreadable(_)), "{message}: {error:?}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_survives_the_way(ids in prop::collection::vec("[!-~]{1,64}", 1..5), payload in any::<String>()) {
            let payload = serde_json::to_string(&payload).unwrap();
            let entries: Vec<Entry> = ids.iter().map(|id| entry(id, &payload)).collect();
            let read = decode(join(&texts(&entries)).as_bytes()).unwrap();
            prop_assert_eq!(read.len(), entries.len());
            for (read, written) in read.iter().zip(&entries) {
                prop_assert_eq!(&read.id, &written.id);
                let (a, b): (String, String) = (serde_json::from_str(&read.payload).unwrap(), serde_json::from_str(&written.payload).unwrap());
                prop_assert_eq!(a, b);
            }
        }
    }
}
