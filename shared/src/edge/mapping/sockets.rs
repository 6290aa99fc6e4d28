//! Handshakes, frames, messages and their delivery.

use super::TRY_AGAIN;
use crate::core::problem::{Problem, ProblemType};
use crate::edge::websocket::{HandshakeError, InvalidFrame};
use crate::platform::telemetry::chain;
use crate::sockets::connections::AdmissionError;
use crate::sockets::delivery::SendError;
use crate::sockets::inbox::InboxError;

/// 401.
impl From<HandshakeError> for Problem {
    fn from(error: HandshakeError) -> Self {
        Self::new(ProblemType::Unauthenticated, error.to_string())
    }
}

/// 401 for a session that has ended or soon will, 429 for a socket too many.
impl From<AdmissionError> for Problem {
    fn from(error: AdmissionError) -> Self {
        match error {
            AdmissionError::Session(error) => error.into(),
            AdmissionError::EndsTooSoon => {
                let detail = "the session ends within the two hours that a socket may last; sign in again";
                Self::new(ProblemType::Unauthenticated, detail)
            }
            AdmissionError::TooMany(_) => Self::new(ProblemType::TooManyOpenSockets, error.to_string()),
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
            SendError::TooFast { retry_after } | SendError::TooManyReceivers { retry_after } => {
                Self::new(ProblemType::TooManyRequests, detail).retry_after(retry_after)
            }
            SendError::Flooding => Self::new(ProblemType::TooManyRequests, detail),
            SendError::NotAParty | SendError::BroadcastForbidden => Self::new(ProblemType::Forbidden, detail),
            SendError::NoSuchOrder(id) => Self::new(ProblemType::NotFound, format!("there is no order {id}")),
            SendError::InProgress { retry_after } => {
                Self::new(ProblemType::IdempotencyInProgress, detail).retry_after(retry_after)
            }
            SendError::MessageIdReused => Self::new(ProblemType::IdempotencyKeyReused, detail),
            SendError::InboxFull => Self::new(ProblemType::InboxFull, detail),
            SendError::Store(error) => error.into(),
            SendError::Inbox(error) => error.into(),
            SendError::TooLarge(_) => Self::new(ProblemType::BodyTooLarge, detail),
            SendError::NotPublished(error) => {
                Self::new(ProblemType::Unavailable, "the message did not reach every region; send it again")
                    .retry_after(TRY_AGAIN)
                    .caused_by(chain(&error))
            }
            SendError::NotHandedOn(source) => {
                Self::new(ProblemType::Unavailable, "the message did not reach every receiver; send it again")
                    .retry_after(TRY_AGAIN)
                    .caused_by(chain(source.as_ref()))
            }
        }
    }
}

/// As its variants say.
impl From<InboxError> for Problem {
    fn from(error: InboxError) -> Self {
        match error {
            InboxError::Cursor(error) => error.into(),
            InboxError::TooLarge { .. } => {
                let detail = format!("{error}; read it with GET /inbox");
                Self::new(ProblemType::BodyTooLarge, detail)
            }
            InboxError::Store(error) => error.into(),
        }
    }
}
