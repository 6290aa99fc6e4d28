//! Files and uploads.

use std::time::Duration;

use super::TRY_AGAIN;
use crate::core::problem::{Problem, ProblemType};
use crate::files::links::FileError;
use crate::files::links::disposition::InvalidDisposition;
use crate::files::uploads::UploadError;
use crate::platform::telemetry::chain;

/// S3's codes of temporary failures: throttling, or a failure of its own.
const PASSING: &[&str] = &[
    "SlowDown",
    "InternalError",
    "ServiceUnavailable",
    "RequestTimeout",
    "OperationAborted",
    "ConditionalRequestConflict",
];

/// `Retry-After` for a file in a region that does not answer. An outage takes longer than other
/// temporary failures.
const HOME_AGAIN: Duration = Duration::from_secs(5);

/// Whether S3's code, or the HTTP status in place of one, is of a temporary failure.
fn passes(code: &str) -> bool {
    match code.parse() {
        Ok(status) => matches!(status, 429 | 500..=599_u16),
        Err(_) => PASSING.contains(&code),
    }
}

/// 500, or 503 if a retry may succeed.
impl From<FileError> for Problem {
    fn from(error: FileError) -> Self {
        let comes_back = match &error {
            FileError::Store { code, .. } => code.as_deref().is_none_or(passes),
            FileError::NoCredentials(_) | FileError::NoTimeLeft => true,
            FileError::NotSigned { .. } => false,
        };
        let problem = if comes_back {
            Self::new(ProblemType::Unavailable, "file storage is unavailable; retry").retry_after(TRY_AGAIN)
        } else {
            Self::new(ProblemType::Internal, "file storage refused the request")
        };
        problem.caused_by(chain(&error))
    }
}

/// 400.
impl From<InvalidDisposition> for Problem {
    fn from(error: InvalidDisposition) -> Self {
        Self::new(ProblemType::InvalidRequest, error.to_string())
    }
}

/// 404, 409, 422, 503, or as its cause.
impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        let (detail, causes) = (error.to_string(), chain(&error));
        match error {
            UploadError::Invalid(_) => Self::new(ProblemType::Unprocessable, detail),
            UploadError::QuotaExceeded { used, quota_bytes } => {
                let problem =
                    Self::new(ProblemType::UploadQuotaExceeded, detail).with("quotaBytes", quota_bytes);
                match used {
                    Some(used) => problem.with("usedBytes", used.bytes).with("usedFiles", used.files),
                    None => problem,
                }
            }
            UploadError::NotFound(_) => Self::new(ProblemType::NotFound, detail),
            UploadError::Incomplete => Self::new(ProblemType::UploadIncomplete, detail),
            UploadError::InvalidParts(_) => Self::new(ProblemType::UploadMismatch, detail),
            UploadError::Rejected(rejection) => {
                Self::new(ProblemType::UploadMismatch, detail).with("rejection", rejection.as_str())
            }
            UploadError::Contended => {
                Self::new(ProblemType::Unavailable, "conflicting requests for this upload; retry")
                    .retry_after(TRY_AGAIN)
            }
            UploadError::HomeSilent { region, .. } => {
                let detail = format!("the file is in region {region}, which is unavailable; retry later");
                Self::new(ProblemType::Unavailable, detail).retry_after(HOME_AGAIN).caused_by(causes)
            }
            UploadError::Cursor(error) => error.into(),
            UploadError::Rows(error) => error.into(),
            UploadError::Files(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_asks_the_client_to_come_back() {
        let store = |code: Option<&str>| FileError::Store {
            operation: "HeadObject",
            key: "uploads/a".to_owned(),
            code: code.map(str::to_owned),
            source: "refused".into(),
        };
        // The statuses are of a HEAD, which has no other code.
        let passing = ["503", "500", "429"].map(|status| store(Some(status)));
        let passing =
            passing.into_iter().chain([store(None), store(Some("SlowDown")), FileError::NoTimeLeft]);
        for problem in passing.map(Problem::from) {
            assert_eq!((problem.kind, problem.retry_after), (ProblemType::Unavailable, Some(TRY_AGAIN)));
        }
        let unsigned = FileError::NotSigned { key: "uploads/a".to_owned(), source: "no".into() };
        let refused = ["403", "400", "301", "AccessDenied"].map(|code| store(Some(code)));
        for problem in refused.into_iter().chain([unsigned]).map(Problem::from) {
            assert_eq!((problem.kind, problem.retry_after), (ProblemType::Internal, None));
            assert!(!problem.detail.contains("uploads/a"));
        }
    }
}
