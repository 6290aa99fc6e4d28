//! Identifiers. Each kind has its own type and is parsed once at the edge.
//!
//! Generated ids are a type prefix and a ULID (`ord_01JD…`), so a log line shows what an id names.
//! New ids sort by creation time. A [`derived`] id has the form of a ULID without a time: ids of
//! orders and of their events, which two regions must compute alike. Ids from elsewhere (products
//! named by operators, connections named by API Gateway) are opaque text within bounds.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use ulid::Ulid;

/// Text that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {kind}: {expected}")]
pub struct InvalidId {
    /// What was expected, in words: `order id`.
    pub kind: &'static str,
    /// Its form: `ord_ and 26 characters`.
    pub expected: &'static str,
    /// The refused text, shortened for the answer.
    pub text: String,
}

/// How much of a refused text an error repeats.
const QUOTED_CHARS: usize = 64;

/// Whether `text` is 1 to `max_bytes` visible ASCII characters, which need no escaping in keys,
/// headers and logs.
pub(crate) fn is_visible(text: &str, max_bytes: usize) -> bool {
    (1..=max_bytes).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn refuse(kind: &'static str, expected: &'static str, text: &str) -> InvalidId {
    InvalidId { kind, expected, text: text.chars().take(QUOTED_CHARS).collect() }
}

macro_rules! text_id {
    ($name:ident) => {
        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! prefixed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The ULID alone, without the prefix.
            pub fn ulid_text(&self) -> &str {
                self.0.strip_prefix($prefix).unwrap_or_default()
            }
        }

        impl From<Ulid> for $name {
            fn from(ulid: Ulid) -> Self {
                Self(format!(concat!($prefix, "{}"), ulid))
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let expected = concat!($prefix, " and a ULID of 26 characters");
                let ulid = text.strip_prefix($prefix).ok_or_else(|| refuse($kind, expected, text))?;
                let parsed = Ulid::from_string(ulid).map_err(|_| refuse($kind, expected, text))?;
                // Lower case and other spellings of a ULID would be other keys of the same row.
                if parsed.to_string() == ulid { Ok(Self(text.to_owned())) } else { Err(refuse($kind, expected, text)) }
            }
        }

        text_id!($name);
    };
}

prefixed_id!(
    /// A customer or operator.
    UserId, "usr_", "user id"
);
prefixed_id!(
    /// One sign-in of a user on a device.
    SessionId, "ses_", "session id"
);
prefixed_id!(
    /// An order. Derived from the request that places it.
    OrderId, "ord_", "order id"
);
prefixed_id!(
    /// A captured payment.
    PaymentId, "pay_", "payment id"
);
prefixed_id!(
    /// A domain event in the outbox. Derived from the order for an order's event.
    EventId, "evt_", "event id"
);
prefixed_id!(
    /// An export of a customer's orders.
    ExportId, "exp_", "export id"
);
prefixed_id!(
    /// A file that a user uploads.
    UploadId, "upl_", "upload id"
);
prefixed_id!(
    /// One attempt of one process: the owner of a lock or the holder of a claim.
    AttemptId, "att_", "attempt id"
);

/// A message between users: a bare ULID, made by the sender or by the service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct MessageId(String);

impl From<Ulid> for MessageId {
    fn from(ulid: Ulid) -> Self {
        Self(ulid.to_string())
    }
}

/// The message about an event. It has the event's ULID, so that a repetition is a duplicate.
impl From<&EventId> for MessageId {
    fn from(event: &EventId) -> Self {
        Self(event.ulid_text().to_owned())
    }
}

impl SessionId {
    /// When the session began: the time of its ULID.
    pub fn began_at(&self) -> Timestamp {
        let ms = Ulid::from_string(self.ulid_text()).map_or(0, |ulid| ulid.timestamp_ms());
        i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
    }
}

impl std::str::FromStr for MessageId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match Ulid::from_string(text) {
            Ok(ulid) if ulid.to_string() == text => Ok(Self(text.to_owned())),
            _ => Err(refuse("message id", "a ULID of 26 characters", text)),
        }
    }
}

text_id!(MessageId);

/// A product, named by the operator who made it: `[a-z0-9][a-z0-9-]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ProductId(String);

impl ProductId {
    /// Longest product id, in characters.
    pub const MAX_CHARS: usize = 64;
}

impl std::str::FromStr for ProductId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let starts_plain = text.bytes().next().is_some_and(plain);
        if starts_plain && text.len() <= Self::MAX_CHARS && text.bytes().all(|b| plain(b) || b == b'-') {
            Ok(Self(text.to_owned()))
        } else {
            Err(refuse("product id", "1 to 64 of a-z, 0-9 and -, not starting with -", text))
        }
    }
}

text_id!(ProductId);

/// An event of a customer's activity, named by the client: a ULID (26 capital letters and digits)
/// or a UUID (36 characters, lower case). Random ids of two clients never collide.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ActivityId(String);

impl ActivityId {
    /// Characters of a ULID.
    const ULID_CHARS: usize = 26;
    /// Positions of the hyphens among the 36 characters of a UUID.
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];

    /// Whether it is a UUID in the lower-case form of RFC 9562. Other spellings would be other keys
    /// of the same event.
    fn is_uuid(text: &str) -> bool {
        let fits = |(place, byte): (usize, u8)| match byte {
            b'-' => Self::HYPHENS.contains(&place),
            b'0'..=b'9' | b'a'..=b'f' => !Self::HYPHENS.contains(&place),
            _ => false,
        };
        text.len() == 36 && text.bytes().enumerate().all(fits)
    }
}

