//! Errors to problems: the one place where a capability's error gets a status and a text for the client. The error
//! itself, with its causes, goes to the log and no further.

use std::time::Duration;

use crate::cursor::InvalidCursor;
use crate::delivery::{FanOutError, SendError};
use crate::dynamo::DynamoError;
use crate::ids::InvalidId;
use crate::money::MoneyError;
use crate::problem::{Problem, ProblemType};
use crate::sessions::SessionError;
use crate::telemetry::chain;

/// When a client may try again after a passing failure.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// DynamoDB's codes for "too much at once": the client may come back.
const THROTTLED: &[&str] =
    &["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"];

/// 500, or 503 when it will pass.
impl From<DynamoError> for Problem {
    fn from(error: DynamoError) -> Self {
        tracing::error!(error = chain(&error), "DynamoDB call failed");
        if error.code.as_deref().is_none_or(|code| THROTTLED.contains(&code)) {
            Self::new(ProblemType::Unavailable, "the store did not answer; try again").retry_after(TRY_AGAIN)
        } else {
            Self::new(ProblemType::Internal, "the store refused the request")
        }
    }
}

/// 400.
impl From<InvalidCursor> for Problem {
    fn from(error: InvalidCursor) -> Self {
        Self::new(ProblemType::InvalidRequest, error.to_string())
    }
}

/// 400.
impl From<InvalidId> for Problem {
    fn from(error: InvalidId) -> Self {
        Self::new(ProblemType::InvalidRequest, error.to_string())
    }
}

/// 422.
impl From<MoneyError> for Problem {
    fn from(error: MoneyError) -> Self {
        Self::new(ProblemType::Unprocessable, error.to_string())
    }
}

/// 401 for a session that has ended.
impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Ended => {
                Self::new(ProblemType::Unauthenticated, "the session has ended; sign in again")
            }
            SessionError::Store(error) => error.into(),
        }
    }
}

/// As its variants say.
impl From<SendError> for Problem {
    fn from(error: SendError) -> Self {
        let detail = error.to_string();
        match error {
            SendError::NotConnected => {
                Self::new(ProblemType::Unauthenticated, "connect again to send messages")
            }
            SendError::BroadcastForbidden => Self::new(ProblemType::Forbidden, detail),
            SendError::NoSuchOrder(id) => Self::new(ProblemType::NotFound, format!("there is no order {id}")),
            SendError::InProgress { retry_after } => {
                Self::new(ProblemType::IdempotencyInProgress, detail).retry_after(retry_after)
            }
            SendError::MessageIdReused => Self::new(ProblemType::IdempotencyKeyReused, detail),
            SendError::Store(error) => error.into(),
            SendError::FanOut(error) => error.into(),
        }
    }
}

/// 413 for what no socket takes, 503 for what can be sent again.
impl From<FanOutError> for Problem {
    fn from(error: FanOutError) -> Self {
        match error {
            FanOutError::TooLarge(error) => Self::new(ProblemType::BodyTooLarge, error.to_string()),
            FanOutError::Registry(error) => error.into(),
            FanOutError::NotHandedOn(error) => {
                tracing::error!(error = chain(&error), "delivery was cut short");
                Self::new(ProblemType::Unavailable, "not everybody was reached; send the message again")
                    .retry_after(TRY_AGAIN)
            }
        }
    }
}
