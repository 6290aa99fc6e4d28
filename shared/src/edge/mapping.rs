//! Errors to problems: the only place where errors get a status and a text for clients. The error
//! with its causes is kept for the log. Nothing is logged here: the edge that answers logs once.

use std::time::Duration;

use rand::RngExt;

use crate::core::cursor::InvalidCursor;
use crate::core::deadline::DeadlineExceeded;
use crate::core::ids::InvalidId;
use crate::core::money::MoneyError;
use crate::core::precondition::InvalidTags;
use crate::core::problem::{Problem, ProblemType};
use crate::core::random::NoEntropy;
use crate::identity::principal::MissingRole;
use crate::identity::sessions::SessionError;
use crate::identity::sign_in::SignInError;
use crate::identity::throttle::device::DeviceError;
use crate::identity::throttle::{ThrottleError, TooManyAttempts};
use crate::identity::tokens::SigningFailed;
use crate::identity::users::UserError;
use crate::platform::dynamo::DynamoError;
use crate::platform::telemetry::chain;

mod activity;
mod commerce;
mod exports;
mod files;
mod preferences;
mod sockets;

/// `Retry-After` of a temporary failure.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The longest of [`soon`].
const TRY_AGAIN_AT_LATEST: Duration = Duration::from_secs(4);

/// `Retry-After` after too many concurrent requests: random, so that they do not meet again.
fn soon() -> Duration {
    rand::rng().random_range(TRY_AGAIN..=TRY_AGAIN_AT_LATEST)
}

/// A failure that the client cannot influence and need not know.
fn internal(error: &dyn std::error::Error) -> Problem {
    Problem::new(ProblemType::Internal, "internal error").caused_by(chain(error))
}

/// DynamoDB's codes of temporary failures: throttling, or a failure of its own.
const PASSING: &[&str] = &[
    "InternalServerError",
    "ServiceUnavailable",
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TransactionConflictException",
    // The same, as cancellation reasons.
    "ProvisionedThroughputExceeded",
    "ThrottlingError",
];

/// 500, or 503 if a retry may succeed.
impl From<DynamoError> for Problem {
    fn from(error: DynamoError) -> Self {
        let problem = if error.code.as_deref().is_none_or(|code| PASSING.contains(&code)) {
            Self::new(ProblemType::Unavailable, "the database is unavailable; retry").retry_after(soon())
        } else {
            Self::new(ProblemType::Internal, "the database refused the request")
        };
        problem.caused_by(chain(&error))
    }
}

/// 503.
impl From<DeadlineExceeded> for Problem {
    fn from(passed: DeadlineExceeded) -> Self {
        Self::new(ProblemType::Unavailable, "the request timed out; retry")
            .retry_after(TRY_AGAIN)
            .caused_by(passed.to_string())
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

/// 400.
impl From<InvalidTags> for Problem {
    fn from(error: InvalidTags) -> Self {
        Self::new(ProblemType::InvalidRequest, error.to_string())
    }
}

/// 422.
impl From<MoneyError> for Problem {
    fn from(error: MoneyError) -> Self {
        Self::new(ProblemType::Unprocessable, error.to_string())
    }
}

/// 401 for a session that has ended, 400 for a cursor.
impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Cursor(error) => error.into(),
            SessionError::Ended => {
                Self::new(ProblemType::Unauthenticated, "the session has ended; sign in again")
            }
            SessionError::Busy => {
                Self::new(ProblemType::Unavailable, "conflicting changes to the session; retry")
                    .retry_after(TRY_AGAIN)
                    .caused_by(error.to_string())
            }
            SessionError::Store(error) => error.into(),
        }
    }
}

/// 403.
impl From<MissingRole> for Problem {
    fn from(missing: MissingRole) -> Self {
        Self::new(ProblemType::Forbidden, missing.to_string())
    }
}

/// 500, or 503 if a retry may succeed.
impl From<UserError> for Problem {
    fn from(error: UserError) -> Self {
        match error {
            UserError::Store(error) => error.into(),
            UserError::Throttle(error) => error.into(),
            UserError::NoEntropy(error) => error.into(),
            UserError::Hashing(error) => {
                Self::new(ProblemType::Internal, "the password could not be processed")
                    .caused_by(chain(&error))
            }
            UserError::Busy => {
                Self::new(ProblemType::Unavailable, "conflicting changes to the account; retry")
                    .retry_after(TRY_AGAIN)
                    .caused_by(error.to_string())
            }
        }
    }
}

/// 500, or 503 if a retry may succeed: an attempt that cannot be counted is not allowed.
impl From<ThrottleError> for Problem {
    fn from(error: ThrottleError) -> Self {
        match error {
            ThrottleError::Store(error) => error.into(),
            ThrottleError::Busy(_) => {
                Self::new(ProblemType::Unavailable, "the limit of attempts cannot be checked; retry")
                    .retry_after(TRY_AGAIN)
                    .caused_by(chain(&error))
            }
        }
    }
}

/// 429, the same for all limits on passwords.
impl From<TooManyAttempts> for Problem {
    fn from(refusal: TooManyAttempts) -> Self {
        let detail = format!("{}; retry later", refusal.limit.reason());
        Self::new(ProblemType::TooManyRequests, detail).retry_after(refusal.retry_after)
    }
}

/// 500.
impl From<NoEntropy> for Problem {
    fn from(error: NoEntropy) -> Self {
        internal(&error)
    }
}

/// 500.
impl From<DeviceError> for Problem {
    fn from(error: DeviceError) -> Self {
        internal(&error)
    }
}

/// 500.
impl From<SigningFailed> for Problem {
    fn from(error: SigningFailed) -> Self {
        internal(&error)
    }
}

/// As its cause.
impl From<SignInError> for Problem {
    fn from(error: SignInError) -> Self {
        match error {
            SignInError::Session(error) => error.into(),
            SignInError::User(error) => error.into(),
            SignInError::NoEntropy(error) => error.into(),
            SignInError::Payload(error) => error.into(),
            SignInError::Signing(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_asks_the_client_to_come_back() {
        let lost = DynamoError { code: None, ..DynamoError::cancelled("a row", "") };
        let passing = ["InternalServerError", "ThrottlingException", "ThrottlingError"];
        for error in passing.map(|code| DynamoError::cancelled("a row", code)).into_iter().chain([lost]) {
            let problem = Problem::from(error);
            assert_eq!(problem.kind, ProblemType::Unavailable);
            assert!(
                problem.retry_after.is_some_and(|wait| (TRY_AGAIN..=TRY_AGAIN_AT_LATEST).contains(&wait))
            );
        }
        let lasting = [
            DynamoError::unreadable("read", "an order", "a number where a text should be"),
            DynamoError::cancelled("a row", "ValidationError"),
        ];
        for error in lasting {
            let problem = Problem::from(error);
            assert_eq!((problem.kind, problem.retry_after), (ProblemType::Internal, None));
        }
    }
}
