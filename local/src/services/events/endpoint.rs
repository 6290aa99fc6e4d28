//! The `EventBridge` API.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::buses::Buses;
use super::entry::Entry;
use crate::services::access::Permission;
use crate::services::call::{Call, Service};
use crate::services::faults::EntryFault;
use crate::services::json;
use crate::services::pipeline::{Api, Reading, Refusal, Refused};
use crate::services::server::Body;
use crate::template::arn::Arns;

/// 1 MiB of details whose characters are all escaped in JSON (`\u0001`) is six times as long.
pub(super) const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// Entries of one call, and their sizes together.
const MAX_ENTRIES: usize = 10;
const MAX_TOTAL_BYTES: usize = 1024 * 1024;

const TARGET: &str = "AWSEvents.";
const PUT: &str = "PutEvents";
const LIST_BUSES: &str = "ListEventBuses";
const LIST_RULES: &str = "ListRules";

pub(super) struct EventsApi {
    pub(super) buses: Buses,
}

/// What was asked.
pub(super) enum Work {
    Put(Vec<Entry>),
    ListBuses,
    ListRules(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutEvents {
    #[serde(default)]
    entries: Vec<Entry>,
    endpoint_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListRules {
    event_bus_name: Option<String>,
}

impl Api for EventsApi {
    const SERVICE: Service = Service::EventBridge;
    type Body = Bytes;
    type Answer = Body;
    type Operation = &'static str;
    type Work = Work;

    fn operation(&self, head: &Parts) -> Result<&'static str, Refused<Body>> {
        let asked = json::operation(head, TARGET);
        let known = [PUT, LIST_BUSES, LIST_RULES].into_iter().find(|name| asked == Some(name));
        let message = "only PutEvents, ListEventBuses and ListRules are served here";
        known.ok_or_else(|| json::refused("UnknownOperationException", message).into())
    }

    fn read(&self, operation: &'static str, _: Parts, body: Bytes) -> Result<Reading<Work>, Refused<Body>> {
        // By way of a `Value`: see `sqs::request::parse`.
        let malformed =
            |error: serde_json::Error| Box::new(json::refused("SerializationException", &error.to_string()));
        let body: Value = serde_json::from_slice(&body).map_err(malformed)?;
        let (resources, permissions, work) = match operation {
            PUT => {
                let PutEvents { entries, endpoint_id } = serde_json::from_value(body).map_err(malformed)?;
                check(&entries, endpoint_id.as_deref())?;
                let arns = &self.buses.arns;
                let buses: BTreeSet<&str> = entries.iter().map(|entry| entry.bus(arns)).collect();
                let permissions =
                    buses.iter().map(|bus| Permission::new("events:PutEvents", bus_arn(bus, arns)));
                let permissions = permissions.collect();
                (buses.into_iter().map(str::to_owned).collect(), permissions, Work::Put(entries))
            }
            LIST_RULES => {
                let ListRules { event_bus_name } = serde_json::from_value(body).map_err(malformed)?;
                let bus = event_bus_name.unwrap_or_else(|| "default".to_owned());
                (vec![bus.clone()], vec![Permission::new("events:ListRules", "*")], Work::ListRules(bus))
            }
            _ => (Vec::new(), vec![Permission::new("events:ListEventBuses", "*")], Work::ListBuses),
        };
        Ok(Reading { operation: operation.to_owned(), resources, permissions, work })
    }

    async fn perform(&self, _: &Call, work: Work) -> Response<Body> {
        let answer = match work {
            Work::Put(entries) => self.put(&entries),
            Work::ListBuses => {
                let bus = |name| json!({"Name": name, "Arn": self.buses.arns.event_bus(name)});
                json!({"EventBuses": self.buses.names().map(bus).collect::<Vec<_>>()})
            }
            Work::ListRules(bus) => self.list_rules(&bus),
        };
        json::answer(StatusCode::OK, answer.to_string())
    }

    fn fail_entries(&self, work: &mut Work, fault: &EntryFault) {
        let Work::Put(entries) = work else { return };
        entries.iter_mut().enumerate().for_each(|(position, entry)| entry.fail(position, fault));
    }

    fn refuse(&self, refusal: Refusal, _: Option<&Work>) -> Response<Body> {
        match refusal {
            Refusal::Unauthenticated(stranger) => json::refused(stranger.error_type(), &stranger.to_string()),
            Refusal::Denied(denied) => json::refused("AccessDeniedException", &denied.to_string()),
            Refusal::Injected(failure) => json::failure(&failure, 0),
        }
    }
}

/// The ARN that a policy has to name: of the bus, or the ARN in the entry.
fn bus_arn(bus: &str, arns: &Arns) -> String {
    if bus.starts_with("arn:") { bus.to_owned() } else { arns.event_bus(bus) }
}

/// What makes a whole call fail.
fn check(entries: &[Entry], endpoint_id: Option<&str>) -> Result<(), Refused<Body>> {
    let refuse = |message: &str| Err(Box::new(json::refused("ValidationException", message)));
    if endpoint_id.is_some() {
        return refuse("global endpoints are not served here");
    }
    if !(1..=MAX_ENTRIES).contains(&entries.len()) {
        return refuse(
            "1 validation error detected: Value at 'entries' failed to satisfy constraint: Member must have length \
             greater than or equal to 1 and less than or equal to 10",
        );
    }
    if entries.iter().map(Entry::size_bytes).sum::<usize>() > MAX_TOTAL_BYTES {
        return refuse("Total size of the entries in the request is over the limit.");
    }
    Ok(())
}

impl EventsApi {
    /// An answer for each entry, in their order.
    fn put(&self, entries: &[Entry]) -> Value {
        let results: Vec<_> = entries.iter().map(|entry| self.buses.put(entry)).collect();
        let failed = results.iter().filter(|result| result.is_err()).count();
        let answers = results.into_iter().map(|result| match result {
            Ok(id) => json!({ "EventId": id }),
            Err(error) => json!(error),
        });
        json!({"FailedEntryCount": failed, "Entries": answers.collect::<Vec<_>>()})
    }

    fn list_rules(&self, bus: &str) -> Value {
        let rules = self.buses.rules().iter().filter(|rule| rule.bus == bus).map(|rule| {
            json!({
                "Name": rule.name,
                "Arn": self.buses.arns.rule(&rule.bus, &rule.name),
                "EventBusName": rule.bus,
                "EventPattern": rule.event_pattern.to_string(),
                "State": if rule.enabled { "ENABLED" } else { "DISABLED" },
            })
        });
        json!({"Rules": rules.collect::<Vec<_>>()})
    }
}
