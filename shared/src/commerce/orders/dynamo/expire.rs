//! Cancelling orders that stay unpaid, for the clean-up job.

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;

use super::settle::{Footing, Settling};
use super::{OrderWrites, key, parse};
use crate::commerce::orders::{
    CancelReason, Expiration, Expiry, Order, OrderStatus, PendingOrder, PendingShard,
};
use crate::commerce::payments::PaymentProvider;
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{OrderId, SharedIds};
use crate::core::retry::Backoff;
use crate::core::shards::ShardPage;
use crate::platform::dynamo::{
    CancellationReason, Change, DynamoError, Guard, TimeIndex, Transaction, WriteOutcome, text, transact,
};
use crate::platform::telemetry::{self, Metric};

/// The orders that await payment, by the time they were placed.
const PENDING: TimeIndex = TimeIndex {
    name: "pending",
    shard: "pendingShard",
    before: "pendingShard = :shard AND createdAt < :before",
};

/// Moves an order within the index, if it still awaits payment. The order's version stays: its clean-up failed, and a
/// payment that is under way must not.
const PUT_BEHIND: Change = Change {
    update: "SET pendingShard = :shard",
    condition: Some("attribute_exists(pendingShard)"),
    names: &[],
};

/// Expiry on the orders table.
///
/// Calls `Query` on the index `pending`, `GetItem` and `UpdateItem` on orders; in transactions `UpdateItem` on orders and stock,
/// `PutItem` on outbox, and what the guard is.
#[derive(Debug, Clone)]
pub struct DynamoExpiry<P> {
    settling: Settling<P>,
    clock: SharedClock,
}

/// What became of one try.
enum Try {
    Over(Expiration),
    Again,
}

impl<P: PaymentProvider> DynamoExpiry<P> {
    /// Expiry in the tables that the environment names.
    pub fn from_env(
        client: Client,
        env: &Env,
        provider: P,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Result<Self, ConfigError> {
        let writes = OrderWrites::from_env(env, ids)?;
        Ok(Self { settling: Settling::new(client, writes, provider), clock })
    }

    async fn read(&self, order_id: &OrderId) -> Result<Option<Order>, DynamoError> {
        let answer = self
            .settling
            .client()
            .get_item()
            .table_name(self.settling.writes().orders())
            .set_key(Some(key(order_id)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| DynamoError::new("GetItem", order_id.as_str(), error))?;
        answer.item.map(parse).transpose()
    }

    async fn try_expire(
        &self,
        order_id: &OrderId,
        guard: Option<&Guard>,
        deadline: Deadline,
    ) -> Result<Try, DynamoError> {
        let Some(order) = self.read(order_id).await? else { return Ok(Try::Over(Expiration::Unknown)) };
        match order.status {
            OrderStatus::PendingPayment => {}
            OrderStatus::Paid => return Ok(Try::Over(Expiration::Paid)),
            OrderStatus::Cancelled => return Ok(Try::Over(Expiration::AlreadyCancelled)),
        }
        let now = self.clock.now();
        match self.settling.settle(&order, now, deadline).await? {
            Footing::Clear => {}
            Footing::Moved => return Ok(Try::Again),
            Footing::UnderWay { .. } | Footing::Unknown => {
                return Ok(Try::Over(Expiration::PaymentUnsettled));
            }
        }
        let (_, mut actions) = self.settling.writes().cancelled(&order, CancelReason::Unpaid, now)?;
        let guarded = guard.is_some();
        actions.extend(guard.map(|Guard(action)| action.clone()));
        Ok(match transact(self.settling.client(), order_id.as_str(), actions).await? {
            Transaction::Committed => {
                telemetry::count(Metric::OrdersExpired, 1);
                Try::Over(Expiration::Expired)
            }
            // The guard is the last action.
            Transaction::Cancelled(reasons)
                if guarded && matches!(reasons.last(), Some(CancellationReason::ConditionFailed(_))) =>
            {
                Try::Over(Expiration::Fenced)
            }
            Transaction::Cancelled(_) => Try::Again,
        })
    }
}

impl<P: PaymentProvider> Expiry for DynamoExpiry<P> {
    type Error = DynamoError;
    type Guard = Guard;

    async fn pending(
        &self,
        shard: PendingShard,
        placed_before: Timestamp,
        after: Option<PendingOrder>,
    ) -> Result<ShardPage<PendingOrder>, DynamoError> {
        let writes = self.settling.writes();
        let shard = shard.key(&writes.region);
        PENDING.page(self.settling.client(), writes.orders(), &shard, placed_before, after).await
    }

    async fn put_behind(&self, order_id: &OrderId, shard: PendingShard) -> Result<(), DynamoError> {
        let writes = self.settling.writes();
        let to = [(":shard", text(shard.key(&writes.region)))];
        let request = PUT_BEHIND.request(self.settling.client(), writes.orders(), key(order_id), to);
        // A condition that fails, or a rival: then the order is paid, cancelled or about to be.
        let written = Box::pin(request.send()).await;
        written.outcome("UpdateItem", order_id.as_str()).map(|_| ())
    }

    async fn expire(
        &self,
        order_id: &OrderId,
        guard: Option<Guard>,
        deadline: Deadline,
    ) -> Result<Expiration, DynamoError> {
        let mut backoff = Backoff::of_conflicts(deadline);
        loop {
            // Boxed: a job keeps many of these at once, and SDK calls are futures of many kilobytes.
            let tried = Box::pin(self.try_expire(order_id, guard.as_ref(), deadline)).await?;
            if let Try::Over(expiration) = tried {
                return Ok(expiration);
            }
            telemetry::count(Metric::TransactionConflicts, 1);
            if !backoff.wait().await {
                return Ok(Expiration::Contended);
            }
        }
    }
}
