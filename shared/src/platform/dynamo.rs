//! What every DynamoDB adapter needs: one error, failed conditions as values, and transactions whose cancellations are
//! read by the names of their actions ([`Actions`]).
//!
//! A failed condition is an answer, not an error: with `ReturnValuesOnConditionCheckFailure=ALL_OLD` it even carries
//! the item that was in the way, so no second read is needed.

use std::collections::HashMap;
use std::error::Error as StdError;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
pub use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodb::types::TransactWriteItem;

mod actions;
mod batch;
mod change;
mod replicas;
mod shard;
mod snapshot;

pub use actions::{Actions, Reasons};
pub use batch::{RowKey, RowRead, Rows, read_rows};
pub use change::RowUpdate;
pub use replicas::{Agreement, Replicas};
pub use shard::TimeIndex;
pub use snapshot::{MAX_SNAPSHOT, read_rows_at_once, read_snapshot};

/// In place of DynamoDB's code: the request or the item itself is wrong, and stays so however often it is tried.
pub const UNREADABLE: &str = "Unreadable";

/// DynamoDB's code for a write that met another one at its row. Another try may succeed.
const CONTENDED: &str = "TransactionConflictException";

/// An item as the SDK has it.
pub type Item = HashMap<String, AttributeValue>;

/// A DynamoDB call that did not answer the question.
#[derive(Debug, thiserror::Error)]
#[error("DynamoDB {operation} on {target} failed{}", code.as_ref().map(|c| format!(" ({c})")).unwrap_or_default())]
pub struct DynamoError {
    pub operation: &'static str,
    /// Table and key, in words.
    pub target: String,
    /// DynamoDB's error code, or [`UNREADABLE`]. `None`: no answer came, and another try may get one.
    pub code: Option<String>,
    #[source]
    pub source: Box<dyn StdError + Send + Sync>,
}

impl DynamoError {
    /// Wraps an SDK error.
    pub fn new<E, R>(operation: &'static str, target: impl Into<String>, error: SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        let code = error.code().map(str::to_owned);
        Self { operation, target: target.into(), code, source: Box::new(error) }
    }

    /// A transaction that was cancelled for something else than conditions and conflicts.
    pub fn cancelled(target: impl Into<String>, code: &str) -> Self {
        let source = "the transaction was cancelled".into();
        Self { operation: "TransactWriteItems", target: target.into(), code: Some(code.to_owned()), source }
    }

    /// A write that lost to other writes of its row as often as it may. It can be tried again later.
    pub fn contended(operation: &'static str, target: impl Into<String>) -> Self {
        let source = "others were writing to the same row".into();
        Self { operation, target: target.into(), code: Some(CONTENDED.to_owned()), source }
    }

    /// An item that is there and cannot be read, or not be written.
    pub fn unreadable(
        operation: &'static str,
        target: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { operation, target: target.into(), code: Some(UNREADABLE.to_owned()), source: source.into() }
    }
}

/// The errors of the single-item writes, which say the same in types of their own.
pub trait ConditionalWrite {
    /// Why the write did not happen, if that is an answer and no failure.
    fn refusal<T>(&self) -> Option<Write<T>>;
}

macro_rules! conditional_write {
    ($($error:ident),*) => {$(
        impl ConditionalWrite for $error {
            fn refusal<T>(&self) -> Option<Write<T>> {
                match self {
                    Self::ConditionalCheckFailedException(failed) => {
                        Some(Write::Refused(failed.item.clone().unwrap_or_default()))
                    }
                    Self::TransactionConflictException(_) | Self::ReplicatedWriteConflictException(_) => {
                        Some(Write::Conflict)
                    }
                    _ => None,
                }
            }
        }
    )*};
}

conditional_write!(PutItemError, UpdateItemError, DeleteItemError);

/// Outcome of a conditional write.
#[derive(Debug, Clone, PartialEq)]
pub enum Write<T> {
    Done(T),
    /// The condition failed; this is the item as it stands (empty when there is none, or when it was not asked for).
    Refused(Item),
    /// Another write to the item was in progress. Nothing happened; try again.
    Conflict,
}

/// Reads the outcome of a conditional write from the SDK's answer.
pub trait WriteOutcome<T> {
    /// A failed condition becomes [`Write::Refused`]; what is left is an error.
    fn outcome(self, operation: &'static str, target: &str) -> Result<Write<T>, DynamoError>;
}

impl<T, E, R> WriteOutcome<T> for Result<T, SdkError<E, R>>
where
    E: ConditionalWrite + ProvideErrorMetadata + StdError + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    fn outcome(self, operation: &'static str, target: &str) -> Result<Write<T>, DynamoError> {
        let error = match self {
            Ok(output) => return Ok(Write::Done(output)),
            Err(error) => error,
        };
        match error.as_service_error().and_then(ConditionalWrite::refusal) {
            Some(refusal) => Ok(refusal),
            None => Err(DynamoError::new(operation, target, error)),
        }
    }
}

/// Why one action of a cancelled transaction is part of the cancellation.
#[derive(Debug, Clone, PartialEq)]
pub enum CancellationReason {
    /// This action was fine.
    None,
    /// Its condition failed; the item as it stands, empty when there is none.
    ConditionFailed(Item),
    /// Another transaction or write was at the same item.
    Conflict,
    /// Anything else, by its code: throttling, validation.
    Other(String),
}

impl CancellationReason {
    /// The code of what is neither a condition nor a conflict.
    pub fn error_code(&self) -> Option<&str> {
        match self {
            Self::Other(code) => Some(code),
            _ => None,
        }
    }
}

/// Outcome of a `TransactWriteItems`.
#[derive(Debug, Clone, PartialEq)]
pub enum Transaction<R> {
    Committed,
    /// None happened, for these reasons ([`Reasons`]).
    Cancelled(R),
}

impl Transaction<Vec<CancellationReason>> {
    /// Reads the outcome from the SDK's answer: a reason for each action, in their order.
    fn outcome<T, R>(
        result: Result<T, SdkError<TransactWriteItemsError, R>>,
        target: &str,
    ) -> Result<Self, DynamoError>
    where
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        let Err(error) = result else { return Ok(Self::Committed) };
        match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                Ok(Self::Cancelled(cancelled.cancellation_reasons().iter().map(read_reason).collect()))
            }
            // The same transaction (the SDK's retry of it) has not ended yet: as good as a conflict with itself.
            Some(TransactWriteItemsError::TransactionInProgressException(_)) => {
                Ok(Self::Cancelled(vec![CancellationReason::Conflict]))
            }
            _ => Err(DynamoError::new("TransactWriteItems", target, error)),
        }
    }
}

/// A condition that somebody else puts into a transaction: a lock's fence, so that a holder that was overtaken changes
/// nothing.
#[derive(Debug, Clone)]
pub struct Guard(pub TransactWriteItem);

fn read_reason(reason: &aws_sdk_dynamodb::types::CancellationReason) -> CancellationReason {
    match reason.code() {
        None | Some("None") => CancellationReason::None,
        Some("ConditionalCheckFailed") => {
            CancellationReason::ConditionFailed(reason.item().cloned().unwrap_or_default())
        }
        Some("TransactionConflict") => CancellationReason::Conflict,
        Some(other) => CancellationReason::Other(other.to_owned()),
    }
}

/// A text attribute.
pub fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number attribute.
pub fn number(value: impl Into<i128>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}
