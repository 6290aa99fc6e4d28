//! Sessions: one sign-in of one user on one device, and whether it is still live.
//!
//! A signature proves who a token was issued for; only the store tells whether that sign-in was revoked since. It is asked
//! for two small rows by key, so the check can ride along with whatever else a request reads.
//!
//! 1. Signing in ([`crate::identity::sign_in`]) writes the session's row: whose session it is, where it began, when it ends
//!    ([`SESSION_LIFETIME`]), after how much idle time it ends earlier ([`IdleTimeout`]), the user's token version at that
//!    moment, and hashes of what the client takes away: the refresh token ([`RefreshToken`]) and the browser's cookie
//!    ([`SessionCookie`]). The secrets are stored nowhere.
//! 2. A user has one more row, the *token version*. It only rises, and a session of a lower version has ended: raising it
//!    revokes any number of sessions with one write.
//! 3. A function that serves the caller verifies the access token ([`crate::identity::tokens`]) or reads the cookie, and reads both
//!    rows: a read-only request concurrently with its own first read, a write before it changes anything. Either
//!    through [`SessionStore::check`], or with [`SessionStore::check_with_row`] in one call with a row that it needs anyway.
//! 4. [`check`] decides, without asking anyone: the caller's [`Principal`], or [`SessionError::Ended`], which is answered 401.
//! 5. [`SessionRevoker`] ends one session by its row, or all of a user by the token version; a new password
//!    ([`crate::identity::users::change_password`]) all but the one that chose it.
//! 6. The device's name and the user's preferences are in a row of their own, as a [`Payload`] that is sealed: one function
//!    has the keys ([`SessionPreferences`]). The check does not read that row, so the rows of the check stay below 1 KB.
//!
//! Where the rows are read is a setting of [`SessionStore`]: DynamoDB ([`dynamo`]), or DynamoDB with copies of the rows in
//! Redis ([`redis`](mod@redis)).
//!
//! A session has ended when its row is gone, is marked `revokedAt`, is past `expiresAt` (TTL deletes late, so the
//! comparison is made here), was idle for too long, belongs to somebody else, or has a lower token version than its user.
//! The rows must be read consistently: an eventually consistent read could show them as they were before a revocation.
//!
//! # How exact the idle time-out is
//!
//! It counts from `lastActivity`. Reads, writes, refreshes and handshakes of sockets stamp it, each once a minute at most
//! ([`ACTIVITY_RESOLUTION`]), so a session may end up to a minute early. A stamp that fails is left to the next request.
//! A write with an `Idempotency-Key` sends the stamp beside its transaction; a replay of one, and the frames of a socket,
//! stamp nothing. A socket lasts two hours at most ([`MAX_CONNECTION_AGE`](crate::sockets::connections::MAX_CONNECTION_AGE)) and
//! the shortest time-out is longer, so no socket outlives its session by idleness.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::cursor::InvalidCursor;
use crate::core::ids::{SessionId, UserId};
use crate::identity::principal::{Credential, Principal, Proof};
use crate::identity::secret::SecretHash;
use crate::platform::dynamo::DynamoError;

pub mod cookie;
pub mod dynamo;
mod idle;
mod payload;
mod preferences;
pub mod redis;
mod refresh;
mod revoke;
mod store;

pub use cookie::{CookieSettings, SessionCookie};
pub use dynamo::{Exchange, ListedSession, Replaced};
pub use idle::IdleTimeout;
pub use payload::{Device, FIRST_VERSION, InvalidDevice, Payload, PayloadError, SealedPayload};
pub use preferences::{
    MAX_PREFERENCES_BYTES, MAX_PREFERENCES_DEPTH, Preferences, PreferencesError, PreferencesPatch,
    PreferencesRefused, SessionPreferences, VersionedPreferences,
};
pub use refresh::{Presented, RefreshToken, Rotation, Salt, TokenFamily};
pub use revoke::{CloseSockets, EndedSessions, Revocation, SessionRevoker, SessionsRevoked};
pub use store::SessionStore;
pub(crate) use store::stamp;

/// How long a session lasts after signing in. It is not prolonged by use: after this the password is asked again.
pub const SESSION_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// How old `lastActivity` may get before a request renews it: a session in steady use costs one write a minute.
pub const ACTIVITY_RESOLUTION: Duration = Duration::from_mins(1);

