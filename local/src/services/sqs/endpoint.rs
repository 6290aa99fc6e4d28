//! The SQS JSON protocol over HTTP.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::operations;
use super::queues::Queues;
use super::refusal::Refusal;
use super::request::{OfQueue, parse};
use crate::services::access::{Caller, arn};
use crate::services::faults::Verdict;
use crate::services::json::{Answer, Protocol};
use crate::services::server::{Body, Handler, Hangup};
use crate::services::usage::Ending;
use crate::services::{Call, Controls, Service};

/// A message of 1 MiB whose characters are all escaped in JSON (`\u00e4`) is three times as long.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

const TARGET: &str = "AmazonSQS.";

pub(super) struct Endpoint {
    pub(super) queues: Arc<Queues>,
    pub(super) controls: Controls,
    /// What the queues' URLs begin with.
    pub(super) url: String,
}

/// The operations that are served.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Send,
    SendBatch,
    Receive,
    Delete,
    DeleteBatch,
    ChangeVisibility,
    ChangeVisibilityBatch,
    Url,
    Attributes,
    Purge,
}

impl Operation {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "SendMessage" => Self::Send,
            "SendMessageBatch" => Self::SendBatch,
            "ReceiveMessage" => Self::Receive,
            "DeleteMessage" => Self::Delete,
            "DeleteMessageBatch" => Self::DeleteBatch,
            "ChangeMessageVisibility" => Self::ChangeVisibility,
            "ChangeMessageVisibilityBatch" => Self::ChangeVisibilityBatch,
            "GetQueueUrl" => Self::Url,
            "GetQueueAttributes" => Self::Attributes,
            "PurgeQueue" => Self::Purge,
            _ => return None,
        })
    }

    /// What a policy has to allow. Whoever may do something to one message may do it to several.
    fn action(self) -> &'static str {
        match self {
            Self::Send | Self::SendBatch => "sqs:SendMessage",
            Self::Receive => "sqs:ReceiveMessage",
            Self::Delete | Self::DeleteBatch => "sqs:DeleteMessage",
            Self::ChangeVisibility | Self::ChangeVisibilityBatch => "sqs:ChangeMessageVisibility",
            Self::Url => "sqs:GetQueueUrl",
            Self::Attributes => "sqs:GetQueueAttributes",
            Self::Purge => "sqs:PurgeQueue",
        }
    }
}

impl Handler for Endpoint {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Hangup> {
        let start = Instant::now();
        let (head, body) = request.into_parts();
        // A body that breaks off or has no end has nobody left to be answered.
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(|_| Hangup)?.to_bytes();
        match self.respond(start, &head.headers, &body).await? {
            Ok(answer) => Answer::ok(answer.to_string()).into_response(Protocol::Json10),
            Err(refusal) => {
                let query_error = HeaderValue::try_from(refusal.query_error());
                let mut response = refusal.answer.into_response(Protocol::Json10)?;
                if let Ok(value) = query_error {
                    response.headers_mut().insert("x-amzn-query-error", value);
                }
                Ok(response)
            }
        }
    }
}

impl Endpoint {
    async fn respond(
        &self,
        start: Instant,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Result<Value, Refusal>, Hangup> {
        let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
        let name = target.and_then(|target| target.strip_prefix(TARGET)).unwrap_or_default();
        let Some(operation) = Operation::named(name) else { return Ok(Err(Refusal::unknown_operation())) };
        let caller = match self.controls.access.authenticate(headers) {
            Ok(caller) => caller,
            Err(refusal) => return Ok(Err(refusal.into())),
        };
        let request: OfQueue = match parse(body) {
            Ok(request) => request,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Some(queue) = request.name() else { return Ok(Err(Refusal::no_queue())) };
        let resources = [queue.to_owned()];
        let call = Call { caller: &caller, service: Service::Sqs, operation: name, resources: &resources };
        let note = |ending| self.controls.usage.note(call, start, ending);

        if let Err(denied) = self.controls.access.check(&caller, operation.action(), &arn::queue(queue)) {
            tracing::warn!(function = caller.name(), "{denied}");
            let refusal = Refusal::from(denied);
            note(ending(&Err(&refusal)));
            return Ok(Err(refusal));
        }
        let aftermath = match self.controls.faults.before(call).await {
            Verdict::Proceed(aftermath) => aftermath,
            Verdict::Fail(failure) => {
                let refusal = Refusal::from(&failure);
                note(ending(&Err(&refusal)));
                return Ok(Err(refusal));
            }
            Verdict::Hangup => {
                note(Ending::hangup());
                return Err(Hangup);
            }
        };
        let answer = self.perform(operation, &caller, queue, body).await;
        let settled = aftermath.settle().await;
        note(if settled.is_ok() { ending(&answer.as_ref()) } else { Ending::hangup() });
        settled.map(|()| answer)
    }

    async fn perform(
        &self,
        operation: Operation,
        caller: &Caller,
        queue: &str,
        body: &[u8],
    ) -> Result<Value, Refusal> {
        match operation {
            Operation::Send => operations::send(&self.queues, queue, caller.name(), body),
            Operation::SendBatch => operations::send_batch(&self.queues, queue, caller.name(), body),
            Operation::Receive => operations::receive(&self.queues, queue, body).await,
            Operation::Delete => operations::delete(&self.queues, queue, body),
            Operation::DeleteBatch => operations::delete_batch(&self.queues, queue, body),
            Operation::ChangeVisibility => operations::change_visibility(&self.queues, queue, body),
            Operation::ChangeVisibilityBatch => {
                operations::change_visibility_batch(&self.queues, queue, body)
            }
            Operation::Url => operations::url(&self.queues, queue, &self.url),
            Operation::Attributes => operations::attributes(&self.queues, queue, body),
            Operation::Purge => operations::purge(&self.queues, queue),
        }
    }
}

fn ending(answer: &Result<&Value, &Refusal>) -> Ending {
    Ending::status(match answer {
        Ok(_) => http::StatusCode::OK.as_u16(),
        Err(refusal) => refusal.answer.status.as_u16(),
    })
}
