//! Attempts in DynamoDB: a row per subject with recent attempts.
//!
//! | attribute | |
//! |---|---|
//! | `subject` | key: `account#<SHA-256 of the e-mail address, base64url>`, `device#<id>`, `address#<network>` or `sign-ups#<network>` |
//! | `attempts` | reserved and not refunded |
//! | `expiresAt` | end of the window, and TTL; epoch seconds |
//!
//! Counting starts with a conditional put, which is the only call for a subject without failures.
//! If there is a window, a second call adds to it; at the limit the failed put is enough.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CountOutcome, Counted, ThrottleError, ThrottleKey, WINDOW};
use crate::core::env::{ConfigError, Env};
use crate::platform::dynamo::{DynamoError, Item, Write, WriteOutcome, number, text};
use crate::platform::tables;

/// A window begins if there is none, or if all of its attempts were refunded: no failure is
/// forgotten.
const NO_WINDOW: &str = "attribute_not_exists(subject) OR expiresAt <= :now OR attempts = :none";
/// An attempt joins the window while it lasts and has room. Without the time, an attempt could join
/// an ended window and outlive it.
const HAS_ROOM: &str = "expiresAt > :now AND attempts < :limit";
/// An attempt leaves its own window, and no later one.
const STILL_COUNTED: &str = "expiresAt = :window_end AND attempts > :none";
/// Atomic for concurrent attempts. Also subtracts, with -1.
const ADD: &str = "ADD attempts :change";

/// Put and add are retried when a window begins or ends between them, which happens once per
/// window.
const MAX_TRIES: usize = 4;

/// The table of attempts.
#[derive(Debug, Clone)]
pub struct DynamoAttempts {
    client: Client,
    table: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    subject: String,
    attempts: u32,
    expires_at: i64,
}

impl DynamoAttempts {
    /// Attempts in the table that `SIGN_IN_ATTEMPTS_TABLE` names.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { client, table: tables::SIGN_IN_ATTEMPTS.name(env)? })
    }

    /// Begins a window with one attempt in it, or returns the current one.
    async fn begin(&self, subject: &ThrottleKey, now: Timestamp) -> Result<Write<Row>, DynamoError> {
        let window_end = now.as_second().saturating_add_unsigned(WINDOW.as_secs());
        let row = Row { subject: subject.as_str().to_owned(), attempts: 1, expires_at: window_end };
        let item: Item = serde_dynamo::to_item(&row)
            .map_err(|error| DynamoError::unreadable("PutItem", target(subject), error))?;
        let request = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(NO_WINDOW)
            .expression_attribute_values(":now", number(now.as_second()))
            .expression_attribute_values(":none", number(0))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = Box::pin(request.send()).await.outcome("PutItem", &target(subject))?;
        Ok(match put {
            Write::Done(_) => Write::Done(row),
            Write::Refused(item) => Write::Refused(item),
            Write::Conflict => Write::Conflict,
        })
    }

    /// Adds an attempt to the current window.
    async fn join(
        &self,
        subject: &ThrottleKey,
        limit: u32,
        now: Timestamp,
    ) -> Result<Write<Row>, DynamoError> {
        let request = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(tables::SIGN_IN_ATTEMPTS.key.hash, text(subject.as_str()))
            .update_expression(ADD)
            .condition_expression(HAS_ROOM)
            .expression_attribute_values(":change", number(1))
            .expression_attribute_values(":now", number(now.as_second()))
            .expression_attribute_values(":limit", number(limit))
            // The window may not be the one that failed the put.
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let update = Box::pin(request.send()).await.outcome("UpdateItem", &target(subject))?;
        Ok(match update {
            Write::Done(answer) => Write::Done(parse(answer.attributes.unwrap_or_default())?),
            Write::Refused(item) => Write::Refused(item),
            Write::Conflict => Write::Conflict,
        })
    }
}

impl DynamoAttempts {
    /// Counts an attempt at `now`, unless `limit` are counted in the window already. Exact under
    /// concurrency.
    pub async fn count(
        &self,
        subject: ThrottleKey,
        limit: u32,
        now: Timestamp,
    ) -> Result<CountOutcome, ThrottleError> {
        for _ in 0..MAX_TRIES {
            match self.begin(&subject, now).await? {
                Write::Done(row) => {
                    return Ok(CountOutcome::Counted(Counted { subject, window_end: row.end()? }));
                }
                Write::Refused(item) => {
                    let row = parse(item)?;
                    if row.attempts >= limit {
                        return Ok(CountOutcome::Full { window_end: row.end()? });
                    }
                }
                Write::Conflict => continue,
            }
            match self.join(&subject, limit, now).await? {
                Write::Done(row) => {
                    return Ok(CountOutcome::Counted(Counted { subject, window_end: row.end()? }));
                }
                // TTL deleted the row, or its window ended: a new one can begin.
                Write::Refused(item) if item.is_empty() => {}
                Write::Refused(item) => {
                    let row = parse(item)?;
                    if row.attempts >= limit && row.expires_at > now.as_second() {
                        return Ok(CountOutcome::Full { window_end: row.end()? });
                    }
                }
                Write::Conflict => {}
            }
        }
        Err(ThrottleError::Busy(subject))
    }

    /// Uncounts one attempt, if its window is still the current one.
    pub async fn uncount_attempt(
        &self,
        Counted { subject, window_end }: Counted,
    ) -> Result<(), ThrottleError> {
        let request = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(tables::SIGN_IN_ATTEMPTS.key.hash, text(subject.as_str()))
            .update_expression(ADD)
            .condition_expression(STILL_COUNTED)
            .expression_attribute_values(":change", number(-1))
            .expression_attribute_values(":window_end", number(window_end.as_second()))
            .expression_attribute_values(":none", number(0));
        match Box::pin(request.send()).await.outcome("UpdateItem", &target(&subject))? {
            // Refused: its window is over.
            Write::Done(_) | Write::Refused(_) => Ok(()),
            Write::Conflict => Err(ThrottleError::Busy(subject)),
        }
    }
}

impl Row {
    fn end(&self) -> Result<Timestamp, DynamoError> {
        Timestamp::from_second(self.expires_at)
            .map_err(|error| DynamoError::unreadable("read", "a row of attempts", error))
    }
}

fn target(subject: &ThrottleKey) -> String {
    format!("attempts of {subject}")
}

fn parse(item: Item) -> Result<Row, DynamoError> {
    serde_dynamo::from_item(item).map_err(|error| DynamoError::unreadable("read", "a row of attempts", error))
}
