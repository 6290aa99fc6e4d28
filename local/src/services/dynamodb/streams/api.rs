//! DynamoDB Streams' API: `ListStreams`, `DescribeStream`, `GetShardIterator` and `GetRecords`, by
//! the API reference ("Amazon DynamoDB Streams").
//!
//! Limits: no record is too old for a sequence number to name it (`TrimmedDataAccessException`):
//! the next one is read.

use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::iterator::LIFETIME_SECONDS;
pub(in crate::services::dynamodb) use super::iterator::ShardIterator;
use super::{Position, SHARDS, StreamError, Streams, shard_id};
use crate::clock;
use crate::template::arn;

/// Streams that one `ListStreams` answers, and shards that one `DescribeStream` answers, at most.
const MAX_LISTED: usize = 100;

/// Records that one `GetRecords` answers, at most, and if it does not say how many.
const MAX_RECORDS: usize = 1_000;

/// What they may come to: 1 MB.
const MAX_RECORDS_BYTES: usize = 1024 * 1024;

/// Pages of the engine that one `GetRecords` reads, at most: an answer may have fewer records than
/// there are.
const MAX_PAGES: usize = 10;

/// Lengths that a sequence number may have.
const SEQUENCE_NUMBER_LENGTHS: std::ops::RangeInclusive<usize> = 21..=40;

/// The operations.
pub(in crate::services::dynamodb) const OPERATIONS: [&str; 4] =
    ["ListStreams", "DescribeStream", "GetShardIterator", "GetRecords"];

