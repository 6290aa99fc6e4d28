//! Files.

use super::TRY_AGAIN;
use crate::files::FileError;
use crate::problem::{Problem, ProblemType};
use crate::telemetry::chain;

/// S3's codes for what passes: too much at once, or a failure of its own. The client may come back.
const PASSING: &[&str] = &[
    "SlowDown",
    "InternalError",
    "ServiceUnavailable",
    "RequestTimeout",
    "OperationAborted",
    "ConditionalRequestConflict",
];

/// 500, or 503 when it will pass.
impl From<FileError> for Problem {
    fn from(error: FileError) -> Self {
        tracing::error!(error = chain(&error), "S3 failed");
        let passes = match &error {
            FileError::Store { code, .. } => code.as_deref().is_none_or(|code| PASSING.contains(&code)),
            FileError::NoCredentials(_) | FileError::NoTimeLeft => true,
            FileError::NotSigned { .. } => false,
        };
        if passes {
            Self::new(ProblemType::Unavailable, "the files did not answer; try again").retry_after(TRY_AGAIN)
        } else {
            Self::new(ProblemType::Internal, "the files refused the request")
        }
    }
}
