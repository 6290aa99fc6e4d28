//! The buses of the stack, their rules, and the events that targets get.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::entry::{Entry, EntryError, Event};
use crate::clock;
use crate::services::delivery::{
    Content, DeadLetter, Deliveries, Delivery, Exhausted, Failure, GivenUp, Retries,
};
use crate::services::sqs::{MessageAttribute, MessageAttributes};
use crate::services::trail::{Delivered, Passed};
use crate::template::arn::Arns;
use crate::template::model::{DEFAULT_BUS, Input, Rule, RuleTarget, Stack, Target};

/// Who delivers.
const PRINCIPAL: &str = "events.amazonaws.com";

/// The longest pause between two attempts. `EventBridge` says of its pauses that they grow
/// exponentially and have jitter.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);

/// Characters of the error in a dead letter.
const MAX_ERROR_CHARACTERS: usize = 1_000;

#[derive(Debug)]
pub(super) struct Buses {
    pub(super) arns: Arns,
    /// Names of all but the default one.
    names: Vec<String>,
    rules: Vec<Rule>,
    /// ARNs of the functions by their short names.
    functions: Vec<(String, String)>,
    deliveries: Arc<Deliveries>,
}

impl Buses {
    pub(super) fn new(stack: &Stack, deliveries: Arc<Deliveries>) -> Self {
        let function_arn = |function: &crate::template::model::Function| {
            (function.name.clone(), stack.arns.function(&function.physical_name))
        };
        Self {
            arns: stack.arns.clone(),
            names: stack.event_buses.clone(),
            rules: stack.rules.clone(),
            functions: stack.functions.iter().map(function_arn).collect(),
            deliveries,
        }
    }

    /// Names of all buses.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).chain([DEFAULT_BUS])
    }

    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Delivers an event to all targets that are to have it; its id.
    pub(super) fn put(&self, entry: &Entry) -> Result<String, EntryError> {
        let bus = entry.bus(&self.arns);
        if !self.names().any(|name| name == bus) {
            return Err(EntryError::argument("EventBusName", &format!("there is no bus {bus}")));
        }
        let event = entry.event(&self.arns)?;
        let internal = |_| EntryError::new("InternalFailure", "the event can't be written as JSON");
        let text = serde_json::to_string(&event).map_err(internal)?;
        let value: Value = serde_json::from_str(&text).map_err(internal)?;
        let mut deliveries = Vec::new();
        let rules = self.rules.iter().filter(|rule| rule.enabled && rule.bus == bus);
        for rule in rules.filter(|rule| rule.pattern.matches(&value)) {
            for target in &rule.targets {
                deliveries.push(Delivered {
                    by: rule.name.clone(),
                    to: target.target.name().to_owned(),
                    outcome: self.deliveries.deliver(self.delivery(rule, target, &text, &value)),
                });
            }
        }
        let Event { id, source, detail_type, detail, .. } = event;
        self.deliveries.trail.push(Passed {
            at: clock::now(),
            through: self.arns.event_bus(bus),
            id: id.clone(),
            title: format!("{source} {detail_type}"),
            body: detail.get().to_owned(),
            deliveries,
        });
        Ok(id)
    }

    fn delivery(&self, rule: &Rule, target: &RuleTarget, text: &str, event: &Value) -> Delivery {
        let source_arn = self.arns.rule(&rule.bus, &rule.name);
        let body = match &target.input {
            Input::Event => text.to_owned(),
            Input::Constant(text) => text.clone(),
            Input::Path(names) => names
                .iter()
                .try_fold(event, |value, name| value.get(name))
                .unwrap_or(&Value::Null)
                .to_string(),
        };
        let dead_letter = target.dead_letter_queue.as_ref().map(|queue| DeadLetter {
            queue: queue.clone(),
            content: Content {
                body: text.to_owned(),
                attributes: MessageAttributes::from([
                    attribute("RULE_ARN", source_arn.clone()),
                    attribute("TARGET_ARN", self.arn_of(&target.target)),
                ]),
            },
            explain,
        });
        Delivery {
            way: None,
            principal: PRINCIPAL,
            source_arn,
            target: target.target.clone(),
            content: Content { body, attributes: MessageAttributes::new() },
            retries: Retries {
                maximum: target.maximum_retry_attempts,
                maximum_age: target.maximum_event_age,
                pause,
            },
            dead_letter,
        }
    }

    pub(super) fn arn_of(&self, target: &Target) -> String {
        match target {
            Target::Queue(name) => self.arns.queue(name),
            Target::Function(name) => {
                let found = self.functions.iter().find(|(function, _)| function == name);
                found.map_or_else(String::new, |(_, arn)| arn.clone())
            }
        }
    }
}

/// Exponential, with jitter of one half.
fn pause(retry: u32) -> Duration {
    let longest = LONGEST_PAUSE.min(Duration::from_secs(1) * 2_u32.pow(retry.min(10)));
    longest.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

/// The attributes of a dead letter that say what happened.
fn explain(given_up: &GivenUp) -> MessageAttributes {
    let GivenUp { failure, retries, exhausted } = given_up;
    let code = match failure {
        Failure::NoPermission { .. } => "NO_PERMISSIONS",
        Failure::NoTarget => "NO_RESOURCE",
        Failure::Refused(_) => "INVALID_PARAMETER",
        Failure::Throttled => "THROTTLING",
        Failure::Unavailable(_) => "INTERNAL_ERROR",
    };
    let mut attributes = MessageAttributes::from([
        attribute("ERROR_CODE", code.to_owned()),
        attribute("ERROR_MESSAGE", failure.to_string().chars().take(MAX_ERROR_CHARACTERS).collect()),
        attribute("RETRY_ATTEMPTS", retries.to_string()),
    ]);
    let condition = exhausted.map(|exhausted| match exhausted {
        Exhausted::Attempts => "MaximumRetryAttempts",
        Exhausted::Age => "MaximumEventAgeInSeconds",
    });
    attributes
        .extend(condition.map(|condition| attribute("EXHAUSTED_RETRY_CONDITION", condition.to_owned())));
    attributes
}

fn attribute(name: &str, value: String) -> (String, MessageAttribute) {
    let attribute =
        MessageAttribute { data_type: "String".to_owned(), string_value: Some(value), binary_value: None };
    (name.to_owned(), attribute)
}
