//! A delivery that outlives its invocation: turn after turn, each in an invocation of its own.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DeliverError, Deliverer, Frame, FrameTooLarge, Message, Permission, PostToConnection};
use crate::core::deadline::Deadline;
use crate::platform::telemetry::{self, Metric};
use crate::sockets::connections::{Audience, Cursor, Find, Remove};

/// Turns that one message may take. A region's quota of 500 new connections a second, each at most two hours old, bounds
/// the audience to 3.6 million; at 5,000 posts a second and 20 s a turn that is 36 turns. Whatever needs more is a
/// loop that should not be.
pub const MAX_HOPS: u32 = 64;

/// Time kept back for handing on the rest: one small request.
pub const HAND_ON_MARGIN: Duration = Duration::from_secs(1);

/// The `error_type` of a delivery that ran out of turns.
const ABANDONED: &str = "fan-out-abandoned";

/// The rest of a delivery, as one invocation hands it to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Continuation {
    /// What is delivered.
    pub message: Message,
    /// To whom.
    pub target: Audience,
    /// Behind whom to go on.
    pub cursor: Cursor,
    /// How many turns were taken before.
    pub hop: u32,
}

/// The next invocation could not be asked for. What was not delivered is the caller's to report.
#[derive(Debug, thiserror::Error)]
#[error("the rest of a delivery could not be handed on")]
pub struct NotHandedOn(#[source] pub Box<dyn Error + Send + Sync>);

/// Starts the invocation that goes on.
pub trait Continue: Send + Sync {
    /// Hands `continuation` to an invocation of its own and returns when that is certain to happen.
    fn hand_on(&self, continuation: &Continuation) -> impl Future<Output = Result<(), NotHandedOn>> + Send;
}

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The whole audience was served.
    Complete {
        /// Sockets that took the message in this turn.
        delivered: u64,
    },
    /// Another invocation goes on.
    HandedOn {
        /// Sockets that took the message in this turn.
        delivered: u64,
    },
    /// The turns are used up; the rest of the audience does not get it. Logged and counted.
    Abandoned {
        /// Sockets that took the message in this turn.
        delivered: u64,
    },
}

/// Why a turn failed.
#[derive(Debug, thiserror::Error)]
pub enum FanOutError {
    /// 413.
    #[error(transparent)]
    TooLarge(#[from] FrameTooLarge),
    /// Nobody was served. As [`DeliverError`] says.
    #[error(transparent)]
    Delivery(#[from] DeliverError),
    /// The rest could not be handed on. 503: the whole message can be sent again, receivers drop what they have seen.
    #[error(transparent)]
    NotHandedOn(#[from] NotHandedOn),
}

/// Delivers messages in this region, in as many turns as it takes.
#[derive(Debug)]
pub struct FanOut<R, P, C> {
    deliverer: Deliverer<R, P>,
    next: C,
}

impl<R: Find + Remove, P: PostToConnection, C: Continue> FanOut<R, P, C> {
    /// Delivers by `deliverer`, and asks `next` for further turns.
    pub fn new(deliverer: Deliverer<R, P>, next: C) -> Self {
        Self { deliverer, next }
    }

    /// Delivers `message` to all of `target`: the first turn. It posts when it has `permission`.
    pub async fn send(
        &self,
        message: Message,
        target: Audience,
        permission: Permission,
        deadline: Deadline,
    ) -> Result<Progress, FanOutError> {
        let first = Continuation { message, target, cursor: Cursor::START, hop: 0 };
        self.take(first, permission, deadline).await
    }

    /// Takes a further turn. An invocation that fails here may be repeated as it was.
    pub async fn resume(&self, turn: Continuation, deadline: Deadline) -> Result<Progress, FanOutError> {
        // What is continued was permitted when it began.
        self.take(turn, Permission::given(), deadline).await
    }

    async fn take(
        &self,
        turn: Continuation,
        permission: Permission,
        deadline: Deadline,
    ) -> Result<Progress, FanOutError> {
        let frame = Frame::of(&turn.message)?;
        let stop_at = deadline.earlier_by(HAND_ON_MARGIN);
        let report = self.deliverer.deliver(&frame, &turn.target, &turn.cursor, permission, stop_at).await?;
        let message_id = turn.message.message_id.as_str();
        tracing::info!(message_id, hop = turn.hop, ?report, "delivered");

        let delivered = report.delivered;
        match report.rest {
            None => Ok(Progress::Complete { delivered }),
            Some(_) if turn.hop + 1 >= MAX_HOPS => {
                tracing::error!(message_id, error_type = ABANDONED, "a delivery used up its turns");
                telemetry::count_case(Metric::Errors, ABANDONED, 1);
                Ok(Progress::Abandoned { delivered })
            }
            Some(cursor) => {
                let hop = turn.hop + 1;
                self.next.hand_on(&Continuation { cursor, hop, ..turn }).await?;
                Ok(Progress::HandedOn { delivered })
            }
        }
    }
}
