//! A fault rule, in Rust and in JSON.
//!
//! ```json
//! {
//!   "match": {"service": "dynamodb", "operation": "TransactWriteItems", "resource": "OrdersTable", "caller": "api-*"},
//!   "skip": 1, "times": 2, "probability": 0.5,
//!   "effect": {"kind": "error", "error": "TransactionConflict", "positions": [0, 2]}
//! }
//! ```
//!
//! Everything but `effect` may be left out: an empty match covers every request, `times` without a
//! number is always. Other effects: `{"kind": "delay", "millis": 50}`, `{"kind": "reset"}`,
//! `{"kind": "commitThenReset"}`, `{"kind": "hold", "when": "before"}` (or `"after"`), and for
//! `PutEvents`, `PublishBatch` and `SendMessageBatch`
//! `{"kind": "failEntries", "positions": [0, 2], "containing": "ord_1", "code": "Throttled"}`:
//! see [`EntryFault`].
//!
//! `{"kind": "forget"}` (or `"only": "Update"`) and `{"kind": "repeat"}` simulate a wrong function:
//! they show whether a check detects it. A rule for `OutboxTable` forgets the event of a
//! transaction and leaves the rest of it.

use serde::{Deserialize, Serialize};

use crate::services::access::{Case, matches};
use crate::services::call::{Call, Service};

/// What to do to which requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// The requests that it is about.
    #[serde(default, rename = "match")]
    pub matches: Matcher,
    /// How many of them pass before the first one is hit.
    #[serde(default)]
    pub skip: u64,
    /// How many are hit; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// How likely each of those is hit, 0 to 1.
    #[serde(default = "always")]
    pub probability: f64,
    /// What happens to them.
    pub effect: Effect,
}

fn always() -> f64 {
    1.0
}

/// Which requests. Absent fields match all; `*` and `?` are wildcards in the texts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Matcher {
    /// Only requests to this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Only requests about it, among others: a table, `bucket/key`, the name of a queue, a topic,
    /// an event bus, a secret or a function, or a connection id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Only requests of this function, or of `operator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
}

impl Matcher {
    /// Whether the rule is about a resource.
    pub(in crate::services) fn names(&self, resource: &str) -> bool {
        self.resource.as_deref().is_none_or(|pattern| matches(pattern, resource, Case::Kept))
    }

    pub(super) fn covers(&self, call: &Call) -> bool {
        let fits = |pattern: &Option<String>, text: &str| {
            pattern.as_deref().is_none_or(|pattern| matches(pattern, text, Case::Kept))
        };
        self.service.is_none_or(|service| service == call.service)
            && fits(&self.operation, &call.operation)
            && fits(&self.caller, call.caller.name())
            && (self.resource.is_none() || call.resources.iter().any(|name| self.names(name)))
    }
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Effect {
    /// Refused with an error of the service, without any effect.
    Error {
        #[serde(flatten)]
        failure: Failure,
    },
    /// Kept waiting before its effect.
    Delay { millis: u64 },
    /// Cut off before its effect.
    Reset,
    /// Done, and its answer lost.
    CommitThenReset,
    /// Kept until the rule is released or removed.
    Hold {
        /// Before or after the effect.
        when: When,
    },
    /// Answered with 200, and these entries of its batch failed. Requests without a batch pass.
    FailEntries {
        /// Which entries, and how.
        #[serde(flatten)]
        fault: EntryFault,
    },
    /// DynamoDB: the writes to the rule's tables are answered as done and have no effect. In a
    /// transaction their conditions still count. Other requests pass.
    Forget {
        /// Only writes of this kind.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only: Option<WriteKind>,
    },
    /// DynamoDB: the updates of the rule's tables are done twice, the second time without their
    /// condition. Other requests pass.
    Repeat,
}

/// A kind of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteKind {
    /// `PutItem`, alone or in a transaction.
    Put,
    /// `UpdateItem`, likewise.
    Update,
    /// `DeleteItem`, likewise.
    Delete,
}

/// What a rule does to the writes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rewrite {
    /// They have no effect.
    Forget {
        /// Only those of this kind.
        only: Option<WriteKind>,
    },
    /// They have it twice.
    Repeat,
}

/// How a request is altered before it is done.
#[derive(Debug, Clone)]
pub(crate) struct Alteration {
    /// What happens to its writes.
    pub(crate) rewrite: Rewrite,
    pub(crate) matches: Matcher,
}

/// Entries of a batch that fail, without any effect, while the others are done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryFault {
    /// Positions in the batch, from 0; any position when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positions: Vec<usize>,
    /// Only entries whose detail, message or body has this text in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containing: Option<String>,
    /// The entry's error code; the service's own for an internal failure when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

impl EntryFault {
    /// Whether the entry at `position`, which says `text`, fails.
    pub(in crate::services) fn hits(&self, position: usize, text: &str) -> bool {
        (self.positions.is_empty() || self.positions.contains(&position))
            && self.containing.as_ref().is_none_or(|wanted| text.contains(wanted))
    }

    /// The entry's error code. `default` is the service's own.
    pub(in crate::services) fn code<'a>(&'a self, default: &'a str) -> &'a str {
        self.code.as_deref().unwrap_or(default)
    }

