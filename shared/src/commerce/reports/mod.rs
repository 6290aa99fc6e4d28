//! The daily report: the figures of one UTC day's orders, as JSON and CSV.
//!
//! 1. The orders of the day are read shard by shard from the index `byDay`, a few shards at a time,
//!    page by page, and added to a [`Tally`]: memory depends neither on the number of orders nor on
//!    that of products.
//! 2. The report contains the slot, the owner and the fence of its run.
//! 3. It is published under names that only this run uses, and then under the day's plain names,
//!    which a run with a smaller fence never overwrites ([`s3`] has the argument).
//!
//! Limits: statuses are those at the time of reading, two hours after the day; an order that is
//! paid later counts as pending. The index is eventually consistent. An unreadable order is counted
//! and logged, and does not fail the report.

use std::collections::BTreeMap;

use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use crate::commerce::orders::dynamo::{DayCursor, DynamoOrders};
use crate::commerce::orders::{DayShard, OrderOfDay, OrdersPage, UnreadableOrder};
use crate::coordination::lock::Lease;
use crate::core::date_time::as_rfc3339;
use crate::core::deadline::Deadline;
use crate::core::ids::{AttemptId, ProductId};
use crate::core::money::Currency;
use crate::platform::dynamo::DynamoError;

mod csv;
pub mod s3;
mod tally;

pub use s3::S3Reports;
pub use tally::{Tally, TopProducts};

/// Shards read concurrently: enough to hide the latency of queries, few enough that their pages (up
/// to 1 MB each) are small beside the function's memory.
const SHARDS_AT_ONCE: usize = 4;

/// The result of publishing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publication {
    /// Published under the day's plain names, and permanently under its own names.
    Published(ReportKeys),
    /// A later run has published; its report stays under the day's plain names.
    Superseded {
        /// The later run's fence.
        by: u64,
    },
}

/// The keys of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportKeys {
    /// The JSON document of this run.
    pub json: String,
    /// The CSV of this run.
    pub csv: String,
    /// The day's JSON document.
    pub latest_json: String,
    pub latest_csv: String,
}

/// Why a report was not made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The orders could not be read.
    #[error("the orders of {day} could not be read")]
    Orders {
        day: Date,
        #[source]
        source: DynamoError,
    },
    /// The report could not be serialised.
    #[error("the report could not be written as JSON")]
    Encode(#[source] serde_json::Error),
    /// The object store refused an object.
    #[error("S3 {operation} on {key} failed")]
    Store {
        operation: &'static str,
        key: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Conflicts with other writers of the object until the deadline.
    #[error("{key} was written by others at every try")]
    Contended { key: String },
    /// A run with a larger fence has published.
    #[error("a later run, with fence {by}, has published the report")]
    Superseded { by: u64 },
}

/// One day's orders in figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DailyReport {
    pub date: Date,
    /// The slot of the run.
    pub slot: String,
    /// The owner of the lock.
    pub owner: AttemptId,
    /// The fencing token. Of two reports of one slot, the larger one counts.
    pub fence: u64,
    /// When the reading began.
    #[serde(with = "as_rfc3339")]
    pub generated_at: Timestamp,
    pub orders: OrderCounts,
    /// Totals of paid orders, by currency.
    pub revenue: Vec<Revenue>,
    /// The products with most paid units.
    pub top_products: Vec<ProductUnits>,
    /// By how many units a figure in `top_products` can at most be too low. Zero unless the day
    /// sold more different products than [`Tally::MAX_PRODUCTS`].
    pub top_products_error_units: u64,
    pub failures: Failures,
}

/// Readable orders, all and by status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderCounts {
    pub total: u64,
    /// By status, as in the API.
    pub by_status: BTreeMap<&'static str, u64>,
}

/// The revenue in one currency. A day's sum may exceed the maximum of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Revenue {
    /// Minor units.
    pub amount: u128,
    pub currency: Currency,
}

/// The sold units of one product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProductUnits {
    pub product_id: ProductId,
    /// Units in paid orders.
    pub units: u64,
}

/// Orders that were not paid, declined payments, and unreadable orders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    /// Orders cancelled by their customers.
    pub cancelled: u64,
    /// Orders cancelled because they stayed unpaid.
    pub expired: u64,
    pub declined_payments: u64,
    /// Orders that could not be read.
    pub unreadable_orders: u64,
}

impl DailyReport {
    /// The report as a JSON document.
    pub fn to_json(&self) -> Result<String, ReportError> {
        serde_json::to_string_pretty(self).map_err(ReportError::Encode)
    }

    /// The report as CSV (RFC 4180) with the columns `section,name,unit,value`.
    pub fn to_csv(&self) -> String {
        csv::write(self)
    }
}

/// Compiles the report of `day` and publishes it.
pub async fn make(
    orders: &DynamoOrders,
    archive: &S3Reports,
    day: Date,
    lease: &Lease,
    now: Timestamp,
    deadline: Deadline,
) -> Result<ReportKeys, ReportError> {
    let report = compile(orders, day, lease, now).await?;
    match archive.publish(&report, deadline).await? {
        Publication::Published(keys) => Ok(keys),
        Publication::Superseded { by } => Err(ReportError::Superseded { by }),
    }
}

/// Adds up the orders of `day`, for the holder of `lease`.
pub async fn compile(
    orders: &DynamoOrders,
    day: Date,
    lease: &Lease,
    generated_at: Timestamp,
) -> Result<DailyReport, ReportError> {
    let mut tally = Tally::default();
    let mut pages = stream::iter(DayShard::all(day))
        .map(|shard| Box::pin(pages_of(orders, shard)))
        .flatten_unordered(SHARDS_AT_ONCE);
    while let Some(page) = pages.try_next().await.map_err(|source| ReportError::Orders { day, source })? {
        for order in page.orders {
            match order {
                Ok(order) => tally.add(&order),
                Err(UnreadableOrder { order_id, source }) => {
                    tracing::error!(order_id, error = %source, "an order is unreadable and left out of the report");
                    tally.add_unreadable();
                }
            }
        }
    }
    drop(pages);
    let TopProducts { products, error_units } = tally.top_products();
    Ok(DailyReport {
        date: day,
        slot: lease.name.to_string(),
        owner: lease.owner.clone(),
        fence: lease.fence.0,
        generated_at,
        orders: tally.orders(),
        revenue: tally.revenue(),
        top_products: products,
        top_products_error_units: error_units,
        failures: tally.failures(),
    })
}

/// The pages of a shard, each read after the previous one has been added up.
fn pages_of(
    orders: &DynamoOrders,
    shard: DayShard,
) -> impl Stream<Item = Result<OrdersPage<OrderOfDay, DayCursor>, DynamoError>> {
    enum Next {
        Page(Option<DayCursor>),
        End,
    }
    stream::try_unfold(Next::Page(None), move |next| async move {
        let Next::Page(after) = next else { return Ok(None) };
        let mut page = orders.of_day(shard, after).await?;
        let next = page.next.take().map_or(Next::End, |cursor| Next::Page(Some(cursor)));
        Ok(Some((page, next)))
    })
}
