//! Storing a message: steps 1, 2 and 5 of the protocol.

use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use serde::Deserialize;
use serde_dynamo::from_item;

use super::{CAPACITY, HEAD, Inbox, MAX_POSITION, RECORD_DELETION, RESERVED, RETENTION, key, message_item};
use crate::core::deadline::Deadline;
use crate::core::ids::{MessageId, UserId};
use crate::core::retry::Backoff;
use crate::platform::dynamo::{
    Actions, DynamoError, Item, RowUpdate, Transaction, Write, WriteOutcome, number, text,
};
use crate::platform::telemetry::{self, Metric};

/// The first message of an inbox: there is no head.
const FIRST: RowUpdate = RowUpdate {
    update: "SET lastPosition = :next, deletedThrough = :none",
    condition: Some("attribute_not_exists(lastPosition)"),
    names: &[],
};

/// A further message: the head has not changed since it was read, so that each position is used
/// once.
const NEXT: RowUpdate =
    RowUpdate { update: "SET lastPosition = :next", condition: Some("lastPosition = :last"), names: &[] };

/// The row is new.
const IS_NEW: &str = "attribute_not_exists(inboxId)";

/// The result of storing a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOutcome {
    /// The message is in the inbox, or was there before.
    Stored,
    /// The inbox is full; the message was not stored.
    Full,
}

/// A message to be stored.
#[derive(Debug, Clone, Copy)]
pub struct UndeliveredMessage<'a> {
    pub message_id: &'a MessageId,
    /// The sender; `None` for a message of the service.
    pub from: Option<&'a UserId>,
    /// The frame that a socket would have got: JSON text.
    pub frame: &'a str,
}

/// The head of an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InboxHead {
    /// The position of the newest message.
    pub(super) last_position: u64,
    /// The user has deleted up to this position.
    pub(super) deleted_through: u64,
}

/// The actions of the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Head,
    Message,
    Mark,
}

impl InboxHead {
    /// Reads the item, which is absent if the inbox never held a message.
    pub(super) fn read(item: &Item, target: &str) -> Result<Self, DynamoError> {
        if item.is_empty() {
            return Ok(Self { last_position: 0, deleted_through: 0 });
        }
        from_item(item.clone()).map_err(|error| DynamoError::unreadable("GetItem", target, error))
    }

    fn has_room_for(self, message: &UndeliveredMessage<'_>) -> bool {
        let capacity = if message.from.is_some() { CAPACITY - RESERVED } else { CAPACITY };
        self.last_position.saturating_sub(self.deleted_through) < capacity
    }
}

impl Inbox {
    /// Stores `message` for `user`.
    ///
    /// # Errors
    /// After an error, the message may or may not be stored. Storing the same message again is
    /// harmless.
    pub async fn store(
        &self,
        user: &UserId,
        message: UndeliveredMessage<'_>,
        deadline: Deadline,
    ) -> Result<StoreOutcome, DynamoError> {
        let inbox_id = self.id(user);
        let target = self.target(&inbox_id);
        let mut head = self.read_head(&inbox_id, &target).await?;
        let mut backoff = Backoff::of_conflicts(deadline);
        loop {
            if !head.has_room_for(&message) {
                let Some(room) = self.make_room(&inbox_id, head).await? else {
                    telemetry::count(Metric::InboxFull, 1);
                    return Ok(StoreOutcome::Full);
                };
                head = room;
                continue;
            }
            let actions = self.actions(&inbox_id, head, message)?;
            let reasons = match actions.commit(&self.client, &target).await? {
                Transaction::Committed => {
                    telemetry::count(Metric::InboxStored, 1);
                    return Ok(StoreOutcome::Stored);
                }
                Transaction::Cancelled(reasons) => reasons,
            };
            if reasons.row_refusing(&Action::Mark).is_some() {
                return Ok(StoreOutcome::Stored);
            }
            if !backoff.wait().await {
                return Err(DynamoError::contended("TransactWriteItems", target));
            }
            head = match reasons.row_refusing(&Action::Head) {
                Some(row) => InboxHead::read(row, &target)?,
                None => self.read_head(&inbox_id, &target).await?,
            };
        }
    }

