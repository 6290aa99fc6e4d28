//! Locks in DynamoDB: one item each, changed by conditional updates only.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    ConditionCheck, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    AcquireOutcome, FencingToken, IfHolder, Lease, LeaseSettings, LockError, LockName, Owner, RETENTION,
};
use crate::core::clock::SharedClock;
use crate::core::date_time::{as_rfc3339, rfc3339};
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::retry::{Backoff, CONFLICT_PATIENCE};
use crate::platform::aws;
use crate::platform::dynamo::{
    Agreement, DynamoError, Guard, Item, Replicas, Write, WriteOutcome, number, text,
};
use crate::platform::tables;
use crate::platform::telemetry::chain;

/// Never taken; or neither completed nor held by a lease that its holder may still rely on: the
/// allowed clock skew is part of `:expired_before`. The previous owner is refused, so that a
/// request that was sent twice takes the lock once. `#owner` is present whenever the item is.
const FREE_TO_TAKE: &str = "attribute_not_exists(#name) OR (attribute_not_exists(completedAt) \
     AND #owner <> :owner AND (attribute_not_exists(leaseUntilMs) OR leaseUntilMs < :expired_before))";

/// The condition of the holder. The owner is checked beside the fence, because an item that is
/// deleted after its retention restarts its fence. `leaseUntilMs` is checked because a released or
/// completed lock has no holder.
const HOLDS: &str = "#owner = :owner AND fence = :fence AND attribute_exists(leaseUntilMs)";

/// As [`HOLDS`]; also, a late duplicate of an earlier renewal must not shorten the lease.
const HOLDS_UNTIL_EARLIER: &str =
    "#owner = :owner AND fence = :fence AND attribute_exists(leaseUntilMs) AND leaseUntilMs <= :until";

const TAKE: &str = "SET #owner = :owner, fence = if_not_exists(fence, :zero) + :one, leaseUntilMs = :until, \
     acquiredAt = :now, #region = :region, expiresAt = :retained_until";
const RENEW: &str = "SET leaseUntilMs = :until, expiresAt = :retained_until";
const RELEASE: &str = "SET expiresAt = :retained_until REMOVE leaseUntilMs";
const COMPLETE: &str =
    "SET completedAt = :now, #result = :result, expiresAt = :retained_until REMOVE leaseUntilMs";

/// Past its retention. In a table without TTL, the run of a later slot deletes the item.
const IS_FORGOTTEN: &str = "expiresAt < :now";

/// Locks in a DynamoDB table. Every call is one conditional write to one item.
#[derive(Debug, Clone)]
pub struct DynamoLocks {
    replicas: Replicas,
    table: String,
    scope: LockScope,
    region: String,
    clock: SharedClock,
    terms: LeaseSettings,
}

/// Who competes for a lock.
#[derive(Debug, Clone, Copy)]
enum LockScope {
    /// The processes of one region, in the region's own table.
    OneRegion,
    /// The processes of all regions, in the agreement table.
    AllRegions,
}

