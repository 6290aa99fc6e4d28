//! The answers of keyed writes, which idempotency records store.

use std::time::Duration;

use serde_json::{Value, json};

use crate::commerce::catalog::StockLevel;
use crate::commerce::orders::Order;
use crate::commerce::payments::CapturedPayment;
use crate::core::problem::{Problem, ProblemType};
use crate::core::reply::Reply;
use crate::files::exports::Export;

/// The answer to a keyed write: `done` of the outcome, or a problem document of the refusal.
pub fn to<O, R>(done: impl Fn(&O) -> Reply) -> impl Fn(Result<&O, &R>) -> Reply
where
    R: Clone,
    Problem: From<R>,
{
    move |outcome| match outcome {
        Ok(outcome) => done(outcome),
        Err(refusal) => Problem::from(refusal.clone()).into_reply(),
    }
}

/// An order was placed.
pub fn placed(order: &Order) -> Reply {
    created(201, order.document(), format!("/orders/{}", order.order_id))
}

/// An order was cancelled.
pub fn cancelled(order: &Order) -> Reply {
    Reply::json(200, order.document())
}

/// A payment was captured.
pub fn captured(payment: &CapturedPayment) -> Reply {
    let body = json!({
        "paymentId": payment.payment_id,
        "orderId": payment.order_id,
        "status": "CAPTURED",
        "amount": payment.amount,
    });
    Reply::json(201, body)
}

/// The stock was changed.
pub fn adjusted(stock: &StockLevel) -> Reply {
    Reply::json(200, json!(stock))
}

/// An export was asked for.
pub fn accepted(export: &Export) -> Reply {
    created(202, export.document(), format!("/exports/{}", export.export_id))
}

/// A buffer is full: 503.
pub fn backpressure(retry_after: Duration) -> Problem {
    let detail = "the buffer is full; no event was accepted";
    Problem::new(ProblemType::Unavailable, detail).retry_after(retry_after)
}

fn created(status: u16, body: Value, location: String) -> Reply {
    Reply::json(status, body).header("location", location)
}
