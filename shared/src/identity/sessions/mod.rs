//! Sessions: one sign-in of one user on one device, and whether it still stands.
//!
//! A signature proves who a token was issued for; only the store tells whether that sign-in was revoked since. It is asked
//! for two small rows by key, so the check can ride along with whatever else a request reads.
//!
//! 1. Signing in ([`SessionStarter`]) writes the session's row: whose session it is, where it began, when it ends
//!    ([`SESSION_LIFETIME`]), after how much idle time it ends earlier ([`IdleTimeout`]), the user's token version at that
//!    moment, and hashes of what the client takes away: the refresh token ([`RefreshToken`]) and the browser's cookie
//!    ([`SessionCookie`]). The secrets are stored nowhere.
//! 2. A user has one more row, the *token version*. It only rises, and a session of a lower version has ended: raising it
//!    revokes any number of sessions with one write.
//! 3. A function that serves the caller verifies the access token ([`crate::identity::tokens`]) or reads the cookie, and reads both
//!    rows: a read-only request concurrently with its own first read, a write before it changes anything. Either
//!    through [`SessionReader`], or with [`dynamo::keys`] and [`dynamo::parse`] inside a batch read of its own.
//! 4. [`standing`] decides, without asking anyone: [`Standing::Live`] or [`Standing::Ended`], which is answered 401.
//! 5. [`renew()`] exchanges a refresh token for the next access token and the next refresh token. It prolongs nothing.
//! 6. [`SessionRevoker`] ends one session by its row, or all of a user by the token version; a new password
//!    ([`crate::identity::users::change_password`]) all but the one that chose it.
//! 7. The device's name and the user's preferences are in a row of their own, as a [`Payload`] that is sealed: one function
//!    has the keys ([`SessionPreferences`]). The check does not read that row, so the rows of the check stay below 1 KB.
//!
//! Where the rows are read is a setting: [`SessionStore`] is DynamoDB ([`dynamo`]), or DynamoDB with copies of the rows in
//! Redis ([`redis`](mod@redis)). Who writes the rows in a transaction of its own tells the store ([`CopyHolder`]).
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
use tokio::time::timeout;

use crate::core::clock::SharedClock;
use crate::core::cursor::{InvalidCursor, Page};
use crate::core::deadline::Deadline;
use crate::core::ids::{SessionId, UserId};
use crate::identity::principal::{Credential, Principal, Proof};
use crate::identity::secret::SecretHash;
use crate::platform::dynamo::DynamoError;
use crate::platform::telemetry::chain;

mod announced;
pub mod cookie;
mod device;
pub mod dynamo;
mod idle;
mod listed;
mod payload;
mod preferences;
pub mod redis;
mod refresh;
mod renew;
mod revoke;
mod start;
mod store;

pub use announced::Announced;
pub use cookie::{CookieSettings, SessionCookie};
pub use device::{Device, InvalidDevice};
pub use idle::IdleTimeout;
pub use listed::ListedSession;
pub use payload::{
    FIRST_VERSION, MAX_PREFERENCES_BYTES, MAX_PREFERENCES_DEPTH, Payload, PayloadError, PayloadNotSealed,
    Preferences, PreferencesPatch, PreferencesRefused, SealedPayload,
};
pub use preferences::{PayloadStore, PreferencesError, Replaced, SessionPreferences, VersionedPreferences};
pub use refresh::{Presented, RefreshToken, Rotation, Salt, TokenFamily};
pub use renew::{Exchange, RenewError, Renewal, Renewed, TokenRotator, renew};
pub use revoke::{Revocation, SessionRevoker};
pub use start::{SessionStarter, SignedIn, StartError};
pub use store::SessionStore;

/// How long a session lasts after signing in. It is not prolonged by use: after this the password is asked again.
pub const SESSION_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// How long a request waits for its stamp at most. It is worth little, and the next request writes it as well.
const TOUCH_PATIENCE: Duration = Duration::from_millis(200);

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

/// Whether a caller's session still stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does, and ends by itself at this instant. Nothing that is opened for the caller may outlive it.
    Live {
        /// The session's end.
        ends_at: Timestamp,
    },
    /// It does not: signed out, revoked, expired, idle for too long, or never there.
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

/// The caller of `credential`, if the session's rows say that the session is live.
pub fn check(credential: &Credential, rows: &SessionRows, now: Timestamp) -> Result<Principal, SessionError> {
    let ends_at = standing(credential, rows, now).require_live()?;
    Ok(Principal::of_live_session(credential, ends_at))
}

