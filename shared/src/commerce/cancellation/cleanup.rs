//! Cancels orders that stay unpaid, and returns their stock.
//!
//! 1. The job processes the region's reservations ([`backlog`]) whose orders were placed before the
//!    limit, then those of evacuated regions whose successor this region is
//!    ([`regions`](crate::coordination::regions)). Each unpaid order is cancelled by
//!    [`Cancellations::expire`]: one transaction for the order, its stock and its event,
//!    conditional on the order still awaiting payment, and on the lock.
//! 2. A cancelled order has no reservation any more, and the reservation of a paid order leaves the
//!    index. So stock is returned exactly once, wherever a run is cut off. Orders that another
//!    region has ended or replaced are settled. The reservation for an order of another region
//!    stays: that region returns the units when it serves again.
//! 3. An order that cannot be cancelled is counted, logged and postponed. There is a partition of
//!    failed orders for each hour of the day, and a run moves orders that fail to the partition of
//!    its hour. It processes the orders that have not failed yet first, then the other 23
//!    partitions, oldest first. So an order that always fails is processed after the others, and
//!    delays each of them by one run at most.

use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{Cancellations, Expiration};
use crate::commerce::orders::PendingShard;
use crate::commerce::orders::dynamo::PendingReservation;
use crate::commerce::payments::PaymentProvider;
use crate::coordination::backlog::{self, Backlog, BacklogError, BacklogProgress, JobRun};
use crate::core::date_time::{as_rfc3339, rfc3339};
use crate::core::ids::OrderId;
use crate::core::shards::ShardPage;
use crate::platform::dynamo::{DynamoError, Guard};

/// How long an order may stay unpaid, in whole hours; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpaidHours(NonZeroU16);

impl FromStr for UnpaidHours {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl UnpaidHours {
    /// Orders placed before this instant have expired at `scheduled_at`.
    fn limit(self, scheduled_at: Timestamp) -> Timestamp {
        let unpaid_for = Duration::from_hours(u64::from(self.0.get()));
        scheduled_at.checked_sub(unpaid_for).unwrap_or(Timestamp::MIN)
    }
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CleanupResult {
    #[serde(with = "as_rfc3339")]
    pub placed_before: Timestamp,
    /// Orders cancelled by this run.
    pub expired: u64,
    /// Orders that had been paid, cancelled or replaced before.
    pub ended_before: u64,
    /// Orders that another region had ended or replaced, whose units this run returned.
    pub given_back: u64,
    /// Orders with an unsettled payment, which were not changed.
    pub payment_unsettled: u64,
    /// Orders that conflicted at each try.
    pub contended: u64,
    /// Orders that could not be cancelled.
    pub failed: u64,
    /// Whether time ran out before the last page: the next slot continues.
    pub remaining: bool,
}

/// Cancels the expired orders of these regions, one region after the other.
pub async fn run<P: PaymentProvider>(
    cancellations: &Cancellations<P>,
    regions: &[String],
    unpaid: UnpaidHours,
    turn: &JobRun<Guard>,
) -> Result<CleanupResult, BacklogError<DynamoError>> {
    let placed_before = unpaid.limit(turn.scheduled_at);
    let mut result = CleanupResult::of_nothing(placed_before);
    for region in regions {
        let orders = UnpaidOrders { cancellations, region, placed_before, turn };
        let progress = backlog::process_backlog(&orders, turn, |seen| result.count(seen)).await?;
        result.remaining |= progress == BacklogProgress::OutOfTime;
    }
    Ok(result)
}

struct UnpaidOrders<'a, P> {
    cancellations: &'a Cancellations<P>,
    region: &'a str,
    placed_before: Timestamp,
    turn: &'a JobRun<Guard>,
}

impl<P: PaymentProvider> Backlog for UnpaidOrders<'_, P> {
    type Shard = PendingShard;
    type Entry = PendingReservation;
    type Outcome = (OrderId, Result<Expiration, DynamoError>);
    type Error = DynamoError;

    fn shards(&self) -> Vec<PendingShard> {
        let mut shards = self.turn.rotated(PendingShard::fresh());
        shards.extend(self.turn.rotated(PendingShard::failed()).into_iter().skip(1));
        shards
    }

    async fn page(
        &self,
        shard: PendingShard,
        after: Option<PendingReservation>,
    ) -> Result<ShardPage<PendingReservation>, DynamoError> {
        self.cancellations.orders.pending(self.region, shard, self.placed_before, after).await
    }

    async fn process_entry(&self, reservation: PendingReservation) -> Self::Outcome {
        let order_id = reservation.key.order_id;
        let Cancellations { orders, writes, .. } = self.cancellations;
        let guard = Some(&self.turn.guard);
        let ended = self.cancellations.expire(&order_id, self.region, guard, self.turn.deadline).await;
        // Only the other region writes its reservations.
        if self.region == writes.region()
            && matches!(ended, Err(_) | Ok(Expiration::PaymentUnsettled | Expiration::Contended))
            && let Some(&of_this_hour) = self.turn.rotated(PendingShard::failed()).first()
            && let Err(error) = orders.postpone(&order_id, writes.region(), of_this_hour).await
        {
            tracing::error!(%order_id, ?error, "a failed order could not be postponed");
        }
        (order_id, ended)
    }
}

impl CleanupResult {
    const fn of_nothing(placed_before: Timestamp) -> Self {
        Self {
            placed_before,
            expired: 0,
            ended_before: 0,
            given_back: 0,
            payment_unsettled: 0,
            contended: 0,
            failed: 0,
            remaining: false,
        }
    }

    fn count(
        &mut self,
        (order_id, ended): (OrderId, Result<Expiration, DynamoError>),
    ) -> Result<(), BacklogError<DynamoError>> {
        match ended {
            Ok(Expiration::Expired) => self.expired += 1,
            Ok(Expiration::AlreadyEnded | Expiration::Paid | Expiration::Unknown) => {
                self.ended_before += 1;
            }
            Ok(Expiration::GivenBack) => self.given_back += 1,
            Ok(Expiration::PaymentUnsettled) => self.payment_unsettled += 1,
            Ok(Expiration::Contended) => self.contended += 1,
            Ok(Expiration::Fenced) => {
                tracing::warn!(%order_id, limit = %rfc3339(self.placed_before), "the lock was taken over");
                return Err(BacklogError::Overtaken);
            }
            Err(error) => {
                tracing::error!(%order_id, ?error, "an unpaid order could not be cancelled");
                self.failed += 1;
            }
        }
        Ok(())
    }
}
