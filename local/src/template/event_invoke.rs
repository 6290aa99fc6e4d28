//! `EventInvokeConfig` of a function: how asynchronous invocations are retried, and where failures
//! go.

use std::time::Duration;

use serde_json::Value;

use super::error::Problem;
use super::model::{EventInvoke, Statement};
use super::properties::{Properties, unexpected};
use super::queues;

/// What Lambda takes for `MaximumEventAgeInSeconds`.
const EVENT_AGE_SECONDS: std::ops::RangeInclusive<u64> = 60..=21_600;

/// What Lambda takes for `MaximumRetryAttempts`.
const MOST_RETRIES: u64 = 2;

/// The configuration, and the statement that SAM adds to the role for its destination.
pub(super) fn read(function: Properties<'_>) -> Result<(EventInvoke, Option<Statement>), Problem> {
    let default = EventInvoke::default();
    let Some(config) = function.raw("EventInvokeConfig") else { return Ok((default, None)) };
    let config = Properties::within(config, function.scope());
    let maximum_retry_attempts = match config.number("MaximumRetryAttempts")? {
        None => default.maximum_retry_attempts,
        Some(number) if number <= MOST_RETRIES => usize::try_from(number).unwrap_or(usize::MAX),
        Some(_) => return Err(unexpected("EventInvokeConfig.MaximumRetryAttempts", "0 to 2")),
    };
    let maximum_event_age = match config.number("MaximumEventAgeInSeconds")? {
        None => default.maximum_event_age,
        Some(seconds) if EVENT_AGE_SECONDS.contains(&seconds) => Duration::from_secs(seconds),
        Some(_) => return Err(unexpected("EventInvokeConfig.MaximumEventAgeInSeconds", "60 to 21600")),
    };
    let none = Value::Null;
    let destinations = Properties::within(config.raw("DestinationConfig").unwrap_or(&none), config.scope());
    let (on_failure, statement) = match on_failure(destinations)? {
        None => (None, None),
        Some((queue, Some(statement))) => (Some(queue), Some(statement)),
        // SAM takes no `EventInvokeConfig` without it.
        Some((_, None)) => return Err(Problem::Missing { property: "Type".to_owned() }),
    };
    Ok((EventInvoke { maximum_retry_attempts, maximum_event_age, on_failure }, statement))
}

/// The queue of `OnFailure` in a `DestinationConfig`, and the statement that SAM adds to the role
/// if a `Type` says what it is.
pub(super) fn on_failure(
    destinations: Properties<'_>,
) -> Result<Option<(String, Option<Statement>)>, Problem> {
    if destinations.raw("OnSuccess").is_some() {
        return Err(unsupported("a destination OnSuccess"));
    }
    let Some(destination) = destinations.raw("OnFailure") else { return Ok(None) };
    let destination = Properties::within(destination, destinations.scope());
    let kind = destination.optional_text("Type")?;
    if kind.as_ref().is_some_and(|kind| kind != "SQS") || destination.raw("Destination").is_none() {
        return Err(unsupported("an OnFailure destination other than a queue of the template"));
    }
    let arn = destination.text("Destination")?;
    let queue = queues::named(&arn, destinations.scope())?;
    let statement = kind.map(|_| Statement {
        actions: vec!["sqs:SendMessage".to_owned()],
        resources: vec![arn],
        conditions: Vec::new(),
    });
    Ok(Some((queue, statement)))
}

fn unsupported(what: &str) -> Problem {
    Problem::Unsupported { what: what.to_owned(), instead: "use OnFailure with Type SQS and a queue's ARN" }
}
