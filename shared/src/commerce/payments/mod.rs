//! Payments: an order is charged at most once, whatever gets lost on the way.
//!
//! The provider is outside: no transaction holds both its charge and our order. So a payment claims, acts, completes.
//!
//! 1. *Read* order, idempotency record and session together. A recorded answer is given again; a paid or cancelled
//!    order is refused; while a payment is in progress, the caller is told to come back.
//! 2. *Claim*: one transaction writes the record and the order as claimed by a fresh attempt, for [`CLAIM_LIFETIME`].
//!    From here the order has an *unsettled payment* until a definite outcome is recorded, whoever records it.
//! 3. *Act*: [`PaymentProvider::charge`] under a [`PaymentKey`] made of the order and its *generation*, and not of the
//!    client's key or token. The provider charges a key at most once and repeats its first outcome ever after. A new
//!    generation begins only after a definite decline or a void. So different clients, keys, tokens and attempts of one generation
//!    all mean one and the same charge.
//! 4. *Complete*: one transaction records the outcome in record and order, conditional on both being as this attempt
//!    claimed them. Captured: PAID, with the event. Declined: the next generation. A zombie fails both conditions.
//! 5. *Let go*, when there is no outcome (the answer was lost, the provider is down): one transaction ends the claim at
//!    once. The payment stays unsettled. The next attempt, by any key, takes over and asks under the same payment key.
//! 6. A process that dies in between lets go by the lapse of its claim.
//! 7. *Void*: before an order is cancelled (`commerce::cancellation`), the provider always voids its payment key, even if
//!    it has never seen the key. Either it did charge, and the order becomes PAID instead; or it refuses that key for
//!    ever, so that a late charge comes to nothing. A payment that finds its key voided begins the next generation and
//!    tries again from step 1: then the order is cancelled, or the cancellation failed and the new key is charged.
//! 8. A region's copy of the order may be behind: another region has ended generations that this one has not seen. So a void goes on to
//!    the next generation's key for as long as the provider says that the key had ended before. All regions go through the same keys
//!    in the same order, and each stops at the first that was captured: an order is charged once, whichever regions pay it.
//!
//! What the provider must promise for this: per payment key, `charge` and `void` are linearizable and remember their
//! first outcome for as long as an order can await payment. [`sandbox`] does.

use std::future::Future;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::commerce::orders::{self, Order};
use crate::core::deadline::Deadline;
use crate::core::ids::{OrderId, PaymentId, is_visible};
use crate::core::money::Money;
use crate::core::redacted::Redacted;

mod pay;
pub mod sandbox;

pub use pay::Payments;

/// How long the provider may take. Card networks answer in one or two seconds.
pub const PROVIDER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an attempt holds its claim: the provider's time, and as much again to record the outcome. A longer one
/// would make clients wait for longer after a crash; a shorter one would only make attempts ask the provider twice.
pub const CLAIM_LIFETIME: Duration = Duration::from_secs(10);

/// What the provider calls one generation's payment of one order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PaymentKey(String);

impl PaymentKey {
    /// The key of the order's present generation.
    pub fn of(order: &Order) -> Self {
        Self::of_generation(&order.order_id, order.payment_generation)
    }

    /// The key of one generation of an order.
    pub fn of_generation(order_id: &OrderId, generation: u32) -> Self {
        let name = format!("{order_id}#{generation}");
        Self(URL_SAFE_NO_PAD.encode(Sha256::digest(name.as_bytes())))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the client got from the provider for a card or account. Never logged, never stored.
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
    /// Refuses what is no token without repeating it: serde's own sentence would quote a card number that came as a
    /// number, and end in a log.
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
    /// What to charge.
    pub payment_token: PaymentToken,
}

/// One charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge<'a> {
    /// Under which the provider charges once.
    pub key: PaymentKey,
    /// What to charge.
    pub token: &'a PaymentToken,
    /// How much.
    pub amount: Money,
    /// For what: the reference on the statement.
    pub order_id: &'a OrderId,
}

/// A definite outcome of a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChargeOutcome {
    /// The amount was captured, by this call or an earlier one with the same key.
    Captured(PaymentId),
    /// It was not, and under this key never will be.
    Declined {
        /// Why, in words for the customer.
        reason: String,
    },
    /// The key was voided before, so nothing was captured under it and nothing will be.
    Voided,
}

/// A definite outcome of a void.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VoidOutcome {
    /// Nothing was captured under this key, and nothing will be: since this call.
    Voided,
    /// Nothing was captured under this key, and nothing will be: it was declined or voided before. Whoever did that may have gone on
    /// to the next generation.
    AlreadyEnded,
    /// It was captured before.
    AlreadyCaptured(PaymentId),
}

/// The cause of a provider's failure, for the log.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A provider that gave no outcome.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It may have done it or not.
    #[error("the provider did not tell the outcome")]
    Timeout(#[source] Cause),
    /// It has not done it.
    #[error("the provider is not available")]
    Unavailable(#[source] Cause),
}

/// Charges cards and accounts. See the module's last paragraph for what it must promise.
pub trait PaymentProvider: Send + Sync {
    /// Captures an amount, once per key.
    fn charge(
        &self,
        charge: &Charge<'_>,
    ) -> impl Future<Output = Result<ChargeOutcome, ProviderError>> + Send;

    /// Makes sure that nothing will be captured under `key`, unless it has been.
    fn void(&self, key: &PaymentKey) -> impl Future<Output = Result<VoidOutcome, ProviderError>> + Send;
}

/// Charges, within the time that a provider has.
pub(crate) async fn charge(
    provider: &impl PaymentProvider,
    charge: &Charge<'_>,
    deadline: Deadline,
) -> Result<ChargeOutcome, ProviderError> {
    in_time(provider.charge(charge), deadline).await
}

/// Voids, within the time that a provider has.
pub(crate) async fn void(
    provider: &impl PaymentProvider,
    key: &PaymentKey,
    deadline: Deadline,
) -> Result<VoidOutcome, ProviderError> {
    in_time(provider.void(key), deadline).await
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
    /// Its id at the provider.
    pub payment_id: PaymentId,
    /// What it pays.
    pub order_id: OrderId,
    /// How much.
    pub amount: Money,
}

/// Why there is no payment, or why an order was not cancelled because of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaymentRefusal {
    /// The order is not the caller's, or does not await payment. Final.
    #[error(transparent)]
    Order(#[from] orders::Refusal),
    /// The provider declined. Final.
    #[error("the payment was declined: {reason}")]
    Declined {
        /// Why.
        reason: String,
    },
    /// Another payment of the order is in progress.
    #[error("another payment of the order is in progress")]
    InProgress {
        /// When its claim lapses.
        retry_after: Duration,
    },
    /// Nothing was charged by this attempt; the provider is down.
    #[error("the payment provider is not available")]
    ProviderUnavailable,
    /// Perhaps it was charged, perhaps not; asking again settles it.
    #[error("the payment provider did not tell the outcome")]
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