    async fn read_head(&self, inbox_id: &str, target: &str) -> Result<InboxHead, DynamoError> {
        let request = self.client.get_item().table_name(&self.table).consistent_read(true);
        let answer = Box::pin(request.set_key(Some(key(inbox_id, HEAD))).send()).await;
        let answer = answer.map_err(|error| DynamoError::new("GetItem", target, error))?;
        InboxHead::read(&answer.item.unwrap_or_default(), target)
    }

    fn actions(
        &self,
        inbox_id: &str,
        head: InboxHead,
        message: UndeliveredMessage<'_>,
    ) -> Result<Actions<Action>, DynamoError> {
        let expires_at = self.clock.now().as_second().saturating_add(RETENTION.as_secs().cast_signed());
        let next = head.last_position.saturating_add(1);
        let (head_key, next_value) = (key(inbox_id, HEAD), (":next", number(next)));
        let head = if head.last_position == 0 {
            FIRST.action(&self.table, head_key, [next_value, (":none", number(0))])?
        } else {
            NEXT.action(&self.table, head_key, [next_value, (":last", number(head.last_position))])?
        };
        let sender = message.from.map_or("service", UserId::as_str);
        let mark = format!("seen#{sender}#{}", message.message_id);
        let mut row = key(inbox_id, &message_item(next));
        row.insert("frame".to_owned(), text(message.frame));
        row.insert("expiresAt".to_owned(), number(expires_at));
        let mut mark = key(inbox_id, &mark);
        mark.insert("expiresAt".to_owned(), number(expires_at));
        Ok(Actions::from([
            (Action::Head, head),
            (Action::Message, self.put_new(row)?),
            (Action::Mark, self.put_new(mark)?),
        ]))
    }

    fn put_new(&self, row: Item) -> Result<TransactWriteItem, DynamoError> {
        let put = Put::builder().table_name(&self.table).set_item(Some(row)).condition_expression(IS_NEW);
        let put = put.build().map_err(|error| DynamoError::unreadable("build", &self.table, error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// The head after removing expired messages from a full inbox. `None` if no message has
    /// expired.
    async fn make_room(&self, inbox_id: &str, head: InboxHead) -> Result<Option<InboxHead>, DynamoError> {
        let target = self.target(inbox_id);
        let request = self.query(inbox_id, head.deleted_through.saturating_add(1), MAX_POSITION);
        let answer = Box::pin(request.projection_expression("#item, expiresAt").send()).await;
        let answer = answer.map_err(|error| DynamoError::new("Query", &target, error))?;
        let now = self.clock.now().as_second();
        let mut through = head.last_position;
        for item in answer.items.unwrap_or_default() {
            let row: RowExpiry =
                from_item(item).map_err(|error| DynamoError::unreadable("Query", &target, error))?;
            let position = self.position(&row.item)?;
            if row.expires_at > now {
                through = position.saturating_sub(1);
                break;
            }
            if answer.last_evaluated_key.is_some() {
                through = position;
            }
        }
        if through <= head.deleted_through {
            return Ok(None);
        }
        let values = [(":through", number(through))];
        let request = RECORD_DELETION.request(&self.client, &self.table, key(inbox_id, HEAD), values);
        match Box::pin(request.send()).await.outcome("UpdateItem", &target)? {
            Write::Done(_) => Ok(Some(InboxHead { deleted_through: through, ..head })),
            Write::Refused(row) => InboxHead::read(&row, &target).map(Some),
            Write::Conflict => Err(DynamoError::contended("UpdateItem", target)),
        }
    }
}

/// The attributes that decide whether a row counts.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RowExpiry {
    item: String,
    expires_at: i64,
}
