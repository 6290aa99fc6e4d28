//! Reading exports.

use aws_sdk_dynamodb::Client;

use super::{key, parse};
use crate::clock::SharedClock;
use crate::dynamo::DynamoError;
use crate::env::{ConfigError, Env};
use crate::exports::Export;
use crate::ids::{ExportId, UserId};
use crate::tables;

/// Reads of the exports table. Calls `GetItem`, nothing else.
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
        let now = self.clock.now();
        Ok(export.filter(|export| export.expiry() > now))
    }

    /// The customer's export of that id.
    pub async fn of_customer(
        &self,
        customer_id: &UserId,
        export_id: &ExportId,
    ) -> Result<Option<Export>, DynamoError> {
        let export = self.get(export_id).await?;
        Ok(export.filter(|export| export.customer_id == *customer_id))
    }
}
