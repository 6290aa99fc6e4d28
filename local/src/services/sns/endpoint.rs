//! The SNS API.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::request::Parts;

use super::form::{Form, Part};
use super::message::Notification;
use super::refusal::{Refusal, answer, element};
use super::topics::Topics;
use crate::services::access::Permission;
use crate::services::call::{Call, Service};
use crate::services::faults::EntryFault;
use crate::services::pipeline::{self, Api, Reading, Refused};
use crate::services::server::Body;
use crate::template::model::Topic;

/// A batch of 1 MiB whose characters are all escaped in a form (`%00`) is three times as long; then
/// there are the keys.
pub(super) const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// Entries of a `PublishBatch`, and characters of an entry's id.
const MAX_ENTRIES: usize = 10;
const MAX_ENTRY_ID_CHARACTERS: usize = 80;

pub(super) struct SnsApi {
    pub(super) topics: Arc<Topics>,
}

/// What was asked.
pub(super) enum Work {
    Publish { topic_arn: String, notification: Result<Notification, Refusal> },
    PublishBatch { topic_arn: String, entries: Vec<Entry> },
    ListTopics,
}

/// One entry of a batch.
pub(super) struct Entry {
    id: String,
    notification: Result<Notification, Refusal>,
}

impl Api for SnsApi {
    const SERVICE: Service = Service::Sns;
    type Body = Bytes;
    type Answer = Body;
    /// The body has it.
    type Operation = ();
    type Work = Work;

    fn operation(&self, _: &Parts) -> Result<(), Refused<Body>> {
        Ok(())
    }

    fn read(&self, (): (), _: Parts, body: Bytes) -> Result<Reading<Work>, Refused<Body>> {
        let form = Form::parse(&body);
        let form = form.root();
        let action = form.get("Action").unwrap_or_default();
        match action {
            "Publish" => {
                let topic_arn = topic_arn(&form)?;
                let work =
                    Work::Publish { topic_arn: topic_arn.clone(), notification: Notification::read(&form) };
                Ok(publishing(action, &topic_arn, work))
            }
            "PublishBatch" => {
                let topic_arn = topic_arn(&form)?;
                let entry = |part: Part<'_>| Entry {
                    id: part.get("Id").unwrap_or_default().to_owned(),
                    notification: Notification::read(&part),
                };
                let entries = form.numbered("PublishBatchRequestEntries.member").map(entry).collect();
                Ok(publishing(
                    action,
                    &topic_arn,
                    Work::PublishBatch { topic_arn: topic_arn.clone(), entries },
                ))
            }
            "ListTopics" => Ok(Reading {
                operation: action.to_owned(),
                resources: Vec::new(),
                permissions: vec![Permission::new("sns:ListTopics", "*")],
                work: Work::ListTopics,
            }),
            other => Err(Refusal::unknown_action(other).into_response().into()),
        }
    }

    async fn perform(&self, _: &Call, work: Work) -> Response<Body> {
        let performed = match work {
            Work::Publish { topic_arn, notification } => self.publish(&topic_arn, notification),
            Work::PublishBatch { topic_arn, entries } => self.publish_batch(&topic_arn, entries),
            Work::ListTopics => Ok(answer("ListTopics", &self.list())),
        };
        performed.unwrap_or_else(Refusal::into_response)
    }

    fn fail_entries(&self, work: &mut Work, fault: &EntryFault) {
        let Work::PublishBatch { entries, .. } = work else { return };
        for (position, entry) in entries.iter_mut().enumerate() {
            let text = entry.notification.as_ref().map_or("", |notification| &notification.message);
            if fault.hits(position, text) {
                entry.notification = Err(Refusal::injected(fault));
            }
        }
    }

    fn refuse(&self, refusal: pipeline::Refusal, _: Option<&Work>) -> Response<Body> {
        let refusal = match refusal {
            pipeline::Refusal::Unauthenticated(stranger) => Refusal::from(stranger),
            pipeline::Refusal::Denied(denied) => Refusal::from(denied),
            pipeline::Refusal::Injected(failure) => Refusal::from(failure),
        };
        refusal.into_response()
    }
}

