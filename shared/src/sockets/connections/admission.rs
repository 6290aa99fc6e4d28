//! Letting a socket in.
//!
//! 1. The connection is registered, if its user may have one more ([`Registrar`]).
//! 2. Then its session is read, consistently. A revocation that was committed before this read is seen by it; one that is
//!    committed later looks for the user's rows ([`find`](super::DynamoConnections::find)) when this one is there. In the other order, a
//!    revocation between the two would see no row and not be seen: a socket that nobody closes.
//! 3. If the session has ended, the row is removed again and the handshake refused. Posts of the meantime reached nobody:
//!    the gateway knows no connection whose handshake is not answered.
//!
//! A session that would end before the socket at its greatest age ([`MAX_CONNECTION_AGE`]) is refused as well. So no socket
//! outlives its session's natural end, and nobody has to watch for it. Whoever is refused signs in again, as they would have
//! to within two hours.
//!
//! What is cut off between the first step and the last leaves a row without a socket, as a lost `$disconnect` does.

use jiff::Timestamp;

use super::{Connection, MAX_CONNECTION_AGE, Registered, Registrar};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::identity::principal::Credential;
use crate::identity::sessions::{IdleTimeout, SessionError, SessionStore};
use crate::platform::dynamo::DynamoError;
use crate::platform::telemetry::{self, Metric, chain};

/// A socket that was let in ends before its session can be idle for too long.
const _: () = assert!(IdleTimeout::MIN_HOURS * 3_600 > MAX_CONNECTION_AGE.as_secs());

/// Why a socket is not let in.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// Its session has ended, 401, or could not be checked: 500, or 503 when it will pass.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Its session ends too soon. 401.
    #[error("the session ends before the socket would")]
    EndsTooSoon,
    /// Its user has as many sockets as are allowed. 429.
    #[error("the user has {0} open sockets, which is the limit")]
    TooMany(u16),
    /// It could not be registered. 500, or 503 when it will pass.
    #[error(transparent)]
    Registry(#[from] DynamoError),
}

/// Registers the `connection` that `credential` opens, if its user may have one more, and if the session lasts as long as the
/// socket may.
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
        tracing::warn!(connection_id, error = chain(&error), "a refused connection's row stays for now");
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
