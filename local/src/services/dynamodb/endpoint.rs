//! The DynamoDB JSON protocol over HTTP: from the bytes of a request to the bytes of its answer.

use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::engine::Engine;
use super::operations::{self, Consumed, Metering};
use super::request::{Outline, Permission};
use crate::services::access::Caller;
use crate::services::faults::Verdict;
use crate::services::json::{Answer, Protocol};
use crate::services::server::{Body, Handler, Hangup};
use crate::services::usage::{Ending, Units};
use crate::services::{Call, Controls, Service};

/// DynamoDB's own bound on a request.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// What `X-Amz-Target` starts with for requests about tables.
pub(super) const TABLE_TARGET: &str = "DynamoDB_20120810.";

/// What `X-Amz-Target` starts with, for tables and for their streams.
const TARGETS: [&str; 2] = [TABLE_TARGET, "DynamoDBStreams_20120810."];

/// Operations whose capacity is counted in write units.
const WRITES: [&str; 5] = ["PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"];

pub(super) struct Endpoint {
    pub(super) engine: Arc<Engine>,
    pub(super) controls: Controls,
}

impl Handler for Endpoint {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Hangup> {
        let start = Instant::now();
        let (head, body) = request.into_parts();
        // A body that breaks off or has no end has nobody left to be answered.
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(|_| Hangup)?.to_bytes();
        let answer = match self.admit(&head, &body) {
            Ok(admitted) => self.perform(start, &admitted).await?,
            Err(refusal) => refusal,
        };
        answer.into_response(Protocol::Json10)
    }
}

/// A request whose caller and subject are known.
struct Admitted<'a> {
    caller: Caller,
    operation: &'a str,
    body: &'a str,
    outline: Outline,
    tables: Vec<String>,
}

impl Endpoint {
    /// Who asks for what. `Err` when it isn't a request of this service.
    fn admit<'a>(&self, head: &'a Parts, body: &'a [u8]) -> Result<Admitted<'a>, Answer> {
        let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
        let Some(operation) =
            target.and_then(|target| TARGETS.iter().find_map(|prefix| target.strip_prefix(prefix)))
        else {
            return Err(unknown_operation());
        };
        let caller = self
            .controls
            .access
            .authenticate(&head.headers)
            .map_err(|refusal| Answer::refused(refusal.error_type(), &refusal.to_string()))?;
        let malformed =
            |message: &str| Answer::refused("com.amazon.coral.service#SerializationException", message);
        let body = std::str::from_utf8(body).map_err(|_| malformed("the body is not UTF-8"))?;
        let outline: Outline = serde_json::from_str(body).map_err(|error| malformed(&error.to_string()))?;
        let tables = outline.tables();
        Ok(Admitted { caller, operation, body, outline, tables })
    }

    async fn perform(&self, start: Instant, request: &Admitted<'_>) -> Result<Answer, Hangup> {
        let call = Call {
            caller: &request.caller,
            service: Service::DynamoDb,
            operation: request.operation,
            resources: &request.tables,
        };
        let note = |ending| self.controls.usage.note(call, start, ending);
        if let Err(denied) = self.check(request) {
            note(Ending::status(denied.status.as_u16()));
            return Ok(denied);
        }
        let aftermath = match self.controls.faults.before(call).await {
            Verdict::Proceed(aftermath) => aftermath,
            Verdict::Fail(failure) => {
                let answer = Answer::failure(&failure, request.outline.transaction_len());
                note(Ending::status(answer.status.as_u16()));
                return Ok(answer);
            }
            Verdict::Hangup => {
                note(Ending::hangup());
                return Err(Hangup);
            }
        };
        let (answer, consumed) = self.run(request.operation, request.body).await;
        let settled = aftermath.settle().await;
        let status = settled.is_ok().then_some(answer.status.as_u16());
        note(Ending { status, consumed: units(request.operation, consumed) });
        settled.map(|()| answer)
    }

    fn check(&self, request: &Admitted<'_>) -> Result<(), Answer> {
        if matches!(request.caller, Caller::Operator) {
            return Ok(());
        }
        for needed in request.outline.permissions(request.operation) {
            let Permission { action, resource, details } = &needed;
            let access = &self.controls.access;
            if let Err(denied) = access.check_detailed(&request.caller, action, resource, details.as_ref()) {
                tracing::warn!(function = request.caller.name(), "{denied}");
                let error_type = "com.amazon.coral.service#AccessDeniedException";
                return Err(Answer::refused(error_type, &denied.to_string()));
            }
        }
        Ok(())
    }

    /// Blocks while the embedded engine works, which is why this endpoint has threads of its own.
    async fn run(&self, operation: &str, body: &str) -> (Answer, Vec<Consumed>) {
        let (database, tokens) = match &*self.engine {
            Engine::Embedded { database, tokens } => (database, tokens),
            Engine::Remote(remote) => return (remote.run(operation, body).await, Vec::new()),
        };
        let metering = if self.controls.usage.is_recording() { Metering::On } else { Metering::Off };
        match operations::run(database, tokens, operation, body, metering) {
            Some(Ok(done)) => (Answer::ok(done.body), done.consumed),
            Some(Err(error)) => {
                let status =
                    StatusCode::from_u16(error.status_code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (Answer { status, body: error.to_json() }, Vec::new())
            }
            None => (unknown_operation(), Vec::new()),
        }
    }
}

fn unknown_operation() -> Answer {
    Answer::refused("com.amazon.coral.service#UnknownOperationException", "")
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