fn topic_arn(form: &Part<'_>) -> Result<String, Refused<Body>> {
    let refuse = |reason: &str| Box::new(Refusal::parameter(reason).into_response());
    if ["TargetArn", "PhoneNumber"].iter().any(|name| form.get(name).is_some()) {
        return Err(refuse("only topics are published to here"));
    }
    form.get("TopicArn")
        .map(str::to_owned)
        .ok_or_else(|| refuse("TopicArn or TargetArn Reason: no value for required parameter"))
}

fn publishing(operation: &str, topic_arn: &str, work: Work) -> Reading<Work> {
    Reading {
        operation: operation.to_owned(),
        resources: vec![topic_arn.rsplit(':').next().unwrap_or_default().to_owned()],
        permissions: vec![Permission::new("sns:Publish", topic_arn)],
        work,
    }
}

impl SnsApi {
    fn publish(
        &self,
        topic_arn: &str,
        notification: Result<Notification, Refusal>,
    ) -> Result<Response<Body>, Refusal> {
        let topic = self.topics.find(topic_arn)?;
        let id = self.publish_one(topic, notification)?;
        Ok(answer("Publish", &element("MessageId", &id)))
    }

    fn publish_one(
        &self,
        topic: &Topic,
        notification: Result<Notification, Refusal>,
    ) -> Result<String, Refusal> {
        let notification = notification?;
        notification.check(topic.maximum_message_bytes)?;
        Ok(self.topics.publish(topic, &notification))
    }

    /// Entries that are not accepted are listed as failed and don't keep the others from being
    /// published.
    fn publish_batch(&self, topic_arn: &str, entries: Vec<Entry>) -> Result<Response<Body>, Refusal> {
        let topic = self.topics.find(topic_arn)?;
        check(&entries, topic)?;
        let (mut successful, mut failed) = (String::new(), String::new());
        for Entry { id, notification } in entries {
            let id = element("Id", &id);
            // Writing to a `String` has no failure to report.
            match self.publish_one(topic, notification) {
                Ok(message_id) => {
                    let message_id = element("MessageId", &message_id);
                    write!(successful, "<member>{id}{message_id}</member>").unwrap_or_default();
                }
                Err(refusal) => {
                    let reason =
                        [element("Code", &refusal.code), element("Message", &refusal.message)].concat();
                    let fault = element("SenderFault", &refusal.is_fault_of_sender().to_string());
                    write!(failed, "<member>{id}{reason}{fault}</member>").unwrap_or_default();
                }
            }
        }
        let result = format!("<Successful>{successful}</Successful><Failed>{failed}</Failed>");
        Ok(answer("PublishBatch", &result))
    }

    fn list(&self) -> String {
        let topics = self.topics.names().fold(String::new(), |mut list, name| {
            write!(list, "<member>{}</member>", element("TopicArn", &self.topics.arns.topic(name)))
                .unwrap_or_default();
            list
        });
        format!("<Topics>{topics}</Topics>")
    }
}

/// What makes a whole batch fail.
fn check(entries: &[Entry], topic: &Topic) -> Result<(), Refusal> {
    if entries.is_empty() {
        let message = "The batch request doesn't contain any entries.";
        return Err(Refusal::bad("EmptyBatchRequest", message));
    }
    if entries.len() > MAX_ENTRIES {
        let message = "The batch request contains more entries than permissible.";
        return Err(Refusal::bad("TooManyEntriesInBatchRequest", message));
    }
    let is_id = |id: &str| {
        let valid = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
        (1..=MAX_ENTRY_ID_CHARACTERS).contains(&id.len()) && id.chars().all(valid)
    };
    let mut seen = BTreeSet::new();
    for Entry { id, .. } in entries {
        if !is_id(id) {
            let message = "The Id of a batch entry in a batch request doesn't abide by the specification.";
            return Err(Refusal::bad("InvalidBatchEntryId", message));
        }
        if !seen.insert(id) {
            let message = "Two or more batch entries in the request have the same Id.";
            return Err(Refusal::bad("BatchEntryIdsNotDistinct", message));
        }
    }
    let sizes = entries.iter().flat_map(|entry| &entry.notification).map(Notification::size_bytes);
    if sizes.sum::<usize>() > topic.maximum_message_bytes {
        let message = "The length of all the batch messages put together is more than the limit.";
        return Err(Refusal::bad("BatchRequestTooLong", message));
    }
    Ok(())
}
