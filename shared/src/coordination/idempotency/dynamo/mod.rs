//! Idempotency records in DynamoDB.
//!
//! An item has `key`, `fingerprint`, `state` (`done` or `claimed`), `attempt` in the external form,
//! `claimUntil` while claimed, `reply` when done (JSON text, so that the answer keeps its bytes),
//! and `expiresAt`.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::{Claim, Fingerprint, KeyedRequest, RETENTION, Record, RequestScope, State};
use crate::core::date_time::rfc3339;
use crate::core::ids::AttemptId;
use crate::core::reply::Reply;
use crate::platform::dynamo::{AttributeValue, DynamoError, Item, Write, WriteOutcome, number, text};

pub mod atomic;
mod claims;
mod requests;

pub use claims::DynamoClaims;
pub use requests::{FirstRead, KeyedRequests};

/// No record, or an expired one: the key is new. (TTL may delete days late.)
pub const IS_FREE: &str = "attribute_not_exists(#key) OR expiresAt <= :nowSeconds";

/// Free, or claimed for the same payload by an attempt whose claim has lapsed. `claimUntil` has a
/// fixed width, so that text sorts as time.
pub const IS_CLAIMABLE: &str = "attribute_not_exists(#key) OR expiresAt <= :nowSeconds \
     OR (#state = :claimed AND fingerprint = :fingerprint AND claimUntil <= :now)";

/// Still claimed by this attempt. False after a takeover.
pub const IS_MINE: &str = "#state = :claimed AND attempt = :attempt";

/// Ends the claim; attempt and fingerprint stay.
const LAPSE: &str = "SET claimUntil = :now";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    key: String,
    fingerprint: Fingerprint,
    state: Phase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempt: Option<AttemptId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim_until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply: Option<String>,
    expires_at: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Phase {
    Done,
    Claimed,
}

/// A record with missing attributes.
#[derive(Debug, thiserror::Error)]
#[error("a record is either done with a reply, or claimed with an attempt and its end")]
struct Incomplete;

/// Primary key of a scope's record.
pub fn key(scope: &RequestScope) -> Item {
    HashMap::from([("key".to_owned(), text(scope.record_key()))])
}

/// Reads a record.
pub fn parse(item: Item) -> Result<Record, DynamoError> {
    const TARGET: &str = "an idempotency record";
    let row: Row = from_item(item).map_err(|e| DynamoError::unreadable("read", TARGET, e))?;
    let state = match (row.state, row.reply, row.attempt, row.claim_until) {
        (Phase::Done, Some(reply), ..) => {
            let reply =
                serde_json::from_str(&reply).map_err(|e| DynamoError::unreadable("read", TARGET, e))?;
            State::Done(reply)
        }
        (Phase::Claimed, _, Some(attempt), Some(until)) => {
            let until = until.parse().map_err(|e: jiff::Error| DynamoError::unreadable("read", TARGET, e))?;
            State::Claimed { attempt, until }
        }
        _ => return Err(DynamoError::unreadable("read", TARGET, Incomplete)),
    };
    let expires_at = Timestamp::from_second(row.expires_at)
        .map_err(|error| DynamoError::unreadable("read", TARGET, error))?;
    Ok(Record { fingerprint: row.fingerprint, state, expires_at })
}

/// The item of an answered request.
fn done_item(request: &KeyedRequest, reply: &Reply, now: Timestamp) -> Result<Item, DynamoError> {
    let reply = serde_json::to_string(reply).map_err(|e| unwritable(request, e))?;
    write(Row { reply: Some(reply), ..row(request, Phase::Done, now) }, request)
}

/// The item of a claimed request that was answered. It keeps the attempt, so that a repeated write
/// is recognised.
fn completed_item(claim: &Claim, reply: &Reply, now: Timestamp) -> Result<Item, DynamoError> {
    let mut item = done_item(&claim.request, reply, now)?;
    item.insert("attempt".to_owned(), text(claim.attempt.as_str()));
    Ok(item)
}

/// The item of a claimed request.
fn claimed_item(claim: &Claim, now: Timestamp) -> Result<Item, DynamoError> {
    let row = Row {
        attempt: Some(claim.attempt.clone()),
        claim_until: Some(rfc3339(claim.until)),
        ..row(&claim.request, Phase::Claimed, now)
    };
    write(row, &claim.request)
}

fn row(request: &KeyedRequest, state: Phase, now: Timestamp) -> Row {
    let expires_at = now.checked_add(RETENTION).unwrap_or(Timestamp::MAX).as_second();
    let (key, fingerprint) = (request.scope.record_key(), request.fingerprint);
    Row { key, fingerprint, state, attempt: None, claim_until: None, reply: None, expires_at }
}

