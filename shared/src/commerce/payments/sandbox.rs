//! A payment provider for development and tests. It moves no money; otherwise it behaves as a real
//! one must: it charges a key once, remembers the first outcome, and refuses a voided key for ever.
//!
//! | token | what happens |
//! |---|---|
//! | `tok_ok` | captured |
//! | `tok_declined` | declined |
//! | `tok_timeout_after_charge` | captured, and the answer of the call that captured is lost |
//! | `tok_unavailable` | the provider is down; nothing happens |
//! | any other | declined: unknown token |
//!
//! The ledger has a row per payment key: `orderId`, `amount`, `currency`, `state` (`captured`,
//! `declined` or `voided`), `paymentId` or `reason`, and `charges`, the number of captures. The sum
//! of an order's captures over its rows is how often it was charged.
//!
//! A provider serves all regions. So regions that serve the same customers have the ledger in a
//! strongly consistent table: a charge in one is visible to the next call in any other.
//!
//! The sandbox marks an order paid for any `tok_ok`. So a function with the sandbox does not start
//! on a live stage ([`Stage::Live`]).

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure::AllOld;
use serde::{Deserialize, Serialize};
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::{Charge, ChargeOutcome, PaymentKey, PaymentProvider, ProviderError, VoidOutcome};
use crate::commerce::orders::CancelReason;
use crate::core::env::{ConfigError, Env, Stage};
use crate::core::ids::{OrderId, PaymentId, SharedIds};
use crate::core::money::Money;
use crate::platform::aws::SdkConfig;
use crate::platform::dynamo::{DynamoError, Replicas, Write, WriteOutcome, text};
use crate::platform::tables;

/// The variable that chooses the provider. The parameter `PaymentProvider` of template.yaml sets
/// it.
const PROVIDER: &str = "PAYMENT_PROVIDER";

/// This provider's value of the variable.
const SANDBOX: &str = "sandbox";

/// A key keeps its first outcome.
const IS_FIRST: &str = "attribute_not_exists(paymentKey)";

/// The sandbox. Calls `PutItem` and `GetItem` on the payment ledger.
#[derive(Debug, Clone)]
pub struct SandboxProvider {
    replicas: Replicas,
    ledger: String,
    ids: SharedIds,
}

/// A row of the ledger.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    payment_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order_id: Option<OrderId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amount: Option<Money>,
    charges: u32,
    #[serde(flatten)]
    outcome: LedgerOutcome,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase", rename_all_fields = "camelCase")]
enum LedgerOutcome {
    Captured { payment_id: PaymentId },
    Declined { reason: String },
    Voided { reason: CancelReason },
}

impl From<LedgerOutcome> for ChargeOutcome {
    fn from(outcome: LedgerOutcome) -> Self {
        match outcome {
            LedgerOutcome::Captured { payment_id } => Self::Captured(payment_id),
            LedgerOutcome::Declined { reason } => Self::Declined { reason },
            LedgerOutcome::Voided { reason } => Self::Voided { reason },
        }
    }
}

/// Whether this call created the entry.
enum EntryState {
    Now,
    Before(LedgerOutcome),
}

impl SandboxProvider {
    /// The sandbox with the ledger that `PAYMENT_LEDGER_TABLE` names, in the regions that have it.
    ///
    /// # Errors
    /// `PAYMENT_PROVIDER` is not `sandbox`, or the stage is live.
    pub fn from_env(sdk: &SdkConfig, env: &Env, ids: SharedIds) -> Result<Self, ConfigError> {
        let replicas = Replicas::of_agreeing_regions(sdk, env)?;
        Self::with_ledger(replicas.unwrap_or_else(|| Client::new(sdk).into()), env, ids)
    }

    /// The sandbox with the ledger that `PAYMENT_LEDGER_TABLE` names, asked through `replicas`.
    ///
    /// # Errors
    /// As [`Self::from_env`].
    pub fn with_ledger(replicas: Replicas, env: &Env, ids: SharedIds) -> Result<Self, ConfigError> {
        let wrong = |reason: String| Err(ConfigError::Invalid { variable: PROVIDER, reason });
        if env.required(PROVIDER)? != SANDBOX {
            return wrong(format!("the only payment provider is {SANDBOX}"));
        }
        if Stage::from_env(env)? == Stage::Live {
            let trials = Stage::TRIALS.join(", ");
            return wrong(format!(
                "the payment sandbox charges nobody and does not run on a live stage. Choose another provider by the \
                 parameter PaymentProvider, or deploy with a Stage that is not live ({trials})"
            ));
        }
        Ok(Self { replicas, ledger: tables::PAYMENT_LEDGER.name(env)?, ids })
    }

