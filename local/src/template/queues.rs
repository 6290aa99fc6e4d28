//! `AWS::SQS::Queue`, and the `SQS` events and mappings by which functions read them.
//!
//! What the cloud refuses when the stack is deployed is refused here at the start: numbers out of
//! their range, a mapping whose queue hides a message for less time than its function may take.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;

use super::error::Problem;
use super::filters;
use super::model::{Answers, EventSource, Function, GrantedBy, Queue, Redrive};
use super::properties::{Properties, unexpected};
use super::scope::{Located, Scope};

/// The type.
pub(super) const QUEUE: &str = "AWS::SQS::Queue";

/// SQS's own defaults.
const DEFAULT_VISIBILITY_SECONDS: u64 = 30;
const DEFAULT_RETENTION_SECONDS: u64 = 4 * 24 * 60 * 60;
const DEFAULT_MESSAGE_BYTES: u64 = 1024 * 1024;

/// SAM's default, which is Lambda's.
const DEFAULT_BATCH_SIZE: u64 = 10;

/// A larger batch needs a window to be collected in.
const MAX_BATCH_SIZE_WITHOUT_WINDOW: u64 = 10;

/// What a mapping of a queue may have, besides who reads what. A property that is not understood
/// would change what the function gets.
const MAPPING_PROPERTIES: &[&str] = &[
    "BatchSize",
    "MaximumBatchingWindowInSeconds",
    "ScalingConfig",
    "FunctionResponseTypes",
    "FilterCriteria",
    "Enabled",
];

/// The event or the mapping that a function reads a queue by, and where it stands.
pub(super) struct Mapping {
    /// The logical id of the function, or of the mapping.
    pub(super) place: String,
    pub(super) source: EventSource,
}

impl Queue {
    /// A queue with SQS's default attributes and without a dead-letter queue.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            visibility_timeout: Duration::from_secs(DEFAULT_VISIBILITY_SECONDS),
            delay: Duration::ZERO,
            retention: Duration::from_secs(DEFAULT_RETENTION_SECONDS),
            receive_wait: Duration::ZERO,
            maximum_message_bytes: size(DEFAULT_MESSAGE_BYTES),
            redrive: None,
        }
    }
}

pub(super) fn queues(scope: &Scope<'_>) -> Result<Vec<Queue>, Located> {
    let read = |(id, resource): (&str, &Value)| {
        queue(id, Properties::of(resource, scope)).map_err(|problem| (id.to_owned(), problem))
    };
    scope.of_type(QUEUE).map(read).collect()
}

fn queue(id: &str, properties: Properties<'_>) -> Result<Queue, Problem> {
    let name = properties.scope().physical_name(id)?;
    if properties.flag("FifoQueue")? == Some(true) {
        return Err(Problem::Unsupported {
            what: "a FIFO queue".to_owned(),
            instead: "use a standard queue, and have the messages' order in what they say",
        });
    }
    let seconds = |name, range, default| within(properties, name, range, default).map(Duration::from_secs);
    Ok(Queue {
        visibility_timeout: seconds("VisibilityTimeout", 0..=43_200, DEFAULT_VISIBILITY_SECONDS)?,
        delay: seconds("DelaySeconds", 0..=900, 0)?,
        retention: seconds("MessageRetentionPeriod", 60..=1_209_600, DEFAULT_RETENTION_SECONDS)?,
        receive_wait: seconds("ReceiveMessageWaitTimeSeconds", 0..=20, 0)?,
        maximum_message_bytes: size(within(
            properties,
            "MaximumMessageSize",
            1_024..=1_048_576,
            DEFAULT_MESSAGE_BYTES,
        )?),
        redrive: redrive(properties)?,
        name,
    })
}

fn redrive(queue: Properties<'_>) -> Result<Option<Redrive>, Problem> {
    let Some(policy) = queue.raw("RedrivePolicy") else { return Ok(None) };
    if !policy.is_object() {
        return Err(unexpected("RedrivePolicy", "an object"));
    }
    let policy = Properties::within(policy, queue.scope());
    let receives = policy
        .number("maxReceiveCount")?
        .ok_or_else(|| Problem::Missing { property: "RedrivePolicy.maxReceiveCount".to_owned() })?;
    if !(1..=1_000).contains(&receives) {
        return Err(unexpected("RedrivePolicy.maxReceiveCount", "1 to 1000"));
    }
    Ok(Some(Redrive {
        dead_letter_queue: named(&policy.text("deadLetterTargetArn")?, queue.scope())?,
        maximum_receives: u32::try_from(receives).unwrap_or(u32::MAX),
    }))
}

/// An event of type `SQS` of `function`, whose logical id is `id`.
pub(super) fn event(id: &str, event: Properties<'_>, function: &str) -> Result<Mapping, Problem> {
    mapping(id, event, &event.text("Queue")?, function, GrantedBy::Event)
}

