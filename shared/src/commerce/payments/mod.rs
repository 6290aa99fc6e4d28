//! Payments: an order is charged at most once, even if answers are lost.
//!
//! The provider is another system: no transaction covers both its charge and our order. So a
//! payment has three steps: claim, act, complete.
//!
//! 1. *Read* order, idempotency record and session together. A recorded answer is replayed; a paid
//!    or cancelled order is refused; while a payment is in progress, the caller has to retry later.
//! 2. *Claim*: one transaction writes the record and the order as claimed by a new attempt, for
//!    [`CLAIM_LIFETIME`]. From here the order has an *unsettled payment* until a definite outcome
//!    is recorded, by whichever attempt.
//! 3. *Act*: [`PaymentProvider::charge`] with a [`PaymentKey`] derived from the order and its
//!    *generation*, not from the client's key or token. The provider charges a key at most once and
//!    repeats its first outcome. A new generation begins only after a definite decline. So
//!    different clients, keys, tokens and attempts of one generation all mean the same charge.
//! 4. *Complete*: one transaction records the outcome in record and order, conditional on this
//!    attempt's claim in both. Captured: PAID, with the event. Declined: the next generation. An
//!    attempt that was overtaken fails both conditions.
//! 5. *Release*, if there is no outcome (the answer was lost, the provider is down): one
//!    transaction ends the claim. The payment stays unsettled. The next attempt, with any key,
//!    takes over and uses the same payment key.
//! 6. The claim of a process that dies lapses. If nobody tries again, the outcome is recorded from
//!    the stream of orders (`commerce::reconciliation`), or in a single region by the clean-up job.
//! 7. *Void*: a cancellation (`commerce::cancellation`) first voids the order's payment key, even
//!    if the provider has never seen the key. If the provider has captured, the order becomes PAID
//!    instead. If not, the key is refused for ever, and the order is CANCELLED from then on: every
//!    attempt that finds the key voided records that, including a payment.
//!
//! # Several regions
//! The provider decides how an order ends, not the table. A region's copy of the order may lag, its
//! conditions exclude nobody in another region, and the last writer of the row wins. So PAID and
//! CANCELLED are written only after the provider's decision:
//!
//! - All regions use the keys of an order's generations in the same order. A declined key leads to
//!   the next one. The first key that was captured or voided decides the end of the order, for
//!   every region and for good.
//! - A write by a region that does not know the end (a claim in a lagging region) may overwrite it.
//!   The region whose row was overwritten sees that in its stream, asks the provider, and writes
//!   the end again (`commerce::reconciliation`).
//!
//! This requires of the provider: per payment key, `charge` and `void` are linearizable, for
//! callers in all regions, and remember their first outcome for as long as an order can await
//! payment. [`sandbox`] does.

use std::future::Future;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::commerce::orders::{self, CancelReason, Order};
use crate::core::deadline::Deadline;
use crate::core::ids::{OrderId, PaymentId, is_visible};
use crate::core::money::Money;
use crate::core::redacted::Redacted;

mod pay;
pub mod sandbox;

pub use pay::Payments;

/// The provider's timeout. Card networks answer in one or two seconds.
pub const PROVIDER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an attempt holds its claim: the provider's timeout. The claim keeps attempts from
/// asking the provider twice, which is safe but useless. A longer claim makes clients wait longer
/// after a crash.
pub const CLAIM_LIFETIME: Duration = PROVIDER_TIMEOUT;

/// Most declined payments that a region's copy of an order may lack. Customers give up much sooner.
const GENERATIONS_AHEAD: usize = 100;

/// The provider's key for the payment of one generation of an order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PaymentKey(String);

impl PaymentKey {
    /// The key of the order's current generation.
    pub fn of(order: &Order) -> Self {
        Self::of_generation(&order.order_id, order.payment_generation)
    }

    /// The key of one generation of an order.
    fn of_generation(order_id: &OrderId, generation: u32) -> Self {
        let name = format!("{order_id}#{generation}");
        Self(URL_SAFE_NO_PAD.encode(Sha256::digest(name.as_bytes())))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The provider's token for a card or account, from the client. Never logged, never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentToken(Redacted<String>);

impl PaymentToken {
    /// Longest token, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// The token, for the provider.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl<'de> Deserialize<'de> for PaymentToken {
    /// The error does not contain the text: serde's own message would quote a card number in a log.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) if is_visible(&text, Self::MAX_BYTES) => Ok(Self(Redacted::new(text))),
            _ => {
                let expected =
                    format_args!("a payment token has 1 to {} visible ASCII characters", Self::MAX_BYTES);
                Err(serde::de::Error::custom(expected))
            }
        }
    }
}

/// The body of `POST /orders/{orderId}/payments`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PaymentRequest {
    pub payment_token: PaymentToken,
}

/// A charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge<'a> {
    /// The key under which the provider charges once.
    pub key: PaymentKey,
    pub token: &'a PaymentToken,
    pub amount: Money,
    /// The reference on the statement.
    pub order_id: &'a OrderId,
}

/// A definite outcome of a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChargeOutcome {
    /// The amount was captured, by this call or an earlier one with the same key.
    Captured(PaymentId),
    /// The amount was not captured, and never will be with this key.
    Declined {
        /// The reason, for the customer.
        reason: String,
    },
    /// The key was voided before: nothing was captured with it and nothing will be.
    Voided {
        /// The reason of the first void.
        reason: CancelReason,
    },
}

/// A definite outcome of a void.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VoidOutcome {
    /// Nothing was captured with this key, and nothing will be, because of this or an earlier void.
    Voided {
        /// The reason of the first void.
        reason: CancelReason,
    },
    /// It was declined before. The next generation has another key.
    Declined,
    /// It was captured before.
    Captured(PaymentId),
}

