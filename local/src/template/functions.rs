//! `AWS::Serverless::Function`: settings, environment, policy and events, with `Globals.Function`
//! merged in.
//!
//! Only functions of a custom runtime can be run: an executable `bootstrap` that asks the Runtime
//! API for events. Another runtime, a container image, inline code, layers and code in S3 are
//! refused.
//!
//! Globals merge as SAM merges them: maps key by key, lists one after the other, everything else by
//! the function's own value.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::error::Problem;
use super::model::{Function, HttpRoute, Schedule, StreamSource};
use super::properties::{Properties, unexpected};
use super::queues::Mapping;
use super::scope::{Located, Scope};
use super::{event_invoke, policy, queues, streams};

/// SAM's own defaults.
const DEFAULT_TIMEOUT_SECONDS: u64 = 3;
const DEFAULT_MEMORY_MIB: u64 = 128;

/// The executable of a function with a custom runtime, and its usual `Handler`.
pub(crate) const BOOTSTRAP: &str = "bootstrap";

/// Scheduler's default number of retries.
const DEFAULT_SCHEDULE_RETRIES: u64 = 185;

/// What the functions of a template amount to.
#[derive(Default)]
pub(super) struct Read {
    pub(super) functions: Vec<Function>,
    pub(super) routes: Vec<HttpRoute>,
    pub(super) schedules: Vec<Schedule>,
    pub(super) mappings: Vec<Mapping>,
    pub(super) stream_sources: Vec<StreamSource>,
    /// ARN to short name: integrations name functions by ARN.
    pub(super) by_arn: BTreeMap<String, String>,
}

pub(super) fn read(template: &Value, scope: &Scope<'_>) -> Result<Read, Located> {
    let mut all = Read::default();
    let names = short_names(template, scope)?;
    for (id, properties) in with_globals(template, scope) {
        let name = names.get(id).cloned().unwrap_or_default();
        function((id, name), &properties, scope, &mut all).map_err(|problem| (id.to_owned(), problem))?;
    }
    all.routes.sort_by(|a, b| (&a.path, &a.method).cmp(&(&b.path, &b.method)));
    all.schedules.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Logical ids and properties of the functions, `Globals.Function` merged in.
pub(super) fn with_globals<'s>(
    template: &'s Value,
    scope: &'s Scope<'_>,
) -> impl Iterator<Item = (&'s str, Value)> {
    let globals = template.get("Globals").and_then(|globals| globals.get("Function")).unwrap_or(&Value::Null);
    scope
        .of_type("AWS::Serverless::Function")
        .map(|(id, resource)| (id, merge(globals, resource.get("Properties").unwrap_or(&Value::Null))))
}

/// The short names of the functions, by their logical ids: the last folder of `CodeUri`, or the
/// logical id where that folder has no name or several functions have the same.
pub(super) fn short_names(template: &Value, scope: &Scope<'_>) -> Result<BTreeMap<String, String>, Located> {
    let mut names = BTreeMap::new();
    for (id, properties) in with_globals(template, scope) {
        let code_uri = code_uri(Properties::within(&properties, scope));
        let code_uri = code_uri.map_err(|problem| (id.to_owned(), problem))?;
        let folder = code_uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        names.insert(id.to_owned(), folder);
    }
    let folders: Vec<String> = names.values().cloned().collect();
    for (id, name) in &mut names {
        let others = folders.iter().filter(|folder| *folder == name);
        if matches!(name.as_str(), "" | "." | "..") || others.count() > 1 {
            id.clone_into(name);
        }
    }
    Ok(names)
}

/// `CodeUri`, of a function that can be run here.
fn code_uri(function: Properties<'_>) -> Result<String, Problem> {
    let unsupported = |what: String, instead| Err(Problem::Unsupported { what, instead });
    match function.optional_text("Runtime")?.as_deref() {
        None | Some("provided.al2023" | "provided.al2") => {}
        Some(other) => {
            return unsupported(
                format!("the runtime {other}"),
                "use provided.al2023, with an executable named bootstrap in CodeUri",
            );
        }
    }
    for property in ["ImageUri", "InlineCode", "Layers"] {
        if function.raw(property).is_some() {
            return unsupported(property.to_owned(), "use CodeUri, with an executable named bootstrap");
        }
    }
    let code_uri = function.text("CodeUri")?;
    if code_uri.starts_with("s3://") {
        return unsupported(format!("code in S3 ({code_uri})"), "use a folder on this machine");
    }
    Ok(code_uri)
}

