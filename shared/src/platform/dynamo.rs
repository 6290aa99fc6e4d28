//! Basics of every DynamoDB adapter: one error type, failed conditions as values, and transactions
//! whose cancellation reasons have names ([`Actions`]).
//!
//! A failed condition is an answer, not an error: with
//! `ReturnValuesOnConditionCheckFailure=ALL_OLD` it returns the existing item, so no second read is
//! needed.

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

/// Stands for DynamoDB's code: the request or the item is malformed, and a retry does not help.
pub const UNREADABLE: &str = "Unreadable";

/// DynamoDB's code for a write that conflicts with another write of its row. A retry may succeed.
const CONTENDED: &str = "TransactionConflictException";

/// An item as the SDK has it.
pub type Item = HashMap<String, AttributeValue>;

/// A DynamoDB call that failed.
#[derive(Debug, thiserror::Error)]
#[error("DynamoDB {operation} on {target} failed{}", code.as_ref().map(|c| format!(" ({c})")).unwrap_or_default())]
pub struct DynamoError {
    pub operation: &'static str,
    /// Table and key, in words.
    pub target: String,
    /// DynamoDB's error code, or [`UNREADABLE`]. `None`: no answer came, and a retry may succeed.
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

    /// A transaction that was cancelled for another reason than conditions and conflicts.
    pub fn cancelled(target: impl Into<String>, code: &str) -> Self {
        let source = "the transaction was cancelled".into();
        Self { operation: "TransactWriteItems", target: target.into(), code: Some(code.to_owned()), source }
    }

    /// A write that conflicted at each of its tries. It can be retried later.
    pub fn contended(operation: &'static str, target: impl Into<String>) -> Self {
        let source = "others were writing to the same row".into();
        Self { operation, target: target.into(), code: Some(CONTENDED.to_owned()), source }
    }

    /// An item that cannot be read or written.
    pub fn unreadable(
        operation: &'static str,
        target: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { operation, target: target.into(), code: Some(UNREADABLE.to_owned()), source: source.into() }
    }
}

/// The errors of the single-item writes, which have separate types in the SDK.
pub trait ConditionalWrite {
    /// Why the write did not happen, if that is an answer and not a failure.
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
    /// The condition failed. This is the current item (empty if there is none, or if it was not
    /// requested).
    Refused(Item),
    /// Another write to the item was in progress. Nothing happened; retry.
    Conflict,
}

/// Reads the outcome of a conditional write from the SDK's answer.
pub trait WriteOutcome<T> {
    /// A failed condition becomes [`Write::Refused`], a conflict [`Write::Conflict`].
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

/// Why one action contributed to the cancellation of its transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum CancellationReason {
    /// This action did not.
    None,
    /// Its condition failed. This is the current item, empty if there is none.
    ConditionFailed(Item),
    /// Another transaction or write used the same item.
    Conflict,
    /// Anything else, by its code: throttling, validation.
    Other(String),
}

impl CancellationReason {
    /// The error code, unless it is a condition or a conflict.
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
    /// Nothing was written, for these reasons ([`Reasons`]).
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
            // The SDK's first try of this transaction has not ended yet: a conflict with itself.
            Some(TransactWriteItemsError::TransactionInProgressException(_)) => {
                Ok(Self::Cancelled(vec![CancellationReason::Conflict]))
            }
            _ => Err(DynamoError::new("TransactWriteItems", target, error)),
        }
    }
}

/// A condition that a caller adds to a transaction: a lock's fence, so that an overtaken holder
/// changes nothing.
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
