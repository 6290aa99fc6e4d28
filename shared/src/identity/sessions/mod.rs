//! Sessions: one sign-in of one user on one device, and whether it is still live.
//!
//! A signature proves who a token was issued for; only the store tells whether that sign-in was revoked since. It is asked
//! for a few small rows by key, so the check can ride along with whatever else a request reads.
//!
//! 1. Signing in ([`crate::identity::sign_in`]) writes the session's row: whose session it is, when and where it began, when it ends
//!    ([`SESSION_LIFETIME`]), after how much idle time it ends earlier ([`IdleTimeout`]), and the hash of the browser's cookie
//!    ([`SessionCookie`]). No secret is stored anywhere.
//! 2. The end of a session is a row of its own. It is put once and never changed.
//! 3. The end of all sessions that a user had is an instant, *ended before*. A session that began at that instant or earlier has
//!    ended. The instant only rises, so any number of sessions ends with one write.
//! 4. A session that is spared from such an end has one more row, with that instant. A later end of all ends it as well.
//! 5. A function that serves the caller verifies the access token ([`crate::identity::tokens`]) or reads the cookie, and reads the
//!    session, its end and the user's instant: a read-only request concurrently with its own first read, a write before it changes anything. Either
//!    through [`SessionStore::check`], or with [`SessionStore::check_with_row`] in one call with rows that it needs anyway.
//!    The row of a spared session is read only if the session seems to have ended with all others.
//! 6. [`check`] decides, without asking anyone: the caller's [`Principal`], or [`SessionError::Ended`], which is answered 401.
//! 7. [`SessionRevoker`] ends one session, or all of a user; a new password
//!    ([`crate::identity::users::change_password`]) all but the one that chose it.
//! 8. The device's name and the user's preferences are in a row of their own, as a [`Payload`] that is sealed: one function
//!    has the keys ([`SessionPreferences`]). The check does not read that row, so the rows of the check stay below 1 KB.
//!
//! Where the rows are read is a setting of [`SessionStore`]: DynamoDB ([`dynamo`]), or DynamoDB with copies of the rows in
//! Redis ([`redis`](mod@redis)).
//!
//! A session has ended when it has an end, is past `expiresAt` (TTL deletes late, so the
//! comparison is made here), was idle for too long, belongs to somebody else, or has ended with all others of its user.
//! The rows must be read consistently: an eventually consistent read could show them as they were before a revocation.
//!
//! # Regions
//!
//! The table replicates between regions, about a second late. The last writer of a row wins, and a condition sees the copy of its own
//! region only. So nothing that must not be forgotten shares a row with anything else:
//!
//! - A stamp of activity, a refresh or a change of preferences writes other rows than an end, so none can undo an end.
//! - Each region has its own row with a user's instant, and is the only one to write it. The check takes the latest of all rows.
//! - *A missing row means "not replicated yet".* An access token proves the session by itself, for a quarter of an hour. The
//!   caller of a token whose session has no row is admitted, unless an end or the user's instant says otherwise. A token lives
//!   shorter than the shortest idle time-out and never longer than its session. A refresh token writes the missing row
//!   ([`crate::identity::sign_in`]). A cookie is proven by the row alone and is refused without it.
//!
//! # Which instant ends all sessions
//!
//! An end of all takes an instant [`END_AHEAD`] from now, and a sign-in that knows of it begins a millisecond after that instant.
//! So an end of all also covers a session that began while the end was on its way to the table, or on a process whose clock is
//! ahead, or in a region that had not heard of the end. Such a sign-in may have used the old password. Without the
//! distance these sessions would begin after the instant and live on. A user who signs in elsewhere before the end has been
//! replicated signs in once more.
//!
//! Limits: an end that is acknowledged less than the replication lag before its region is lost takes effect when the region
//! returns. A session that changes the password in one region at the same time as all sessions are ended in another one
//! is spared if its own instant is the later one, as if the change had come second.
//!
//! # How exact the idle time-out is
//!
//! It counts from `lastActivity`. Reads, writes, refreshes and handshakes of sockets stamp it, each once a minute at most
//! ([`ACTIVITY_RESOLUTION`]), so a session may end up to a minute early. A stamp that fails is left to the next request.
//! A write with an `Idempotency-Key` sends the stamp beside its transaction; a replay of one, and the frames of a socket,
//! stamp nothing. A socket lasts two hours at most ([`MAX_CONNECTION_AGE`](crate::sockets::connections::MAX_CONNECTION_AGE)) and
//! the shortest time-out is longer, so no socket outlives its session by idleness. Of two regions that stamp at the same time
//! the last writer wins: the stamps are a moment apart.

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
pub use dynamo::{ExchangeOutcome, ListedSession, Replaced};
pub use idle::IdleTimeout;
pub use payload::{Device, FIRST_VERSION, InvalidDevice, Payload, PayloadError, SealedPayload};
pub use preferences::{
    InvalidPreferences, MAX_PREFERENCES_BYTES, MAX_PREFERENCES_DEPTH, Preferences, PreferencesError,
    PreferencesPatch, SessionPreferences, VersionedPreferences,
};
pub use refresh::{FIRST_NUMBER, PresentedToken, RefreshToken, presented};
pub use revoke::{CloseSockets, EndedSessions, Revocation, SessionRevoker, SessionsRevoked};
pub use store::SessionStore;
pub(crate) use store::stamp;

