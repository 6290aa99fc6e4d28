//! DynamoDB's API: from the bytes of a request to the bytes of its answer.

use std::sync::Arc;

use bytes::Bytes;
use dynoxide::Database;
use dynoxide::actions::describe_table::DescribeTableRequest;
use http::request::Parts;
use http::{Response, StatusCode};

use super::altered::alter;
use super::engine::Engine;
use super::operations::{self, Consumed, Metering};
use super::remote::TABLE_TARGET;
use super::replication::Membership;
use super::request::Outline;
use super::streams;
use crate::services::call::{Call, Service};
use crate::services::faults::Alteration;
use crate::services::json;
use crate::services::pipeline::{self, Api, Reading, Refusal, Refused};
use crate::services::server::Body;
use crate::services::usage::{Units, Usage};
use crate::template::arn::Arns;

/// DynamoDB's own bound on a request.
pub(super) const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// What `X-Amz-Target` starts with for requests about streams.
const STREAM_TARGET: &str = "DynamoDBStreams_20120810.";

/// Operations after which nothing has changed. Readers of streams are woken after all others.
const READS: [&str; 5] = ["GetItem", "Query", "Scan", "BatchGetItem", "TransactGetItems"];

/// Operations whose capacity is counted in write units.
const WRITES: [&str; 5] = ["PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"];

pub(super) struct DynamoDbApi {
    pub(super) engine: Arc<Engine>,
    pub(super) arns: Arns,
    pub(super) usage: Arc<Usage>,
}

/// A request for the engine.
pub(super) struct Work {
    /// `None` if a fault rule has all of it forgotten.
    body: Option<String>,
    transaction_len: usize,
    /// Bodies of updates that a fault rule has done after it.
    again: Vec<String>,
}

impl Api for DynamoDbApi {
    const SERVICE: Service = Service::DynamoDb;
    type Body = Bytes;
    type Answer = Body;
    type Operation = String;
    type Work = Work;

    fn operation(&self, head: &Parts) -> Result<String, Refused<Body>> {
        let about_streams = |operation: &&str| streams::api::OPERATIONS.contains(operation);
        let operation = json::operation(head, STREAM_TARGET).filter(about_streams);
        let operation = operation
            .or_else(|| json::operation(head, TABLE_TARGET).filter(|operation| !about_streams(operation)));
        operation.map(str::to_owned).ok_or_else(|| Box::new(unknown_operation()))
    }

    fn read(&self, operation: String, _: Parts, body: Bytes) -> Result<Reading<Work>, Refused<Body>> {
        let malformed = |message: &str| {
            Box::new(json::refused("com.amazon.coral.service#SerializationException", message))
        };
        let body = String::from_utf8(body.into()).map_err(|_| malformed("the body is not UTF-8"))?;
        let outline: Outline = serde_json::from_str(&body).map_err(|error| malformed(&error.to_string()))?;
        let transaction_len = outline.transaction_len();
        let permissions = outline.permissions(&operation, &self.arns).into_iter().collect();
        let work = Work { body: Some(body), transaction_len, again: Vec::new() };
        Ok(Reading { resources: outline.tables(), permissions, operation, work })
    }

    async fn perform(&self, call: &Call, work: Work) -> Response<Body> {
        let Some(body) = &work.body else { return json::answer(StatusCode::OK, "{}".to_owned()) };
        let (mut response, consumed) = self.ask_engine(call, &call.operation, body).await;
        if response.status().is_success() {
            for update in &work.again {
                self.ask_engine(call, "UpdateItem", update).await;
            }
        }
        response.extensions_mut().insert(pipeline::Consumed(units(&call.operation, consumed)));
        response
    }

    fn alter(&self, call: &Call, work: &mut Work, alteration: &Alteration) {
        if let (Engine::Embedded { database, .. }, Some(body)) = (&*self.engine, &work.body) {
            let altered = alter(&call.operation, body, alteration, |table| key_names(database, table));
            work.body = altered.body;
            work.again.extend(altered.again);
        }
    }

    fn refuse(&self, refusal: Refusal, work: Option<&Work>) -> Response<Body> {
        match refusal {
            Refusal::Unauthenticated(stranger) => json::refused(stranger.error_type(), &stranger.to_string()),
            Refusal::Denied(denied) => {
                json::refused("com.amazon.coral.service#AccessDeniedException", &denied.to_string())
            }
            Refusal::Injected(failure) => {
                json::failure(&failure, work.map_or(0, |work| work.transaction_len))
            }
        }
    }
}

impl DynamoDbApi {
    /// Blocks while the embedded engine works, which is why this endpoint has threads of its own.
    async fn ask_engine(&self, call: &Call, operation: &str, body: &str) -> (Response<Body>, Vec<Consumed>) {
        let (database, tokens, streams, membership) = match &*self.engine {
            Engine::Embedded { database, tokens, streams, membership } => {
                (database, tokens, streams, membership.get())
            }
            Engine::Remote(remote) => return (remote.run(operation, body).await, Vec::new()),
        };
        if streams::api::OPERATIONS.contains(&operation) {
            return (stream_answer(streams.answer(operation, body)), Vec::new());
        }
        let metering = if self.usage.is_recording() { Metering::On } else { Metering::Off };
        let run = || operations::run(database, tokens, streams, operation, body, metering);
        let work = || {
            if READS.contains(&operation) {
                return run();
            }
            let _turn = membership.map(Membership::write);
            let answer = run();
            streams.written(&call.resources);
            answer
        };
        let must_agree = |own: &&Membership| own.must_agree(operation, &call.resources, body);
        let answer = match membership.filter(must_agree) {
            None => work(),
            Some(own) => match own.agree(operation, body, work).await {
                Ok(answer) => answer,
                Err(refused) => {
                    return (json::error(refused.status, refused.kind, &refused.message), Vec::new());
                }
            },
        };
        match answer {
            Some(Ok(done)) => (json::answer(StatusCode::OK, done.body), done.consumed),
            Some(Err(error)) => {
                let status =
                    StatusCode::from_u16(error.status_code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (json::answer(status, error.to_json()), Vec::new())
            }
            None => (unknown_operation(), Vec::new()),
        }
    }
}

/// The names of a table's key attributes; none if there is no such table.
fn key_names(database: &Database, table: &str) -> Vec<String> {
    let described = database.describe_table(DescribeTableRequest { table_name: table.to_owned() });
    let schema = described.map(|answer| answer.table.key_schema).unwrap_or_default();
    schema.into_iter().map(|key| key.attribute_name).collect()
}

fn stream_answer(answer: Result<serde_json::Value, streams::api::Refused>) -> Response<Body> {
    match answer {
        Ok(answer) => json::answer(StatusCode::OK, answer.to_string()),
        Err(refused) => json::error(refused.status, refused.kind, &refused.message),
    }
}

fn unknown_operation() -> Response<Body> {
    json::refused("com.amazon.coral.service#UnknownOperationException", "")
}

fn units(operation: &str, consumed: Vec<Consumed>) -> Vec<(String, Units)> {
    let units = |amount| {
        if WRITES.contains(&operation) {
            Units { read: 0.0, write: amount }
        } else {
            Units { read: amount, write: 0.0 }
        }
    };
    consumed.into_iter().map(|entry| (entry.table, units(entry.units))).collect()
}
