//! The external form, for effects that share no transaction with another row.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure::AllOld;

use super::{IS_MINE, LAPSE, claimed_item, completed_item, is_mine, key, parse, put_if_claimable};
use crate::coordination::idempotency::{Claim, ClaimCompletion, IdempotencyCheck, KeyedRequest, Record};
use crate::core::clock::SharedClock;
use crate::core::date_time::rfc3339;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{AttemptId, SharedIds};
use crate::core::reply::Reply;
use crate::platform::dynamo::{DynamoError, Item, Write, WriteOutcome, text};
use crate::platform::tables;
use crate::platform::telemetry::chain;

/// `Retry-After` when another request is writing the record at this moment.
const RIVAL_AT_WORK: Duration = Duration::from_secs(1);

/// Claims in the idempotency table. Calls `PutItem` and `UpdateItem`.
#[derive(Debug, Clone)]
pub struct DynamoClaims {
    client: Client,
    table: String,
    clock: SharedClock,
    ids: SharedIds,
}

impl DynamoClaims {
    /// Claims in the table that `IDEMPOTENCY_TABLE` names.
    pub fn from_env(
        client: Client,
        env: &Env,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Result<Self, ConfigError> {
        Ok(Self { client, table: tables::IDEMPOTENCY.name(env)?, clock, ids })
    }

    /// Claims `request` for a new attempt. The claim lapses after `lifetime`.
    pub async fn claim(
        &self,
        request: KeyedRequest,
        lifetime: Duration,
    ) -> Result<IdempotencyCheck<Claim>, DynamoError> {
        let now = self.clock.now();
        let until = now.checked_add(lifetime).unwrap_or(jiff::Timestamp::MAX);
        let claim = Claim { request, attempt: self.ids.next(), until };
        let item = claimed_item(&claim, now)?;
        let item = match put_if_claimable(&self.client, &self.table, &claim.request, item, now).await? {
            Write::Done(()) => return Ok(IdempotencyCheck::Start(claim)),
            Write::Conflict => return Ok(IdempotencyCheck::InProgress { retry_after: RIVAL_AT_WORK }),
            Write::Refused(item) => item,
        };
        if is_by(&item, &claim.attempt) {
            return Ok(IdempotencyCheck::Start(claim));
        }
        Ok(match Record::admit(Some(parse(item)?), claim.request.fingerprint, now) {
            IdempotencyCheck::Replay(reply) => IdempotencyCheck::Replay(reply),
            IdempotencyCheck::Mismatch => IdempotencyCheck::Mismatch,
            IdempotencyCheck::InProgress { retry_after } => IdempotencyCheck::InProgress { retry_after },
            // The put was refused although the record is free: it changed in between.
            IdempotencyCheck::Start(()) => IdempotencyCheck::InProgress { retry_after: RIVAL_AT_WORK },
        })
    }

    /// Records the answer.
    pub async fn complete(&self, claim: &Claim, reply: &Reply) -> Result<ClaimCompletion, DynamoError> {
        let (names, values) = is_mine(&claim.attempt);
        let written = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(completed_item(claim, reply, self.clock.now())?))
            .condition_expression(IS_MINE)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .return_values_on_condition_check_failure(AllOld)
            .send()
            .await;
        Ok(settlement(&written.outcome("PutItem", &claim.request.scope.record_key())?, claim))
    }

    /// Records `reply`, or releases the claim if there is none. A failure is logged: the claim then
    /// lapses, and a retry acts again.
    pub async fn settle(&self, claim: &Claim, reply: Option<&Reply>) {
        let settled = match reply {
            Some(reply) => self.complete(claim, reply).await,
            None => self.release(claim).await,
        };
        let key = claim.request.scope.record_key();
        match settled {
            Ok(ClaimCompletion::Recorded) => {}
            Ok(ClaimCompletion::Superseded) => tracing::warn!(key, "another attempt took over the claim"),
            Err(error) => {
                tracing::warn!(key, error = chain(&error), "the claim was not released and will lapse");
            }
        }
    }

    /// Releases the claim: nothing happened, and the next attempt need not wait.
    pub async fn release(&self, claim: &Claim) -> Result<ClaimCompletion, DynamoError> {
        let (names, values) = is_mine(&claim.attempt);
        let written = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(&claim.request.scope)))
            .update_expression(LAPSE)
            .condition_expression(IS_MINE)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .expression_attribute_values(":now", text(rfc3339(self.clock.now())))
            .send()
            .await;
        Ok(settlement(&written.outcome("UpdateItem", &claim.request.scope.record_key())?, claim))
    }
}

/// A conflict counts as superseded: only a successor writes to a claimed record.
fn settlement<T>(written: &Write<T>, claim: &Claim) -> ClaimCompletion {
    match written {
        Write::Done(_) => ClaimCompletion::Recorded,
        Write::Refused(item) if is_by(item, &claim.attempt) => ClaimCompletion::Recorded,
        Write::Refused(_) | Write::Conflict => ClaimCompletion::Superseded,
    }
}

/// Whether this attempt wrote the existing item: the SDK retried after a lost answer.
fn is_by(item: &Item, attempt: &AttemptId) -> bool {
    item.get("attempt").and_then(|value| value.as_s().ok()).is_some_and(|by| by == attempt.as_str())
}
