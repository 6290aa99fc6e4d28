//! Signing in and staying signed in: how a session begins, and how a client gets its next access token.
//!
//! 1. [`SessionStarter::start`] stores a session for a user whose password was verified, and hands out its secrets: an
//!    access token, a refresh token and a cookie.
//! 2. [`SessionStarter::renew`] exchanges a refresh token for the next access token and the next refresh token
//!    ([`RefreshToken`] says which tokens are good). It does not prolong the session. The token is exchanged last: a
//!    failure before that changes nothing.

use jiff::Timestamp;

use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::ids::{SessionId, SharedIds};
use crate::core::random::NoEntropy;
use crate::core::retry::Backoff;
use crate::identity::seal::SealingKeys;
use crate::identity::sessions::{
    Device, Exchange, FIRST_VERSION, IdleTimeout, Payload, PayloadError, Preferences, Presented,
    RefreshToken, SESSION_LIFETIME, Salt, Session, SessionCookie, SessionError, SessionStore,
};
use crate::identity::tokens::{AccessToken, SigningFailed, TokenSigner};
use crate::identity::users::dynamo::DynamoUsers;
use crate::identity::users::{User, UserError};
use crate::platform::telemetry::{self, Metric};

/// Why nothing was handed out. 500, or 503 when it will pass.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The session could not be read or written.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The user could not be read.
    #[error(transparent)]
    User(#[from] UserError),
    /// No secret could be made.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// The device's name could not be sealed.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// No access token could be signed.
    #[error(transparent)]
    Signing(#[from] SigningFailed),
}

/// A session that just began, with its secrets: this is the only time that they are seen.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// The session as it was stored.
    pub session: Session,
    /// Proves the caller to every function, for a quarter of an hour.
    pub access: AccessToken,
    /// Gets the next access token.
    pub refresh: RefreshToken,
    /// What a browser keeps.
    pub cookie: SessionCookie,
}

/// Outcome of showing a refresh token.
#[derive(Debug, Clone)]
pub enum Renewal {
    /// The token was good.
    Renewed(Renewed),
    /// The token was not good, or its session has ended.
    Refused,
    /// The token was used before: this session must be revoked.
    Reused(Session),
}

/// What a client gets for its refresh token.
#[derive(Debug, Clone)]
pub struct Renewed {
    /// The session.
    pub session: Session,
    /// The next access token, with the roles that the user has now.
    pub access: AccessToken,
    /// The next refresh token.
    pub refresh: RefreshToken,
}

/// Outcome of the compare-and-swap of a refresh token.
enum Exchanged {
    For(RefreshToken, Session),
    Refused,
    Reused(Session),
}

/// Starts sessions in one region, and renews their tokens.
#[derive(Debug)]
pub struct SessionStarter {
    /// Where sessions are stored.
    pub store: SessionStore,
    /// Signs access tokens.
    pub signer: TokenSigner,
    /// Seal the payloads of sessions.
    pub sealing_keys: SealingKeys,
    /// Tells when sessions begin.
    pub clock: SharedClock,
    /// Names sessions.
    pub ids: SharedIds,
    /// The region that users sign in at.
    pub region: String,
    /// After how much idle time sessions end.
    pub idle_timeout: IdleTimeout,
}

impl SessionStarter {
    /// Starts a session of `user`, whose password was just verified. The rows are stored before anything is handed out:
    /// a token without a row would be refused everywhere.
    pub async fn start(&self, user: &User, device: Option<Device>) -> Result<SignedIn, SignInError> {
        let now = self.clock.now();
        let id: SessionId = self.ids.next();
        let refresh = RefreshToken::generate(id.clone())?;
        let (version, roles) = (user.token_version, user.roles.clone());
        let cookie = SessionCookie::generate(id.clone(), user.id.clone(), version, roles)?;
        let session = Session {
            user_id: user.id.clone(),
            token_version: version,
            created_at: now,
            last_activity: now,
            expires_at: end_of_a_session_that_begins(now),
            idle_timeout: self.idle_timeout,
            revoked_at: None,
            region: self.region.clone(),
            tokens: refresh.family(),
            cookie_hash: cookie.hash(),
            id,
        };
        let access = self.signer.sign(&user.id, &session.id, version, &user.roles)?;
        let payload = Payload { device, preferences: Preferences::default() };
        let payload = payload.seal(&self.sealing_keys, &session.id, &session.user_id, FIRST_VERSION)?;
        self.store.create(&session, &payload).await?;
        Ok(SignedIn { session, access, refresh, cookie })
    }

    /// Renews the session that `token` belongs to.
    pub async fn renew(
        &self,
        users: &DynamoUsers,
        token: &RefreshToken,
        deadline: Deadline,
    ) -> Result<Renewal, SignInError> {
        let rows = self.store.rows();
        let Some(session) = rows.find(token.session_id()).await? else { return Ok(Renewal::Refused) };
        let Some((user, _)) = users.profile(&session.user_id).await? else { return Ok(Renewal::Refused) };
        let Some(session) = self.of_the_users_version(session, user.token_version).await? else {
            return Ok(Renewal::Refused);
        };
        let (refresh, session) = match self.exchange(token, session, deadline).await? {
            Exchanged::For(refresh, session) => (refresh, session),
            Exchanged::Refused => return Ok(Renewal::Refused),
            Exchanged::Reused(session) => return Ok(Renewal::Reused(session)),
        };
        let access = self.signer.sign(&user.id, &session.id, session.token_version, &user.roles)?;
        Ok(Renewal::Renewed(Renewed { session, access, refresh }))
    }

    /// The session, unless it has ended with all others of its user. A change of the password that spares it raises both
    /// versions at once, and may do so after the session was read and before the user was.
    async fn of_the_users_version(
        &self,
        session: Session,
        version: u64,
    ) -> Result<Option<Session>, SessionError> {
        if session.token_version >= version {
            return Ok(Some(session));
        }
        let newer = self.store.rows().find(&session.id).await?;
        Ok(newer.filter(|newer| newer.token_version >= version))
    }

    async fn exchange(
        &self,
        token: &RefreshToken,
        mut session: Session,
        deadline: Deadline,
    ) -> Result<Exchanged, SignInError> {
        let mut backoff = Backoff::within(deadline);
        loop {
            let now = self.clock.now();
            if session.has_ended(now) {
                return Ok(Exchanged::Refused);
            }
            match session.tokens.presented(token) {
                Presented::Foreign => return Ok(Exchanged::Refused),
                Presented::Retry(successor) => return Ok(Exchanged::For(successor, session)),
                Presented::Reused => {
                    telemetry::count(Metric::RefreshTokensReused, 1);
                    tracing::warn!(session_id = %session.id, user_id = %session.user_id, "refresh token reused");
                    return Ok(Exchanged::Reused(session));
                }
                Presented::Current => {}
            }
            let (family, successor) = session.tokens.rotated(token, Salt::generate()?);
            match self.store.rotate(&session.id, &session.tokens.current_hash, &family, now).await? {
                Exchange::Done => return Ok(Exchanged::For(successor, session)),
                Exchange::Overtaken(newer) => session = *newer,
                Exchange::Gone => return Ok(Exchanged::Refused),
                Exchange::Conflict if backoff.wait().await => {}
                Exchange::Conflict => return Err(SessionError::Busy.into()),
            }
        }
    }
}

/// In whole seconds, as it is stored: what is handed out and what is read back agree.
fn end_of_a_session_that_begins(now: Timestamp) -> Timestamp {
    let lifetime = i64::try_from(SESSION_LIFETIME.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(now.as_second().saturating_add(lifetime)).unwrap_or(Timestamp::MAX)
}