impl std::str::FromStr for ActivityId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let is_ulid = text.len() == Self::ULID_CHARS
            && Ulid::from_string(text).is_ok_and(|ulid| ulid.to_string() == text);
        if is_ulid || Self::is_uuid(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(refuse("event id", "a ULID of 26 characters, or a UUID of 36 in lower case", text))
        }
    }
}

text_id!(ActivityId);

/// A WebSocket connection, named by API Gateway. Unique within one region and API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct ConnectionId(String);

impl ConnectionId {
    /// Longest id accepted, in bytes; API Gateway's have 16.
    pub const MAX_BYTES: usize = 128;
}

impl std::str::FromStr for ConnectionId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if is_visible(text, Self::MAX_BYTES) {
            Ok(Self(text.to_owned()))
        } else {
            Err(refuse("connection id", "1 to 128 visible ASCII characters", text))
        }
    }
}

text_id!(ConnectionId);

/// Generates ids. Injected, so that a test can predict them.
pub trait Ids: Send + Sync + fmt::Debug {
    /// A ULID that was never returned before.
    fn ulid(&self) -> Ulid;
}

/// An id source that many owners share.
pub type SharedIds = Arc<dyn Ids>;

impl dyn Ids {
    /// A new id of the kind that the caller expects.
    pub fn next<T: From<Ulid>>(&self) -> T {
        T::from(self.ulid())
    }
}

/// ULIDs of the current millisecond with 80 random bits.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl Ids for RandomIds {
    fn ulid(&self) -> Ulid {
        Ulid::generate()
    }
}

/// The id derived from `parts`: 128 bits of the SHA-256 of `label` and `parts`, each with its
/// length. The same input gives the same id everywhere. `label` separates ids of different kinds
/// with equal parts.
pub fn derived<T: From<Ulid>>(label: &str, parts: &[&str]) -> T {
    let mut hash = Sha256::new();
    for part in std::iter::once(&label).chain(parts) {
        hash.update(part.len().to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let bits = digest.iter().take(16).fold(0, |bits: u128, byte| bits << 8 | u128::from(*byte));
    T::from(Ulid::from(bits))
}

/// [`RandomIds`] as [`SharedIds`].
pub fn random() -> SharedIds {
    Arc::new(RandomIds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_made_id_parses_back() {
        let made: OrderId = random().next();
        assert_eq!(made.as_str().parse::<OrderId>(), Ok(made));
    }

    #[test]
    fn a_derived_id_is_the_same_wherever_it_is_made_and_another_for_other_parts() {
        let id: OrderId = derived("order", &["a", "bc"]);
        assert_eq!(id.as_str().parse::<OrderId>(), Ok(id.clone()));
        assert_eq!(id.as_str(), "ord_0D5C2G20MZPYCBJH6D27RZNMPX");
        let others =
            [derived("order", &["ab", "c"]), derived("event", &["a", "bc"]), derived("order", &["a"])];
        assert!(!others.contains(&id));
    }

    #[test]
    fn the_message_about_an_event_has_an_id_of_its_own() {
        let event: EventId = random().next();
        let message = MessageId::from(&event);
        assert_eq!(message.as_str().parse(), Ok(message.clone()));
        assert_eq!(format!("evt_{message}"), event.as_str());
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let user: UserId = random().next();
        assert!(user.as_str().parse::<OrderId>().is_err());
    }

    #[test]
    fn an_activity_event_has_a_ulid_or_a_uuid_in_one_spelling() {
        for id in ["01JD3V6Q2ZJ4M8N0P5R7T9W1XY", "0192f6c1-7d5a-7c3e-9b1f-0a2b3c4d5e6f"] {
            assert_eq!(id.parse::<ActivityId>().map(|id| id.to_string()), Ok(id.to_owned()));
        }
        for text in [
            "",
            "1",
            "01jd3v6q2zj4m8n0p5r7t9w1xy",
            "0192F6C1-7D5A-7C3E-9B1F-0A2B3C4D5E6F",
            "0192f6c17d5a7c3e9b1f0a2b3c4d5e6f",
            "0192f6c1-7d5a-7c3e-9b1f-0a2b3c4d5e6",
            "0192f6c1-7d5a-7c3e-9b1f-0a2b3c4d5e6g",
            "0192f6c1-7d5a-7c3e-9b1f0-a2b3c4d5e6f",
        ] {
            assert!(text.parse::<ActivityId>().is_err(), "{text}");
        }
    }

    #[test]
    fn another_spelling_of_the_same_ulid_is_refused() {
        let made: OrderId = random().next();
        let lower = format!("ord_{}", made.as_str()[4..].to_lowercase());
        assert!(lower.parse::<OrderId>().is_err());
    }

    proptest! {
        #[test]
        fn product_ids_are_exactly_the_documented_pattern(text in "[ -~]{0,70}") {
            let mut bytes = text.bytes();
            let first = bytes.next().is_some_and(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9'));
            let rest = bytes.all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
            prop_assert_eq!(text.parse::<ProductId>().is_ok(), first && rest && text.len() <= 64);
        }

        #[test]
        fn no_text_makes_an_id_parser_panic(text in "\\PC{0,200}") {
            prop_assert!(text.parse::<OrderId>().map_or(true, |id| id.as_str() == text));
            prop_assert!(text.parse::<MessageId>().map_or(true, |id| id.as_str() == text));
            prop_assert!(text.parse::<ConnectionId>().map_or(true, |id| id.as_str() == text));
        }
    }
}
