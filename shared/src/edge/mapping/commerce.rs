//! Catalogue, carts, orders and payments, and the keys that make their writes idempotent.

use super::{TRY_AGAIN, soon};
use crate::commerce::carts::CartError;
use crate::commerce::catalog::{CatalogError, StockRefusal};
use crate::commerce::orders::{OrderQueryError, OrderRefusal, TooManyUnpaid};
use crate::commerce::payments::PaymentRefusal;
use crate::coordination::idempotency::{KeyError, KeyedRequestError};
use crate::core::ids::ProductId;
use crate::core::problem::{Problem, ProblemType};

/// 400.
impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        let kind = match error {
            KeyError::Missing => ProblemType::IdempotencyKeyMissing,
            KeyError::Malformed => ProblemType::IdempotencyKeyInvalid,
        };
        Self::new(kind, error.to_string())
    }
}

/// 401, 409, 422, 503, or what the refusal itself says.
impl<R> From<KeyedRequestError<R>> for Problem
where
    Self: From<R>,
{
    fn from(error: KeyedRequestError<R>) -> Self {
        match error {
            KeyedRequestError::SessionEnded => {
                Self::new(ProblemType::Unauthenticated, "the session has ended")
            }
            KeyedRequestError::Mismatch => Self::new(
                ProblemType::IdempotencyKeyReused,
                "this Idempotency-Key was used with another payload in the last 24 hours",
            ),
            KeyedRequestError::InProgress { retry_after } => Self::new(
                ProblemType::IdempotencyInProgress,
                "the first request with this Idempotency-Key is still running",
            )
            .retry_after(retry_after),
            KeyedRequestError::Contended => {
                Self::new(ProblemType::Unavailable, "conflicting requests; retry").retry_after(soon())
            }
            KeyedRequestError::Refused(refusal) => refusal.into(),
            KeyedRequestError::Store(error) => error.into(),
        }
    }
}

/// 404, 409, 422.
impl From<OrderRefusal> for Problem {
    fn from(refusal: OrderRefusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            OrderRefusal::NotFound(_) => Self::new(ProblemType::NotFound, detail),
            OrderRefusal::UnknownProducts(products) => {
                Self::new(ProblemType::Unprocessable, detail).with("productIds", texts(&products))
            }
            OrderRefusal::NoTotal(_) | OrderRefusal::EmptyCart | OrderRefusal::InvalidCart(_) => {
                Self::new(ProblemType::Unprocessable, detail)
            }
            OrderRefusal::OutOfStock(products) => {
                Self::new(ProblemType::OutOfStock, detail).with("productIds", texts(&products))
            }
            OrderRefusal::TooManyUnpaid(too_many) => too_many.into(),
            OrderRefusal::State(status) => {
                Self::new(ProblemType::OrderStateConflict, detail).with("orderStatus", status.as_str())
            }
        }
    }
}

/// 409.
impl From<TooManyUnpaid> for Problem {
    fn from(refusal: TooManyUnpaid) -> Self {
        let TooManyUnpaid { orders, units, limits } = refusal;
        Self::new(ProblemType::UnpaidLimit, refusal.to_string())
            .with("unpaidOrders", orders)
            .with("reservedUnits", units)
            .with("maxUnpaidOrders", limits.orders)
            .with("maxReservedUnits", limits.units)
    }
}

fn texts(products: &[ProductId]) -> Vec<String> {
    products.iter().map(ToString::to_string).collect()
}

/// 402, 409, 503, or what is said of the order.
impl From<PaymentRefusal> for Problem {
    fn from(refusal: PaymentRefusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            PaymentRefusal::Order(refusal) => refusal.into(),
            PaymentRefusal::Declined { reason } => {
                Self::new(ProblemType::PaymentDeclined, detail).with("reason", reason)
            }
            PaymentRefusal::InProgress { retry_after } => {
                Self::new(ProblemType::PaymentInProgress, detail).retry_after(retry_after)
            }
            PaymentRefusal::ProviderUnavailable => {
                Self::new(ProblemType::Unavailable, detail).retry_after(TRY_AGAIN)
            }
            PaymentRefusal::OutcomeUnknown => {
                let advice = format!("{detail}; retry with the same Idempotency-Key");
                Self::new(ProblemType::PaymentOutcomeUnknown, advice).retry_after(TRY_AGAIN)
            }
        }
    }
}

/// 404, 409, 422.
impl From<StockRefusal> for Problem {
    fn from(refusal: StockRefusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            StockRefusal::UnknownProduct(_) => Self::new(ProblemType::NotFound, detail),
            StockRefusal::BelowZero { available } => {
                Self::new(ProblemType::StockBelowZero, detail).with("available", available)
            }
            StockRefusal::AboveMax => Self::new(ProblemType::Unprocessable, detail),
        }
    }
}

/// 412, 503, or as the store's error.
impl From<CartError> for Problem {
    fn from(error: CartError) -> Self {
        match error {
            CartError::Stale(tag) => Self::stale(tag),
            CartError::Contended => {
                Self::new(ProblemType::Unavailable, "conflicting changes to the cart; retry")
                    .retry_after(soon())
            }
            CartError::Store(error) => error.into(),
        }
    }
}

/// 400, or as the store's error.
impl From<OrderQueryError> for Problem {
    fn from(error: OrderQueryError) -> Self {
        match error {
            OrderQueryError::Cursor(error) => error.into(),
            OrderQueryError::Store(error) => error.into(),
        }
    }
}

/// 400, or as the store's error.
impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Cursor(error) => error.into(),
            CatalogError::Store(error) => error.into(),
        }
    }
}