/// The cause of a provider's failure, for the log.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A call to the provider without an outcome.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It is unknown whether the provider acted.
    #[error("the provider did not report the outcome")]
    Timeout(#[source] Cause),
    /// The provider did not act.
    #[error("the provider is not available")]
    Unavailable(#[source] Cause),
}

/// Charges cards and accounts. The module's last paragraph has the requirements.
pub trait PaymentProvider: Send + Sync {
    /// Captures an amount, once per key.
    fn charge(
        &self,
        charge: &Charge<'_>,
    ) -> impl Future<Output = Result<ChargeOutcome, ProviderError>> + Send;

    /// Makes sure that nothing will be captured with `key`, unless it has been. Remembers the
    /// reason.
    fn void(
        &self,
        key: &PaymentKey,
        reason: CancelReason,
    ) -> impl Future<Output = Result<VoidOutcome, ProviderError>> + Send;

    /// The outcome of `key`, if it has one. Changes nothing.
    fn find(
        &self,
        key: &PaymentKey,
    ) -> impl Future<Output = Result<Option<ChargeOutcome>, ProviderError>> + Send;
}

/// Charges, with the provider's timeout.
pub(crate) async fn charge(
    provider: &impl PaymentProvider,
    charge: &Charge<'_>,
    deadline: Deadline,
) -> Result<ChargeOutcome, ProviderError> {
    in_time(provider.charge(charge), deadline).await
}

/// How an order ended, decided by the provider for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OrderEnd {
    Paid(PaymentId),
    /// Nothing was charged, and never will be.
    Cancelled(CancelReason),
}

/// Ends an order at the provider, where it may have ended before. The generations before the one of
/// `order` were declined.
pub(crate) async fn end_order(
    provider: &impl PaymentProvider,
    order: &Order,
    reason: CancelReason,
    deadline: Deadline,
) -> Result<OrderEnd, ProviderError> {
    for key in keys_from(order) {
        match in_time(provider.void(&key, reason), deadline).await? {
            VoidOutcome::Voided { reason } => return Ok(OrderEnd::Cancelled(reason)),
            VoidOutcome::Captured(payment_id) => return Ok(OrderEnd::Paid(payment_id)),
            VoidOutcome::Declined => {}
        }
    }
    Err(too_many_declined())
}

/// The payment of an order that the provider has captured, if any. The generations before the one
/// of `order` were declined.
pub(crate) async fn find_captured(
    provider: &impl PaymentProvider,
    order: &Order,
    deadline: Deadline,
) -> Result<Option<PaymentId>, ProviderError> {
    for key in keys_from(order) {
        match in_time(provider.find(&key), deadline).await? {
            None | Some(ChargeOutcome::Voided { .. }) => return Ok(None),
            Some(ChargeOutcome::Captured(payment_id)) => return Ok(Some(payment_id)),
            Some(ChargeOutcome::Declined { .. }) => {}
        }
    }
    Err(too_many_declined())
}

/// The keys of the generation of `order` and of the ones after it.
fn keys_from(order: &Order) -> impl Iterator<Item = PaymentKey> {
    let generations = order.payment_generation..;
    generations
        .take(GENERATIONS_AHEAD)
        .map(|generation| PaymentKey::of_generation(&order.order_id, generation))
}

fn too_many_declined() -> ProviderError {
    ProviderError::Unavailable(
        format!("{GENERATIONS_AHEAD} more payments were declined than are known").into(),
    )
}

async fn in_time<T>(
    call: impl Future<Output = Result<T, ProviderError>>,
    deadline: Deadline,
) -> Result<T, ProviderError> {
    let cut_off = deadline.min(Deadline::after(PROVIDER_TIMEOUT)).cut_off(call).await;
    cut_off.unwrap_or_else(|passed| Err(ProviderError::Timeout(passed.into())))
}

/// A payment that was captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedPayment {
    /// The provider's id of the payment.
    pub payment_id: PaymentId,
    pub order_id: OrderId,
    pub amount: Money,
}

/// Why an order was not paid, or not cancelled because of a payment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaymentRefusal {
    /// The order is not the caller's, or does not exist yet, or does not await payment. Only the
    /// last is final.
    #[error(transparent)]
    Order(#[from] orders::OrderRefusal),
    /// The provider declined. Final.
    #[error("the payment was declined: {reason}")]
    Declined { reason: String },
    /// Another payment of the order is in progress.
    #[error("another payment of the order is in progress")]
    InProgress {
        /// When its claim lapses.
        retry_after: Duration,
    },
    /// This attempt charged nothing; the provider is down.
    #[error("the payment provider is not available")]
    ProviderUnavailable,
    /// It is unknown whether it was charged; a retry settles it.
    #[error("the payment provider did not report the outcome")]
    OutcomeUnknown,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_payment_token_shows_in_no_debug_output() {
        let request: PaymentRequest = serde_json::from_value(json!({"paymentToken": "tok_s3cret"})).unwrap();
        assert!(!format!("{request:?}").contains("s3cret"));
    }

    #[test]
    fn no_refusal_repeats_the_payment_token() {
        for token in
            [json!(4_242_424_242_424_242_u64), json!("4242 4242"), json!(["4242"]), json!({"4242": 1})]
        {
            let refusal = serde_json::from_value::<PaymentRequest>(json!({"paymentToken": token}));
            let sentence = refusal.unwrap_err().to_string();
            assert!(!sentence.contains("4242"), "{sentence}");
        }
    }

    proptest! {
        #[test]
        fn tokens_are_bounded_visible_text(text in "\\PC{0,300}") {
            let fits = (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
            let body = json!({"paymentToken": text});
            prop_assert_eq!(serde_json::from_value::<PaymentRequest>(body).is_ok(), fits);
        }
    }
}