    /// Whether the code is one that blames the sender.
    pub(in crate::services) fn is_fault_of_sender(&self) -> bool {
        let of_service = ["Internal", "Throttl", "ServiceUnavailable"];
        self.code.as_ref().is_some_and(|code| !of_service.iter().any(|start| code.contains(start)))
    }
}

/// On which side of its effect a request is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum When {
    /// Nothing has happened yet.
    Before,
    /// The request had its effect, and the caller gets no answer.
    After,
}

/// An error of a service. Each service answers it in its own shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "error")]
pub enum Failure {
    /// `TransactionCanceledException` whose reasons are `TransactionConflict` at these positions
    /// and `None` elsewhere.
    TransactionConflict {
        /// Positions in `TransactItems`, from 0.
        #[serde(default)]
        positions: Vec<usize>,
    },
    /// What a single write gets while a transaction has its item.
    TransactionConflictException,
    /// The table or the partition is asked too much.
    ProvisionedThroughputExceededException,
    /// The account is asked too much; S3 says `SlowDown`.
    ThrottlingException,
    /// 500: the caller doesn't know whether the request had an effect. (Here it had none.)
    InternalServerError,
    /// 410, the connection is no more.
    Gone,
    /// 429, the account or the client's own buffer is full.
    LimitExceeded,
}

impl Rule {
    /// A rule for every request, always.
    pub fn new(effect: Effect) -> Self {
        Self { matches: Matcher::default(), skip: 0, times: None, probability: 1.0, effect }
    }

    /// Refuses with `failure`.
    pub fn fail(failure: Failure) -> Self {
        Self::new(Effect::Error { failure })
    }

    /// Delays by `millis`.
    pub fn delay(millis: u64) -> Self {
        Self::new(Effect::Delay { millis })
    }

    /// Holds before or after the effect.
    pub fn hold(when: When) -> Self {
        Self::new(Effect::Hold { when })
    }

    /// Fails these entries of a batch.
    pub fn fail_entries(fault: EntryFault) -> Self {
        Self::new(Effect::FailEntries { fault })
    }

    /// Only requests to `service`.
    #[must_use]
    pub fn service(mut self, service: Service) -> Self {
        self.matches.service = Some(service);
        self
    }

    /// Only this operation.
    #[must_use]
    pub fn operation(mut self, operation: impl Into<String>) -> Self {
        self.matches.operation = Some(operation.into());
        self
    }

    /// Only requests about it: see [`Matcher::resource`].
    #[must_use]
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.matches.resource = Some(resource.into());
        self
    }

    /// Only requests of this function, or of `operator`.
    #[must_use]
    pub fn caller(mut self, caller: impl Into<String>) -> Self {
        self.matches.caller = Some(caller.into());
        self
    }

    /// Lets the first ones pass.
    #[must_use]
    pub fn skip(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// Hits no more than these.
    #[must_use]
    pub fn times(mut self, requests: u64) -> Self {
        self.times = Some(requests);
        self
    }

    /// Hits each of them with this likelihood, 0 to 1.
    #[must_use]
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_reads_and_writes_the_documented_json() {
        let json = json!({
            "match": {"service": "dynamodb", "operation": "TransactWriteItems", "resource": "OrdersTable"},
            "skip": 1,
            "times": 2,
            "probability": 0.5,
            "effect": {"kind": "error", "error": "TransactionConflict", "positions": [0, 2]},
        });
        let rule = Rule::fail(Failure::TransactionConflict { positions: vec![0, 2] })
            .service(Service::DynamoDb)
            .operation("TransactWriteItems")
            .resource("OrdersTable")
            .skip(1)
            .times(2)
            .probability(0.5);
        assert_eq!(serde_json::from_value::<Rule>(json.clone()).unwrap(), rule);
        assert_eq!(serde_json::to_value(&rule).unwrap(), json);
    }

    #[test]
    fn every_effect_of_the_documentation_is_understood() {
        for (json, effect) in [
            (json!({"kind": "delay", "millis": 50}), Effect::Delay { millis: 50 }),
            (json!({"kind": "reset"}), Effect::Reset),
            (json!({"kind": "commitThenReset"}), Effect::CommitThenReset),
            (json!({"kind": "hold", "when": "before"}), Effect::Hold { when: When::Before }),
            (json!({"kind": "error", "error": "Gone"}), Effect::Error { failure: Failure::Gone }),
            (
                json!({"kind": "failEntries", "positions": [0, 2], "containing": "ord_1"}),
                Effect::FailEntries {
                    fault: EntryFault {
                        positions: vec![0, 2],
                        containing: Some("ord_1".to_owned()),
                        code: None,
                    },
                },
            ),
            (json!({"kind": "failEntries"}), Effect::FailEntries { fault: EntryFault::default() }),
            (json!({"kind": "forget"}), Effect::Forget { only: None }),
            (json!({"kind": "forget", "only": "Update"}), Effect::Forget { only: Some(WriteKind::Update) }),
            (json!({"kind": "repeat"}), Effect::Repeat),
        ] {
            let rule: Rule = serde_json::from_value(json!({"effect": json})).unwrap();
            assert_eq!(rule, Rule::new(effect));
        }
    }

    #[test]
    fn a_misspelt_field_is_refused() {
        let misspelt = json!({"time": 1, "effect": {"kind": "reset"}});
        assert!(serde_json::from_value::<Rule>(misspelt).is_err());
    }
}
