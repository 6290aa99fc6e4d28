//! Admission of a socket.
//!
//! 1. The connection is registered, if its user may have one more ([`Registrar`]).
//! 2. Then its session is read, consistently. The read sees a revocation that was committed before;
//!    a later revocation finds the row of this connection
//!    ([`find`](super::DynamoConnections::find)). In the opposite order, a revocation between the
//!    two would see no row and not be seen, and nobody would close the socket.
//! 3. If the session has ended, the row is removed and the handshake refused. Posts in between
//!    reached nobody: the gateway has no connection before the handshake is answered.
//!
//! A session that would end before the socket's greatest age ([`MAX_CONNECTION_AGE`]) is refused as
//! well. So no socket outlives its session's natural end. The user signs in again, as would be
//! necessary within two hours anyway.
//!
//! An admission that is interrupted leaves a row without a socket, as a lost `$disconnect` does.

use jiff::Timestamp;

use super::{Connection, MAX_CONNECTION_AGE, Registered, Registrar};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::identity::principal::Credential;
use crate::identity::sessions::{IdleTimeout, SessionError, SessionStore};
use crate::platform::dynamo::DynamoError;
use crate::platform::telemetry::{self, Metric, chain};

/// An admitted socket ends before its session can reach its idle timeout.
const _: () = assert!(IdleTimeout::MIN_HOURS * 3_600 > MAX_CONNECTION_AGE.as_secs());

/// Why a socket is not let in.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// The session has ended, 401, or could not be checked: 500, or 503 if a retry may succeed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Its session ends too soon. 401.
    #[error("the session ends before the socket would")]
    EndsTooSoon,
    /// Its user has as many sockets as are allowed. 429.
    #[error("the user has {0} open sockets, which is the limit")]
    TooMany(u16),
    /// The registration failed. 500, or 503 if a retry may succeed.
    #[error(transparent)]
    Registry(#[from] DynamoError),
}

/// Registers the `connection` that `credential` opens, if its user may have one more, and if the
/// session lasts as long as the socket may.
pub async fn admit(
    registrar: &Registrar,
    sessions: &SessionStore,
    connection: &Connection,
    credential: &Credential,
    clock: &SharedClock,
    deadline: Deadline,
) -> Result<(), AdmissionError> {
    if let Registered::TooMany(most) = registrar.register(connection, deadline).await? {
        telemetry::count_case(Metric::SocketLimits, "sockets", 1);
        return Err(AdmissionError::TooMany(most));
    }
    let admitted = check(sessions, credential, clock).await;
    if admitted.is_err()
        && let Err(error) = registrar.registry().remove(&connection.key).await
    {
        let connection_id = connection.key.connection_id.as_str();
        tracing::warn!(
            connection_id,
            error = chain(&error),
            "the row of a refused connection could not be removed now"
        );
    }
    admitted
}

async fn check(
    sessions: &SessionStore,
    credential: &Credential,
    clock: &SharedClock,
) -> Result<(), AdmissionError> {
    let caller = sessions.check(credential).await?;
    let socket_end = clock.now().checked_add(MAX_CONNECTION_AGE).unwrap_or(Timestamp::MAX);
    if caller.session_ends_at() < socket_end { Err(AdmissionError::EndsTooSoon) } else { Ok(()) }
}
