//! Sessions: one sign-in of one user on one device, and whether it still stands.
//!
//! A signature proves who a token was issued for; only the session's row tells whether that sign-in was revoked since.
//! The row is small and read by key, so the check can ride along with whatever else a request reads.
//!
//! 1. Signing in ([`SessionStarter`]) writes one row: whose session it is, where it began, when it ends
//!    ([`SESSION_LIFETIME`]), and the hashes of the two secrets that the client takes away ([`SessionSecret`]): the
//!    refresh token and the browser's cookie. The secrets themselves are stored nowhere.
//! 2. A function that serves the caller verifies the access token ([`crate::tokens`]) and reads the row: a read-only
//!    request concurrently with its own first read, a write before it changes anything. Either through
//!    [`SessionReader`], or with [`dynamo::key`] and [`dynamo::parse`] inside a batch read of its own.
//! 3. [`standing`] decides, without asking anyone: [`Standing::Live`] or [`Standing::Ended`], which is answered 401.
//!
//! A session has ended when its row is gone, is marked `revokedAt`, is past `expiresAt` (TTL deletes late, so the
//! comparison is made here), belongs to somebody else, or was renewed with a higher token version than the caller's
//! token has. The row must be read consistently: an eventually consistent read could show it as it was before its
//! revocation.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;

use crate::dynamo::DynamoError;
use crate::ids::{SessionId, UserId};
use crate::tokens::Principal;

pub mod cookie;
mod device;
pub mod dynamo;
mod payload;
mod secret;
mod start;

pub use device::{Device, InvalidDevice};
pub use payload::{
    MAX_PREFERENCES_BYTES, MAX_PREFERENCES_DEPTH, Payload, PayloadError, PayloadNotSealed, PayloadOf,
    Preferences, PreferencesPatch, PreferencesRefused,
};
pub use secret::{InvalidSecret, SecretHash, SessionSecret};
pub use start::{SessionStarter, SignedIn, StartError};

/// How long a session lasts after signing in. It is not prolonged by use: after this the password is asked again.
pub const SESSION_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// One sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id, the row's key.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// The user's token version when the session began or was last renewed.
    pub token_version: u64,
    /// When the user signed in.
    pub created_at: Timestamp,
    /// When the session was last seen in use, to the minute.
    pub last_activity: Timestamp,
    /// When it ends by itself. Stored in whole seconds.
    pub expires_at: Timestamp,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// The region that the user signed in at.
    pub region: String,
    /// What the user calls the device.
    pub device: Option<Device>,
    /// Hash of the refresh token.
    pub refresh_hash: SecretHash,
    /// Hash of the cookie's secret.
    pub cookie_hash: SecretHash,
}

/// Whether a caller's session still stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does, and ends by itself at this instant. Nothing that is opened for the caller may outlive it.
    Live {
        /// The session's end.
        ends_at: Timestamp,
    },
    /// It does not: signed out, revoked, expired, or never there.
    Ended,
}

impl Standing {
    /// The session's end, or the refusal to answer with.
    pub fn require_live(self) -> Result<Timestamp, SessionError> {
        match self {
            Self::Live { ends_at } => Ok(ends_at),
            Self::Ended => Err(SessionError::Ended),
        }
    }
}

/// Decides whether the caller's session stands, from the row as it was read (`None`: there is no row).
pub fn standing(principal: &Principal, session: Option<&Session>, now: Timestamp) -> Standing {
    match session {
        Some(session)
            if session.id == *principal.session_id()
                && session.user_id == *principal.user_id()
                && session.revoked_at.is_none()
                && session.token_version <= principal.token_version()
                && now < session.expires_at =>
        {
            Standing::Live { ends_at: session.expires_at }
        }
        _ => Standing::Ended,
    }
}

/// Why a session cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// It has ended. 401.
    #[error("the session has ended")]
    Ended,
    /// The store failed. 503 when it will pass, else 500.
    #[error(transparent)]
    Store(#[from] DynamoError),
}

/// Reads sessions: what every function that serves signed-in callers may do.
pub trait SessionReader: Send + Sync {
    /// The session as it stands now, or `None` if there is none. Consistent: a revocation that was acknowledged
    /// before the call is seen.
    fn read(&self, id: &SessionId) -> impl Future<Output = Result<Option<Session>, SessionError>> + Send;

    /// Reads the caller's session and decides: its end if it stands, [`SessionError::Ended`] if not.
    fn require_live(
        &self,
        principal: &Principal,
        now: Timestamp,
    ) -> impl Future<Output = Result<Timestamp, SessionError>> + Send {
        async move {
            let session = self.read(principal.session_id()).await?;
            standing(principal, session.as_ref(), now).require_live()
        }
    }
}

/// Starts sessions: what only the function that signs users in may do.
pub trait SessionWriter: Send + Sync {
    /// Stores a new session. Its id is new, so nothing can be in the way.
    fn create(&self, session: &Session) -> impl Future<Output = Result<(), SessionError>> + Send;
}
