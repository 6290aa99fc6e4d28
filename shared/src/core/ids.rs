//! Identifiers. Each kind is a type of its own, parsed once at the edge.
//!
//! Ids that Sojourn makes are a type prefix and a ULID (`ord_01JD…`): they sort by the time they were made, and a
//! reader of a log line knows what they name. Ids that others make (products by operators, connections by API
//! Gateway) are opaque text within bounds.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use ulid::Ulid;

/// Text that does not name a thing of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: {expected}")]
pub struct InvalidId {
    /// What was expected, in words: `order id`.
    pub kind: &'static str,
    /// Its form: `ord_ and 26 characters`.
    pub expected: &'static str,
    /// The refused text, cut to a length that is fit for an answer.
    pub text: String,
}

/// Longest part of a refused text that an error repeats.
const QUOTED_CHARS: usize = 64;

/// Whether `text` is 1 to `max_bytes` visible ASCII characters: a form that needs no escaping in keys, headers and logs.
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
                // Lower case and other spellings of the same ULID would be other keys of the same thing.
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
    /// One sign-in of one user on one device.
    SessionId, "ses_", "session id"
);
prefixed_id!(
    /// An order.
    OrderId, "ord_", "order id"
);
prefixed_id!(
    /// A captured payment.
    PaymentId, "pay_", "payment id"
);
prefixed_id!(
    /// A domain event in the outbox.
    EventId, "evt_", "event id"
);
prefixed_id!(
    /// A list of orders that a customer asked for.
    ExportId, "exp_", "export id"
);
prefixed_id!(
    /// A file that a user uploads.
    UploadId, "upl_", "upload id"
);
prefixed_id!(
    /// One attempt of one process at something: a lock's owner, a claim's holder.
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

/// The message that tells of an export. There is one, so that the same one is sent however often it is sent.
impl From<&ExportId> for MessageId {
    fn from(export: &ExportId) -> Self {
        Self(export.ulid_text().to_owned())
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

/// A WebSocket connection, named by API Gateway. Means nothing outside its region and API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct ConnectionId(String);

impl ConnectionId {
    /// Longest id that is taken for one, in bytes; API Gateway's have 16.
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

/// Makes new ids. Injected, so that a test can know them beforehand.
pub trait Ids: Send + Sync + fmt::Debug {
    /// A ULID that was never given out before.
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

/// ULIDs of the present millisecond with 80 random bits.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl Ids for RandomIds {
    fn ulid(&self) -> Ulid {
        Ulid::generate()
    }
}

/// The usual id source, ready to be shared.
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
    fn the_message_about_an_export_has_an_id_of_its_own() {
        let export: ExportId = random().next();
        let message = MessageId::from(&export);
        assert_eq!(message.as_str().parse(), Ok(message.clone()));
        assert_eq!(format!("exp_{message}"), export.as_str());
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let user: UserId = random().next();
        assert!(user.as_str().parse::<OrderId>().is_err());
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
