//! Rows of several tables in one round trip.

use std::collections::HashMap;
use std::fmt;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::KeysAndAttributes;

use super::{DynamoError, Item};
use crate::core::deadline::Deadline;
use crate::core::retry::Backoff;

/// Stands for DynamoDB's code when keys remain unprocessed.
const THROTTLED: &str = "ProvisionedThroughputExceededException";

/// A row, by table and primary key.
#[derive(Debug, Clone)]
pub struct RowKey<'a> {
    pub table: &'a str,
    pub key: Item,
}

/// A read of rows of one table and how to parse them. Sent alone, or in a batch with rows of other
/// tables.
pub struct RowRead<'a, T> {
    table: &'a str,
    keys: Vec<Item>,
    parse: Box<dyn FnOnce(Vec<Item>) -> Result<T, DynamoError> + Send + 'a>,
}

impl<T> fmt::Debug for RowRead<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowRead").field("rows", &self.rows()).finish_non_exhaustive()
    }
}

impl<'a, T> RowRead<'a, T> {
    /// A read of one row; `None` if there is no row.
    pub fn new(
        row: RowKey<'a>,
        parse: impl FnOnce(Option<Item>) -> Result<T, DynamoError> + Send + 'a,
    ) -> Self {
        Self::of_several(row.table, vec![row.key], |mut rows| parse(rows.pop()))
    }

    /// A read of several rows of a table, in no order. Missing rows are left out.
    pub fn of_several(
        table: &'a str,
        keys: Vec<Item>,
        parse: impl FnOnce(Vec<Item>) -> Result<T, DynamoError> + Send + 'a,
    ) -> Self {
        Self { table, keys, parse: Box::new(parse) }
    }

    /// The keys.
    pub fn rows(&self) -> Vec<RowKey<'a>> {
        self.keys.iter().map(|key| RowKey { table: self.table, key: key.clone() }).collect()
    }

    /// Parses the rows, which are taken from `rows`.
    pub fn of(self, rows: &mut Rows) -> Result<T, DynamoError> {
        (self.parse)(rows.take(self.table))
    }

    /// Reads the rows in a call of their own, consistently.
    pub async fn alone(self, client: &Client, deadline: Deadline) -> Result<T, DynamoError> {
        let mut rows = read_rows(client, self.rows(), deadline).await?;
        self.of(&mut rows)
    }
}

/// Rows that were read, by table.
#[derive(Debug, Default)]
pub struct Rows(HashMap<String, Vec<Item>>);

impl Rows {
    /// Takes out the rows of a table, in no order.
    pub fn take(&mut self, table: &str) -> Vec<Item> {
        self.0.remove(table).unwrap_or_default()
    }

    /// Takes out the row of a table of which one key was read.
    pub fn take_one(&mut self, table: &str) -> Option<Item> {
        self.take(table).pop()
    }
}

/// Reads `keys` (at most 100, no duplicates: the limits of `BatchGetItem`) in one call,
/// consistently. Unprocessed keys are retried with jitter until `deadline`.
pub async fn read_rows(
    client: &Client,
    keys: Vec<RowKey<'_>>,
    deadline: Deadline,
) -> Result<Rows, DynamoError> {
    let mut rows = Rows::default();
    let mut pending = requests(keys)?;
    let mut backoff = Backoff::within(deadline);
    loop {
        let answer = client
            .batch_get_item()
            .set_request_items(Some(pending.clone()))
            .send()
            .await
            .map_err(|error| DynamoError::new("BatchGetItem", tables(&pending), error))?;
        for (table, items) in answer.responses.unwrap_or_default() {
            rows.0.entry(table).or_default().extend(items);
        }
        match answer.unprocessed_keys {
            Some(left) if !left.is_empty() => pending = left,
            _ => return Ok(rows),
        }
        if !backoff.wait().await {
            return Err(DynamoError {
                operation: "BatchGetItem",
                target: tables(&pending),
                code: Some(THROTTLED.to_owned()),
                source: "keys were left unprocessed until the deadline".into(),
            });
        }
    }
}

fn tables(requests: &HashMap<String, KeysAndAttributes>) -> String {
    requests.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn requests(keys: Vec<RowKey<'_>>) -> Result<HashMap<String, KeysAndAttributes>, DynamoError> {
    let mut by_table: HashMap<String, Vec<Item>> = HashMap::new();
    for RowKey { table, key } in keys {
        by_table.entry(table.to_owned()).or_default().push(key);
    }
    let request = |(table, keys): (String, Vec<Item>)| {
        let request = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
        match request {
            Ok(request) => Ok((table, request)),
            Err(error) => Err(DynamoError::unreadable("BatchGetItem", table, error)),
        }
    };
    by_table.into_iter().map(request).collect()
}