fn write(row: Row, request: &KeyedRequest) -> Result<Item, DynamoError> {
    to_item(row).map_err(|error| unwritable(request, error))
}

fn unwritable(request: &KeyedRequest, error: impl std::error::Error + Send + Sync + 'static) -> DynamoError {
    DynamoError::unreadable("write", request.scope.record_key(), error)
}

type Names = HashMap<String, String>;
type Values = HashMap<String, AttributeValue>;

fn is_free(now: Timestamp) -> (Names, Values) {
    (names([("#key", "key")]), values([(":nowSeconds", number(now.as_second()))]))
}

fn is_claimable(request: &KeyedRequest, now: Timestamp) -> (Names, Values) {
    let values = values([
        (":nowSeconds", number(now.as_second())),
        (":now", text(rfc3339(now))),
        (":claimed", text("claimed")),
        (":fingerprint", text(request.fingerprint.to_text())),
    ]);
    (names([("#key", "key"), ("#state", "state")]), values)
}

/// Puts `item` as the record of `request` if the key is claimable. Otherwise returns the existing
/// record.
async fn put_if_claimable(
    client: &Client,
    table: &str,
    request: &KeyedRequest,
    item: Item,
    now: Timestamp,
) -> Result<Write<()>, DynamoError> {
    let (names, values) = is_claimable(request, now);
    let written = client
        .put_item()
        .table_name(table)
        .set_item(Some(item))
        .condition_expression(IS_CLAIMABLE)
        .set_expression_attribute_names(Some(names))
        .set_expression_attribute_values(Some(values))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .send()
        .await;
    Ok(match written.outcome("PutItem", &request.scope.record_key())? {
        Write::Done(_) => Write::Done(()),
        Write::Refused(item) => Write::Refused(item),
        Write::Conflict => Write::Conflict,
    })
}

fn is_mine(attempt: &AttemptId) -> (Names, Values) {
    let values = values([(":claimed", text("claimed")), (":attempt", text(attempt.as_str()))]);
    (names([("#state", "state")]), values)
}

fn names<const N: usize>(pairs: [(&str, &str); N]) -> Names {
    pairs.into_iter().map(|(name, attribute)| (name.to_owned(), attribute.to_owned())).collect()
}

fn values<const N: usize>(pairs: [(&str, AttributeValue); N]) -> Values {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Records the answer of an atomic effect in the effect's transaction. Fails if a record exists.
pub fn put_done(
    table: &str,
    request: &KeyedRequest,
    reply: &Reply,
    now: Timestamp,
) -> Result<TransactWriteItem, DynamoError> {
    put(table, done_item(request, reply, now)?, IS_FREE, is_free(now))
}

/// Claims a request in a transaction with other writes.
pub fn put_claimed(table: &str, claim: &Claim, now: Timestamp) -> Result<TransactWriteItem, DynamoError> {
    put(table, claimed_item(claim, now)?, IS_CLAIMABLE, is_claimable(&claim.request, now))
}

/// Records the answer of a claimed request in a transaction with other writes.
pub fn put_completed(
    table: &str,
    claim: &Claim,
    reply: &Reply,
    now: Timestamp,
) -> Result<TransactWriteItem, DynamoError> {
    put(table, completed_item(claim, reply, now)?, IS_MINE, is_mine(&claim.attempt))
}

/// Releases a claim in a transaction with other writes.
pub fn lapse(table: &str, claim: &Claim, now: Timestamp) -> Result<TransactWriteItem, DynamoError> {
    let (names, mut values) = is_mine(&claim.attempt);
    values.insert(":now".to_owned(), text(rfc3339(now)));
    let update = Update::builder()
        .table_name(table)
        .set_key(Some(key(&claim.request.scope)))
        .update_expression(LAPSE)
        .condition_expression(IS_MINE)
        .set_expression_attribute_names(Some(names))
        .set_expression_attribute_values(Some(values))
        .build()
        .map_err(|error| DynamoError::unreadable("build", table, error))?;
    Ok(TransactWriteItem::builder().update(update).build())
}

fn put(
    table: &str,
    item: Item,
    condition: &'static str,
    (names, values): (Names, Values),
) -> Result<TransactWriteItem, DynamoError> {
    let put = Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .condition_expression(condition)
        .set_expression_attribute_names(Some(names))
        .set_expression_attribute_values(Some(values))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .map_err(|error| DynamoError::unreadable("build", table, error))?;
    Ok(TransactWriteItem::builder().put(put).build())
}