fn function(
    (id, name): (&str, String),
    properties: &Value,
    scope: &Scope<'_>,
    all: &mut Read,
) -> Result<(), Problem> {
    let properties = Properties::within(properties, scope);
    let memory_mib = properties.number("MemorySize")?.unwrap_or(DEFAULT_MEMORY_MIB);
    let (event_invoke, destination) = event_invoke::read(properties)?;
    let mut policy = policy::read(properties)?;
    policy.extend(destination);
    all.by_arn.insert(scope.attribute(id, "Arn")?, name.clone());
    let events = properties.raw("Events").and_then(Value::as_object);
    for (event_id, event) in events.into_iter().flatten() {
        let kind = event.get("Type").and_then(Value::as_str).unwrap_or_default();
        let event_properties = Properties::of(event, scope);
        match kind {
            "HttpApi" => all.routes.push(HttpRoute {
                method: event_properties.text("Method")?.to_uppercase(),
                path: event_properties.text("Path")?,
                function: name.clone(),
            }),
            "ScheduleV2" => all.schedules.push(schedule(id, event_id, event_properties, &name)?),
            "DynamoDB" => {
                let (source, statement) = streams::event(id, event_properties, &name)?;
                all.stream_sources.push(source);
                // SAM adds a statement once.
                policy.extend(statement.filter(|statement| !policy.contains(statement)));
            }
            "SQS" => all.mappings.push(queues::event(id, event_properties, &name)?),
            other => {
                return Err(Problem::Unsupported {
                    what: format!("the event {event_id} of type {other:?}"),
                    instead: "use HttpApi, ScheduleV2, SQS or DynamoDB; for SNS and EventBridge write a subscription or a rule, and an AWS::Lambda::Permission",
                });
            }
        }
    }
    all.functions.push(Function {
        name: name.clone(),
        physical_name: scope.physical_name(id)?,
        code_uri: code_uri(properties)?,
        handler: properties.optional_text("Handler")?.unwrap_or_else(|| BOOTSTRAP.to_owned()),
        timeout: Duration::from_secs(properties.number("Timeout")?.unwrap_or(DEFAULT_TIMEOUT_SECONDS)),
        memory_mib: u32::try_from(memory_mib).map_err(|_| unexpected("MemorySize", "a number of MiB"))?,
        environment: environment(properties, scope)?,
        policy,
        event_invoke,
        reserved_concurrency: reserved_concurrency(properties)?,
    });
    Ok(())
}

fn reserved_concurrency(function: Properties<'_>) -> Result<Option<usize>, Problem> {
    let wanted = || unexpected("ReservedConcurrentExecutions", "a number of invocations at a time");
    let Some(number) = function.number("ReservedConcurrentExecutions")? else { return Ok(None) };
    usize::try_from(number).map(Some).map_err(|_| wanted())
}

fn environment(properties: Properties<'_>, scope: &Scope<'_>) -> Result<BTreeMap<String, String>, Problem> {
    let Some(Value::Object(variables)) =
        properties.raw("Environment").and_then(|object| object.get("Variables"))
    else {
        return Ok(BTreeMap::new());
    };
    let variables = Value::Object(variables.clone());
    let reader = Properties::within(&variables, scope);
    let names = variables.as_object().into_iter().flat_map(|object| object.keys());
    let mut environment = BTreeMap::new();
    for name in names {
        let value = reader.optional_text(name).map_err(|problem| match problem {
            Problem::Unexpected { property, wanted } => {
                Problem::Unexpected { property: format!("Environment.Variables.{property}"), wanted }
            }
            other => other,
        })?;
        if let Some(value) = value {
            environment.insert(name.clone(), value);
        }
    }
    Ok(environment)
}

fn schedule(id: &str, event_id: &str, event: Properties<'_>, function: &str) -> Result<Schedule, Problem> {
    if let Some(zone) = event.optional_text("ScheduleExpressionTimezone")?
        && zone != "UTC"
    {
        return Err(Problem::Unsupported {
            what: format!("the event {event_id} in the time zone {zone}"),
            instead: "write its expression in UTC",
        });
    }
    let no_policy = Value::Null;
    let retry = Properties::within(event.raw("RetryPolicy").unwrap_or(&no_policy), event.scope());
    let attempts = retry.number("MaximumRetryAttempts")?.unwrap_or(DEFAULT_SCHEDULE_RETRIES);
    let name = event.optional_text("Name")?.unwrap_or_else(|| format!("{id}{event_id}"));
    Ok(Schedule {
        arn: event.scope().arns().schedule(&name),
        name,
        expression: event.text("ScheduleExpression")?,
        function: function.to_owned(),
        input: event.optional_text("Input")?.unwrap_or_else(|| "{}".to_owned()),
        maximum_retry_attempts: u32::try_from(attempts)
            .map_err(|_| unexpected("RetryPolicy.MaximumRetryAttempts", "a number of retries"))?,
        enabled: event.optional_text("State")?.is_none_or(|state| state != "DISABLED"),
        dead_letter_queue: dead_letter_queue(event)?,
    })
}

fn dead_letter_queue(event: Properties<'_>) -> Result<Option<String>, Problem> {
    match event.raw("DeadLetterConfig") {
        None => Ok(None),
        Some(config) => {
            let arn = Properties::within(config, event.scope()).text("Arn")?;
            queues::named(&arn, event.scope()).map(Some)
        }
    }
}

fn merge(globals: &Value, own: &Value) -> Value {
    match (globals, own) {
        (Value::Object(globals), Value::Object(own)) if !is_call(own) && !is_call(globals) => {
            let mut merged = globals.clone();
            for (key, value) in own {
                let value = merge(merged.get(key).unwrap_or(&Value::Null), value);
                merged.insert(key.clone(), value);
            }
            Value::Object(merged)
        }
        (Value::Array(globals), Value::Array(own)) => globals.iter().chain(own).cloned().collect(),
        (globals, Value::Null) => globals.clone(),
        (_, own) => own.clone(),
    }
}

fn is_call(object: &serde_json::Map<String, Value>) -> bool {
    object.len() == 1 && object.keys().all(|key| key == "Ref" || key.starts_with("Fn::"))
}
