//! Reading and deleting: steps 3 and 4 of the protocol.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, WriteRequest};
use serde::Deserialize;
use serde_dynamo::from_item;

use super::store::InboxHead;
use super::{HEAD, Inbox, InboxError, InboxPage, MAX_POSITION, RECORD_DELETION, ReadBounds, id, key};
use crate::core::cursor::{self, InvalidCursor};
use crate::core::deadline::Deadline;
use crate::core::ids::UserId;
use crate::core::retry::Backoff;
use crate::platform::dynamo::{DynamoError, Item, Write, WriteOutcome, number};

/// The listing that cursors belong to.
const LISTING: &str = "inbox";

/// Most writes of a `BatchWriteItem`.
const BATCH: usize = 25;

/// The position in each region up to which a client has read.
type Positions = BTreeMap<String, u64>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    item: String,
    frame: String,
    expires_at: i64,
}

impl Inbox {
    /// The messages of `user` after the cursor `after`, or from the oldest on.
    ///
    /// # Errors
    /// [`InboxError::TooLarge`] if the first message alone is above the limit of bytes.
    pub async fn read(
        &self,
        user: &UserId,
        after: Option<&str>,
        bounds: ReadBounds,
    ) -> Result<InboxPage, InboxError> {
        let mut positions = after.map(|cursor| self.positions_of(cursor)).transpose()?.unwrap_or_default();
        let mut page = InboxPage::default();
        for region in self.regions() {
            let behind = positions.get(region).copied().unwrap_or(0);
            let reached = self.read_on(&id(user, region), behind, &mut page, bounds).await?;
            if reached.position > 0 {
                positions.insert(region.clone(), reached.position);
            }
            if reached.is_page_full {
                break;
            }
        }
        if !page.frames.is_empty() {
            let cursor = cursor::encode(LISTING, &positions);
            page.next = Some(cursor.map_err(|error| DynamoError::unreadable("Query", &self.table, error))?);
        }
        Ok(page)
    }

    /// Adds the messages of one partition after a position to the page, as far as its limits allow.
    async fn read_on(
        &self,
        inbox_id: &str,
        behind: u64,
        page: &mut InboxPage,
        bounds: ReadBounds,
    ) -> Result<PartitionRead, InboxError> {
        let mut reached = PartitionRead { position: behind, is_page_full: true };
        let mut bytes: usize = page.frames.iter().map(String::len).sum();
        let now = self.clock.now().as_second();
        loop {
            let left = bounds.messages.saturating_sub(u32::try_from(page.frames.len()).unwrap_or(u32::MAX));
            if left == 0 {
                return Ok(reached);
            }
            let request = self.query(inbox_id, reached.position.saturating_add(1), MAX_POSITION);
            let request = request.limit(i32::try_from(left).unwrap_or(i32::MAX));
            let answer = Box::pin(request.send()).await;
            let answer = answer.map_err(|error| DynamoError::new("Query", self.target(inbox_id), error))?;
            for item in answer.items.unwrap_or_default() {
                let row: Row = from_item(item)
                    .map_err(|error| DynamoError::unreadable("Query", self.target(inbox_id), error))?;
                let size = row.frame.len();
                if bytes + size > bounds.bytes && row.expires_at > now {
                    if page.frames.is_empty() {
                        return Err(InboxError::TooLarge { bytes: size });
                    }
                    return Ok(reached);
                }
                reached.position = self.position(&row.item)?;
                if row.expires_at > now {
                    bytes += size;
                    page.frames.push(row.frame);
                }
            }
            if answer.last_evaluated_key.is_none() {
                return Ok(PartitionRead { is_page_full: false, ..reached });
            }
        }
    }

    /// Deletes the messages of `user` up to the cursor `through`, which an earlier read returned.
    /// Idempotent.
    pub async fn delete(&self, user: &UserId, through: &str, deadline: Deadline) -> Result<(), InboxError> {
        for (region, through) in self.positions_of(through)? {
            let inbox_id = id(user, &region);
            self.delete_through(&inbox_id, through, deadline).await?;
            if region == self.region {
                self.record_deletion(&inbox_id, through).await?;
            }
        }
        Ok(())
    }

    async fn delete_through(
        &self,
        inbox_id: &str,
        through: u64,
        deadline: Deadline,
    ) -> Result<(), InboxError> {
        let mut from = 1;
        loop {
            let request = self.query(inbox_id, from, through).projection_expression("#item");
            let answer = Box::pin(request.send()).await;
            let answer = answer.map_err(|error| DynamoError::new("Query", self.target(inbox_id), error))?;
            let items: Vec<String> =
                answer.items.unwrap_or_default().into_iter().filter_map(item_of).collect();
            for batch in items.chunks(BATCH) {
                self.delete_rows(inbox_id, batch, deadline).await?;
            }
            match (answer.last_evaluated_key, items.last()) {
                (Some(_), Some(last)) => from = self.position(last)?.saturating_add(1),
                _ => return Ok(()),
            }
            // DynamoDB refuses a range that ends before it begins.
            if from > through {
                return Ok(());
            }
        }
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
            Write::Refused(head) => InboxHead::read(&head, &target)?,
            Write::Conflict => {
                // The rows are deleted; a repetition by the client records it.
                return Err(DynamoError::contended("UpdateItem", target).into());
            }
        };
        if head.deleted_through >= through { Ok(()) } else { Err(InvalidCursor.into()) }
    }

    /// All regions, this one first.
    fn regions(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.region).chain(&self.peers)
    }

    /// Decodes a cursor. It may only contain regions that are read, and at least one.
    fn positions_of(&self, cursor: &str) -> Result<Positions, InvalidCursor> {
        let positions: Positions = cursor::decode(LISTING, cursor)?;
        let is_known = |(region, position): (&String, &u64)| {
            self.regions().any(|known| known == region) && (1..MAX_POSITION).contains(position)
        };
        if !positions.is_empty() && positions.iter().all(is_known) {
            Ok(positions)
        } else {
            Err(InvalidCursor)
        }
    }
}

/// How far a read came in one partition.
struct PartitionRead {
    /// 0 if there was nothing.
    position: u64,
    /// The page has no room for the next message.
    is_page_full: bool,
}

fn item_of(mut row: Item) -> Option<String> {
    match row.remove("item") {
        Some(AttributeValue::S(item)) => Some(item),
        _ => None,
    }
}
