//! A delivery that may outlive its invocation: each hop is an invocation, and hands the rest to the next one.

use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::audience::Interruption;
use super::{Deliverer, Frame, Message, SendError};
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::MessageId;
use crate::platform::telemetry::{self, Metric};
use crate::sockets::connections::{Audience, Cursor, PeerPage};

/// Most hops of one message. A region's quota of 500 new connections a second, each at most two hours old, bounds
/// the audience to 3.6 million; at 5,000 posts a second and 20 s a hop that is 36 hops. Whatever needs more is a
/// loop that should not be.
pub const MAX_HOPS: u32 = 64;

/// Time kept back for handing on the rest: one small request.
pub const HAND_ON_MARGIN: Duration = Duration::from_secs(1);

/// The `error_type` of a delivery that used up its hops.
const ABANDONED: &str = "fan-out-abandoned";

/// What is left of a delivery, as one invocation hands it to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Continuation {
    /// What is delivered.
    pub message: Message,
    /// To whom.
    pub target: Audience,
    /// Behind whom to continue.
    pub cursor: Cursor,
    /// How many hops there were before.
    pub hop: u32,
}

/// A hop that is ready to post: the first page of its audience is read.
#[derive(Debug)]
pub(super) struct ReadyHop {
    hop: Continuation,
    first_page: Result<PeerPage, Interruption>,
}

impl ReadyHop {
    pub(super) fn message_id(&self) -> &MessageId {
        &self.hop.message.message_id
    }
}

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The whole audience was served.
    Complete {
        /// Sockets that took the message in this hop.
        delivered: u64,
    },
    /// Another invocation continues.
    HandedOn {
        /// Sockets that took the message in this hop.
        delivered: u64,
    },
    /// The hops are used up; the rest of the audience does not get the message. Logged and counted.
    Abandoned {
        /// Sockets that took the message in this hop.
        delivered: u64,
    },
}

/// Invokes this function again, as an event: Lambda stores it before it answers, retries it, and sends what fails for
/// good to the function's dead-letter queue.
///
/// The event is `{"continuation": {message, target, cursor, hop}}`. With a message of at most 128 KB it is far from
/// Lambda's limit of 1 MB for asynchronous payloads.
#[derive(Debug, Clone)]
pub struct SelfInvocation {
    client: Client,
    function: String,
}

impl SelfInvocation {
    /// Reads `AWS_LAMBDA_FUNCTION_NAME`, which Lambda sets.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { client, function: env.required("AWS_LAMBDA_FUNCTION_NAME")?.to_owned() })
    }

    /// Returns when Lambda has stored the event.
    async fn hand_on(&self, continuation: &Continuation) -> Result<(), SendError> {
        let event = json!({ "continuation": continuation }).to_string();
        let request = self.client.invoke().function_name(&self.function);
        let request = request.invocation_type(InvocationType::Event).payload(Blob::new(event));
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(SendError::NotHandedOn(error.into())),
        }
    }
}

/// Delivers messages in this region, in as many hops as it takes.
#[derive(Debug)]
pub struct FanOut {
    deliverer: Deliverer,
    next: SelfInvocation,
}

impl FanOut {
    /// Delivers through `deliverer`, and starts further hops through `next`.
    pub fn new(deliverer: Deliverer, next: SelfInvocation) -> Self {
        Self { deliverer, next }
    }

    /// Delivers `message` to all of `target`: the first hop.
    pub async fn send(
        &self,
        message: Message,
        target: Audience,
        deadline: Deadline,
    ) -> Result<Progress, SendError> {
        let first = self.prepare(message, target, deadline).await;
        self.post(first, deadline).await
    }

    /// Takes a further hop. An invocation that fails here may be repeated as it was.
    pub async fn resume(&self, hop: Continuation, deadline: Deadline) -> Result<Progress, SendError> {
        let ready = self.read_first_page(hop, deadline).await;
        self.post(ready, deadline).await
    }

    /// Reads what the first hop needs, and posts nothing yet.
    pub(super) async fn prepare(&self, message: Message, target: Audience, deadline: Deadline) -> ReadyHop {
        self.read_first_page(Continuation { message, target, cursor: Cursor::START, hop: 0 }, deadline).await
    }

    async fn read_first_page(&self, hop: Continuation, deadline: Deadline) -> ReadyHop {
        let stop_at = deadline.earlier_by(HAND_ON_MARGIN);
        let first_page = self.deliverer.first_page(&hop.target, &hop.cursor, stop_at).await;
        ReadyHop { hop, first_page }
    }

    /// Posts to the audience, and hands on the rest.
    pub(super) async fn post(&self, ready: ReadyHop, deadline: Deadline) -> Result<Progress, SendError> {
        let ReadyHop { hop, first_page } = ready;
        let frame = Frame::of(&hop.message)?;
        let stop_at = deadline.earlier_by(HAND_ON_MARGIN);
        let (target, start) = (&hop.target, &hop.cursor);
        let report = self.deliverer.post_all(&frame, target, start, first_page, stop_at).await?;
        let message_id = hop.message.message_id.as_str();
        tracing::info!(message_id, hop = hop.hop, ?report, "delivered");

        let delivered = report.delivered;
        match report.rest {
            None => Ok(Progress::Complete { delivered }),
            Some(_) if hop.hop + 1 >= MAX_HOPS => {
                tracing::error!(message_id, error_type = ABANDONED, "a delivery used up its hops");
                telemetry::count_case(Metric::Errors, ABANDONED, 1);
                Ok(Progress::Abandoned { delivered })
            }
            Some(cursor) => {
                let number = hop.hop + 1;
                self.next.hand_on(&Continuation { cursor, hop: number, ..hop }).await?;
                Ok(Progress::HandedOn { delivered })
            }
        }
    }
}
