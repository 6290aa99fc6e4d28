//! Slots as rows, taken and released by actions of transactions.

use aws_sdk_dynamodb::types::{Delete, Put, TransactWriteItem};
use jiff::Timestamp;

use super::{ITEM, row};
use crate::core::ids::{ExportId, UserId};
use crate::core::shards::spread;
use crate::files::exports::{Export, ExportSlot, MAX_OPEN};
use crate::platform::dynamo::{DynamoError, Item, number, text};
use crate::platform::tables::EXPIRES_AT;

/// Nobody holds the slot, or an expired export does. (TTL deletes late.)
const IS_FREE: &str = "attribute_not_exists(heldBy) OR expiresAt <= :nowSeconds";

/// The slot is still the export's. A slot that is gone has expired, and so has the export: there is
/// nothing to release.
const IS_ITS_OWN: &str = "attribute_not_exists(heldBy) OR heldBy = :export";

/// The key of a customer's slot.
pub(super) fn key(customer_id: &UserId, slot: &ExportSlot) -> Item {
    row(customer_id.as_str(), slot.as_str())
}

/// A slot of `region` that none of `rows` holds at `now`. Concurrent requests of one customer start
/// the search at different slots, so that they seldom choose the same one.
pub(super) fn free(rows: &[Item], region: &str, export_id: &ExportId, now: Timestamp) -> Option<ExportSlot> {
    let is_held = |slot: &ExportSlot| {
        rows.iter().any(|row| row.get(ITEM) == Some(&text(slot.as_str())) && expiry(row) > now.as_second())
    };
    let mut slots: Vec<ExportSlot> = ExportSlot::all(region).collect();
    slots.rotate_left(usize::from(spread(export_id.as_str(), MAX_OPEN)));
    slots.into_iter().find(|slot| !is_held(slot))
}

fn expiry(row: &Item) -> i64 {
    let at = row.get(EXPIRES_AT).and_then(|at| at.as_n().ok()).and_then(|at| at.parse().ok());
    // A row without expiry is held for good: that is noticed, while a slot that is given away twice
    // is not.
    at.unwrap_or(i64::MAX)
}

/// The export takes its slot.
pub(super) fn take(table: &str, export: &Export, now: Timestamp) -> Result<TransactWriteItem, DynamoError> {
    let mut item = key(&export.customer_id, &export.slot);
    item.insert("heldBy".to_owned(), text(export.export_id.as_str()));
    item.insert(EXPIRES_AT.to_owned(), number(export.expires_at));
    let put = Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .condition_expression(IS_FREE)
        .expression_attribute_values(":nowSeconds", number(now.as_second()))
        .build()
        .map_err(|error| DynamoError::unreadable("build", table, error))?;
    Ok(TransactWriteItem::builder().put(put).build())
}

/// The export releases its slot.
pub(super) fn release_slot(table: &str, export: &Export) -> Result<TransactWriteItem, DynamoError> {
    let delete = Delete::builder()
        .table_name(table)
        .set_key(Some(key(&export.customer_id, &export.slot)))
        .condition_expression(IS_ITS_OWN)
        .expression_attribute_values(":export", text(export.export_id.as_str()))
        .build()
        .map_err(|error| DynamoError::unreadable("build", table, error))?;
    Ok(TransactWriteItem::builder().delete(delete).build())
}
