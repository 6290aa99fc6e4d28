//! A delivery that may outlive its invocation: each hop is an invocation that passes the rest to
//! the next one.

use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::audience::Interruption;
use super::unreached::InboxFallback;
use super::{Deliverer, DeliveryReport, Frame, Message, SendError};
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::MessageId;
use crate::platform::telemetry::{self, Metric};
use crate::sockets::connections::{Audience, Cursor, PeerPage};
use crate::sockets::inbox::{Inbox, StoreOutcome};

/// Most hops of one message. A region's quota of 500 new connections a second, each at most two
/// hours old, bounds the audience to 3.6 million; at 5,000 posts a second and 20 s a hop that is 36
/// hops. More would be a loop.
pub const MAX_HOPS: u32 = 64;

/// Time reserved for invoking the next hop: one small request.
pub const HAND_ON_MARGIN: Duration = Duration::from_secs(1);

/// The `error_type` of a delivery that used up its hops.
const ABANDONED: &str = "fan-out-abandoned";

/// The rest of a delivery, as passed to the next invocation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Continuation {
    pub message: Message,
    pub target: Audience,
    /// After which peer to continue.
    pub cursor: Cursor,
    /// The number of hops before.
    pub hop: u32,
    /// Whether the message has reached its user: a socket of an earlier hop took it, or another
    /// region handles it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reached: bool,
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

    /// The message and its audience.
    pub(super) fn addressed(&self) -> (Message, Audience) {
        (self.hop.message.clone(), self.hop.target.clone())
    }

    pub(super) fn is_to_one_user(&self) -> bool {
        matches!(self.hop.target, Audience::User(_))
    }
}

/// The progress of a delivery, and the results of this hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopReport {
    pub progress: DeliveryProgress,
    pub delivered: u64,
    /// Open sockets that did not take the message.
    pub failed: u64,
    /// Inboxes that stored the message. A broadcast counts a user once per socket.
    pub stored: u64,
    /// Full inboxes, whose users do not get the message.
    pub full: u64,
}

/// The progress of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryProgress {
    /// The whole audience was processed.
    Complete,
    /// Another invocation continues.
    HandedOn,
    /// The maximum of hops was reached; the rest of the audience does not get the message. Logged
    /// and counted.
    Abandoned,
}

/// Invokes `ws-send` asynchronously: Lambda stores the event before it answers, retries it, and
/// sends an event that keeps failing to the function's dead-letter queue.
///
/// The event is `{"continuation": {message, target, cursor, hop}}`. With a message of at most 128
/// KB it is far from Lambda's limit of 1 MB for asynchronous payloads.
#[derive(Debug, Clone)]
pub struct NextHop {
    client: Client,
    function: String,
}

impl NextHop {
    /// The function that `FAN_OUT_FUNCTION` names.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { client, function: env.required("FAN_OUT_FUNCTION")?.to_owned() })
    }

    /// Returns when Lambda has stored the event.
    async fn invoke_next_hop(&self, continuation: &Continuation) -> Result<(), SendError> {
        let event = json!({ "continuation": continuation }).to_string();
        let request = self.client.invoke().function_name(&self.function);
        let request = request.invocation_type(InvocationType::Event).payload(Blob::new(event));
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(SendError::NotHandedOn(error.into())),
        }
    }
}

/// Delivers messages in this region, in as many hops as necessary.
#[derive(Debug)]
pub struct FanOut {
    deliverer: Deliverer,
    inbox: Inbox,
    next: NextHop,
}

impl FanOut {
    /// Delivers through `deliverer`, stores undelivered messages in `inbox`, and starts further
    /// hops through `next`.
    pub fn new(deliverer: Deliverer, inbox: Inbox, next: NextHop) -> Self {
        Self { deliverer, inbox, next }
    }

    pub(super) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Delivers `message` to all of `target`: the first hop.
    pub async fn send(
        &self,
        message: Message,
        target: Audience,
        deadline: Deadline,
    ) -> Result<HopReport, SendError> {
        let first = self.prepare(message, target, deadline).await;
        self.post(first, deadline).await
    }

    /// Delivers a message of another region: the first hop. A message to one user is not stored
    /// here, since the other region stores it.
    pub async fn send_copy(
        &self,
        message: Message,
        target: Audience,
        deadline: Deadline,
    ) -> Result<HopReport, SendError> {
        let first = Continuation { message, target, cursor: Cursor::START, hop: 0, reached: true };
        self.resume(first, deadline).await
    }

    /// Runs a further hop. An invocation that fails here may be retried.
    pub async fn resume(&self, hop: Continuation, deadline: Deadline) -> Result<HopReport, SendError> {
        let ready = self.read_first_page(hop, deadline).await;
        self.post(ready, deadline).await
    }

    /// Reads the first page, and posts nothing yet.
    pub(super) async fn prepare(&self, message: Message, target: Audience, deadline: Deadline) -> ReadyHop {
        self.read_first_page(
            Continuation { message, target, cursor: Cursor::START, hop: 0, reached: false },
            deadline,
        )
        .await
    }

    async fn read_first_page(&self, hop: Continuation, deadline: Deadline) -> ReadyHop {
        let stop_at = deadline.earlier_by(HAND_ON_MARGIN);
        let first_page = self.deliverer.first_page(&hop.target, &hop.cursor, stop_at).await;
        ReadyHop { hop, first_page }
    }

    /// Posts to the audience, and passes on the rest.
    pub(super) async fn post(&self, ready: ReadyHop, deadline: Deadline) -> Result<HopReport, SendError> {
        let ReadyHop { hop, first_page } = ready;
        let frame = Frame::of(&hop.message)?;
        let stop_at = deadline.earlier_by(HAND_ON_MARGIN);
        let (target, start) = (&hop.target, &hop.cursor);
        let unreached =
            InboxFallback { inbox: &self.inbox, message: &hop.message, frame: &frame, deadline: stop_at };
        let of_each_peer = matches!(target, Audience::Everyone).then_some(&unreached);
        let report =
            self.deliverer.post_all(&frame, target, start, first_page, of_each_peer, stop_at).await?;
        let mut sent = HopReport::of(&report);
        let reached = hop.reached || report.delivered > 0;
        if let (Audience::User(user), None, false) = (target, &report.rest, reached) {
            match unreached.store(user).await? {
                StoreOutcome::Stored => sent.stored = 1,
                StoreOutcome::Full => sent.full = 1,
            }
        }
        let message_id = hop.message.message_id.as_str();
        tracing::info!(message_id, hop = hop.hop, ?sent, "delivered");

        sent.progress = match report.rest {
            None => DeliveryProgress::Complete,
            Some(_) if hop.hop + 1 >= MAX_HOPS => {
                tracing::error!(
                    message_id,
                    error_type = ABANDONED,
                    "a delivery exceeded the maximum of hops"
                );
                telemetry::count_case(Metric::Errors, ABANDONED, 1);
                DeliveryProgress::Abandoned
            }
            Some(cursor) => {
                let number = hop.hop + 1;
                self.next.invoke_next_hop(&Continuation { cursor, hop: number, reached, ..hop }).await?;
                DeliveryProgress::HandedOn
            }
        };
        Ok(sent)
    }
}

impl HopReport {
    /// The counts of a report, with the delivery complete.
    fn of(report: &DeliveryReport) -> Self {
        Self {
            progress: DeliveryProgress::Complete,
            delivered: report.delivered,
            failed: report.throttled + report.too_large + report.failed,
            stored: report.stored,
            full: report.full,
        }
    }
}
