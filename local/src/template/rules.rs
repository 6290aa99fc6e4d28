//! `AWS::Events::EventBus` and `AWS::Events::Rule`.
//!
//! What AWS refuses when the stack is deployed is refused here. Refused as well, since it is not
//! done here: rules with a `ScheduleExpression`, rules of buses that the template does not have,
//! `InputTransformer` and `RoleArn` of a target, and targets that are neither a queue nor a
//! function of the template.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::error::Problem;
use super::model::{DEFAULT_BUS, Input, Rule, RuleTarget, Target};
use super::properties::{Properties, unexpected};
use super::queues;
use super::scope::{Located, Scope};
use super::topics::{function, object, unsupported};
use crate::patterns::Pattern;

pub(super) const EVENT_BUS: &str = "AWS::Events::EventBus";
pub(super) const RULE: &str = "AWS::Events::Rule";

/// Targets of one rule (EventBridge quota "Targets per rule").
const MAX_TARGETS: usize = 5;

/// A target's `RetryPolicy`: the defaults are the most that it may have (EventBridge API reference,
/// `RetryPolicy`).
const MOST_RETRIES: u32 = 185;
const EVENT_AGE_SECONDS: std::ops::RangeInclusive<u64> = 60..=86_400;

/// What a target may consist of.
const TARGET_PROPERTIES: [&str; 6] = ["Arn", "DeadLetterConfig", "Id", "Input", "InputPath", "RetryPolicy"];

/// Names of all buses but the default one.
pub(super) fn event_buses(scope: &Scope<'_>) -> Result<Vec<String>, Located> {
    let read = |(id, resource): (&str, &Value)| {
        if Properties::of(resource, scope).raw("EventSourceName").is_some() {
            let problem = unsupported("a bus of a partner's events", "leave EventSourceName out");
            return Err((id.to_owned(), problem));
        }
        match scope.physical_name(id) {
            Ok(name) if name == DEFAULT_BUS => {
                Err((id.to_owned(), unexpected("Name", "another one than default, which every account has")))
            }
            name => name.map_err(|problem| (id.to_owned(), problem)),
        }
    };
    scope.of_type(EVENT_BUS).map(read).collect()
}

/// All rules. `functions` has the functions' short names by their ARNs.
pub(super) fn rules(
    scope: &Scope<'_>,
    buses: &[String],
    functions: &BTreeMap<String, String>,
) -> Result<Vec<Rule>, Located> {
    let read = |(id, resource): (&str, &Value)| {
        let properties = Properties::of(resource, scope);
        rule(id, properties, buses, functions).map_err(|problem| (id.to_owned(), problem))
    };
    scope.of_type(RULE).map(read).collect()
}

fn rule(
    id: &str,
    properties: Properties<'_>,
    buses: &[String],
    functions: &BTreeMap<String, String>,
) -> Result<Rule, Problem> {
    if properties.raw("ScheduleExpression").is_some() {
        return Err(unsupported("ScheduleExpression of a rule", "use a ScheduleV2 event of a function"));
    }
    let bus = properties.scope().bus_of_rule(id)?;
    if bus != DEFAULT_BUS && !buses.contains(&bus) {
        let what = format!("a rule of the bus {bus}, which is not of this template,");
        return Err(unsupported(&what, "declare the bus"));
    }
    let event_pattern = object(properties, "EventPattern")?
        .ok_or_else(|| Problem::Missing { property: "EventPattern".to_owned() })?;
    let pattern = Pattern::parse(&event_pattern).map_err(Problem::Pattern)?;
    let enabled = match properties.optional_text("State")?.as_deref() {
        None | Some("ENABLED") => true,
        Some("DISABLED") => false,
        Some(_) => return Err(unexpected("State", "ENABLED or DISABLED")),
    };
    let targets = match properties.part("Targets")? {
        Value::Null => Vec::new(),
        Value::Array(targets) if targets.len() <= MAX_TARGETS => targets,
        _ => return Err(unexpected("Targets", "a list of 5 targets at most")),
    };
    let read = |value| target(Properties::within(value, properties.scope()), functions);
    let targets: Vec<RuleTarget> = targets.iter().map(read).collect::<Result<_, _>>()?;
    let is_repeated = |(position, target): (usize, &RuleTarget)| {
        targets.iter().take(position).any(|earlier| earlier.id == target.id)
    };
    if targets.iter().enumerate().any(is_repeated) {
        return Err(unexpected("Targets", "a list whose targets have different Ids"));
    }
    Ok(Rule { name: properties.scope().physical_name(id)?, bus, event_pattern, pattern, enabled, targets })
}

fn target(target: Properties<'_>, functions: &BTreeMap<String, String>) -> Result<RuleTarget, Problem> {
    if let Some(other) = target.names().find(|name| !TARGET_PROPERTIES.contains(name)) {
        return Err(unsupported(&format!("{other} of a rule's target"), "leave it out"));
    }
    let arn = target.text("Arn")?;
    let to = if arn.starts_with("arn:aws:lambda:") {
        function(&arn, functions)?
    } else {
        Target::Queue(queues::named(&arn, target.scope())?)
    };
    let [retry, dead_letters] = [target.part("RetryPolicy")?, target.part("DeadLetterConfig")?];
    let retry = Properties::within(&retry, target.scope());
    let retries = retry.number("MaximumRetryAttempts")?.map_or(Ok(MOST_RETRIES), u32::try_from);
    let age = retry.number("MaximumEventAgeInSeconds")?.unwrap_or(*EVENT_AGE_SECONDS.end());
    if !EVENT_AGE_SECONDS.contains(&age) {
        return Err(unexpected("RetryPolicy.MaximumEventAgeInSeconds", "60 to 86400"));
    }
    let dead_letters = Properties::within(&dead_letters, target.scope()).optional_text("Arn")?;
    Ok(RuleTarget {
        id: target.text("Id")?,
        target: to,
        input: input(target)?,
        maximum_retry_attempts: retries
            .ok()
            .filter(|retries| *retries <= MOST_RETRIES)
            .ok_or_else(|| unexpected("RetryPolicy.MaximumRetryAttempts", "0 to 185"))?,
        maximum_event_age: Duration::from_secs(age),
        dead_letter_queue: dead_letters.map(|arn| queues::named(&arn, target.scope())).transpose()?,
    })
}

fn input(target: Properties<'_>) -> Result<Input, Problem> {
    match (target.optional_text("Input")?, target.optional_text("InputPath")?) {
        (Some(_), Some(_)) => Err(unexpected("Input", "left out where InputPath is given")),
        (Some(text), None) => match serde_json::from_str::<Value>(&text) {
            Ok(_) => Ok(Input::Constant(text)),
            Err(_) => Err(unexpected("Input", "JSON")),
        },
        (None, Some(path)) => Ok(Input::Path(json_path(&path)?)),
        (None, None) => Ok(Input::Event),
    }
}

/// `$.detail.orderId` as a list of names. Other steps of JSON paths are refused.
fn json_path(path: &str) -> Result<Vec<String>, Problem> {
    let names: Option<Vec<&str>> = match path.strip_prefix('$') {
        Some("") => Some(Vec::new()),
        Some(rest) => rest.strip_prefix('.').map(|rest| rest.split('.').collect()),
        None => None,
    };
    match names {
        Some(names) if names.iter().all(|name| !name.is_empty() && !name.contains(['[', '*', '?'])) => {
            Ok(names.into_iter().map(str::to_owned).collect())
        }
        _ => Err(unexpected("InputPath", "a path of member names, such as $.detail.orderId")),
    }
}
