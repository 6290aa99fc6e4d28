//! Cancelling orders that stay unpaid, and giving their stock back.
//!
//! 1. The region's pending orders are read shard by shard, oldest first, a page at a time, as far as they were placed
//!    before the limit. Each is cancelled by [`Expiry::expire`]: one transaction for the order, its stock and its event,
//!    conditional on the order still awaiting payment, and on the lock.
//! 2. The state of the work is the index itself: what is cancelled is no longer in it. So a run can be cut off anywhere
//!    and another can begin anywhere, also beside it, and stock comes back exactly once.
//! 3. No order is begun after [`Cleanup::stop_at`]. What remains is left to the next slot, which begins with another
//!    shard, so that no shard waits for ever behind the others.
//! 4. An order that cannot be cancelled is counted, logged and passed over; the next slot meets it again. When a page
//!    cannot be read, the run fails, and its retry begins anew.

use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use serde::Serialize;

use crate::clock::{as_rfc3339, rfc3339};
use crate::deadline::Deadline;
use crate::dynamo::DynamoError;
use crate::ids::OrderId;
use crate::lock::JobSlot;
use crate::orders::{Expiration, Expiry, PendingShard};

/// Orders in work at the same time. All transactions of a run check the same lock, and DynamoDB lets one transaction at
/// a time touch an item: more would meet each other there as conflicts. Two let one's reads run beside the other's
/// transaction.
const EXPIRATIONS_AT_ONCE: usize = 2;

/// Time kept back for what is in work when the run stops to begin anew, and for completing the slot. A cancellation
/// takes milliseconds, one that meets others or a slow payment provider some seconds.
const STOP_BEFORE_DEADLINE: Duration = Duration::from_secs(10);

/// How long an order may stay unpaid, in whole hours; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpaidHours(NonZeroU16);

impl FromStr for UnpaidHours {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// What is to be cancelled, and until when.
#[derive(Debug, Clone)]
pub struct Cleanup<G> {
    /// Orders placed before this instant.
    pub placed_before: Timestamp,
    /// Where among the shards to begin: any number that differs from slot to slot.
    pub first_shard: usize,
    /// No order is begun after this.
    pub stop_at: Deadline,
    /// An order's cancellation is tried until this.
    pub deadline: Deadline,
    /// The lock's condition.
    pub guard: Option<G>,
}

impl<G> Cleanup<G> {
    /// The work of a slot. The limit counts from the scheduled time, so that every delivery has the same one.
    pub fn of_slot(slot: &JobSlot, unpaid: UnpaidHours, deadline: Deadline, guard: G) -> Self {
        let unpaid_for = Duration::from_hours(u64::from(unpaid.0.get()));
        let scheduled_at = slot.scheduled_at();
        let hour = scheduled_at.as_second().div_euclid(60 * 60).unsigned_abs();
        Self {
            placed_before: scheduled_at.checked_sub(unpaid_for).unwrap_or(Timestamp::MIN),
            first_shard: usize::try_from(hour).unwrap_or(0),
            stop_at: deadline.earlier_by(STOP_BEFORE_DEADLINE),
            deadline,
            guard: Some(guard),
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CleanupResult {
    /// The limit.
    #[serde(with = "as_rfc3339")]
    pub placed_before: Timestamp,
    /// Orders cancelled by this run.
    pub expired: u64,
    /// Orders that were paid, cancelled or gone by the time they were looked at.
    pub ended_before: u64,
    /// Orders left alone because a payment of theirs is not settled.
    pub payment_unsettled: u64,
    /// Orders at whose rows others were until the deadline.
    pub contended: u64,
    /// Orders that could not be cancelled.
    pub failed: u64,
    /// Whether time ran out before the last page: the next slot goes on.
    pub remaining: bool,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError<E: std::error::Error + 'static> {
    /// A page of pending orders could not be read.
    #[error("the pending orders could not be read")]
    Pending(#[source] E),
    /// The lock's condition could not be made.
    #[error("the lock's condition could not be made")]
    Guard(#[source] DynamoError),
    /// The lock was taken over; this run must stop.
    #[error("a later run holds the lock")]
    Overtaken,
}

/// What became of one order of a page.
enum Visit<E> {
    Seen(OrderId, Result<Expiration, E>),
    OutOfTime,
}

/// Cancels what is to be cancelled.
pub async fn run<X: Expiry>(
    expiry: &X,
    cleanup: &Cleanup<X::Guard>,
) -> Result<CleanupResult, CleanupError<X::Error>> {
    let mut result = CleanupResult::of_nothing(cleanup.placed_before);
    let mut shards: Vec<_> = PendingShard::all().collect();
    let first = cleanup.first_shard % shards.len().max(1);
    shards.rotate_left(first);
    for shard in shards {
        clean_shard(expiry, cleanup, shard, &mut result).await?;
        if result.remaining {
            tracing::warn!(expired = result.expired, "out of time; the next slot does what remains");
            break;
        }
    }
    Ok(result)
}

async fn clean_shard<X: Expiry>(
    expiry: &X,
    cleanup: &Cleanup<X::Guard>,
    shard: PendingShard,
    result: &mut CleanupResult,
) -> Result<(), CleanupError<X::Error>> {
    let mut after = None;
    loop {
        if cleanup.stop_at.has_passed() {
            result.remaining = true;
            return Ok(());
        }
        let page =
            expiry.pending(shard, cleanup.placed_before, after).await.map_err(CleanupError::Pending)?;
        let visits = stream::iter(page.order_ids).map(|order_id| async move {
            if cleanup.stop_at.has_passed() {
                return Visit::OutOfTime;
            }
            let ended = expiry.expire(&order_id, cleanup.guard.clone(), cleanup.deadline).await;
            Visit::Seen(order_id, ended)
        });
        let mut visits = std::pin::pin!(visits.buffer_unordered(EXPIRATIONS_AT_ONCE));
        while let Some(visit) = visits.next().await {
            result.count(visit)?;
        }
        after = page.next;
        if after.is_none() || result.remaining {
            return Ok(());
        }
    }
}

impl CleanupResult {
    const fn of_nothing(placed_before: Timestamp) -> Self {
        Self {
            placed_before,
            expired: 0,
            ended_before: 0,
            payment_unsettled: 0,
            contended: 0,
            failed: 0,
            remaining: false,
        }
    }

    fn count<E: std::error::Error>(&mut self, visit: Visit<E>) -> Result<(), CleanupError<E>> {
        let (order_id, ended) = match visit {
            Visit::Seen(order_id, ended) => (order_id, ended),
            Visit::OutOfTime => {
                self.remaining = true;
                return Ok(());
            }
        };
        match ended {
            Ok(Expiration::Expired) => self.expired += 1,
            Ok(Expiration::AlreadyCancelled | Expiration::Paid | Expiration::Unknown) => {
                self.ended_before += 1;
            }
            Ok(Expiration::PaymentUnsettled) => self.payment_unsettled += 1,
            Ok(Expiration::Contended) => self.contended += 1,
            Ok(Expiration::Fenced) => {
                tracing::warn!(%order_id, limit = %rfc3339(self.placed_before), "the lock was taken over");
                return Err(CleanupError::Overtaken);
            }
            Err(error) => {
                tracing::error!(%order_id, ?error, "an unpaid order could not be cancelled");
                self.failed += 1;
            }
        }
        Ok(())
    }
}
