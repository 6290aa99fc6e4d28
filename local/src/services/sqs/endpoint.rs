//! The SQS API.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use serde_json::Value;

use super::operations;
use super::queues::Queues;
use super::refusal::{self, Refusal};
use super::request::{OfQueue, parse};
use crate::services::access::Permission;
use crate::services::call::{Call, Service};
use crate::services::faults::EntryFault;
use crate::services::json;
use crate::services::pipeline::{self, Api, Reading, Refused};
use crate::services::server::Body;

/// A message of 1 MiB whose characters are all escaped in JSON (`\u00e4`) is three times as long.
pub(super) const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

const TARGET: &str = "AmazonSQS.";

pub(super) struct SqsApi {
    pub(super) queues: Arc<Queues>,
    /// What the queues' URLs begin with.
    pub(super) url: String,
}

/// What is served, and what a policy has to allow for it. Whoever may do something to one message
/// may do it to several.
const OPERATIONS: [(&str, &str); 10] = [
    ("SendMessage", "sqs:SendMessage"),
    ("SendMessageBatch", "sqs:SendMessage"),
    ("ReceiveMessage", "sqs:ReceiveMessage"),
    ("DeleteMessage", "sqs:DeleteMessage"),
    ("DeleteMessageBatch", "sqs:DeleteMessage"),
    ("ChangeMessageVisibility", "sqs:ChangeMessageVisibility"),
    ("ChangeMessageVisibilityBatch", "sqs:ChangeMessageVisibility"),
    ("GetQueueUrl", "sqs:GetQueueUrl"),
    ("GetQueueAttributes", "sqs:GetQueueAttributes"),
    ("PurgeQueue", "sqs:PurgeQueue"),
];

/// A request about one queue.
pub(super) struct Work {
    queue: String,
    body: Bytes,
    /// What is to fail of a batch that is sent.
    faults: Vec<EntryFault>,
}

impl Api for SqsApi {
    const SERVICE: Service = Service::Sqs;
    type Body = Bytes;
    type Answer = Body;
    /// One of [`OPERATIONS`].
    type Operation = (&'static str, &'static str);
    type Work = Work;

    fn operation(&self, head: &Parts) -> Result<Self::Operation, Refused<Body>> {
        let asked = json::operation(head, TARGET);
        let known = OPERATIONS.into_iter().find(|(name, _)| asked == Some(name));
        known.ok_or_else(|| Refusal::unknown_operation().into_response().into())
    }

    fn read(
        &self,
        (operation, action): Self::Operation,
        _: Parts,
        body: Bytes,
    ) -> Result<Reading<Work>, Refused<Body>> {
        let request: OfQueue = parse(&body).map_err(Refusal::into_response)?;
        let queue = request.name().ok_or_else(|| Refusal::no_queue().into_response())?.to_owned();
        Ok(Reading {
            operation: operation.to_owned(),
            resources: vec![queue.clone()],
            permissions: vec![Permission::new(action, self.queues.arns().queue(&queue))],
            work: Work { queue, body, faults: Vec::new() },
        })
    }

    async fn perform(&self, call: &Call, work: Work) -> Response<Body> {
        match self.answer(call, &work).await {
            Ok(answer) => json::answer(StatusCode::OK, answer.to_string()),
            Err(refusal) => refusal.into_response(),
        }
    }

    fn fail_entries(&self, work: &mut Work, fault: &EntryFault) {
        work.faults.push(fault.clone());
    }

    fn refuse(&self, refusal: pipeline::Refusal, _: Option<&Work>) -> Response<Body> {
        match refusal {
            pipeline::Refusal::Unauthenticated(stranger) => Refusal::from(stranger).into_response(),
            pipeline::Refusal::Denied(denied) => Refusal::from(denied).into_response(),
            pipeline::Refusal::Injected(failure) => refusal::injected(&failure),
        }
    }
}

impl SqsApi {
    async fn answer(&self, call: &Call, work: &Work) -> Result<Value, Refusal> {
        let Work { queue, body, faults } = work;
        let queues = &self.queues;
        let sender = call.caller.name();
        match call.operation.as_str() {
            "SendMessage" => operations::send(queues, queue, sender, body),
            "SendMessageBatch" => operations::send_batch(queues, queue, sender, body, faults),
            "ReceiveMessage" => operations::receive(queues, queue, body).await,
            "DeleteMessage" => operations::delete(queues, queue, body),
            "DeleteMessageBatch" => operations::delete_batch(queues, queue, body),
            "ChangeMessageVisibility" => operations::change_visibility(queues, queue, body),
            "ChangeMessageVisibilityBatch" => operations::change_visibility_batch(queues, queue, body),
            "GetQueueUrl" => operations::url(queues, queue, &self.url),
            "GetQueueAttributes" => operations::attributes(queues, queue, body),
            "PurgeQueue" => operations::purge(queues, queue),
            _ => Err(Refusal::unknown_operation()),
        }
    }
}
