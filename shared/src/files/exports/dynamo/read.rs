//! Reading exports.

use aws_sdk_dynamodb::Client;

use super::{key, parse};
use crate::core::clock::SharedClock;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{ExportId, UserId};
use crate::files::exports::Export;
use crate::platform::dynamo::{DynamoError, RowKey, RowRead};
use crate::platform::tables;

/// Reads of the exports table. Calls `GetItem` and `BatchGetItem`, nothing else.
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

    /// The export of that id, if it has not expired. Consistent: it is there as soon as its request was answered.
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

    /// Reads the customer's export of that id. Consistent, as [`get`](Self::get) is.
    pub fn of_customer<'a>(
        &'a self,
        customer_id: &'a UserId,
        export_id: &ExportId,
    ) -> RowRead<'a, Option<Export>> {
        let row = RowKey { table: &self.table, key: key(export_id) };
        RowRead::new(row, move |item| {
            let export = item.map(parse).transpose()?.and_then(|export| self.unexpired(export));
            Ok(export.filter(|export| export.customer_id == *customer_id))
        })
    }

    fn unexpired(&self, export: Export) -> Option<Export> {
        (export.expiry() > self.clock.now()).then_some(export)
    }
}
