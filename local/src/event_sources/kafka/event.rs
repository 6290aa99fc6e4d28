//! The event that Lambda makes of records of a topic: developer guide, "Using Lambda with
//! self-managed Apache Kafka", "Example event".

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rdkafka::Timestamp;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use serde::Serialize;

/// What a record is counted with besides its key and value: names, numbers and the topic.
const RECORD_BYTES: usize = 512;

/// One record.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    timestamp: i64,
    timestamp_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// A tombstone has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// Each a name and its bytes, which are signed in Java.
    headers: Vec<BTreeMap<String, Vec<i8>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(rename = "eventSource")]
    source: &'static str,
    bootstrap_servers: String,
    /// By topic and partition.
    records: BTreeMap<String, Vec<&'a Record>>,
}

impl Record {
    pub(super) fn of(message: &BorrowedMessage<'_>) -> Self {
        let (timestamp_type, timestamp) = match message.timestamp() {
            Timestamp::CreateTime(at) => ("CREATE_TIME", at),
            Timestamp::LogAppendTime(at) => ("LOG_APPEND_TIME", at),
            Timestamp::NotAvailable => ("NO_TIMESTAMP_TYPE", -1),
        };
        let encode = |bytes: &[u8]| STANDARD.encode(bytes);
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp,
            timestamp_type,
            key: message.key().map(encode),
            value: message.payload().map(encode),
            headers: headers
                .map(|header| {
                    let bytes = header.value.unwrap_or_default().iter().map(|byte| byte.cast_signed());
                    BTreeMap::from([(header.key.to_owned(), bytes.collect())])
                })
                .collect(),
        }
    }

    /// What it takes of an event, or a little less.
    pub(super) fn size_bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        // A byte of a header is written as up to four characters and a comma.
        let headers = self.headers.iter().flatten().map(|(name, bytes)| name.len() + 5 * bytes.len());
        RECORD_BYTES + text(&self.key) + text(&self.value) + headers.sum::<usize>()
    }
}

/// The event of `records`.
pub(super) fn of(bootstrap_servers: &[String], records: &[Record]) -> serde_json::Result<Vec<u8>> {
    let mut by_partition: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
    for record in records {
        by_partition.entry(format!("{}-{}", record.topic, record.partition)).or_default().push(record);
    }
    let bootstrap_servers = bootstrap_servers.join(",");
    serde_json::to_vec(&Event { source: "SelfManagedKafka", bootstrap_servers, records: by_partition })
}