/// How long a session lasts after signing in. It is not prolonged by use: after this the password is asked again.
pub const SESSION_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// How old `lastActivity` may get before a request renews it: a session in steady use costs one write a minute.
pub const ACTIVITY_RESOLUTION: Duration = Duration::from_mins(1);

/// How far ahead of the clock the instant is that ends all sessions of a user. Longer than a write takes with all its tries
/// (8 seconds), so that no session begins between the instant and the write; clocks and replication differ by less.
pub const END_AHEAD: Duration = Duration::from_secs(10);

/// How much longer than its session the row of an end stays: until the session's row, and every token that could write it
/// again, is gone in all regions.
pub(crate) const END_OUTLIVES: Duration = Duration::from_hours(24);

/// When a session ends by itself that began then. In whole seconds, as it is stored: what is handed out and what is
/// read back agree.
pub(crate) fn natural_end(began_at: Timestamp) -> Timestamp {
    let lifetime = i64::try_from(SESSION_LIFETIME.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(began_at.as_second().saturating_add(lifetime)).unwrap_or(Timestamp::MAX)
}

/// The first instant after `ended_before` at which a session can begin.
pub(crate) fn just_after(ended_before: Timestamp) -> Timestamp {
    ended_before.checked_add(Duration::from_millis(1)).unwrap_or(Timestamp::MAX)
}

/// One sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id, the row's key.
    pub id: SessionId,
    pub user_id: UserId,
    /// When the user signed in. Later than every end of all sessions that the sign-in knew of.
    pub created_at: Timestamp,
    /// When the session was last seen in use, to the minute.
    pub last_activity: Timestamp,
    /// When it ends by itself. Stored in whole seconds.
    pub expires_at: Timestamp,
    /// After how much idle time it ends earlier.
    pub idle_timeout: IdleTimeout,
    /// The region that the user signed in at.
    pub region: String,
    pub cookie_hash: SecretHash,
}

impl Session {
    /// Whether it has ended by its own row: at its natural end, or idle for too long.
    pub(crate) fn has_ended(&self, now: Timestamp) -> bool {
        self.expires_at <= now || self.is_idle(now)
    }

    /// Whether nobody has used it for so long that it has ended.
    fn is_idle(&self, now: Timestamp) -> bool {
        self.idle_timeout.is_over(self.last_activity, now)
    }

    /// The session as it was when it began.
    pub(crate) fn as_it_began(&self) -> Self {
        Self { last_activity: self.created_at, expires_at: natural_end(self.created_at), ..self.clone() }
    }
}

/// What the check is made on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionRows {
    /// The session, if its row has arrived in this region.
    pub session: Option<Session>,
    /// Whether the session has an end.
    pub has_end: bool,
    /// The user's sessions that began at this instant or earlier have ended. The epoch if there was no such end.
    pub ended_before: Timestamp,
    /// Up to which of these instants the session was spared. The epoch if it was not spared, or was not asked for.
    pub spared_at: Timestamp,
}

/// The caller of `credential`, if the session's rows say that the session is live.
pub fn check(credential: &Credential, rows: &SessionRows, now: Timestamp) -> Result<Principal, SessionError> {
    let (began_at, ends_at) = match (credential.proof(), &rows.session) {
        (Proof::Token { signed_in_at }, None) => (*signed_in_at, natural_end(*signed_in_at)),
        (Proof::Cookie(_), None) => return Err(SessionError::Ended),
        (proof, Some(session)) => {
            let is_issued_to = match proof {
                Proof::Token { .. } => true,
                Proof::Cookie(hash) => session.cookie_hash == *hash,
            };
            let is_callers =
                session.id == *credential.session_id() && session.user_id == *credential.user_id();
            if !is_issued_to || !is_callers || session.is_idle(now) {
                return Err(SessionError::Ended);
            }
            (session.created_at, session.expires_at)
        }
    };
    if ends_at <= now || rows.is_ended(began_at) {
        return Err(SessionError::Ended);
    }
    Ok(Principal::of_live_session(credential, began_at, ends_at))
}

impl SessionRows {
    /// The session, if it has arrived and is this live session of `user`. For a session that nobody shows a token of.
    pub fn live(&self, id: &SessionId, user: &UserId, now: Timestamp) -> Option<&Session> {
        self.session.as_ref().filter(|session| {
            session.id == *id
                && session.user_id == *user
                && !session.has_ended(now)
                && !self.is_ended(session.created_at)
        })
    }

    /// Whether an open socket of this session of `user` goes on. Its handshake showed a token or a cookie, so a missing row is
    /// one that has not arrived yet. The time in the session's id stands for the beginning then.
    pub fn admit_socket(&self, id: &SessionId, user: &UserId, now: Timestamp) -> bool {
        match self.session {
            Some(_) => self.live(id, user, now).is_some(),
            None => !self.is_ended(id.began_at()),
        }
    }

    /// Whether an end says that the session has ended which began then: its own, or that of all.
    pub(crate) fn is_ended(&self, began_at: Timestamp) -> bool {
        self.has_end || (began_at <= self.ended_before && self.spared_at < self.ended_before)
    }

    /// Whether the row of a spared session decides, which was not read yet. It is read after the others: so a session that was
    /// spared between two reads of one batch is not taken for ended.
    pub(crate) fn may_be_spared(&self) -> bool {
        let began_at = self.session.as_ref().map_or(Timestamp::UNIX_EPOCH, |session| session.created_at);
        !self.has_end
            && self.ended_before > Timestamp::UNIX_EPOCH
            && began_at <= self.ended_before
            && self.spared_at < self.ended_before
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
