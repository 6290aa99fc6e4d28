//! The region's reservations by creation time: the index `pending`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{DynamoOrders, ReservationKey, reservation};
use crate::commerce::orders::PendingShard;
use crate::core::date_time::as_rfc3339;
use crate::core::ids::OrderId;
use crate::core::shards::ShardPage;
use crate::platform::dynamo::{DynamoError, RowUpdate, TimeIndex, WriteOutcome, text};

const PENDING: TimeIndex = TimeIndex {
    name: "pending",
    shard: "pendingShard",
    before: "pendingShard = :shard AND createdAt < :before",
};

/// Moves a reservation within the index, if it is still there. Only its own region writes the row.
const PUT_BEHIND: RowUpdate = RowUpdate {
    update: "SET pendingShard = :shard",
    condition: Some("attribute_exists(pendingShard)"),
    names: &[],
};

/// A reservation in a shard of the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingReservation {
    #[serde(rename = "orderId")]
    pub key: ReservationKey,
    /// When the order was placed.
    #[serde(with = "as_rfc3339")]
    pub created_at: Timestamp,
}

impl DynamoOrders {
    /// A page of a region's reservations in `shard` for orders that were placed before
    /// `placed_before`. Eventually consistent: an order may have been paid or cancelled since.
    pub async fn pending(
        &self,
        region: &str,
        shard: PendingShard,
        placed_before: Timestamp,
        after: Option<PendingReservation>,
    ) -> Result<ShardPage<PendingReservation>, DynamoError> {
        PENDING.page(&self.client, &self.table, &shard.key(region), placed_before, after).await
    }

    /// Moves a region's reservation to another shard, if it is still in the index.
    pub async fn postpone(
        &self,
        order_id: &OrderId,
        region: &str,
        shard: PendingShard,
    ) -> Result<(), DynamoError> {
        let to = [(":shard", text(shard.key(region)))];
        let key = reservation::row_key(order_id, region);
        let request = PUT_BEHIND.request(&self.client, &self.table, key, to);
        // A failed condition or a conflict: the reservation is settled or is being settled.
        Box::pin(request.send()).await.outcome("UpdateItem", order_id.as_str()).map(drop)
    }
}