/// Decides whether the caller's session stands, from the rows as they were read.
pub fn standing(principal: &Credential, rows: &SessionRows, now: Timestamp) -> Standing {
    let issued_to = |session: &&Session| match principal.proof() {
        Proof::Token => true,
        Proof::Cookie(hash) => session.cookie_hash == *hash,
    };
    // A region whose copy of the row is behind may see a lower version in it than the caller was given since.
    let version = principal.token_version();
    let live = rows.live(principal.session_id(), principal.user_id(), version, now).filter(issued_to);
    live.map_or(Standing::Ended, |session| Standing::Live { ends_at: session.expires_at })
}

impl SessionRows {
    /// Whether a session stands that nobody shows a token of: that of an open socket.
    pub fn standing_of(&self, id: &SessionId, user: &UserId, now: Timestamp) -> Standing {
        let live = self.live(id, user, 0, now);
        live.map_or(Standing::Ended, |session| Standing::Live { ends_at: session.expires_at })
    }

    fn live(&self, id: &SessionId, user: &UserId, version: u64, now: Timestamp) -> Option<&Session> {
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

/// Why a session cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
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
    /// The rows to check a session of `user` with, as they stand now. Consistent: a revocation that was acknowledged
    /// before the call is seen.
    fn read(
        &self,
        id: &SessionId,
        user: &UserId,
    ) -> impl Future<Output = Result<SessionRows, SessionError>> + Send;
}

/// Stamps sessions as in use.
pub trait ActivityWriter: Send + Sync {
    /// Sets `lastActivity` to `now`, unless the session is gone or somebody did within [`ACTIVITY_RESOLUTION`]. What else
    /// the row says stays as it is: a session that is being revoked may be stamped, and is revoked.
    fn touch(&self, id: &SessionId, now: Timestamp) -> impl Future<Output = Result<(), SessionError>> + Send;
}

/// Reads the caller's session and decides: its end if it stands, [`SessionError::Ended`] if not. Once a minute it also
/// stamps the session; that this fails is no reason to refuse the caller.
pub async fn require_live(
    store: &(impl SessionReader + ActivityWriter),
    principal: &Credential,
    clock: &SharedClock,
) -> Result<Timestamp, SessionError> {
    let rows = store.read(principal.session_id(), principal.user_id()).await?;
    admit(store, principal, &rows, clock).await
}

/// The same for rows that were read already.
async fn admit(
    store: &impl ActivityWriter,
    principal: &Credential,
    rows: &SessionRows,
    clock: &SharedClock,
) -> Result<Timestamp, SessionError> {
    let now = clock.now();
    let ends_at = standing(principal, rows, now).require_live()?;
    if rows.is_quiet(now) {
        stamp(store, principal.session_id(), now).await;
    }
    Ok(ends_at)
}

/// Stamps a session, if that is quickly done.
pub(crate) async fn stamp(store: &impl ActivityWriter, id: &SessionId, now: Timestamp) {
    match timeout(TOUCH_PATIENCE, Box::pin(store.touch(id, now))).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = chain(&error), "the session's activity was not written"),
        Err(_) => tracing::warn!("the session's activity was not written in time"),
    }
}

/// A row that the check reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckedRow<'a> {
    /// A session's.
    Session(&'a SessionId),
    /// A user's token version.
    Version(&'a UserId),
}

/// Hears of writes to checked rows, which happen in all kinds of transactions: with an account, with an event. A store
/// that keeps copies of the rows sees to them; any other has nothing to do. Told after the commit, before the answer, and
/// also when the condition refused because it had been written before: whoever tries again may have been cut off in between.
pub trait CopyHolder: Send + Sync {
    /// The rows were changed, and nobody's right has ended with it. For seconds a read may see them as they were.
    fn changed(&self, rows: &[CheckedRow<'_>]) -> impl Future<Output = ()> + Send;

    /// Somebody's right has ended. When this returns, no read that begins then sees the rows as they were. It may take
    /// seconds, when copies can only be waited out.
    fn revoked(&self, rows: &[CheckedRow<'_>]) -> impl Future<Output = ()> + Send;
}

/// Why sessions are not listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The cursor is of no page of this list. 400.
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    /// The store failed. 503 when it will pass, else 500.
    #[error(transparent)]
    Store(#[from] DynamoError),
}

/// Lists sessions.
pub trait SessionLister: Send + Sync {
    /// A page of the sessions of `user`, newest first, behind `cursor`; those that have ended among them. Consistent: one
    /// whose revocation was acknowledged shows as revoked. `current` is listed also when it began a moment ago.
    fn list(
        &self,
        user: &UserId,
        current: &SessionId,
        cursor: Option<&str>,
        limit: u32,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Page<ListedSession>, ListError>> + Send;
}

/// Starts sessions: what only the function that signs users in may do.
pub trait SessionWriter: Send + Sync {
    /// Stores a new session with its first payload. Its id is new, so that nothing can be in the way.
    fn create(
        &self,
        session: &Session,
        payload: &SealedPayload,
    ) -> impl Future<Output = Result<(), SessionError>> + Send;
}
