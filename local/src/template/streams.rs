//! Functions that read streams of tables: `DynamoDB` events, and `AWS::Lambda::EventSourceMapping`.
//!
//! 1. A property that is not understood is an error. Read over, it would change what the function
//!    gets.
//! 2. Numbers out of Lambda's ranges are errors, as they are when the stack is deployed.
//! 3. SAM gives the role of a function the managed policy `AWSLambdaDynamoDBExecutionRole` with a
//!    `DynamoDB` event, and the permission to send to the queue of `OnFailure` if that has a
//!    `Type`. An `AWS::Lambda::EventSourceMapping` brings no permission ([`GrantedBy`]).
//!
//! Limits: the managed policy is for Lambda's poller here. A function that calls DynamoDB Streams
//! itself must say so in its policy.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::Problem;
use super::model::{GrantedBy, StartingPosition, Statement, StreamSource};
use super::properties::{Properties, unexpected};
use super::queues::{answers, size, within};
use super::scope::{Located, Scope};
use super::{event_invoke, filters};

/// The type of a mapping outside of a function's events.
pub(super) const MAPPING: &str = "AWS::Lambda::EventSourceMapping";

/// The function that a mapping invokes.
pub(super) struct Reader<'a> {
    pub(super) function: &'a str,
    pub(super) arn: &'a str,
}

/// Lambda's default and ranges: developer guide, "Lambda parameters for Amazon DynamoDB event
/// source mappings".
const DEFAULT_BATCH_SIZE: u64 = 100;
const BATCH_SIZE: RangeInclusive<u64> = 1..=10_000;
const WINDOW_SECONDS: RangeInclusive<u64> = 0..=300;
const RETRY_ATTEMPTS: RangeInclusive<u64> = 0..=10_000;
const RECORD_AGE_SECONDS: RangeInclusive<u64> = 60..=604_800;
const PARALLELIZATION: RangeInclusive<u64> = 1..=10;

/// What is understood of both, besides who reads what.
const PROPERTIES: [&str; 11] = [
    "StartingPosition",
    "BatchSize",
    "MaximumBatchingWindowInSeconds",
    "BisectBatchOnFunctionError",
    "MaximumRetryAttempts",
    "MaximumRecordAgeInSeconds",
    "ParallelizationFactor",
    "DestinationConfig",
    "FunctionResponseTypes",
    "FilterCriteria",
    "Enabled",
];

/// An event of type `DynamoDB` of `function`, whose logical id is `id`, and the statement that SAM
/// adds to its role.
pub(super) fn event(
    id: &str,
    event: Properties<'_>,
    function: &str,
) -> Result<(StreamSource, Option<Statement>), Problem> {
    refuse_others(event, &["Stream"], "a DynamoDB event")?;
    let arn = event.scope().attribute(id, "Arn")?;
    source(event, "Stream", function, arn, GrantedBy::Event)
}

/// A [`MAPPING`] of a stream.
pub(super) fn mapping(mapping: Properties<'_>, reader: &Reader<'_>) -> Result<StreamSource, Problem> {
    refuse_others(mapping, &["EventSourceArn", "FunctionName"], MAPPING)?;
    let Reader { function, arn } = *reader;
    // A `Type` is SAM's, so there is no statement.
    Ok(source(mapping, "EventSourceArn", function, arn.to_owned(), GrantedBy::Policies)?.0)
}

/// One reader of each stream for each function: Lambda refuses the second one ("The event source
/// arn and function name provided mapping already exists").
pub(super) fn check_pairs(sources: &[StreamSource]) -> Result<(), Located> {
    let twice = sources.iter().enumerate().find(|(index, source)| {
        sources[..*index]
            .iter()
            .any(|other| (&other.function, &other.table) == (&source.function, &source.table))
    });
    match twice {
        None => Ok(()),
        Some((_, StreamSource { function, table, .. })) => Err((
            function.clone(),
            Problem::Unexpected {
                property: format!("Stream of {table}"),
                wanted: "read by one event of a function only: Lambda refuses the second mapping",
            },
        )),
    }
}

fn refuse_others(event: Properties<'_>, more: &[&str], of: &str) -> Result<(), Problem> {
    match event.names().find(|name| !PROPERTIES.contains(name) && !more.contains(name)) {
        None => Ok(()),
        Some(other) => {
            Err(Problem::Unsupported { what: format!("{other} of {of}"), instead: "leave it out" })
        }
    }
}

fn source(
    event: Properties<'_>,
    stream: &str,
    function: &str,
    function_arn: String,
    granted_by: GrantedBy,
) -> Result<(StreamSource, Option<Statement>), Problem> {
    let scope = event.scope();
    let destinations = event.part("DestinationConfig")?;
    let (on_failure, statement) = event_invoke::on_failure(Properties::within(&destinations, scope))?.unzip();
    let source = StreamSource {
        table: table(&event.text(stream)?, scope)?,
        function: function.to_owned(),
        function_arn,
        granted_by,
        starting_position: match event.text("StartingPosition")?.as_str() {
            "TRIM_HORIZON" => StartingPosition::TrimHorizon,
            "LATEST" => StartingPosition::Latest,
            _ => return Err(unexpected("StartingPosition", "TRIM_HORIZON or LATEST")),
        },
        batch_size: size(within(event, "BatchSize", BATCH_SIZE, DEFAULT_BATCH_SIZE)?),
        batching_window: Duration::from_secs(within(
            event,
            "MaximumBatchingWindowInSeconds",
            WINDOW_SECONDS,
            0,
        )?),
        bisect: event.flag("BisectBatchOnFunctionError")?.unwrap_or(false),
        maximum_retry_attempts: bounded(event, "MaximumRetryAttempts", RETRY_ATTEMPTS)?.map(size),
        maximum_record_age: bounded(event, "MaximumRecordAgeInSeconds", RECORD_AGE_SECONDS)?
            .map(Duration::from_secs),
        parallelization_factor: size(within(event, "ParallelizationFactor", PARALLELIZATION, 1)?),
        on_failure,
        filters: filters::read(event, filters::STREAM_KEYS)?,
        answers: answers(event)?,
        enabled: event.flag("Enabled")?.unwrap_or(true),
    };
    Ok((source, statement.flatten()))
}

/// A number, where -1 means that there is no bound.
fn bounded(
    event: Properties<'_>,
    name: &'static str,
    range: RangeInclusive<u64>,
) -> Result<Option<u64>, Problem> {
    match event.optional_text(name)?.as_deref() {
        None | Some("-1") => Ok(None),
        Some(_) => within(event, name, range, 0).map(Some),
    }
}

/// The name of the table whose stream has the ARN `stream`: one of this template, or a global one.
fn table(stream: &str, scope: &Scope<'_>) -> Result<String, Problem> {
    for (id, resource) in scope.of_type("AWS::DynamoDB::Table") {
        let name = scope.physical_name(id)?;
        if scope.arns().stream(&name) == stream {
            if Properties::of(resource, scope).raw("StreamSpecification").is_none() {
                return Err(Problem::Missing { property: format!("StreamSpecification of {id}") });
            }
            return Ok(name);
        }
    }
    let global = &scope.context.global_tables;
    if let Some(table) = global.iter().find(|table| scope.arns().stream(&table.name) == stream) {
        return Ok(table.name.clone());
    }
    Err(Problem::Unsupported {
        what: format!("the event source {stream}, which is no stream of this template,"),
        instead: "name the stream of one of its tables, by !GetAtt Table.StreamArn",
    })
}
