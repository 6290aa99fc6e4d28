//! Exports, and their queue.

use super::TRY_AGAIN;
use crate::core::problem::{Problem, ProblemType};
use crate::files::exports::dynamo::ExportRefusal;
use crate::files::exports::{InvalidPeriod, NoSuchExport, SLOT_RETRY, SubmitError, TooManyOpen};
use crate::platform::queue::NotSent;
use crate::platform::telemetry::chain;

/// 422.
impl From<InvalidPeriod> for Problem {
    fn from(error: InvalidPeriod) -> Self {
        Self::new(ProblemType::Unprocessable, error.to_string())
    }
}

/// 404.
impl From<NoSuchExport> for Problem {
    fn from(error: NoSuchExport) -> Self {
        Self::new(ProblemType::NotFound, error.to_string())
    }
}

/// 429, until one of the customer's exports has ended.
impl From<TooManyOpen> for Problem {
    fn from(error: TooManyOpen) -> Self {
        Self::new(ProblemType::TooManyOpenExports, error.to_string()).retry_after(SLOT_RETRY)
    }
}

/// As its variants say.
impl From<ExportRefusal> for Problem {
    fn from(refusal: ExportRefusal) -> Self {
        match refusal {
            ExportRefusal::Period(invalid) => invalid.into(),
            ExportRefusal::TooManyOpen(too_many) => too_many.into(),
        }
    }
}

/// As its variants say.
impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Table(error) => error.into(),
            SubmitError::NotSent(error) => error.into(),
            SubmitError::BeingSent => {
                let detail = "the export is being queued; retry with the same Idempotency-Key";
                Self::new(ProblemType::Unavailable, detail).retry_after(TRY_AGAIN)
            }
            SubmitError::Elsewhere { region } => {
                let detail = format!(
                    "the export was requested in region {region}, and this region has not seen it start; \
                     retry with the same Idempotency-Key, or request another export with a new key"
                );
                Self::new(ProblemType::Unavailable, detail).retry_after(TRY_AGAIN)
            }
        }
    }
}

/// 503: the same request, with the same key, sends the message again.
impl From<NotSent> for Problem {
    fn from(error: NotSent) -> Self {
        let detail = "the request could not be queued; retry with the same Idempotency-Key";
        Self::new(ProblemType::Unavailable, detail).retry_after(TRY_AGAIN).caused_by(chain(&error))
    }
}