/// The item that DynamoDB returns with a failed condition.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    owner: Owner,
    fence: u64,
    lease_until_ms: Option<i64>,
    completed_at: Option<At>,
    result: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct At(#[serde(with = "as_rfc3339")] Timestamp);

impl DynamoLocks {
    /// Locks in `table`, taken from `region`.
    pub fn new(
        client: Client,
        table: impl Into<String>,
        region: impl Into<String>,
        clock: SharedClock,
        terms: LeaseSettings,
    ) -> Self {
        let (replicas, table, region) = (client.into(), table.into(), region.into());
        Self { replicas, table, scope: LockScope::OneRegion, region, clock, terms }
    }

    /// Locks in the agreement table, taken from `region`: one holder among all regions.
    /// Transactions cannot include their [guard](Self::guard), so the data they protect stores the
    /// fence.
    pub fn of_all_regions(
        agreement: Agreement,
        region: impl Into<String>,
        clock: SharedClock,
        terms: LeaseSettings,
    ) -> Self {
        let Agreement { table, replicas } = agreement;
        Self { replicas, table, scope: LockScope::AllRegions, region: region.into(), clock, terms }
    }

    /// Locks in the table that `LOCKS_TABLE` names, taken from the region `AWS_REGION`.
    pub fn from_env(
        client: Client,
        env: &Env,
        clock: SharedClock,
        terms: LeaseSettings,
    ) -> Result<Self, ConfigError> {
        Ok(Self::new(client, tables::LOCKS.name(env)?, aws::region(env)?, clock, terms))
    }

    /// The condition that `lease` is still held, for a transaction that the lock protects: the
    /// transaction fails if the lock was taken over, released or completed.
    pub fn guard(&self, lease: &Lease) -> Result<Guard, DynamoError> {
        let check = ConditionCheck::builder()
            .table_name(&self.table)
            .key(self.key(), text(lease.name.as_str()))
            .condition_expression(HOLDS)
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":owner", text(lease.owner.as_str()))
            .expression_attribute_values(":fence", number(lease.fence.0))
            .build()
            .map_err(|error| DynamoError::unreadable("ConditionCheck", self.target(&lease.name), error))?;
        Ok(Guard(TransactWriteItem::builder().condition_check(check).build()))
    }

    /// The key attribute of the table.
    fn key(&self) -> &'static str {
        match self.scope {
            LockScope::OneRegion => tables::LOCKS.key.hash,
            LockScope::AllRegions => tables::AGREEMENT.key.hash,
        }
    }

    pub(super) fn are_of_all_regions(&self) -> bool {
        matches!(self.scope, LockScope::AllRegions)
    }

    fn target(&self, name: &LockName) -> String {
        format!("{} {name}", self.table)
    }

    /// An update of one item that returns the item when its condition fails.
    fn update(
        &self,
        client: &Client,
        name: &LockName,
        owner: &Owner,
        now: Timestamp,
    ) -> UpdateItemFluentBuilder {
        let retained_until = now.as_second().saturating_add_unsigned(RETENTION.as_secs());
        client
            .update_item()
            .table_name(&self.table)
            .key(self.key(), text(name.as_str()))
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":owner", text(owner.as_str()))
            .expression_attribute_values(":retained_until", number(retained_until))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }

    fn update_held(&self, client: &Client, lease: &Lease, now: Timestamp) -> UpdateItemFluentBuilder {
        self.update(client, &lease.name, &lease.owner, now)
            .condition_expression(HOLDS)
            .expression_attribute_values(":fence", number(lease.fence.0))
    }

    /// Sends the request of `request`, built anew after each conflict because a lease counts from
    /// the instant before the request was sent. A conflict is with a transaction that includes the
    /// guard, or with a write in another region. Both take milliseconds.
    async fn send(
        &self,
        name: &LockName,
        request: impl Fn(&Client, Timestamp) -> UpdateItemFluentBuilder,
    ) -> Result<(Timestamp, Answer), LockError> {
        let target = self.target(name);
        let mut backoff = Backoff::within(Deadline::after(CONFLICT_PATIENCE));
        loop {
            let sent_at = self.clock.now();
            let ask = |client: Client| {
                let sent = request(&client, sent_at).send();
                async { Box::pin(sent).await.outcome("UpdateItem", &target) }
            };
            let outcome = self.replicas.ask(ask).await;
            match outcome.map_err(|source| LockError::Store { name: name.clone(), source })? {
                Write::Done(output) => {
                    return Ok((sent_at, Answer::Written(output.attributes.unwrap_or_default())));
                }
                Write::Refused(item) => return Ok((sent_at, Answer::Refused(self.read(name, item)?))),
                Write::Conflict => {
                    if !backoff.wait().await {
                        return Err(LockError::Busy { name: name.clone() });
                    }
                }
            }
        }
    }

    /// The item that failed the condition. None if the condition required an item and there is
    /// none.
    fn read(&self, name: &LockName, item: Item) -> Result<Option<Row>, LockError> {
        if item.is_empty() {
            return Ok(None);
        }
        serde_dynamo::from_item(item).map(Some).map_err(|error| self.unreadable(name, error))
    }

    fn unreadable(
        &self,
        name: &LockName,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> LockError {
        let source = DynamoError::unreadable("UpdateItem", self.target(name), cause);
        LockError::Store { name: name.clone(), source }
    }

    fn lease_end(&self, sent_at: Timestamp) -> Timestamp {
        sent_at.checked_add(self.terms.lease).unwrap_or(Timestamp::MAX)
    }

    /// A lease that ended before this instant may be taken over.
    fn expired_before(&self, sent_at: Timestamp) -> Timestamp {
        sent_at.checked_sub(self.terms.clock_skew).unwrap_or(Timestamp::MIN)
    }
}

/// The result of an update.
enum Answer {
    /// The item's attributes, if the update returns them.
    Written(Item),
    Refused(Option<Row>),
}

impl Row {
    fn is_of(&self, lease: &Lease) -> bool {
        self.owner == lease.owner && self.fence == lease.fence.0
    }
}

/// Milliseconds since the epoch, the stored form of a lease's end.
fn millis(at: Timestamp) -> aws_sdk_dynamodb::types::AttributeValue {
    number(at.as_millisecond())
}

fn from_millis(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}

impl DynamoLocks {
    /// The settings of leases.
    pub fn terms(&self) -> LeaseSettings {
        self.terms
    }

