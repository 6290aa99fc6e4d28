//! Cancelling orders that stay unpaid, and giving their stock back.
//!
//! 1. The region's reservations are worked off ([`backlog`]) as far as their orders were placed before the limit. Then those of
//!    the evacuated regions whose successor it is ([`regions`](crate::coordination::regions)). Each unpaid order is cancelled by [`Cancellations::expire`]: one transaction for the
//!    order, its stock and its event, conditional on the order still awaiting payment, and on the lock.
//! 2. What is cancelled has no reservation any more, and the reservation of a paid order leaves the index. So stock comes back exactly
//!    once, wherever a run is cut off. What another region has ended or replaced is settled on the way. The
//!    reservation for an order of another region stays: that region gives the units back when it serves again.
//! 3. An order that cannot be cancelled is counted, logged and put behind the rest. There is a partition for what failed
//!    in each hour of the day. A run puts what fails into the one of its hour. It works off the orders that have not
//!    failed yet first, then the other 23 partitions, the one that was filled longest ago first. So an order that always
//!    fails is met after the others, and keeps none of them waiting for more than one run.

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
    /// What was placed before this instant has been unpaid for too long at `scheduled_at`.
    fn limit(self, scheduled_at: Timestamp) -> Timestamp {
        let unpaid_for = Duration::from_hours(u64::from(self.0.get()));
        scheduled_at.checked_sub(unpaid_for).unwrap_or(Timestamp::MIN)
    }
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CleanupResult {
    #[serde(with = "as_rfc3339")]
    pub placed_before: Timestamp,
    /// Orders cancelled by this run.
    pub expired: u64,
    /// Orders that were paid, cancelled or gone by the time they were looked at.
    pub ended_before: u64,
    /// Orders that another region had ended or replaced, whose units were given back by this run.
    pub given_back: u64,
    /// Orders left alone because a payment of theirs is not settled.
    pub payment_unsettled: u64,
    /// Orders whose every try met a conflict.
    pub contended: u64,
    /// Orders that could not be cancelled.
    pub failed: u64,
    /// Whether time ran out before the last page: the next slot goes on.
    pub remaining: bool,
}

/// Cancels what is to be cancelled of these regions, one after the other.
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
        // Another region's reservations are its own to write.
        if self.region == writes.region()
            && matches!(ended, Err(_) | Ok(Expiration::PaymentUnsettled | Expiration::Contended))
            && let Some(&of_this_hour) = self.turn.rotated(PendingShard::failed()).first()
            && let Err(error) = orders.postpone(&order_id, writes.region(), of_this_hour).await
        {
            tracing::error!(%order_id, ?error, "an order that failed could not be put behind the rest");
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