    /// Creates the entry of a key, unless it has one.
    async fn enter(&self, entry: &Entry) -> Result<EntryState, ProviderError> {
        let unknown = |error: DynamoError| ProviderError::Timeout(error.into());
        let item = to_item(entry)
            .map_err(|error| unknown(DynamoError::unreadable("write", &entry.payment_key, error)))?;
        let put = |client: Client| {
            let put = client
                .put_item()
                .table_name(&self.ledger)
                .set_item(Some(item.clone()))
                .condition_expression(IS_FIRST)
                .return_values_on_condition_check_failure(AllOld)
                .send();
            async { Box::pin(put).await.outcome("PutItem", &entry.payment_key) }
        };
        match self.replicas.ask(put).await.map_err(unknown)? {
            Write::Done(_) => Ok(EntryState::Now),
            Write::Refused(item) => {
                let first: Entry = from_item(item)
                    .map_err(|error| unknown(DynamoError::unreadable("read", &entry.payment_key, error)))?;
                Ok(EntryState::Before(first.outcome))
            }
            Write::Conflict => Err(ProviderError::Unavailable("another call has the key".into())),
        }
    }
}

impl PaymentProvider for SandboxProvider {
    async fn charge(&self, charge: &Charge<'_>) -> Result<ChargeOutcome, ProviderError> {
        let captured = || LedgerOutcome::Captured { payment_id: self.ids.next() };
        let outcome = match charge.token.expose() {
            "tok_unavailable" => return Err(ProviderError::Unavailable("tok_unavailable".into())),
            "tok_ok" | "tok_timeout_after_charge" => captured(),
            "tok_declined" => LedgerOutcome::Declined { reason: "insufficient funds".to_owned() },
            _ => LedgerOutcome::Declined { reason: "unknown token".to_owned() },
        };
        let entry = Entry {
            payment_key: charge.key.as_str().to_owned(),
            order_id: Some(charge.order_id.clone()),
            amount: Some(charge.amount),
            charges: u32::from(matches!(outcome, LedgerOutcome::Captured { .. })),
            outcome,
        };
        let outcome = match self.enter(&entry).await? {
            EntryState::Before(outcome) => outcome,
            EntryState::Now if charge.token.expose() == "tok_timeout_after_charge" => {
                return Err(ProviderError::Timeout("tok_timeout_after_charge".into()));
            }
            EntryState::Now => entry.outcome,
        };
        Ok(outcome.into())
    }

    async fn void(&self, key: &PaymentKey, reason: CancelReason) -> Result<VoidOutcome, ProviderError> {
        let entry = Entry {
            payment_key: key.as_str().to_owned(),
            order_id: None,
            amount: None,
            charges: 0,
            outcome: LedgerOutcome::Voided { reason },
        };
        let outcome = match self.enter(&entry).await? {
            EntryState::Before(outcome) => outcome,
            EntryState::Now => entry.outcome,
        };
        Ok(match outcome {
            LedgerOutcome::Captured { payment_id } => VoidOutcome::Captured(payment_id),
            LedgerOutcome::Declined { .. } => VoidOutcome::Declined,
            LedgerOutcome::Voided { reason } => VoidOutcome::Voided { reason },
        })
    }

    async fn find(&self, key: &PaymentKey) -> Result<Option<ChargeOutcome>, ProviderError> {
        let unavailable = |error: DynamoError| ProviderError::Unavailable(error.into());
        let get = |client: Client| {
            let get = client
                .get_item()
                .table_name(&self.ledger)
                .key("paymentKey", text(key.as_str()))
                .consistent_read(true)
                .send();
            async { Box::pin(get).await.map_err(|error| DynamoError::new("GetItem", key.as_str(), error)) }
        };
        let Some(item) = self.replicas.ask(get).await.map_err(unavailable)?.item else { return Ok(None) };
        let entry: Entry = from_item(item)
            .map_err(|error| unavailable(DynamoError::unreadable("GetItem", key.as_str(), error)))?;
        Ok(Some(entry.outcome.into()))
    }
}
