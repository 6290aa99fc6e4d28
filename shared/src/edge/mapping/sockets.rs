//! Handshakes, frames, messages and their delivery.

use super::TRY_AGAIN;
use crate::core::problem::{Problem, ProblemType};
use crate::edge::websocket::{HandshakeError, InvalidFrame};
use crate::platform::telemetry::chain;
use crate::sockets::connections::AdmissionError;
use crate::sockets::delivery::{DeliverError, FanOutError, SendError};

/// 401.
impl From<HandshakeError> for Problem {
    fn from(error: HandshakeError) -> Self {
        Self::new(ProblemType::Unauthenticated, error.to_string())
    }
}

/// 401 for a session that has ended or soon will.
impl From<AdmissionError> for Problem {
    fn from(error: AdmissionError) -> Self {
        match error {
            AdmissionError::Session(error) => error.into(),
            AdmissionError::EndsTooSoon => {
                let detail = "the session ends within the two hours that a socket may last; sign in again";
                Self::new(ProblemType::Unauthenticated, detail)
            }
            AdmissionError::Registry(error) => error.into(),
        }
    }
}

/// 400.
impl From<InvalidFrame> for Problem {
    fn from(error: InvalidFrame) -> Self {
        Self::new(ProblemType::InvalidRequest, error.to_string())
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
            SendError::Session(error) => error.into(),
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
            FanOutError::Delivery(DeliverError::Registry(error)) => error.into(),
            FanOutError::Delivery(DeliverError::Withheld(error)) => {
                Self::new(ProblemType::Unavailable, "the sender could not be checked; send the message again")
                    .retry_after(TRY_AGAIN)
                    .caused_by(chain(&error))
            }
            FanOutError::NotHandedOn(error) => {
                Self::new(ProblemType::Unavailable, "not everybody was reached; send the message again")
                    .retry_after(TRY_AGAIN)
                    .caused_by(chain(&error))
            }
        }
    }
}
