//! A connection to Redis, and the identity of the server.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, ErrorKind};
use tokio::time::{Instant, timeout_at};

use super::{RedisError, RedisUse};

/// The identity of a running Redis process: its `run_id`, new at each start. A promoted replica has
/// another one than the primary that it replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incarnation(Arc<str>);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An open connection.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) link: MultiplexedConnection,
    pub(super) incarnation: Incarnation,
}

type Attempt = Pin<Box<dyn Future<Output = Result<Connection, RedisError>> + Send>>;

/// The state of a process's connection.
#[derive(Default)]
pub(super) enum ConnectionState {
    #[default]
    Empty,
    /// The attempt only proceeds during requests; each continues where the last one stopped.
    Connecting {
        attempt: Attempt,
        /// How long requests have waited for it.
        waited: Duration,
    },
    Open(Connection),
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NotOpen {
    /// The next request continues to connect.
    Yet,
    /// The attempt has used up its budget. The next request starts a new one.
    GivenUp,
    /// The attempt failed. The next request starts a new one.
    Failed(RedisError),
}

impl ConnectionState {
    /// The open connection. Connects if necessary and possible until `end`. May be cancelled
    /// anywhere: the attempt is kept.
    pub(super) async fn open(
        &mut self,
        client: &Client,
        need: RedisUse,
        end: Instant,
    ) -> Result<Connection, NotOpen> {
        loop {
            match self {
                Self::Open(connection) => return Ok(connection.clone()),
                Self::Empty => {
                    let attempt = Box::pin(connect(client.clone(), need));
                    *self = Self::Connecting { attempt, waited: Duration::ZERO };
                }
                Self::Connecting { attempt, waited } => {
                    let began = Instant::now();
                    let Ok(ended) = timeout_at(end, attempt.as_mut()).await else {
                        *waited += began.elapsed();
                        if *waited < need.connect_budget() {
                            return Err(NotOpen::Yet);
                        }
                        *self = Self::Empty;
                        return Err(NotOpen::GivenUp);
                    };
                    *self = ended.as_ref().map_or(Self::Empty, |connection| Self::Open(connection.clone()));
                    return ended.map_err(NotOpen::Failed);
                }
            }
        }
    }

    /// Drops a connection that did not answer: it may be dead, because a frozen process does not
    /// notice that its connection was closed. A pending attempt continues.
    pub(super) fn close(&mut self) {
        if matches!(self, Self::Open(_)) {
            *self = Self::Empty;
        }
    }
}

async fn connect(client: Client, need: RedisUse) -> Result<Connection, RedisError> {
    // Every call has its own timeout; the crate's would only start another timer.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let mut link = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut commands = ::redis::pipe();
    commands.cmd("INFO").arg("server").cmd("INFO").arg("memory");
    let (server, memory): (String, String) = commands.query_async(&mut link).await?;
    let incarnation = run_id(&server).ok_or_else(|| {
        ::redis::RedisError::from((ErrorKind::UnexpectedReturnType, "INFO tells no run_id"))
    })?;
    let policy = field(&memory, "maxmemory_policy:").unwrap_or_default();
    if need.accepts(policy) {
        Ok(Connection { link, incarnation })
    } else {
        Err(RedisError::Evicts(policy.to_owned()))
    }
}

fn run_id(info: &str) -> Option<Incarnation> {
    field(info, "run_id:").map(|id| Incarnation(id.into()))
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let value = info.lines().find_map(|line| line.strip_prefix(name))?.trim();
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_incarnation_is_the_run_id_of_the_server() {
        let info = "# Server\r\nredis_version:7.0.15\r\nrun_id:0b6f\r\ntcp_port:6379\r\n";
        assert_eq!(run_id(info).unwrap().to_string(), "0b6f");
        assert_eq!(run_id("# Server\r\nrun_id:\r\n"), None);
        assert_eq!(run_id("# Server\r\n"), None);
    }
}