    /// Asks for the lock. `owner` must be new.
    pub async fn acquire(&self, name: &LockName, owner: &Owner) -> Result<AcquireOutcome, LockError> {
        let take = |client: &Client, now| {
            self.update(client, name, owner, now)
                .condition_expression(FREE_TO_TAKE)
                .update_expression(TAKE)
                .expression_attribute_names("#name", self.key())
                .expression_attribute_names("#region", "region")
                .expression_attribute_values(":expired_before", millis(self.expired_before(now)))
                .expression_attribute_values(":until", millis(self.lease_end(now)))
                .expression_attribute_values(":now", text(rfc3339(now)))
                .expression_attribute_values(":region", text(&self.region))
                .expression_attribute_values(":zero", number(0))
                .expression_attribute_values(":one", number(1))
                .return_values(ReturnValue::AllNew)
        };
        let (sent_at, answer) = self.send(name, take).await?;
        let row = match answer {
            Answer::Written(item) => self.read(name, item)?,
            Answer::Refused(row) => row,
        };
        let row = row.ok_or_else(|| self.unreadable(name, "the answer brought no item along"))?;
        Ok(match row {
            Row { completed_at: Some(At(at)), result, .. } => AcquireOutcome::Done { at, result },
            // Acquired by this request: the answer to its first sending was lost.
            Row { owner: holder, fence, lease_until_ms: Some(until), .. } if holder == *owner => {
                let (fence, ends_at) = (FencingToken(fence), from_millis(until));
                AcquireOutcome::Acquired(Lease { name: name.clone(), owner: holder, fence, ends_at })
            }
            Row { owner: by, lease_until_ms: Some(until), .. } => {
                AcquireOutcome::Held { by, until: from_millis(until) }
            }
            // The lock is free, but this owner released it before.
            Row { owner: by, .. } => AcquireOutcome::Held { by, until: sent_at },
        })
    }

    /// Extends the lease from now. Returns it with its new end.
    pub async fn renew(&self, lease: &Lease) -> Result<IfHolder<Lease>, LockError> {
        let extend = |client: &Client, now| {
            self.update_held(client, lease, now)
                .condition_expression(HOLDS_UNTIL_EARLIER)
                .update_expression(RENEW)
                .expression_attribute_values(":until", millis(self.lease_end(now)))
        };
        let until = match self.send(&lease.name, extend).await? {
            (sent_at, Answer::Written(_)) => Some(self.lease_end(sent_at).as_millisecond()),
            (_, Answer::Refused(row)) => {
                row.filter(|row| row.is_of(lease)).and_then(|row| row.lease_until_ms)
            }
        };
        Ok(until.map_or(IfHolder::Lost, |until| {
            IfHolder::Done(Lease { ends_at: from_millis(until), ..lease.clone() })
        }))
    }

    /// Deletes the item of a lock past its retention, if the table has no TTL. A failure is only
    /// logged: the item is harmless.
    pub async fn forget(&self, name: &LockName) {
        if !self.are_of_all_regions() {
            return;
        }
        let (target, now) = (self.target(name), self.clock.now().as_second());
        let ask = |client: Client| {
            let delete = client.delete_item().table_name(&self.table).key(self.key(), text(name.as_str()));
            let delete = delete
                .condition_expression(IS_FORGOTTEN)
                .expression_attribute_values(":now", number(now))
                .send();
            async { Box::pin(delete).await.outcome("DeleteItem", &target) }
        };
        if let Err(error) = self.replicas.ask(ask).await {
            tracing::warn!(lock = %name, error = chain(&error), "an old lock was not deleted");
        }
    }

    /// Releases the lock without completing it: the next asker gets it at once.
    pub async fn release(&self, lease: &Lease) -> Result<IfHolder, LockError> {
        let free = |client: &Client, now| self.update_held(client, lease, now).update_expression(RELEASE);
        Ok(match self.send(&lease.name, free).await?.1 {
            Answer::Written(_) => IfHolder::Done(()),
            Answer::Refused(Some(row)) if row.is_of(lease) && row.completed_at.is_none() => {
                IfHolder::Done(())
            }
            Answer::Refused(_) => IfHolder::Lost,
        })
    }

    /// Completes the lock for good and stores `result` with it.
    pub async fn complete(&self, lease: &Lease, result: Option<&str>) -> Result<IfHolder, LockError> {
        let finish = |client: &Client, now| {
            self.update_held(client, lease, now)
                .update_expression(COMPLETE)
                .expression_attribute_names("#result", "result")
                .expression_attribute_values(":now", text(rfc3339(now)))
                .expression_attribute_values(
                    ":result",
                    result.map_or(aws_sdk_dynamodb::types::AttributeValue::Null(true), text),
                )
        };
        Ok(match self.send(&lease.name, finish).await?.1 {
            Answer::Written(_) => IfHolder::Done(()),
            Answer::Refused(Some(row)) if row.is_of(lease) && row.completed_at.is_some() => {
                IfHolder::Done(())
            }
            Answer::Refused(_) => IfHolder::Lost,
        })
    }
}
