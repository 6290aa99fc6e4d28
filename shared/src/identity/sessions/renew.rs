//! Renewing: a refresh token for the next access token and the next refresh token.

use std::future::Future;

use jiff::Timestamp;

use super::{Presented, RefreshToken, Salt, Session, SessionError, TokenFamily};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::ids::SessionId;
use crate::core::random::NoEntropy;
use crate::core::retry::Backoff;
use crate::identity::secret::SecretHash;
use crate::identity::tokens::{AccessToken, SigningFailed, TokenSigner};
use crate::identity::users::{ProfileReader, UserError};
use crate::platform::telemetry::{self, Metric};

/// Exchanges refresh tokens.
pub trait TokenRotator: Send + Sync {
    /// A session by its id alone: a refresh token does not say whose it is.
    fn find(&self, id: &SessionId) -> impl Future<Output = Result<Option<Session>, SessionError>> + Send;

    /// Replaces the session's tokens with `family`, if `from` still is the hash of the present one and the session was
    /// not revoked.
    fn rotate(
        &self,
        id: &SessionId,
        from: &SecretHash,
        family: &TokenFamily,
        now: Timestamp,
    ) -> impl Future<Output = Result<Exchange, SessionError>> + Send;
}

/// What became of a compare-and-swap.
#[derive(Debug, Clone, PartialEq)]
pub enum Exchange {
    /// Done.
    Done,
    /// Somebody was faster: this is the session as it stands, if it does.
    Overtaken(Option<Box<Session>>),
    /// A transaction is at the row. Nothing happened; try again.
    Conflict,
}

/// Outcome of showing a refresh token.
#[derive(Debug, Clone)]
pub enum Renewal {
    /// It was good.
    Renewed(Box<Renewed>),
    /// It was not, or its session has ended.
    Refused,
    /// It was used before: this session must be revoked.
    Reused(Box<Session>),
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

/// Why nothing was renewed. 500, or 503 when it will pass.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The session could not be read or written.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The user could not be read.
    #[error(transparent)]
    User(#[from] UserError),
    /// No salt could be made.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// No access token could be signed.
    #[error(transparent)]
    Signing(#[from] SigningFailed),
}

/// The end of a token's way through the compare-and-swap.
enum Exchanged {
    For(RefreshToken, Box<Session>),
    Refused,
    Reused(Box<Session>),
}

/// Renews what `token` belongs to. The token is exchanged last: what fails before has changed nothing.
pub async fn renew(
    sessions: &impl TokenRotator,
    users: &impl ProfileReader,
    signer: &TokenSigner,
    clock: &SharedClock,
    token: &RefreshToken,
    deadline: Deadline,
) -> Result<Renewal, RenewError> {
    let Some(session) = sessions.find(token.session_id()).await? else { return Ok(Renewal::Refused) };
    let Some((user, _)) = users.profile(&session.user_id).await? else { return Ok(Renewal::Refused) };
    let Some(session) = of_the_users_version(sessions, session, user.token_version).await? else {
        return Ok(Renewal::Refused);
    };
    let (refresh, session) = match exchange(sessions, clock, token, session, deadline).await? {
        Exchanged::For(refresh, session) => (refresh, session),
        Exchanged::Refused => return Ok(Renewal::Refused),
        Exchanged::Reused(session) => return Ok(Renewal::Reused(session)),
    };
    let access = signer.sign(&user.id, &session.id, session.token_version, &user.roles)?;
    Ok(Renewal::Renewed(Box::new(Renewed { session: *session, access, refresh })))
}

/// The session, unless it has ended with all others of its user. A change of the password that spares it raises both
/// versions at once, and may do so after the session was read and before the user was.
async fn of_the_users_version(
    sessions: &impl TokenRotator,
    session: Session,
    version: u64,
) -> Result<Option<Session>, SessionError> {
    if session.token_version >= version {
        return Ok(Some(session));
    }
    let newer = sessions.find(&session.id).await?;
    Ok(newer.filter(|newer| newer.token_version >= version))
}

async fn exchange(
    sessions: &impl TokenRotator,
    clock: &SharedClock,
    token: &RefreshToken,
    session: Session,
    deadline: Deadline,
) -> Result<Exchanged, RenewError> {
    let mut session = Box::new(session);
    let mut backoff = Backoff::within(deadline);
    loop {
        let now = clock.now();
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
        match sessions.rotate(&session.id, &session.tokens.current_hash, &family, now).await? {
            Exchange::Done => return Ok(Exchanged::For(successor, session)),
            Exchange::Overtaken(Some(newer)) => session = newer,
            Exchange::Overtaken(None) => return Ok(Exchanged::Refused),
            Exchange::Conflict if backoff.wait().await => {}
            Exchange::Conflict => return Err(SessionError::Busy.into()),
        }
    }
}
