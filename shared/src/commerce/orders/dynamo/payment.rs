//! The writes of payments to an order, as actions of their transactions.

use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;

use super::{IS_AS_READ, OrderAction, OrderWrites, as_read, key, reservation, written};
use crate::commerce::orders::{Order, OrderStatus, UnsettledPayment};
use crate::core::ids::PaymentId;
use crate::platform::dynamo::{Actions, DynamoError, RowUpdate, text};
use crate::platform::outbox::EventType;

/// Claims the payment. The order that was read awaits payment and has no live claim. The condition
/// also covers its generation, from which the payment key is made.
const CLAIM: RowUpdate = RowUpdate {
    update: "SET payment = :payment, updatedAt = :now, version = version + :one",
    condition: Some(IS_AS_READ),
    names: &[],
};

/// Ends the generation: the payment was declined for good. The condition covers the claim.
const END_GENERATION: RowUpdate = RowUpdate {
    update: "SET paymentGeneration = paymentGeneration + :one, updatedAt = :now, version = version + :one \
             REMOVE payment",
    condition: Some(IS_AS_READ),
    names: &[],
};

/// Ends the claim, and leaves the payment unsettled: an earlier attempt's charge may still arrive,
/// even if this one's failed. The condition covers the claim.
const RELEASE_CLAIM: RowUpdate = RowUpdate {
    update: "SET payment.claimUntil = :now, updatedAt = :now, version = version + :one",
    condition: Some(IS_AS_READ),
    names: &[],
};

/// Records a captured payment.
const PAY: RowUpdate = RowUpdate {
    update: "SET #status = :status, paymentId = :paymentId, updatedAt = :now, version = version + :one \
             REMOVE payment",
    condition: Some(IS_AS_READ),
    names: &[("#status", "status")],
};

impl OrderWrites {
    /// Claims the order as it was read for `payment`.
    pub fn claimed(
        &self,
        order: &Order,
        payment: UnsettledPayment,
        now: Timestamp,
    ) -> Result<(Order, TransactWriteItem), DynamoError> {
        let stored = serde_dynamo::to_attribute_value(&payment)
            .map_err(|error| DynamoError::unreadable("write", order.order_id.as_str(), error))?;
        let [now_value, one, seen] = as_read(order, now);
        let values = [now_value, one, seen, (":payment", stored)];
        let action = CLAIM.action(&self.orders, key(&order.order_id), values)?;
        Ok((Order { payment: Some(payment), ..written(order, now) }, action))
    }

    /// Moves the claimed order to its next generation.
    pub fn next_generation(&self, order: &Order, now: Timestamp) -> Result<TransactWriteItem, DynamoError> {
        END_GENERATION.action(&self.orders, key(&order.order_id), as_read(order, now))
    }

    /// Ends the claim of the order.
    pub fn release_claim(&self, order: &Order, now: Timestamp) -> Result<TransactWriteItem, DynamoError> {
        RELEASE_CLAIM.action(&self.orders, key(&order.order_id), as_read(order, now))
    }

    /// Records the payment of the order as it was read: the order, its event, and in its own region
    /// its count.
    pub fn paid(
        &self,
        order: &Order,
        payment_id: &PaymentId,
        now: Timestamp,
    ) -> Result<Actions<OrderAction>, DynamoError> {
        let paid = Order {
            status: OrderStatus::Paid,
            payment: None,
            payment_id: Some(payment_id.clone()),
            ..written(order, now)
        };
        let mut actions = Actions::from([
            (OrderAction::Order, self.pay_order(order, payment_id, now)?),
            (OrderAction::Event, self.event(EventType::OrderPaid, &paid, paid.summary())?),
        ]);
        if self.reserved_here(order) {
            actions.extend([
                (OrderAction::Reservation, reservation::leave_count(&self.orders, order)?),
                self.uncounted(order, now)?,
            ]);
        }
        Ok(actions)
    }

    /// Marks the order as it was read as paid, and nothing else.
    pub(in crate::commerce) fn pay_order(
        &self,
        order: &Order,
        payment_id: &PaymentId,
        now: Timestamp,
    ) -> Result<TransactWriteItem, DynamoError> {
        let [now_value, one, seen] = as_read(order, now);
        let status = (":status", text(OrderStatus::Paid.as_str()));
        let values = [status, (":paymentId", text(payment_id.as_str())), now_value, one, seen];
        PAY.action(&self.orders, key(&order.order_id), values)
    }
}
