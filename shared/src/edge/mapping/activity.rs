//! Activity.

use super::TRY_AGAIN;
use crate::commerce::activity::writer::DrainError;
use crate::commerce::activity::{InvalidDays, InvalidEvents};
use crate::core::problem::{Problem, ProblemType};
use crate::platform::buffer::BufferError;
use crate::platform::telemetry::chain;

/// 400, or 422 for the time of an event.
impl From<InvalidEvents> for Problem {
    fn from(unfit: InvalidEvents) -> Self {
        let kind = match unfit {
            InvalidEvents::Number(_) | InvalidEvents::Form { .. } => ProblemType::InvalidRequest,
            InvalidEvents::Time { .. } => ProblemType::Unprocessable,
        };
        Self::new(kind, unfit.to_string())
    }
}

/// 400.
impl From<InvalidDays> for Problem {
    fn from(unfit: InvalidDays) -> Self {
        Self::new(ProblemType::InvalidRequest, unfit.to_string())
    }
}

/// 503, or 500 for a failure that the client cannot influence. It is unknown whether the events
/// were accepted; sending them again is safe.
impl From<BufferError> for Problem {
    fn from(error: BufferError) -> Self {
        let problem = match error {
            BufferError::Invalid(_) | BufferError::Unreadable(_) | BufferError::Foreign => {
                Self::new(ProblemType::Internal, "the events could not be accepted")
            }
            _ => {
                let detail = "the events may not have been accepted; send the same events again";
                Self::new(ProblemType::Unavailable, detail).retry_after(TRY_AGAIN)
            }
        };
        problem.caused_by(chain(&error))
    }
}

/// 503: events were accepted and are not stored yet.
impl From<DrainError> for Problem {
    fn from(error: DrainError) -> Self {
        let detail = "the events are not stored yet; send the same events again";
        Self::new(ProblemType::Unavailable, detail).retry_after(TRY_AGAIN).caused_by(chain(&error))
    }
}