/// An `AWS::Lambda::EventSourceMapping` of the queue with this ARN.
pub(super) fn plain_mapping(
    id: &str,
    properties: Properties<'_>,
    queue: &str,
    function: &str,
) -> Result<Mapping, Problem> {
    refuse_others(properties, &[MAPPING_PROPERTIES, &["EventSourceArn", "FunctionName"]])?;
    mapping(id, properties, queue, function, GrantedBy::Policies)
}

/// Properties of an `AWS::Lambda::EventSourceMapping` that are none of these lists'.
pub(super) fn refuse_others(mapping: Properties<'_>, understood: &[&[&str]]) -> Result<(), Problem> {
    match mapping.names().find(|name| !understood.concat().contains(name)) {
        None => Ok(()),
        Some(other) => Err(Problem::Unsupported {
            what: format!("{other} of AWS::Lambda::EventSourceMapping"),
            instead: "leave it out",
        }),
    }
}

fn mapping(
    id: &str,
    event: Properties<'_>,
    queue: &str,
    function: &str,
    granted_by: GrantedBy,
) -> Result<Mapping, Problem> {
    let window = within(event, "MaximumBatchingWindowInSeconds", 0..=300, 0)?;
    let batch_size = within(event, "BatchSize", 1..=10_000, DEFAULT_BATCH_SIZE)?;
    if batch_size > MAX_BATCH_SIZE_WITHOUT_WINDOW && window == 0 {
        return Err(unexpected("BatchSize", "10 or less, or come with MaximumBatchingWindowInSeconds"));
    }
    let none = Value::Null;
    let scaling = Properties::within(event.raw("ScalingConfig").unwrap_or(&none), event.scope());
    // Lambda knows no less than two.
    let concurrency = match scaling.number("MaximumConcurrency")? {
        Some(number) if !(2..=1_000).contains(&number) => {
            return Err(unexpected("ScalingConfig.MaximumConcurrency", "2 to 1000"));
        }
        concurrency => concurrency,
    };
    Ok(Mapping {
        place: id.to_owned(),
        source: EventSource {
            queue: named(queue, event.scope())?,
            function: function.to_owned(),
            granted_by,
            batch_size: size(batch_size),
            batching_window: Duration::from_secs(window),
            answers: answers(event)?,
            maximum_concurrency: concurrency.map(size),
            filters: filters::read(event, filters::QUEUE_KEYS)?,
            enabled: event.flag("Enabled")?.unwrap_or(true),
        },
    })
}

/// What the function's answer to a batch means.
pub(super) fn answers(event: Properties<'_>) -> Result<Answers, Problem> {
    match event.texts("FunctionResponseTypes")?.as_slice() {
        [] => Ok(Answers::Ignored),
        [kind] if kind == "ReportBatchItemFailures" => Ok(Answers::ReportFailures),
        _ => Err(unexpected("FunctionResponseTypes", "[ReportBatchItemFailures]")),
    }
}

/// The sources of all mappings, as Lambda accepts them.
pub(super) fn sources(
    mappings: Vec<Mapping>,
    queues: &[Queue],
    functions: &[Function],
) -> Result<Vec<EventSource>, Located> {
    mappings.into_iter().map(|mapping| source(mapping, queues, functions)).collect()
}

fn source(mapping: Mapping, queues: &[Queue], functions: &[Function]) -> Result<EventSource, Located> {
    let Mapping { place, source } = mapping;
    let queue = queues.iter().find(|queue| queue.name == source.queue);
    let function = functions.iter().find(|function| function.name == source.function);
    if let (Some(queue), Some(function)) = (queue, function)
        && queue.visibility_timeout < function.timeout
    {
        let property = format!("VisibilityTimeout of the queue {}", queue.name);
        let wanted = "no less than the Timeout of the function that reads it: Lambda refuses the mapping";
        return Err((place, Problem::Unexpected { property, wanted }));
    }
    Ok(source)
}

/// The name of the queue of this template that has the ARN `arn`.
pub(super) fn named(arn: &str, scope: &Scope<'_>) -> Result<String, Problem> {
    for (id, _) in scope.of_type(QUEUE) {
        if scope.attribute(id, "Arn")? == arn {
            return scope.physical_name(id);
        }
    }
    Err(Problem::Unsupported {
        what: format!("the queue {arn}, which is not of this template,"),
        instead: "name one of its queues, by !GetAtt Queue.Arn",
    })
}

pub(super) fn within(
    properties: Properties<'_>,
    name: &'static str,
    range: RangeInclusive<u64>,
    default: u64,
) -> Result<u64, Problem> {
    let value = properties.number(name)?.unwrap_or(default);
    if range.contains(&value) {
        return Ok(value);
    }
    let property = format!("{name} ({value})");
    Err(Problem::Unexpected { property, wanted: "within the range that AWS gives it" })
}

/// All numbers here are small.
pub(super) fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
