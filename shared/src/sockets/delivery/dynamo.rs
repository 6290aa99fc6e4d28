//! Whose an order is: the orders table's own reads tell.

use super::OrderOwners;
use crate::commerce::orders::dynamo::DynamoOrders;
use crate::core::ids::{OrderId, UserId};
use crate::platform::dynamo::DynamoError;

impl OrderOwners for DynamoOrders {
    async fn owner(&self, order_id: &OrderId) -> Result<Option<UserId>, DynamoError> {
        self.owner(order_id).await
    }
}
