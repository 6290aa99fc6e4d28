//! Exports in DynamoDB.
//!
//! | attribute | |
//! |---|---|
//! | `exportId` | key |
//! | `customerId`, `kind`, `from`, `to`, `requestedAt` | what was asked for |
//! | `status`, `progress`, `rows` | as in [`Export`] |
//! | `startedAt?` | when a worker first wrote it |
//! | `checkpoint?` | while it is worked on: the upload, its parts, and the last order in them |
//! | `resultKey?`, `sizeBytes?`, `readyAt?` | once it is ready |
//! | `failure?` | once it was given up |
//! | `expiresAt` | TTL |

use serde_dynamo::aws_sdk_dynamodb_1::from_item;

use super::Export;
use crate::dynamo::{DynamoError, Item, text};
use crate::ids::ExportId;
use crate::tables;

mod orders;
mod read;
mod request;
mod rows;

pub use orders::DynamoCustomerOrders;
pub use read::DynamoExports;
pub use request::{ExportTables, RequestExport};
pub use rows::DynamoRows;

/// The key of an export.
pub fn key(export_id: &ExportId) -> Item {
    Item::from([(tables::EXPORTS.key.hash.to_owned(), text(export_id.as_str()))])
}

/// Reads an export.
pub fn parse(item: Item) -> Result<Export, DynamoError> {
    from_item(item).map_err(|error| DynamoError::unreadable("read", "an export", error))
}
