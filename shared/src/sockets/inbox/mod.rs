//! The inbox: messages that no socket of their user took.
//!
//! # Promise
//! A message that [`Inbox::store`] reported as stored is returned by [`Inbox::read`] until its user deletes it, or for
//! [`RETENTION`]. Reads return messages in the order in which they were stored. The same message is stored once.
//!
//! # Protocol
//! The inbox of a user is one partition of the table, with three kinds of items:
//!
//! | item | holds |
//! |---|---|
//! | `head` | `lastPosition`, the position of the newest message; `deletedThrough`, up to where the user has deleted |
//! | `m#<position>` | one message: the frame that a socket would have got |
//! | `seen#<sender>#<messageId>` | a mark that this message was stored |
//!
//! 1. Storing reads the head, then writes one transaction: the head's position rises by one, on the condition that the
//!    head is the one that was read; the message and its mark are put, on the condition that there is no mark.
//!    So positions have no gaps, and they become visible in their order. The sender's own message id decides nothing.
//! 2. The mark outlives the deletion of its message. A delivery that is repeated later stores nothing.
//! 3. A read is a query behind a cursor, consistent, oldest first. A cursor is a position.
//! 4. A deletion removes the rows up to a cursor, then records the position in the head. A deletion that dies in between
//!    is repeated by the client. No message behind the cursor is ever removed, because a message that is stored later has
//!    a higher position.
//! 5. An inbox holds [`CAPACITY`] messages, and [`RESERVED`] of these places are for messages of the service. If it is full,
//!    expired messages make room. If none has expired, the message is refused ([`Stored::Full`]): no message that was
//!    stored before is dropped for it.
//!
//! # Regions
//! The partition is named by the user and the region that writes it, so that two regions never write to the same head.
//!
//! # Limits
//! - All stores of one inbox change its head, so that they run one after the other. A store that loses
//!   [`CONFLICT_TRIES`](crate::core::retry::CONFLICT_TRIES) times fails; its sender may repeat the message.
//! - A client that connects between the search for its sockets and the store gets the message from the inbox only. Clients
//!   read the inbox after they connect.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{DeleteRequest, WriteRequest};
use serde::Deserialize;
use serde_dynamo::from_item;

use crate::core::clock::SharedClock;
use crate::core::cursor::{self, InvalidCursor};
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::UserId;
use crate::core::retry::Backoff;
use crate::platform::dynamo::{Change, DynamoError, Item, Write, WriteOutcome, number, text};
use crate::platform::{aws, tables};

mod store;

pub use store::{Stored, Undelivered};

/// How long a message is kept.
pub const RETENTION: Duration = Duration::from_hours(7 * 24);

/// Most messages of one inbox.
pub const CAPACITY: u64 = 1_000;

/// Places that only messages of the service take: nobody keeps the news of an order out by filling an inbox.
pub const RESERVED: u64 = 100;

/// The listing that cursors belong to.
const LISTING: &str = "inbox";

/// The sort key of the head.
const HEAD: &str = "head";

/// The messages between two positions.
const BETWEEN: &str = "inboxId = :inbox AND #item BETWEEN :from AND :until";

/// Higher than every position, and the highest number that a sort key has room for.
const MAX_POSITION: u64 = 9_999_999_999_999_999;

/// Most writes of a `BatchWriteItem`.
const BATCH: usize = 25;

/// Records a deletion. The record only rises, and never beyond the newest message: a cursor that was made up would make
/// the inbox unbounded.
const RECORD_DELETION: Change = Change {
    update: "SET deletedThrough = :through",
    condition: Some("deletedThrough < :through AND lastPosition >= :through"),
    names: &[],
};

/// The inboxes that one region writes.
#[derive(Debug, Clone)]
pub struct Inbox {
    client: Client,
    table: String,
    region: String,
    clock: SharedClock,
}

/// Why an inbox was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// The cursor is not one of this inbox. 400.
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    /// The next message does not fit into the answer. 413.
    #[error("the next message has {bytes} bytes and does not fit into this answer")]
    TooLarge {
        /// The size of its frame.
        bytes: usize,
    },
    /// The table failed. 500, or 503 when it will pass.
    #[error(transparent)]
    Store(#[from] DynamoError),
}

