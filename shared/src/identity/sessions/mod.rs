//! Sessions: one sign-in of one user on one device, and whether it is still live.
//!
//! A signature proves to whom a token was issued; only the store knows whether that sign-in was
//! revoked since. The check reads a few small rows by key, so it can be part of another read of the
//! request.
//!
//! 1. Signing in ([`crate::identity::sign_in`]) writes the session's row: its user, when and where
//!    it began, when it ends ([`SESSION_LIFETIME`]), its idle timeout ([`IdleTimeout`]), and the
//!    hash of the browser's cookie ([`SessionCookie`]). No secret is stored.
//! 2. The end of a session is a row of its own. It is put once and never changed.
//! 3. The end of all sessions of a user is an instant, *ended before*. Sessions that began at that
//!    instant or earlier have ended. The instant only rises, so any number of sessions ends with
//!    one write.
//! 4. A session that is spared from such an end has one more row, with that instant. A later end of
//!    all ends it as well.
//! 5. A function that serves the caller verifies the access token ([`crate::identity::tokens`]) or
//!    reads the cookie, and reads the session, its end and the user's instant: a read-only request
//!    concurrently with its own first read, a write before it changes anything. It uses
//!    [`SessionStore::check`], or [`SessionStore::check_with_row`] to read other rows in the same
//!    call. The row of a spared session is read only if the session seems to have ended with all
//!    others.
//! 6. [`check`] decides from the rows alone: the caller's [`Principal`], or
//!    [`SessionError::Ended`], which is answered 401.
//! 7. [`SessionRevoker`] ends one session, or all of a user; a new password
//!    ([`crate::identity::users::change_password`]) ends all but the current one.
//! 8. The device's name and the user's preferences are in a separate row, as an encrypted
//!    [`Payload`]: one function has the keys ([`SessionPreferences`]). The check does not read that
//!    row, so its rows stay below 1 KB.
//!
//! [`SessionStore`] reads the rows from DynamoDB ([`dynamo`]), or from copies in Redis and from
//! DynamoDB ([`redis`](mod@redis)).
//!
//! A session has ended if it has an end, is past `expiresAt` (TTL deletes late, so the code
//! compares), was idle for too long, belongs to another user, or has ended with all others of its
//! user. The rows must be read consistently: an eventually consistent read could show the state
//! before a revocation.
//!
//! # Regions
//!
//! The table replicates between regions, about a second late. The last writer of a row wins, and a
//! condition sees the copy of its own region only. So every fact that must not be overwritten has
//! its own row:
//!
//! - An activity stamp, a refresh or a change of preferences writes other rows than an end, so none
//!   can undo an end.
//! - Each region has its own row with a user's instant, and is the only one to write it. The check
//!   takes the latest of all rows.
//! - *A missing row means "not replicated yet".* An access token proves the session by itself, for
//!   a quarter of an hour. The caller of a token whose session has no row is admitted, unless an
//!   end or the user's instant says otherwise. A token's lifetime is shorter than the shortest idle
//!   timeout and never longer than its session's. A refresh token writes the missing row
//!   ([`crate::identity::sign_in`]). A cookie is proven by the row alone and is refused without it.
//!
//! # Which instant ends all sessions
//!
//! An end of all uses an instant [`END_AHEAD`] from now, and a later sign-in begins a millisecond
//! after that instant. So an end of all also covers a session that began while the end was being
//! written, or on a process whose clock is ahead, or in a region that had not received the end.
//! Such a sign-in may have used the old password. Without the distance these sessions would begin
//! after the instant and survive. A user who signs in elsewhere before the end has been replicated
//! must sign in again.
//!
//! Limits: an end that is acknowledged less than the replication lag before its region is lost
//! takes effect when the region returns. A session that changes the password in one region at the
//! same time as all sessions are ended in another one is spared if its own instant is the later
//! one, as if the change had come second.
//!
//! # How exact the idle timeout is
//!
//! It counts from `lastActivity`. Reads, writes, refreshes and handshakes of sockets stamp it, each
//! once a minute at most ([`ACTIVITY_RESOLUTION`]), so a session may end up to a minute early. A
//! failed stamp is left to the next request. A write with an `Idempotency-Key` sends the stamp
//! beside its transaction; a replay, and the frames of a socket, stamp nothing. A socket lasts two
//! hours at most ([`MAX_CONNECTION_AGE`](crate::sockets::connections::MAX_CONNECTION_AGE)) and the
//! shortest timeout is longer, so no socket outlives its session by idleness. If two regions stamp
//! concurrently, the last writer wins: the stamps are a moment apart.
//!
//! # Example
//! The check is a pure function of a credential and its session's rows, which the store reads. The
//! read needs a DynamoDB table, so this example is compiled and not run.
//! ```no_run
//! use sojourn::core::clock;
//! use sojourn::core::env::Env;
//! use sojourn::identity::sessions::{SessionError, SessionStore};
//! use sojourn::identity::tokens::TokenVerifier;
//!
//! # async fn run(client: aws_sdk_dynamodb::Client, token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let env = Env::of_process();
//! let verifier = TokenVerifier::from_env(&env, clock::system())?;
//! let sessions = SessionStore::from_env(client, &env, clock::system())?;
//!
//! // The signature says who the token was issued to; the rows say whether the session is live.
//! let credential = verifier.verify(token)?;
//! match sessions.check(&credential).await {
//!     Ok(caller) => println!("hello, {}", caller.user_id()),
//!     Err(SessionError::Ended) => println!("sign in again"),
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```

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

/// How long a session lasts after signing in. Use does not extend it: afterwards the password is
/// needed again.
pub const SESSION_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// The age at which `lastActivity` is renewed: a session in steady use costs one write a minute.
pub const ACTIVITY_RESOLUTION: Duration = Duration::from_mins(1);

/// How far in the future the instant is that ends all sessions of a user. Longer than a write takes
/// with all its tries (8 seconds), so that no session begins between the instant and the write;
/// clock differences and replication are shorter.
pub const END_AHEAD: Duration = Duration::from_secs(10);

/// How much longer than its session the row of an end stays: until the session's row, and every
/// token that could write it again, is gone in all regions.
pub(crate) const END_OUTLIVES: Duration = Duration::from_hours(24);

/// The natural end of a session. In whole seconds, as it is stored, so that issued and stored
/// values are equal.
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
    pub id: SessionId,
    pub user_id: UserId,
    /// When the user signed in. Later than every end of all sessions that the sign-in knew of.
    pub created_at: Timestamp,
    /// When the session was last active, to the minute.
    pub last_activity: Timestamp,
    /// The natural end, in whole seconds.
    pub expires_at: Timestamp,
    pub idle_timeout: IdleTimeout,
    /// The region of the sign-in.
    pub region: String,
    pub cookie_hash: SecretHash,
}

impl Session {
    /// Whether its own row says that it has ended: by its natural end or its idle timeout.
    pub(crate) fn has_ended(&self, now: Timestamp) -> bool {
        self.expires_at <= now || self.is_idle(now)
    }

    fn is_idle(&self, now: Timestamp) -> bool {
        self.idle_timeout.is_over(self.last_activity, now)
    }

    /// The session as it was when it began.
    pub(crate) fn as_it_began(&self) -> Self {
        Self { last_activity: self.created_at, expires_at: natural_end(self.created_at), ..self.clone() }
    }
}

/// The rows that the check is made on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionRows {
    /// The session, if its row has arrived in this region.
    pub session: Option<Session>,
    /// Whether the session has an end.
    pub has_end: bool,
    /// The user's sessions that began at this instant or earlier have ended. The epoch if there was
    /// no such end.
    pub ended_before: Timestamp,
    /// Up to which of these instants the session was spared. The epoch if it was not spared, or if
    /// the row was not read.
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
    /// The session, if it has arrived and is this live session of `user`. For a session without a
    /// token or cookie in the request.
    pub fn live(&self, id: &SessionId, user: &UserId, now: Timestamp) -> Option<&Session> {
        self.session.as_ref().filter(|session| {
            session.id == *id
                && session.user_id == *user
                && !session.has_ended(now)
                && !self.is_ended(session.created_at)
        })
    }

    /// Whether an open socket of this session of `user` may stay open. Its handshake had a token or
    /// a cookie, so a missing row has not arrived yet. The time in the session's id stands for the
    /// beginning then.
    pub fn admit_socket(&self, id: &SessionId, user: &UserId, now: Timestamp) -> bool {
        match self.session {
            Some(_) => self.live(id, user, now).is_some(),
            None => !self.is_ended(id.began_at()),
        }
    }

    /// Whether a session that began at `began_at` has ended by its own end or by that of all.
    pub(crate) fn is_ended(&self, began_at: Timestamp) -> bool {
        self.has_end || (began_at <= self.ended_before && self.spared_at < self.ended_before)
    }

    /// Whether the row of a spared session decides. It is read after the others, so that a session
    /// that was spared between two reads of one batch does not count as ended.
    pub(crate) fn may_be_spared(&self) -> bool {
        let began_at = self.session.as_ref().map_or(Timestamp::UNIX_EPOCH, |session| session.created_at);
        !self.has_end
            && self.ended_before > Timestamp::UNIX_EPOCH
            && began_at <= self.ended_before
            && self.spared_at < self.ended_before
    }

    /// Whether `lastActivity` is old enough to be renewed.
    pub(crate) fn is_quiet(&self, now: Timestamp) -> bool {
        let last = self.session.as_ref().map(|session| session.last_activity);
        last.and_then(|last| last.checked_add(ACTIVITY_RESOLUTION).ok()).is_some_and(|due| due <= now)
    }
}

/// Why a session cannot be used, or sessions cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The cursor is not of this list. 400.
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    /// It has ended. 401.
    #[error("the session has ended")]
    Ended,
    /// Conflicts at the same rows until the deadline. Nothing was changed. 503.
    #[error("the session's rows were busy until the deadline")]
    Busy,
    /// The store failed. 503 if a retry may succeed, else 500.
    #[error(transparent)]
    Store(#[from] DynamoError),
}

/// Reads sessions, which every function that serves signed-in callers may do.
pub trait SessionReader: Send + Sync {
    /// The current rows for the check of a session of `user`. Consistent: a revocation that was
    /// acknowledged before the call is seen.
    fn read(
        &self,
        id: &SessionId,
        user: &UserId,
    ) -> impl Future<Output = Result<SessionRows, SessionError>> + Send;
}
