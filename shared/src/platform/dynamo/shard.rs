//! Pages of an index that is spread over shards and sorted by time.

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::{DynamoError, Item, text};
use crate::core::date_time::rfc3339;
use crate::core::shards::ShardPage;

/// Entries on a page: what a job processes in a few seconds.
const PAGE_SIZE: i32 = 100;

/// An index of a table. Adapters declare them as constants.
#[derive(Debug, Clone, Copy)]
pub struct TimeIndex {
    pub name: &'static str,
    /// Its partition key.
    pub shard: &'static str,
    /// The entries of a shard that come before an instant: `… = :shard AND … < :before`.
    pub before: &'static str,
}

impl TimeIndex {
    /// A page of the entries of `shard` before an instant, oldest first, after the entry `after`.
    /// An entry consists of the key attributes except the shard. Eventually consistent.
    pub async fn page<E: Serialize + DeserializeOwned>(
        &self,
        client: &Client,
        table: &str,
        shard: &str,
        before: Timestamp,
        after: Option<E>,
    ) -> Result<ShardPage<E>, DynamoError> {
        let target = || format!("{} of {table} for {shard}", self.name);
        let start = after.map(|after| {
            let mut start: Item =
                to_item(after).map_err(|error| DynamoError::unreadable("Query", target(), error))?;
            start.insert(self.shard.to_owned(), text(shard));
            Ok(start)
        });
        let request = client
            .query()
            .table_name(table)
            .index_name(self.name)
            .key_condition_expression(self.before)
            .expression_attribute_values(":shard", text(shard))
            .expression_attribute_values(":before", text(rfc3339(before)))
            .set_exclusive_start_key(start.transpose()?)
            .limit(PAGE_SIZE);
        let answer =
            Box::pin(request.send()).await.map_err(|error| DynamoError::new("Query", target(), error))?;
        let entry =
            |item: Item| from_item(item).map_err(|error| DynamoError::unreadable("Query", target(), error));
        let next = answer.last_evaluated_key.map(entry).transpose()?;
        let entries = answer.items.unwrap_or_default().into_iter().map(entry).collect::<Result<_, _>>()?;
        Ok(ShardPage { entries, next })
    }
}