/// Messages of an inbox, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InboxPage {
    /// Their frames, as JSON text.
    pub frames: Vec<String>,
    /// The cursor of the last one: read on from there, or delete through there. `None` if there are no messages.
    pub next: Option<String>,
}

impl InboxPage {
    /// A JSON object with the page, as text: the frames are part of it byte for byte. `members` are its first members,
    /// `next` is the name of the cursor.
    pub fn document(&self, members: &str, next: &str) -> String {
        let cursor = self.next.as_ref().map(|cursor| format!(",\"{next}\":\"{cursor}\"")).unwrap_or_default();
        format!("{{{members}\"items\":[{}]{cursor}}}", self.frames.join(","))
    }
}

/// What one read may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBounds {
    /// Most messages.
    pub messages: u32,
    /// Most bytes of all frames together.
    pub bytes: usize,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    item: String,
    frame: String,
    expires_at: i64,
}

impl Inbox {
    /// The inboxes in the table that `INBOX_TABLE` names, written by the region `AWS_REGION`.
    pub fn from_env(client: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        Ok(Self { client, table: tables::INBOX.name(env)?, region: aws::region(env)?, clock })
    }

    /// The messages of `user` behind the cursor `after`, or from the oldest on.
    ///
    /// # Errors
    /// [`InboxError::TooLarge`] if not even the first message keeps the bound of bytes.
    pub async fn read(
        &self,
        user: &UserId,
        after: Option<&str>,
        bounds: ReadBounds,
    ) -> Result<InboxPage, InboxError> {
        let inbox_id = self.id(user);
        let mut behind = after.map(position_of).transpose()?.unwrap_or(0);
        let (mut page, mut bytes) = (InboxPage::default(), 0);
        let now = self.clock.now().as_second();
        'pages: loop {
            let left = bounds.messages.saturating_sub(u32::try_from(page.frames.len()).unwrap_or(u32::MAX));
            if left == 0 {
                break;
            }
            let request = self.query(&inbox_id, behind.saturating_add(1), MAX_POSITION);
            let request = request.limit(i32::try_from(left).unwrap_or(i32::MAX));
            let answer = Box::pin(request.send()).await;
            let answer = answer.map_err(|error| DynamoError::new("Query", self.target(&inbox_id), error))?;
            for item in answer.items.unwrap_or_default() {
                let row: Row = from_item(item)
                    .map_err(|error| DynamoError::unreadable("Query", self.target(&inbox_id), error))?;
                let size = row.frame.len();
                if bytes + size > bounds.bytes && row.expires_at > now {
                    if page.frames.is_empty() {
                        return Err(InboxError::TooLarge { bytes: size });
                    }
                    break 'pages;
                }
                behind = self.position(&row.item)?;
                if row.expires_at > now {
                    bytes += size;
                    page.frames.push(row.frame);
                }
            }
            if answer.last_evaluated_key.is_none() {
                break;
            }
        }
        if !page.frames.is_empty() {
            page.next = Some(self.cursor(behind)?);
        }
        Ok(page)
    }

    /// Deletes the messages of `user` up to the cursor `through`, which an earlier read returned. Repeating it changes
    /// nothing.
    pub async fn delete(&self, user: &UserId, through: &str, deadline: Deadline) -> Result<(), InboxError> {
        let (inbox_id, through) = (self.id(user), position_of(through)?);
        let mut from = 1;
        loop {
            let request = self.query(&inbox_id, from, through).projection_expression("#item");
            let answer = Box::pin(request.send()).await;
            let answer = answer.map_err(|error| DynamoError::new("Query", self.target(&inbox_id), error))?;
            let items: Vec<String> =
                answer.items.unwrap_or_default().into_iter().filter_map(item_of).collect();
            for batch in items.chunks(BATCH) {
                self.delete_rows(&inbox_id, batch, deadline).await?;
            }
            match (answer.last_evaluated_key, items.last()) {
                (Some(_), Some(last)) => from = self.position(last)?.saturating_add(1),
                _ => break,
            }
            // DynamoDB refuses a range that ends before it begins.
            if from > through {
                break;
            }
        }
        self.record_deletion(&inbox_id, through).await
    }

    async fn delete_rows(
        &self,
        inbox_id: &str,
        items: &[String],
        deadline: Deadline,
    ) -> Result<(), DynamoError> {
        let target = || self.target(inbox_id);
        let unwritable = |error| DynamoError::unreadable("BatchWriteItem", target(), error);
        let deletion = |item: &String| {
            let delete = DeleteRequest::builder().set_key(Some(key(inbox_id, item))).build()?;
            Ok(WriteRequest::builder().delete_request(delete).build())
        };
        let mut pending: Vec<WriteRequest> = items
            .iter()
            .map(deletion)
            .collect::<Result<_, aws_sdk_dynamodb::error::BuildError>>()
            .map_err(unwritable)?;
        let mut backoff = Backoff::within(deadline);
        loop {
            let request = self.client.batch_write_item().request_items(&self.table, pending);
            let answer = Box::pin(request.send()).await;
            let answer = answer.map_err(|error| DynamoError::new("BatchWriteItem", target(), error))?;
            let unprocessed = answer.unprocessed_items.unwrap_or_default().remove(&self.table);
            pending = unprocessed.unwrap_or_default();
            if pending.is_empty() {
                return Ok(());
            }
            if !backoff.wait().await {
                let (operation, code) = ("BatchWriteItem", Some("ThrottlingException".to_owned()));
                let source = "not all rows were deleted in time".into();
                return Err(DynamoError { operation, target: target(), code, source });
            }
        }
    }

    async fn record_deletion(&self, inbox_id: &str, through: u64) -> Result<(), InboxError> {
        let target = self.target(inbox_id);
        let values = [(":through", number(through))];
        let request = RECORD_DELETION.request(&self.client, &self.table, key(inbox_id, HEAD), values);
        let head = match Box::pin(request.send()).await.outcome("UpdateItem", &target)? {
            Write::Done(_) => return Ok(()),
            Write::Refused(head) => store::Head::read(&head, &target)?,
            Write::Conflict => {
                // The rows are deleted; the client's repetition records it.
                return Err(DynamoError::contended("UpdateItem", target).into());
            }
        };
        if head.deleted_through >= through { Ok(()) } else { Err(InvalidCursor.into()) }
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

    fn id(&self, user: &UserId) -> String {
        format!("{user}#{}", self.region)
    }

    fn target(&self, inbox_id: &str) -> String {
        format!("{} {inbox_id}", self.table)
    }

    fn cursor(&self, position: u64) -> Result<String, DynamoError> {
        cursor::encode(LISTING, &position)
            .map_err(|error| DynamoError::unreadable("Query", &self.table, error))
    }

    fn position(&self, item: &str) -> Result<u64, DynamoError> {
        let digits = item.strip_prefix("m#").unwrap_or(item);
        digits.parse().map_err(|error: std::num::ParseIntError| {
            DynamoError::unreadable("Query", format!("{} {item}", self.table), error)
        })
    }
}

fn position_of(cursor: &str) -> Result<u64, InvalidCursor> {
    let position: u64 = cursor::decode(LISTING, cursor)?;
    if (1..MAX_POSITION).contains(&position) { Ok(position) } else { Err(InvalidCursor) }
}

fn message_item(position: u64) -> String {
    format!("m#{position:016}")
}

fn item_of(mut row: Item) -> Option<String> {
    match row.remove("item") {
        Some(aws_sdk_dynamodb::types::AttributeValue::S(item)) => Some(item),
        _ => None,
    }
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

    #[test]
    fn a_cursor_of_another_list_or_beyond_all_positions_is_refused() {
        assert_eq!(position_of(&cursor::encode(LISTING, &7_u64).unwrap()), Ok(7));
        assert_eq!(position_of(&cursor::encode("orders", &7_u64).unwrap()), Err(InvalidCursor));
        for beyond in [0, MAX_POSITION, u64::MAX] {
            assert_eq!(position_of(&cursor::encode(LISTING, &beyond).unwrap()), Err(InvalidCursor));
        }
    }
}