/// A refusal, as it goes over the wire.
#[derive(Debug)]
pub(in crate::services::dynamodb) struct Refused {
    pub(in crate::services::dynamodb) status: StatusCode,
    pub(in crate::services::dynamodb) kind: &'static str,
    pub(in crate::services::dynamodb) message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListStreams {
    table_name: Option<String>,
    limit: Option<usize>,
    exclusive_start_stream_arn: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeStream {
    stream_arn: String,
    limit: Option<usize>,
    exclusive_start_shard_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetShardIterator {
    stream_arn: String,
    shard_id: String,
    shard_iterator_type: String,
    sequence_number: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetRecords {
    shard_iterator: String,
    limit: Option<usize>,
}

impl Streams {
    /// Runs one of [`OPERATIONS`].
    pub(in crate::services::dynamodb) fn answer(
        &self,
        operation: &str,
        body: &str,
    ) -> Result<Value, Refused> {
        match operation {
            "ListStreams" => self.list(&read(body)?),
            "DescribeStream" => self.describe(&read(body)?),
            "GetShardIterator" => self.iterator(&read(body)?),
            "GetRecords" => self.records(&read(body)?),
            _ => Err(refused("com.amazon.coral.service#UnknownOperationException", "")),
        }
    }

    fn list(&self, request: &ListStreams) -> Result<Value, Refused> {
        let limit = within(request.limit, MAX_LISTED)?;
        let names = self.by_table.keys().filter(|name| {
            request
                .table_name
                .as_ref()
                .is_none_or(|wanted| wanted == *name || *wanted == self.arns.table(name))
        });
        // The names are in order.
        let rest = names.skip_while(|name| {
            request.exclusive_start_stream_arn.as_ref().is_some_and(|last| self.arns.stream(name) <= *last)
        });
        let mut rest: Vec<_> = rest.take(limit.saturating_add(1)).collect();
        let more = rest.len() > limit;
        rest.truncate(limit);
        let mut answer = json!({"Streams": rest.iter().map(|name| json!({
            "StreamArn": self.arns.stream(name), "TableName": name, "StreamLabel": arn::STREAM_LABEL,
        })).collect::<Vec<_>>()});
        if let (true, Some(last)) = (more, rest.last()) {
            answer["LastEvaluatedStreamArn"] = self.arns.stream(last).into();
        }
        Ok(answer)
    }

    fn describe(&self, request: &DescribeStream) -> Result<Value, Refused> {
        let limit = within(request.limit, MAX_LISTED)?;
        let table = self.table_of(&request.stream_arn)?;
        let stream = self.stream(&table).map_err(failed)?;
        let first = match &request.exclusive_start_shard_id {
            None => 0,
            Some(id) => shard_of(id)?.saturating_add(1),
        };
        let end = first.saturating_add(limit).min(SHARDS);
        // An open shard has no end. Every number that a record can have is above this one.
        let shard = |shard| {
            json!({
                "ShardId": shard_id(shard),
                "SequenceNumberRange": {"StartingSequenceNumber": Position(1).public()},
            })
        };
        let mut description = json!({
            "StreamArn": request.stream_arn,
            "StreamLabel": arn::STREAM_LABEL,
            "StreamStatus": "ENABLED",
            "StreamViewType": serde_json::to_value(stream.view).map_err(unwritable)?,
            "TableName": table,
            "KeySchema": stream.key_schema,
            "Shards": (first..end).map(shard).collect::<Vec<_>>(),
        });
        if end < SHARDS && end > first {
            description["LastEvaluatedShardId"] = shard_id(end - 1).into();
        }
        Ok(json!({"StreamDescription": description}))
    }

    fn iterator(&self, request: &GetShardIterator) -> Result<Value, Refused> {
        let table = self.table_of(&request.stream_arn)?;
        let shard = shard_of(&request.shard_id)?;
        let kind = request.shard_iterator_type.as_str();
        let numbered = match (&request.sequence_number, kind) {
            (None, "TRIM_HORIZON" | "LATEST") => Position::TRIM_HORIZON,
            (Some(_), "TRIM_HORIZON" | "LATEST") => {
                return Err(invalid("SequenceNumber should not be passed for this iterator type"));
            }
            (Some(number), "AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER") => {
                let known = SEQUENCE_NUMBER_LENGTHS.contains(&number.len());
                let position = Position::behind(number).filter(|_| known);
                position.ok_or_else(|| invalid("Invalid SequenceNumber for the shard"))?
            }
            (None, "AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER") => {
                return Err(invalid("SequenceNumber cannot be null"));
            }
            (_, other) => return Err(invalid(&format!("{other} is no ShardIteratorType"))),
        };
        let after = match kind {
            "LATEST" => self.latest(&table).map_err(failed)?,
            "AT_SEQUENCE_NUMBER" => Position(numbered.0.saturating_sub(1)),
            _ => numbered,
        };
        let iterator =
            ShardIterator { table, shard, after: after.0, issued_seconds: clock::now().as_second() };
        Ok(json!({"ShardIterator": iterator.encode().map_err(unwritable)?}))
    }

    fn records(&self, request: &GetRecords) -> Result<Value, Refused> {
        let limit = within(request.limit, MAX_RECORDS)?;
        let iterator =
            ShardIterator::decode(&request.shard_iterator).ok_or_else(|| invalid("Invalid ShardIterator"))?;
        let now = clock::now().as_second();
        if now.saturating_sub(iterator.issued_seconds) > LIFETIME_SECONDS {
            return Err(refused(
                "com.amazonaws.dynamodb.v20120810#ExpiredIteratorException",
                "The shard iterator has expired and can no longer be used.",
            ));
        }
        let (mut position, mut bytes, mut records) = (iterator.position(), 0, Vec::new());
        'pages: for _ in 0..MAX_PAGES {
            let page = self
                .read(&iterator.table, position, limit - records.len(), |record| {
                    record.shard == iterator.shard
                })
                .map_err(failed)?;
            for record in &page.records {
                let json = record.in_api().map_err(unwritable)?;
                bytes += json.to_string().len();
                if bytes > MAX_RECORDS_BYTES && !records.is_empty() {
                    break 'pages;
                }
                records.push(json);
                position = record.position;
            }
            position = page.end;
            if page.exhausted || records.len() >= limit {
                break;
            }
        }
        let next = ShardIterator { after: position.0, issued_seconds: now, ..iterator };
        Ok(json!({"Records": records, "NextShardIterator": next.encode().map_err(unwritable)?}))
    }

    /// The table whose stream has this ARN.
    fn table_of(&self, stream_arn: &str) -> Result<String, Refused> {
        let table = self.by_table.keys().find(|table| self.arns.stream(table) == stream_arn);
        table.cloned().ok_or_else(|| not_found(&format!("Stream: {stream_arn} not found")))
    }

    /// `answer`, which describes a table of this engine, as AWS and the template would have it.
    pub(in crate::services::dynamodb) fn correct_description(&self, description: &mut Value) {
        let Some(name) = description["TableName"].as_str().map(str::to_owned) else { return };
        let Some(stream) = self.by_table.get(&name) else { return };
        let (Some(description), Ok(view)) = (description.as_object_mut(), serde_json::to_value(stream.view))
        else {
            return;
        };
        description.insert("LatestStreamArn".to_owned(), self.arns.stream(&name).into());
        description.insert("LatestStreamLabel".to_owned(), arn::STREAM_LABEL.into());
        let specification = json!({"StreamEnabled": true, "StreamViewType": view});
        description.insert("StreamSpecification".to_owned(), specification);
    }
}

fn read<T: DeserializeOwned>(body: &str) -> Result<T, Refused> {
    serde_json::from_str(body).map_err(|error| invalid(&error.to_string()))
}

fn within(limit: Option<usize>, most: usize) -> Result<usize, Refused> {
    match limit {
        None => Ok(most),
        Some(limit) if (1..=most).contains(&limit) => Ok(limit),
        Some(_) => Err(invalid(&format!(
            "Value at 'limit' failed to satisfy constraint: Member must be 1 to {most}"
        ))),
    }
}

fn shard_of(id: &str) -> Result<usize, Refused> {
    let shard = (0..SHARDS).find(|shard| shard_id(*shard) == id);
    shard.ok_or_else(|| not_found(&format!("Shard: {id} not found")))
}

fn invalid(message: &str) -> Refused {
    refused("com.amazon.coral.validate#ValidationException", message)
}

fn not_found(what: &str) -> Refused {
    let message = format!("Requested resource not found: {what}");
    refused("com.amazonaws.dynamodb.v20120810#ResourceNotFoundException", &message)
}

fn refused(kind: &'static str, message: &str) -> Refused {
    Refused { status: StatusCode::BAD_REQUEST, kind, message: message.to_owned() }
}

fn failed(error: StreamError) -> Refused {
    match error {
        StreamError::NoStream { table } => not_found(&format!("Stream of {table} not found")),
        error @ StreamError::Engine { .. } => internal(error.to_string()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn unwritable(error: serde_json::Error) -> Refused {
    internal(error.to_string())
}

fn internal(message: String) -> Refused {
    let kind = "com.amazonaws.dynamodb.v20120810#InternalServerError";
    Refused { status: StatusCode::INTERNAL_SERVER_ERROR, kind, message }
}
