//! The orders that await payment, by the time they were placed: the index `pending`.

use jiff::Timestamp;

use super::{DynamoOrders, key};
use crate::commerce::orders::{PendingOrder, PendingShard};
use crate::core::ids::OrderId;
use crate::core::shards::ShardPage;
use crate::platform::dynamo::{Change, DynamoError, TimeIndex, WriteOutcome, text};

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

impl DynamoOrders {
    /// A page of the orders in a region's `shard` that were placed before `placed_before` and await payment. Eventually
    /// consistent: an order may have been paid since.
    pub async fn pending(
        &self,
        region: &str,
        shard: PendingShard,
        placed_before: Timestamp,
        after: Option<PendingOrder>,
    ) -> Result<ShardPage<PendingOrder>, DynamoError> {
        PENDING.page(&self.client, &self.table, &shard.key(region), placed_before, after).await
    }

    /// Moves an order to another shard, if it still awaits payment.
    pub async fn put_behind(
        &self,
        order_id: &OrderId,
        region: &str,
        shard: PendingShard,
    ) -> Result<(), DynamoError> {
        let to = [(":shard", text(shard.key(region)))];
        let request = PUT_BEHIND.request(&self.client, &self.table, key(order_id), to);
        // A failed condition or a conflict: the order is paid, cancelled or about to be.
        Box::pin(request.send()).await.outcome("UpdateItem", order_id.as_str()).map(drop)
    }
}