/// One sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id, the row's key.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// The user's token version when the session began, or when it was spared from a revocation of all others.
    pub token_version: u64,
    /// When the user signed in.
    pub created_at: Timestamp,
    /// When the session was last seen in use, to the minute.
    pub last_activity: Timestamp,
    /// When it ends by itself. Stored in whole seconds.
    pub expires_at: Timestamp,
    /// After how much idle time it ends earlier.
    pub idle_timeout: IdleTimeout,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// The region that the user signed in at.
    pub region: String,
    /// What is known of its refresh tokens.
    pub tokens: TokenFamily,
    /// Hash of the cookie.
    pub cookie_hash: SecretHash,
}

impl Session {
    /// Whether it has ended by its own row: revoked, at its natural end, or idle for too long.
    pub(crate) fn has_ended(&self, now: Timestamp) -> bool {
        self.revoked_at.is_some() || self.expires_at <= now || self.is_idle(now)
    }

    /// Whether nobody has used it for so long that it has ended.
    fn is_idle(&self, now: Timestamp) -> bool {
        self.idle_timeout.is_over(self.last_activity, now)
    }
}

/// What the check is made on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionRows {
    /// The session, if there is one.
    pub session: Option<Session>,
    /// Its user's token version. 0 when it was never raised.
    pub token_version: u64,
}

/// The caller of `credential`, if the session's rows say that the session is live.
pub fn check(credential: &Credential, rows: &SessionRows, now: Timestamp) -> Result<Principal, SessionError> {
    let issued_to = |session: &&Session| match credential.proof() {
        Proof::Token => true,
        Proof::Cookie(hash) => session.cookie_hash == *hash,
    };
    // A region whose copy of the row is behind may see a lower version in it than the caller was given since.
    let version = credential.token_version();
    let live = rows.live_since(credential.session_id(), credential.user_id(), version, now).filter(issued_to);
    let session = live.ok_or(SessionError::Ended)?;
    Ok(Principal::of_live_session(credential, session.expires_at))
}

impl SessionRows {
    /// The session, if it is this live session of `user`. For a session that nobody shows a token of: that of an open socket.
    pub fn live(&self, id: &SessionId, user: &UserId, now: Timestamp) -> Option<&Session> {
        self.live_since(id, user, 0, now)
    }

    fn live_since(&self, id: &SessionId, user: &UserId, version: u64, now: Timestamp) -> Option<&Session> {
        self.session.as_ref().filter(|session| {
            session.id == *id
                && session.user_id == *user
                && session.token_version.max(version) >= self.token_version
                && !session.has_ended(now)
        })
    }

    /// Whether the rows may be of different moments. A batch is no snapshot: the session may have been read before, and
    /// the version after, a new password that spared the session. Read again, the session is of after as well.
    pub(crate) fn may_be_torn(&self) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.revoked_at.is_none() && session.token_version < self.token_version)
    }

    /// Whether `lastActivity` is old enough to be written again.
    pub(crate) fn is_quiet(&self, now: Timestamp) -> bool {
        let last = self.session.as_ref().map(|session| session.last_activity);
        last.and_then(|last| last.checked_add(ACTIVITY_RESOLUTION).ok()).is_some_and(|due| due <= now)
    }
}

/// Why a session cannot be used, or sessions cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The cursor is of no page of the list. 400.
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    /// It has ended. 401.
    #[error("the session has ended")]
    Ended,
    /// Others kept writing to the same rows until the deadline. Nothing was changed. 503.
    #[error("the session's rows were busy until the deadline")]
    Busy,
    /// The store failed. 503 when it will pass, else 500.
    #[error(transparent)]
    Store(#[from] DynamoError),
}

/// Reads sessions: what every function that serves signed-in callers may do.
pub trait SessionReader: Send + Sync {
    /// The rows to check a session of `user` with, as they are now. Consistent: a revocation that was acknowledged
    /// before the call is seen.
    fn read(
        &self,
        id: &SessionId,
        user: &UserId,
    ) -> impl Future<Output = Result<SessionRows, SessionError>> + Send;
}
