//! A customer's orders of a period, as an export has them.

use crate::commerce::orders::dynamo::DynamoOrders;
use crate::commerce::orders::{self, ListedOrder, UnreadableOrder};
use crate::core::ids::UserId;
use crate::files::exports::{CustomerOrders, ExportedOrder, OrderCursor, OrdersPage, Period, Unreadable};

impl CustomerOrders for DynamoOrders {
    async fn page(
        &self,
        customer_id: &UserId,
        period: &Period,
        after: Option<&OrderCursor>,
    ) -> Result<OrdersPage, Unreadable> {
        let after = after.map(|OrderCursor { order_id, created_at }| orders::OrderCursor {
            order_id: order_id.clone(),
            created_at: *created_at,
        });
        let page = self.of_period(customer_id, (period.from(), period.last()), after.as_ref()).await?;
        let orders = page.orders.into_iter().map(exported).collect::<Result<Vec<_>, _>>()?;
        let next = page
            .next
            .map(|orders::OrderCursor { order_id, created_at }| OrderCursor { order_id, created_at });
        Ok(OrdersPage { orders, next })
    }
}

fn exported(order: Result<ListedOrder, UnreadableOrder>) -> Result<ExportedOrder, Unreadable> {
    match order {
        Ok(ListedOrder { order_id, created_at, status, region, total, lines, .. }) => {
            Ok(ExportedOrder { order_id, created_at, status, region, total, lines })
        }
        Err(UnreadableOrder { order_id, source }) => Err(Unreadable::Order { order_id, source }),
    }
}
