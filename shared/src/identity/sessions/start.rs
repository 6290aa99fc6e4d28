//! Signing in: a session and everything that the client takes away.

use jiff::Timestamp;

use super::{
    Device, FIRST_VERSION, IdleTimeout, Payload, PayloadNotSealed, Preferences, RefreshToken,
    SESSION_LIFETIME, Session, SessionCookie, SessionError, SessionWriter,
};
use crate::core::clock::SharedClock;
use crate::core::ids::{SessionId, SharedIds};
use crate::core::random::NoEntropy;
use crate::identity::seal::SealingKeys;
use crate::identity::tokens::{AccessToken, SigningFailed, TokenSigner};
use crate::identity::users::User;

/// Why no session could be started. All 500, or 503 when it will pass.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The row was not stored.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// No secret could be made.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// The device's name could not be sealed.
    #[error(transparent)]
    Sealing(#[from] PayloadNotSealed),
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

/// Starts sessions in one region.
#[derive(Debug)]
pub struct SessionStarter<W> {
    /// Where they are stored.
    pub store: W,
    /// Signs their access tokens.
    pub signer: TokenSigner,
    /// Seal their payloads.
    pub sealing_keys: SealingKeys,
    /// Tells when they begin.
    pub clock: SharedClock,
    /// Names them.
    pub ids: SharedIds,
    /// The region that users sign in at.
    pub region: String,
    /// After how much idle time they end.
    pub idle_timeout: IdleTimeout,
}

impl<W: SessionWriter> SessionStarter<W> {
    /// Starts a session of `user`, whose password was just verified. The rows are stored before anything is handed out:
    /// a token without a row would be refused everywhere.
    pub async fn start(&self, user: &User, device: Option<Device>) -> Result<SignedIn, StartError> {
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
}

/// In whole seconds, as it is stored: what is handed out and what is read back agree.
fn end_of_a_session_that_begins(now: Timestamp) -> Timestamp {
    let lifetime = i64::try_from(SESSION_LIFETIME.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(now.as_second().saturating_add(lifetime)).unwrap_or(Timestamp::MAX)
}
