//! Signing in and token renewal: how a session begins, and how a client gets its next access token.
//!
//! 1. [`SessionStarter::start`] stores a session for a user whose password was verified, and
//!    returns its secrets: an access token, a refresh token and a cookie.
//! 2. [`SessionStarter::renew`] exchanges a refresh token for the next access token and the next
//!    refresh token ([`RefreshToken`] has the rules). It does not extend the session:
//!    1. The token is verified. An invalid token changes nothing.
//!    2. The session's rows and the numbers of the issued tokens are read in one call, the account
//!       concurrently. An ended session is refused.
//!    3. The exchange is written, on the condition that the session has no end. A failure before
//!       that changes nothing.
//!
//! A region that has not received the session's row yet *adopts* the session: step 3 writes the row
//! from the token. The token contains all of it but `lastActivity`, so it makes no difference which
//! of the two rows the replicas keep. From then on the session is listed, and its cookie is
//! accepted. A cookie alone adopts nothing, since only the row proves it.

use jiff::Timestamp;

use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::ids::{SessionId, SharedIds};
use crate::core::random::NoEntropy;
use crate::core::retry::Backoff;
use crate::identity::seal::{OpenError, SealingKeys};
use crate::identity::sessions::{
    Device, ExchangeOutcome, FIRST_NUMBER, FIRST_VERSION, IdleTimeout, Payload, PayloadError, Preferences,
    PresentedToken, RefreshToken, Session, SessionCookie, SessionError, SessionRows, SessionStore,
    just_after, natural_end, presented,
};
use crate::identity::tokens::{AccessToken, SigningFailed, TokenSigner};
use crate::identity::users::dynamo::DynamoUsers;
use crate::identity::users::{User, UserError};
use crate::platform::telemetry::{self, Metric};

/// Why a sign-in or renewal failed. 500, or 503 if a retry may succeed.
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

/// A new session with its secrets, which are shown only once.
#[derive(Debug, Clone)]
pub struct SignedIn {
    pub session: Session,
    /// Authenticates the caller at every function, for a quarter of an hour.
    pub access: AccessToken,
    /// Gets the next access token.
    pub refresh: RefreshToken,
    /// For browsers.
    pub cookie: SessionCookie,
}

/// The result of showing a refresh token.
#[expect(clippy::large_enum_variant, reason = "one is made for a request, and is taken apart at once")]
#[derive(Debug, Clone)]
pub enum Renewal {
    /// The token was valid.
    Renewed(Renewed),
    /// The token was invalid, or its session has ended.
    Refused,
    /// The token was used before: this session must be revoked. The token has proven that it
    /// belongs to its user.
    Reused(Session),
}

/// The answer to a refresh token.
#[derive(Debug, Clone)]
pub struct Renewed {
    pub session: Session,
    /// The next access token, with the user's current roles.
    pub access: AccessToken,
    /// The next refresh token.
    pub refresh: RefreshToken,
}

/// Starts sessions in one region, and renews their tokens.
#[derive(Debug)]
pub struct SessionStarter {
    pub store: SessionStore,
    pub signer: TokenSigner,
    /// Seal the payloads of sessions, and authenticate refresh tokens.
    pub sealing_keys: SealingKeys,
    pub clock: SharedClock,
    pub ids: SharedIds,
    /// The region of the sign-ins.
    pub region: String,
    /// The idle timeout of new sessions.
    pub idle_timeout: IdleTimeout,
}

impl SessionStarter {
    /// Starts a session of `user`, whose password was just verified. The rows are stored before the
    /// secrets are returned: a cookie without a row would be refused everywhere.
    ///
    /// # Errors
    /// [`SessionError::Busy`] if all sessions of the user were ended since the account was read:
    /// the password may have changed.
    pub async fn start(&self, user: &User, device: Option<Device>) -> Result<SignedIn, SignInError> {
        let now = self.clock.now();
        let began_at = now.max(just_after(user.ended_before));
        let id: SessionId = self.ids.next();
        let cookie = SessionCookie::generate(id.clone(), user.id.clone(), user.roles.clone())?;
        let session = Session {
            user_id: user.id.clone(),
            created_at: began_at,
            last_activity: now,
            expires_at: natural_end(began_at),
            idle_timeout: self.idle_timeout,
            region: self.region.clone(),
            cookie_hash: cookie.hash(),
            id,
        };
        let refresh = RefreshToken::issue(&self.sealing_keys, &session, FIRST_NUMBER);
        let access = self.signer.sign(&user.id, &session.id, session.created_at, &user.roles)?;
        let payload = Payload { device, preferences: Preferences::default() };
        let payload = payload.seal(&self.sealing_keys, &session.id, &session.user_id, FIRST_VERSION)?;
        self.store.create(&session, &payload, user.ended_before).await?;
        Ok(SignedIn { session, access, refresh, cookie })
    }

    /// Renews the session of `token`.
    pub async fn renew(
        &self,
        users: &DynamoUsers,
        token: &RefreshToken,
        deadline: Deadline,
    ) -> Result<Renewal, SignInError> {
        match token.verify(&self.sealing_keys).await {
            Ok(()) => {}
            Err(OpenError::Refused(_)) => return Ok(Renewal::Refused),
            Err(error @ OpenError::UnknownKey(_)) => {
                tracing::warn!(error = telemetry::chain(&error), "refresh token refused");
                return Ok(Renewal::Refused);
            }
        }
        let began = token.session();
        let (id, user_id) = (&began.id, &began.user_id);
        let account = async { users.profile(user_id).await.map_err(SignInError::from) };
        let read = async || self.store.rows().read_chain(id, user_id).await.map_err(SignInError::from);
        let (account, mut read_rows) = tokio::try_join!(account, read())?;
        // Accounts are never deleted, so a missing one has not arrived yet. Until then its user has
        // no role.
        let roles = account.map(|(user, _)| user.roles).unwrap_or_default();
        let mut backoff = Backoff::within(deadline);
        let (rows, refresh) = loop {
            let ((rows, latest), now) = (read_rows, self.clock.now());
            if has_ended(&rows, began, now) {
                return Ok(Renewal::Refused);
            }
            match presented(token.number(), latest) {
                PresentedToken::Retry => break (rows, token.next(&self.sealing_keys)),
                PresentedToken::Reused => {
                    telemetry::count(Metric::RefreshTokensReused, 1);
                    tracing::warn!(session_id = %id, user_id = %user_id, "refresh token reused");
                    return Ok(Renewal::Reused(began.clone()));
                }
                PresentedToken::Current => {}
            }
            let next = token.next(&self.sealing_keys);
            match self.store.exchange(&rows, began, next.number(), now).await? {
                ExchangeOutcome::Done => break (rows, next),
                ExchangeOutcome::Ended => return Ok(Renewal::Refused),
                ExchangeOutcome::Overtaken => {}
                ExchangeOutcome::Conflict if backoff.wait().await => {}
                ExchangeOutcome::Conflict => return Err(SessionError::Busy.into()),
            }
            read_rows = read().await?;
        };
        let session = rows.session.unwrap_or_else(|| began.clone());
        let access = self.signer.sign(user_id, &session.id, session.created_at, &roles)?;
        Ok(Renewal::Renewed(Renewed { session, access, refresh }))
    }
}

/// Whether the session of a genuine token, which began as `began`, has ended.
fn has_ended(rows: &SessionRows, began: &Session, now: Timestamp) -> bool {
    // Without a row the last activity is unknown. The row has not arrived, so it was a moment ago.
    let is_over = rows.session.as_ref().map_or(began.expires_at <= now, |session| session.has_ended(now));
    is_over || rows.is_ended(began.created_at)
}
