//! A consistent snapshot of rows of several tables.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_get_items::TransactGetItemsError;
use aws_sdk_dynamodb::types::{Get, TransactGetItem};

use super::{DynamoError, Item, RowKey};
use crate::core::deadline::Deadline;
use crate::core::retry::Backoff;

/// Most rows of one [`read_rows_at_once`]: `TransactGetItems` takes no more.
pub const MAX_SNAPSHOT: u16 = 100;

/// Reads `N` rows as [`read_rows_at_once`] does.
pub async fn read_snapshot<const N: usize>(
    client: &Client,
    keys: [RowKey<'_>; N],
    deadline: Deadline,
) -> Result<[Option<Item>; N], DynamoError> {
    let mut rows = read_rows_at_once(client, keys.into(), deadline).await?.into_iter();
    Ok(std::array::from_fn(|_| rows.next().flatten()))
}

/// Reads at most [`MAX_SNAPSHOT`] rows in one transaction, in the order of `keys`. A batch may mix
/// states from before and after a transaction; a snapshot does not, at twice the price. A
/// conflicting write is retried with jitter until `deadline`.
pub async fn read_rows_at_once(
    client: &Client,
    keys: Vec<RowKey<'_>>,
    deadline: Deadline,
) -> Result<Vec<Option<Item>>, DynamoError> {
    let target = keys.iter().map(|key| key.table).collect::<Vec<_>>().join(", ");
    let mut gets = Vec::with_capacity(keys.len());
    for RowKey { table, key } in keys {
        let get = Get::builder().table_name(table).set_key(Some(key)).build();
        let get = get.map_err(|error| DynamoError::unreadable("TransactGetItems", target.as_str(), error))?;
        gets.push(TransactGetItem::builder().get(get).build());
    }
    let mut backoff = Backoff::within(deadline);
    loop {
        let request = client.transact_get_items().set_transact_items(Some(gets.clone()));
        match Box::pin(request.send()).await {
            Ok(answer) => {
                let mut rows = answer.responses.unwrap_or_default().into_iter();
                return Ok(gets.iter().map(|_| rows.next().and_then(|row| row.item)).collect());
            }
            Err(error) if is_conflict(&error) && backoff.wait().await => {}
            Err(error) => return Err(DynamoError::new("TransactGetItems", target, error)),
        }
    }
}

fn is_conflict<R>(error: &SdkError<TransactGetItemsError, R>) -> bool {
    match error.as_service_error() {
        Some(TransactGetItemsError::TransactionCanceledException(cancelled)) => {
            cancelled.cancellation_reasons().iter().any(|reason| reason.code() == Some("TransactionConflict"))
        }
        _ => false,
    }
}
