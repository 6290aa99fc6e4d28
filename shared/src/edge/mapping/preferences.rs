//! Sealed payloads, and the preferences in them.

use super::{TRY_AGAIN, internal};
use crate::core::precondition::EntityTag;
use crate::core::problem::{Problem, ProblemType};
use crate::identity::sessions::{InvalidPreferences, PayloadError, PreferencesError};
use crate::platform::telemetry::chain;

/// 401 for a payload that was tampered with, 500 for one that cannot be read or written.
impl From<PayloadError> for Problem {
    fn from(error: PayloadError) -> Self {
        match error {
            PayloadError::Foreign { .. } => {
                Self::new(ProblemType::Unauthenticated, "the session has ended; sign in again")
                    .caused_by(chain(&error))
            }
            PayloadError::NotSealed { .. }
            | PayloadError::UnknownKey { .. }
            | PayloadError::Unreadable { .. } => internal(&error),
        }
    }
}

/// 413, 422.
impl From<InvalidPreferences> for Problem {
    fn from(refused: InvalidPreferences) -> Self {
        let kind = match refused {
            InvalidPreferences::PatchTooLarge(_) => ProblemType::BodyTooLarge,
            InvalidPreferences::PatchTooDeep | InvalidPreferences::TooLarge(_) => ProblemType::Unprocessable,
        };
        Self::new(kind, refused.to_string())
    }
}

/// As its variants say.
impl From<PreferencesError> for Problem {
    fn from(error: PreferencesError) -> Self {
        match error {
            PreferencesError::Session(error) => error.into(),
            PreferencesError::Payload(error) => error.into(),
            PreferencesError::Refused(refused) => refused.into(),
            PreferencesError::Stale(version) => Self::stale(EntityTag::Version(version)),
            PreferencesError::Contended => {
                Self::new(ProblemType::Unavailable, "conflicting changes to the preferences; retry")
                    .retry_after(TRY_AGAIN)
            }
        }
    }
}
