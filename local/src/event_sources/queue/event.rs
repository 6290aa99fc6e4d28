//! The event that Lambda makes of a batch of messages.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::services::sqs::{MessageAttribute, Received, attributes_digest, body_digest};
use crate::template::arn::Arns;

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "Records")]
    records: Vec<Record<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    message_id: &'a str,
    receipt_handle: &'a str,
    body: &'a str,
    attributes: BTreeMap<&'static str, String>,
    message_attributes: BTreeMap<&'a str, Attribute<'a>>,
    md5_of_body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    md5_of_message_attributes: Option<String>,
    event_source: &'static str,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: &'a str,
    aws_region: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Attribute<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    string_value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_value: Option<&'a str>,
    /// Always empty: SQS has lists in its interface and does not take them.
    string_list_values: [&'a str; 0],
    binary_list_values: [&'a str; 0],
    data_type: &'a str,
}

impl<'a> From<&'a MessageAttribute> for Attribute<'a> {
    fn from(attribute: &'a MessageAttribute) -> Self {
        Self {
            string_value: attribute.string_value.as_deref(),
            binary_value: attribute.binary_value.as_deref(),
            string_list_values: [],
            binary_list_values: [],
            data_type: &attribute.data_type,
        }
    }
}

/// The event of `batch`, received from `queue`.
pub(super) fn of(queue: &str, batch: &[Received], arns: &Arns) -> serde_json::Result<Vec<u8>> {
    let source = arns.queue(queue);
    let record = |message| record(message, &source, arns);
    serde_json::to_vec(&Event { records: batch.iter().map(record).collect() })
}

fn record<'a>(message: &'a Received, source: &'a str, arns: &'a Arns) -> Record<'a> {
    Record {
        message_id: &message.message_id,
        receipt_handle: &message.receipt_handle,
        body: &message.body,
        attributes: message.system_attributes(arns).into_iter().collect(),
        message_attributes: message
            .attributes
            .iter()
            .map(|(name, attribute)| (name.as_str(), Attribute::from(attribute)))
            .collect(),
        md5_of_body: body_digest(&message.body),
        md5_of_message_attributes: attributes_digest(&message.attributes),
        event_source: "aws:sqs",
        event_source_arn: source,
        aws_region: arns.region(),
    }
}
