//! Exports in DynamoDB: a row for each, an item for each part of its file, and rows for its customer's slots.
//!
//! | row | `exportId` (partition key) | `item` (sort key) |
//! |---|---|---|
//! | an export | its id | [`EXPORT`] |
//! | a part of its file | its id | `part#`, the upload's mark, `#`, the part's number in five digits |
//! | a slot of a customer | the customer's id | `slot#`, the region, `#`, the slot's number |
//!
//! An export's attributes:
//!
//! | attribute | |
//! |---|---|
//! | `customerId`, `kind`, `from`, `to`, `requestedAt` | what was asked for |
//! | `status`, `progress`, `rows` | as in [`Export`] |
//! | `startedAt?` | when a worker first wrote it |
//! | `slot` | which of its customer's slots it takes until it ends |
//! | `sendClaimedAt?`, `sentAt?` | when a repeated request last claimed the right to send a message, and when one had sent it |
//! | `checkpoint?` | while it is worked on: the upload, how many parts it has, and the last order in them |
//! | `resultKey?`, `sizeBytes?`, `readyAt?` | once it is ready |
//! | `failure?` | once it was given up |
//! | `expiresAt` | TTL |
//!
//! A part has `etag`, `crc32`, `sizeBytes` and `expiresAt`; a slot has `heldBy`, an export's id, and `expiresAt`.

use serde_dynamo::aws_sdk_dynamodb_1::from_item;

use super::Export;
use crate::core::ids::ExportId;
use crate::platform::dynamo::{DynamoError, Item, text};
use crate::platform::tables;

mod orders;
mod parts;
mod read;
mod request;
mod rows;
mod sends;
mod slots;

pub use crate::commerce::orders::dynamo::DynamoOrders as DynamoCustomerOrders;
pub use read::DynamoExports;
pub use request::{ExportRefusal, ExportTables, RequestExport};
pub use rows::DynamoRows;
pub use sends::{DynamoSends, SEND_EVERY, SendClaim};

/// Sort key of an export's own row.
pub const EXPORT: &str = "export";

/// The key of an export's row.
pub fn key(export_id: &ExportId) -> Item {
    row(export_id.as_str(), EXPORT)
}

fn row(hash: &str, item: &str) -> Item {
    Item::from([(tables::EXPORTS.key.hash.to_owned(), text(hash)), (ITEM.to_owned(), text(item))])
}

/// The table's sort key.
const ITEM: &str = "item";

/// Reads an export.
pub fn parse(item: Item) -> Result<Export, DynamoError> {
    from_item(item).map_err(|error| DynamoError::unreadable("read", "an export", error))
}
