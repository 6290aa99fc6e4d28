//! SNS topics.

use std::collections::{HashMap, HashSet};

use aws_sdk_sns::Client;
use aws_sdk_sns::error::ProvideErrorMetadata;
use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};

use super::{CallFailed, EntryOutcome, send};

/// Most bytes of the entries of one call, attributes included, and so of one entry.
/// <https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html>
pub const MAX_TOPIC_BYTES: usize = 256 * 1024;

/// Error codes of an invalid entry.
const REFUSED_ENTRIES: [&str; 2] = ["InvalidParameter", "ParameterValueInvalid"];

/// Error codes of a call with an invalid entry.
const REFUSED_CALLS: [&str; 4] =
    ["InvalidParameter", "ParameterValueInvalid", "BatchRequestTooLong", "ValidationError"];

/// The type of the attributes.
const STRING: &str = "String";

/// One message for a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicEntry {
    pub body: String,
    /// The attributes that subscriptions filter by.
    pub attributes: Vec<(&'static str, String)>,
}

impl TopicEntry {
    /// Its size as SNS counts it: the text, and name, type and value of each attribute.
    pub fn size_bytes(&self) -> usize {
        let attributes = self.attributes.iter().map(|(name, value)| name.len() + STRING.len() + value.len());
        self.body.len() + attributes.sum::<usize>()
    }
}

/// Publishes to topics. Calls `PublishBatch`.
#[derive(Debug, Clone)]
pub struct Topics {
    client: Client,
}

impl Topics {
    /// Publishes through `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Publishes at most [`MAX_ENTRIES`](super::MAX_ENTRIES) messages of at most
    /// [`MAX_TOPIC_BYTES`] together to the topic of this ARN.
    pub async fn publish(&self, topic_arn: &str, entries: &[&TopicEntry]) -> Vec<EntryOutcome> {
        send(entries, |entries| self.call(topic_arn, entries)).await
    }

    async fn call(
        &self,
        topic_arn: &str,
        entries: Vec<&TopicEntry>,
    ) -> Result<Vec<EntryOutcome>, CallFailed> {
        let failed = |error: &(dyn std::error::Error + 'static), code: Option<&str>| {
            CallFailed::new(error, code, &REFUSED_CALLS)
        };
        let mut request = self.client.publish_batch().topic_arn(topic_arn);
        for (id, entry) in entries.iter().enumerate() {
            let entry = build(id, entry).map_err(|error| failed(&error, None))?;
            request = request.publish_batch_request_entries(entry);
        }
        let answer = Box::pin(request.send()).await.map_err(|error| failed(&error, error.code()))?;
        let published: HashSet<String> =
            answer.successful.unwrap_or_default().into_iter().filter_map(|entry| entry.id).collect();
        let mut refused: HashMap<String, EntryOutcome> = HashMap::new();
        for error in answer.failed.unwrap_or_default() {
            let reason = format!("{}: {}", error.code, error.message.unwrap_or_default());
            let outcome = if REFUSED_ENTRIES.contains(&error.code.as_str()) {
                EntryOutcome::Refused(reason)
            } else {
                EntryOutcome::Failed(reason)
            };
            refused.insert(error.id, outcome);
        }
        let outcomes = (0..entries.len()).map(|id| id.to_string()).map(|id| match refused.remove(&id) {
            Some(outcome) => outcome,
            None if published.contains(&id) => EntryOutcome::Published,
            None => super::unanswered(),
        });
        Ok(outcomes.collect())
    }
}

fn build(id: usize, entry: &TopicEntry) -> Result<PublishBatchRequestEntry, aws_sdk_sns::error::BuildError> {
    let mut built = PublishBatchRequestEntry::builder().id(id.to_string()).message(&entry.body);
    for (name, value) in &entry.attributes {
        let value = MessageAttributeValue::builder().data_type(STRING).string_value(value).build()?;
        built = built.message_attributes(*name, value);
    }
    built.build()
}
