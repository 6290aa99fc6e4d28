//! The report of records that were given up, in the queue that the mapping names as its `OnFailure`
//! destination. It says where the records are and not what they are: developer guide, "Retain
//! discarded records for a DynamoDB event source in Lambda".
//!
//! Limits: the request id of the report is its own, not that of the last invocation.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::collect::Entry;
use super::{Reader, StreamParts};
use crate::functions::outcome::Invoke;
use crate::services::dynamodb::streams::{Record, shard_id};

/// Why records were given up.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum Condition {
    RetryAttemptsExhausted,
    RecordAgeExceeded,
}

/// What the function answered, as the report of a batch that is given up says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Response {
    /// An answer that reports failures, or that can't be understood.
    Answered,
    /// An error, a crash, or no answer in time.
    FunctionError,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    request_context: RequestContext<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<ResponseContext>,
    version: &'static str,
    timestamp: String,
    #[serde(rename = "DDBStreamBatchInfo")]
    batch: BatchInfo,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    request_id: String,
    function_arn: &'a str,
    condition: Condition,
    approximate_invoke_count: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext {
    status_code: u16,
    executed_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_error: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchInfo {
    shard_id: String,
    start_sequence_number: String,
    end_sequence_number: String,
    approximate_arrival_of_first_record: String,
    approximate_arrival_of_last_record: String,
    batch_size: usize,
    stream_arn: String,
}

impl<I: Invoke> Reader<I> {
    /// Reports `entries`. A report that can't be sent is a line in the log, as it is only a metric
    /// in the cloud.
    pub(super) fn give_up(
        &self,
        entries: &[Entry],
        condition: Condition,
        invocations: usize,
        response: Option<Response>,
    ) {
        let (table, function, records) = (&self.source.table, &self.source.function, entries.len());
        tracing::error!(table, function, records, ?condition, "records of a stream are given up");
        let Some(queue) = &self.source.on_failure else { return };
        if let Err(why) = self.report(queue, entries, condition, invocations, response) {
            tracing::error!(queue, function, why, "DestinationDeliveryFailures: the report can't be sent");
        }
    }

    /// Sends the report; otherwise says why not.
    fn report(
        &self,
        queue: &str,
        entries: &[Entry],
        condition: Condition,
        invocations: usize,
        response: Option<Response>,
    ) -> Result<(), String> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        let StreamParts { destinations, clock, .. } = &self.parts;
        let report = Report {
            request_context: RequestContext {
                request_id: Uuid::new_v4().to_string(),
                function_arn: &self.source.function_arn,
                condition,
                approximate_invoke_count: invocations,
            },
            // Records that were only ever throttled have no response.
            response_context: response.map(|response| ResponseContext {
                status_code: 200,
                executed_version: "$LATEST",
                function_error: (response == Response::FunctionError).then_some("Unhandled"),
            }),
            version: "1.0",
            timestamp: format!("{:.3}", clock.now()),
            batch: BatchInfo {
                shard_id: shard_id(self.shard()),
                start_sequence_number: first.record.sequence_number(),
                end_sequence_number: last.record.sequence_number(),
                approximate_arrival_of_first_record: arrival(&first.record),
                approximate_arrival_of_last_record: arrival(&last.record),
                batch_size: entries.len(),
                stream_arn: destinations.access.arns.stream(&self.source.table),
            },
        };
        let text = serde_json::to_string(&report).map_err(|error| error.to_string())?;
        destinations.send(&self.source.function, queue, text)
    }
}

fn arrival(record: &Record) -> String {
    Timestamp::from_second(record.created_seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}
