//! The inbox: messages that no socket of their user took.
//!
//! # Promise
//! A message that [`Inbox::store`] reported as stored is returned by [`Inbox::read`] until its user
//! deletes it, or for [`RETENTION`]. Reads return the messages of a region in the order in which
//! they were stored. A region stores a message once.
//!
//! # Protocol
//! The inbox of a user is one partition of the table per region that stores messages, with three
//! kinds of items:
//!
//! | item | holds |
//! |---|---|
//! | `head` | `lastPosition`, the position of the newest message; `deletedThrough`, up to where the user has deleted |
//! | `m#<position>` | one message: the frame that a socket would have got |
//! | `seen#<sender>#<messageId>` | a mark that this message was stored |
//!
//! 1. Storing reads the head, then writes one transaction: the head's position rises by one, on the
//!    condition that the head has not changed since; the message and its mark are put, on the
//!    condition that there is no mark. So positions have no gaps and become visible in order. They
//!    do not depend on the sender's message id.
//! 2. The mark outlives the deletion of its message. A later repetition of the delivery stores
//!    nothing.
//! 3. A read queries the partition of its own region, then those of the other regions, each after a
//!    position, consistently, oldest first. A cursor holds the position in each region.
//! 4. A deletion removes the rows up to a cursor, then records the position in the head of its own
//!    region. A deletion that dies in between is repeated by the client. No message after the
//!    cursor is removed, because a message stored later has a higher position.
//! 5. An inbox holds [`CAPACITY`] messages, and [`RESERVED`] of these places are for messages of
//!    the service. If it is full, expired messages are removed. If none has expired, the new
//!    message is refused ([`StoreOutcome::Full`]): no stored message is dropped for it.
//!
//! # Regions
//! The partition key contains the user and the region that stores in it. No other region writes its
//! head, positions and messages, so replication never has to choose between two writers. Other
//! regions only read messages and delete them. Such a deletion makes room when the inbox looks full
//! to its own region.
//!
//! A message of another region appears at a later read, after it has been replicated. A deletion in
//! one region does not remove messages that are not replicated to it yet: they are read again,
//! under the ids that the client knows.
//!
//! # Limits
//! - All stores of one inbox change its head, so they run one after the other. A store that
//!   conflicts [`CONFLICT_TRIES`](crate::core::retry::CONFLICT_TRIES) times fails; its sender may
//!   repeat the message.
//! - A client that connects between the search for its sockets and the store gets the message from
//!   the inbox only. Clients read the inbox after they connect.

use std::time::Duration;

use aws_sdk_dynamodb::Client;

use crate::core::clock::SharedClock;
use crate::core::cursor::InvalidCursor;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::UserId;
use crate::platform::dynamo::{DynamoError, Item, RowUpdate, text};
use crate::platform::{aws, tables};

mod read;
mod store;

pub use store::{StoreOutcome, UndeliveredMessage};

/// How long a message is kept.
pub const RETENTION: Duration = Duration::from_hours(7 * 24);

/// Most messages of one inbox.
pub const CAPACITY: u64 = 1_000;

/// Places for messages of the service only: filling an inbox does not keep out the news of an
/// order.
pub const RESERVED: u64 = 100;

/// The sort key of the head.
const HEAD: &str = "head";

/// The messages between two positions.
const BETWEEN: &str = "inboxId = :inbox AND #item BETWEEN :from AND :until";

/// Higher than every position, and the largest number that fits into a sort key.
const MAX_POSITION: u64 = 9_999_999_999_999_999;

/// Records a deletion. The value only rises, and never above the newest message: a made-up cursor
/// would make the inbox unbounded.
const RECORD_DELETION: RowUpdate = RowUpdate {
    update: "SET deletedThrough = :through",
    condition: Some("deletedThrough < :through AND lastPosition >= :through"),
    names: &[],
};

/// The inboxes, as one region stores and reads them.
#[derive(Debug, Clone)]
pub struct Inbox {
    client: Client,
    table: String,
    region: String,
    peers: Vec<String>,
    clock: SharedClock,
}

/// Why an inbox was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// The cursor is not of this inbox. 400.
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    /// The next message does not fit into the answer. 413.
    #[error("the next message has {bytes} bytes and does not fit into this answer")]
    TooLarge {
        /// The size of its frame.
        bytes: usize,
    },
    /// The table failed. 500, or 503 if a retry may succeed.
    #[error(transparent)]
    Store(#[from] DynamoError),
}

/// Messages of an inbox, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InboxPage {
    /// Their frames, as JSON text.
    pub frames: Vec<String>,
    /// The cursor of the last one, for the next read or for a deletion. `None` if there are no
    /// messages.
    pub next: Option<String>,
}

impl InboxPage {
    /// A JSON object with the page, as text that contains the frames byte for byte. `members` are
    /// its first members, `next` is the name of the cursor.
    pub fn document(&self, members: &str, next: &str) -> String {
        let cursor = self.next.as_ref().map(|cursor| format!(",\"{next}\":\"{cursor}\"")).unwrap_or_default();
        format!("{{{members}\"items\":[{}]{cursor}}}", self.frames.join(","))
    }
}

/// Limits of one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBounds {
    pub messages: u32,
    /// Most bytes of all frames together.
    pub bytes: usize,
}

impl Inbox {
    /// The inboxes in the table that `INBOX_TABLE` names. Messages are stored for the region
    /// `AWS_REGION`, and read from that region and those of `PEER_REGIONS`.
    pub fn from_env(client: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        let (region, peers) = (aws::region(env)?, aws::peer_regions(env));
        Ok(Self { client, table: tables::INBOX.name(env)?, region, peers, clock })
    }

    fn query(
        &self,
        inbox_id: &str,
        from: u64,
        until: u64,
    ) -> aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression(BETWEEN)
            .expression_attribute_names("#item", "item")
            .expression_attribute_values(":inbox", text(inbox_id))
            .expression_attribute_values(":from", text(message_item(from)))
            .expression_attribute_values(":until", text(message_item(until)))
    }

    /// The partition of this region.
    fn id(&self, user: &UserId) -> String {
        id(user, &self.region)
    }

    fn target(&self, inbox_id: &str) -> String {
        format!("{} {inbox_id}", self.table)
    }

    fn position(&self, item: &str) -> Result<u64, DynamoError> {
        let digits = item.strip_prefix("m#").unwrap_or(item);
        digits.parse().map_err(|error: std::num::ParseIntError| {
            DynamoError::unreadable("Query", format!("{} {item}", self.table), error)
        })
    }
}

fn id(user: &UserId, region: &str) -> String {
    format!("{user}#{region}")
}

fn message_item(position: u64) -> String {
    format!("m#{position:016}")
}

fn key(inbox_id: &str, item: &str) -> Item {
    Item::from([("inboxId".to_owned(), text(inbox_id)), ("item".to_owned(), text(item))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sort_keys_have_the_order_of_positions() {
        let items: Vec<String> = [1, 9, 10, 99, 1_000_000, MAX_POSITION].map(message_item).into();
        assert!(items.is_sorted());
        assert!(HEAD < items[0].as_str() && items[5].as_str() < "seen#");
    }
}
