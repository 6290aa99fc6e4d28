//! Exports in DynamoDB: a row per export, an item per part of its file, and rows for the customers'
//! slots.
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
//! | `customerId`, `kind`, `from`, `to`, `requestedAt` | the request |
//! | `status`, `progress`, `rows` | as in [`Export`] |
//! | `startedAt?` | when a worker first wrote it |
//! | `slot` | the slot that it holds until it ends |
//! | `sendClaimedAt?`, `sentAt?` | when a repeated request last claimed the right to send a message, and when a message was sent |
//! | `checkpoint?` | while a worker runs: the upload, how many parts it has, and the last order in them |
//! | `resultKey?`, `sizeBytes?`, `readyAt?` | once it is ready |
//! | `failure?` | once it failed |
//! | `expiresAt` | TTL |
//!
//! A part has `etag`, `crc32`, `sizeBytes` and `expiresAt`; a slot has `heldBy`, an export's id,
//! and `expiresAt`.

use aws_sdk_dynamodb::Client;
use serde_dynamo::aws_sdk_dynamodb_1::from_item;

use super::Export;
use crate::core::clock::SharedClock;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{ExportId, UserId};
use crate::platform::dynamo::{DynamoError, Item, RowKey, RowRead, text};
use crate::platform::tables;

mod parts;
mod request;
mod rows;
mod sends;
mod slots;

pub use request::{ExportRefusal, ExportTables, RequestExport};
pub use rows::{DynamoRows, GuardedWrite};
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

/// Reads of the exports table. Calls `GetItem` and `BatchGetItem` only.
#[derive(Debug, Clone)]
pub struct DynamoExports {
    client: Client,
    table: String,
    clock: SharedClock,
}

impl DynamoExports {
    /// Exports in the table that `EXPORTS_TABLE` names.
    pub fn from_env(client: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        Ok(Self { client, table: tables::EXPORTS.name(env)?, clock })
    }

    /// The export with this id, if it has not expired. Consistent: it is visible as soon as its
    /// request was answered.
    pub async fn get(&self, export_id: &ExportId) -> Result<Option<Export>, DynamoError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(export_id)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| DynamoError::new("GetItem", export_id.as_str(), error))?;
        let export = answer.item.map(parse).transpose()?;
        Ok(export.and_then(|export| self.unexpired(export)))
    }

    /// Reads the customer's export with this id. Consistent, as [`get`](Self::get) is.
    pub fn of_customer(&self, customer_id: &UserId, export_id: &ExportId) -> RowRead<'_, Option<Export>> {
        let customer_id = customer_id.clone();
        let row = RowKey { table: &self.table, key: key(export_id) };
        RowRead::new(row, move |item| {
            let export = item.map(parse).transpose()?.and_then(|export| self.unexpired(export));
            Ok(export.filter(|export| export.customer_id == customer_id))
        })
    }

    fn unexpired(&self, export: Export) -> Option<Export> {
        (export.expiry() > self.clock.now()).then_some(export)
    }
}
