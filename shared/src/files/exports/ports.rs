//! What a worker stands on.

use std::future::Future;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::csv::ExportedOrder;
use super::{Checkpoint, Export, Part, Period, Progress, ResultFile, Status};
use crate::core::date_time::as_rfc3339;
use crate::core::deadline::Deadline;
use crate::core::ids::{AttemptId, ExportId, OrderId, UserId};
use crate::files::links::MultipartId;
use crate::platform::dynamo::DynamoError;

/// One upload by which a file is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// S3's id of it.
    #[serde(rename = "s3UploadId")]
    pub upload_id: MultipartId,
    /// What its key, and no other upload's, is made with.
    pub mark: AttemptId,
}

/// Outcome of writing under a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarded {
    /// It is written.
    Done,
    /// The lock has changed hands. Nothing was changed.
    Overtaken,
    /// The row has ended, or is gone. Nothing was changed.
    Over,
}

/// The rows of exports, as a worker writes them. Every write carries the condition of its lock, and none changes an export
/// that has ended.
pub trait Rows: Send + Sync {
    /// The lock's condition.
    type Guard: Send + Sync;

    /// Reads an export, consistently. One that has expired is none.
    fn get(&self, id: &ExportId) -> impl Future<Output = Result<Option<Export>, DynamoError>> + Send;

    /// Writes down where to go on, together with the last part of it if that is new. `status` is [`Status::Running`], or
    /// [`Status::Finishing`] if there will be no more parts.
    fn checkpoint(
        &self,
        export: &Export,
        status: Status,
        checkpoint: &Checkpoint,
        part: Option<&Part>,
        progress: Progress,
        guard: &Self::Guard,
    ) -> impl Future<Output = Result<Guarded, DynamoError>> + Send;

    /// The parts of an upload that were written down, in their order. Consistent.
    fn parts(
        &self,
        id: &ExportId,
        attempt: &Attempt,
    ) -> impl Future<Output = Result<Vec<Part>, DynamoError>> + Send;

    /// Writes down how far the reading has come.
    fn progress(
        &self,
        id: &ExportId,
        progress: Progress,
        guard: &Self::Guard,
    ) -> impl Future<Output = Result<Guarded, DynamoError>> + Send;

    /// Ends the export with its file of so many `rows`, together with the event.
    fn ready(
        &self,
        export: &Export,
        file: &ResultFile,
        rows: u64,
        guard: &Self::Guard,
    ) -> impl Future<Output = Result<Guarded, DynamoError>> + Send;

    /// Ends the export without a file, together with the event. `reason` is for the customer.
    fn failed(
        &self,
        export: &Export,
        reason: &str,
        guard: &Self::Guard,
    ) -> impl Future<Output = Result<Guarded, DynamoError>> + Send;
}

/// A place in a customer's orders, behind the order it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderCursor {
    /// The order.
    pub order_id: OrderId,
    /// When it was placed.
    #[serde(with = "as_rfc3339")]
    pub created_at: Timestamp,
}

/// Some of a customer's orders, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrdersPage {
    /// The orders.
    pub orders: Vec<ExportedOrder>,
    /// Where the next page begins; none after the last.
    pub next: Option<OrderCursor>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] DynamoError),
    /// An order cannot be made sense of, however often it is read.
    #[error("the order {order_id} cannot be read")]
    Order {
        /// Which one.
        order_id: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Reads a customer's orders of a period.
pub trait CustomerOrders: Send + Sync {
    /// A page behind `after`, the first if that is none. Eventually consistent, as indexes are.
    fn page(
        &self,
        customer_id: &UserId,
        period: &Period,
        after: Option<&OrderCursor>,
    ) -> impl Future<Output = Result<OrdersPage, Unreadable>> + Send;
}

/// The object store did not do what it was asked for. Whether it happened is unknown.
#[derive(Debug, thiserror::Error)]
#[error("S3 {operation} on {key} failed")]
pub struct StoreError {
    /// The call.
    pub operation: &'static str,
    /// The object.
    pub key: String,
    /// The cause.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What became of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartOutcome {
    /// It is stored.
    Taken(Part),
    /// There is no such upload any more.
    Gone,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// It is there, made of exactly the parts that were listed: by this call or by an earlier one.
    Done,
    /// It can't be made of them any more: a part was replaced or lost, or the upload is gone and left no file.
    Impossible,
}

/// Writes files in parts. Nobody sees anything of a file before it is complete.
pub trait ResultStore: Send + Sync {
    /// Begins a file at `key`, which is `mark`'s alone.
    fn begin(&self, key: &str, mark: AttemptId) -> impl Future<Output = Result<Attempt, StoreError>> + Send;

    /// Stores part `number` (from 1), in place of one with that number.
    fn put_part(
        &self,
        key: &str,
        attempt: &Attempt,
        number: usize,
        bytes: Bytes,
    ) -> impl Future<Output = Result<PartOutcome, StoreError>> + Send;

    /// Makes the file of `parts`, which are all that it has. Can be repeated with the same list.
    fn complete(
        &self,
        key: &str,
        attempt: &Attempt,
        parts: &[Part],
    ) -> impl Future<Output = Result<Completion, StoreError>> + Send;

    /// Drops an upload. When this has succeeded, nothing will ever be made of it.
    fn abort(&self, key: &str, attempt: &Attempt) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Tells the customer.
pub trait Notice: Send + Sync {
    /// Says that the export is ready to the sockets that its customer has here. Whether all of them were reached in time.
    fn ready(
        &self,
        export: &Export,
        file: &ResultFile,
        deadline: Deadline,
    ) -> impl Future<Output = Result<bool, DynamoError>> + Send;
}
