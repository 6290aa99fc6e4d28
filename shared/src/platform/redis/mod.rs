//! Redis (or Valkey), as something that may help, or as the place where something is kept.
//!
//! [`RedisUse`] says which. Whoever has another way to the same end ([`RedisUse::Helpful`]) is promised a cost: no call holds its
//! request for longer than [`CALL_BUDGET`]. An outage costs a process about thirty budgets, since the budget of a connection must
//! leave room for a TLS handshake; then one a second. Whoever has no other way ([`RedisUse::Kept`]) waits a second for an answer,
//! and is refused a server that may evict what it keeps.
//!
//! 1. A call asks the circuit breaker first. While it is open, the call fails at once with [`RedisError::CircuitOpen`].
//! 2. It takes the process's connection, or goes on connecting. An attempt to connect has a budget of its own, since a
//!    TLS handshake takes longer than a call may. It is not driven between requests: each request gives it its budget and
//!    no more, and fails with [`RedisError::Connecting`]. That is no failure in the breaker's eyes. When the attempt has
//!    used its own budget up, the breaker opens.
//! 3. The commands are sent and answered in what is left of the budget. If not, the call fails ([`RedisError::Late`]), the
//!    connection is forgotten and the next call connects anew: after a Lambda was frozen its connection may be dead, and
//!    nobody was awake to hear of it.
//!
//! A call that failed may have been carried out, or may still be. It is never sent twice.
//!
//! Every answer tells the [`Incarnation`] that gave it. Keys that hold it as a part belong to one life of one server: what
//! a restart or a failover forgets cannot be mixed up with what it kept.
//!
//! The crate `redis` runs one task for each connection, which moves bytes between the socket and the calls that wait. It
//! ends with the connection and does nothing of its own. TLS (`rediss://`) is the AWS SDK's rustls with the system's root
//! certificates.
//!
//! Not here: cluster mode (several keys are asked for at once), and reading from replicas (they may lag).

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::{Client, FromRedisValue, Pipeline};
use tokio::time::{Instant, timeout_at};

use crate::core::env::{ConfigError, Env, Stage};

mod breaker;
mod connection;

use breaker::{BreakerDecision, CircuitBreaker};
pub use connection::Incarnation;
use connection::{Connection, ConnectionState, NotOpen};

/// The variable that tells where Redis is: `redis://` or, with TLS, `rediss://`, user and password included.
pub const URL_VARIABLE: &str = "REDIS_URL";

/// Begins a URL of a server that is spoken to with TLS.
const TLS_SCHEME: &str = "rediss://";

/// Longest that one call of a helper may take. Redis answers in a third of a millisecond within a zone; ten are what a
/// customer does not notice when it does not.
pub const CALL_BUDGET: Duration = Duration::from_millis(10);

/// How long requests wait for a helper's attempt to connect, all of them together; each waits a call's budget at most. A TLS
/// handshake takes about a millisecond of a whole core, and reading the root certificates six: fourteen times that where a
/// function has 128 MB.
const CONNECT_BUDGET: Duration = Duration::from_millis(300);

/// Longest that one call may take, and one attempt to connect, where there is no other way. A failover of a replica takes
/// seconds, so a longer wait would not outlast it; a fork or a slow disk takes less.
const KEPT_BUDGET: Duration = Duration::from_secs(1);

/// Policies of a full server begin so when they may remove any key, also one without an expiry.
const EVICTS_ANY_KEY: &str = "allkeys-";

/// What Redis is to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisUse {
    /// The caller has another way to the same end.
    Helpful,
    /// Redis keeps what is nowhere else. A server that evicts keys without an expiry when it is full is refused.
    Kept,
}

impl RedisUse {
    const fn call_budget(self) -> Duration {
        match self {
            Self::Helpful => CALL_BUDGET,
            Self::Kept => KEPT_BUDGET,
        }
    }

    const fn connect_budget(self) -> Duration {
        match self {
            Self::Helpful => CONNECT_BUDGET,
            Self::Kept => KEPT_BUDGET,
        }
    }

    fn accepts(self, eviction_policy: &str) -> bool {
        self == Self::Helpful || !eviction_policy.starts_with(EVICTS_ANY_KEY)
    }
}

/// Redis gave no answer. Whether it did what it was asked is unknown.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// It failed too often of late to be asked now.
    #[error("Redis is not asked: it failed too often")]
    CircuitOpen,
    /// The connection is not open yet, and the budget was used up.
    #[error("Redis is not reached yet")]
    Connecting,
    /// The connection could not be opened.
    #[error("connecting to Redis took too long")]
    Unreachable,
    /// The budget was used up.
    #[error("Redis did not answer in time")]
    Late,
    /// The server may evict what is kept there.
    #[error(
        "Redis may evict keys that nothing else holds: its maxmemory-policy is {0}, and has to be noeviction"
    )]
    Evicts(String),
    /// It could not be reached, or answered with an error.
    #[error("Redis failed")]
    Failed(#[from] ::redis::RedisError),
}

/// Redis's answer, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    pub value: T,
    /// The life of the server that gave it.
    pub from: Incarnation,
}

/// A process's way to Redis. Connects when it is first used.
pub struct RedisClient {
    client: Client,
    need: RedisUse,
    call_budget: Duration,
    breaker: Mutex<CircuitBreaker>,
    slot: tokio::sync::Mutex<ConnectionState>,
}

impl RedisClient {
    /// The Redis that `REDIS_URL` names, as a helper.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let url = env.required(URL_VARIABLE)?;
        if Stage::from_env(env)? == Stage::Live && !url.starts_with(TLS_SCHEME) {
            let reason =
                format!("a live stage speaks to Redis with TLS only: {TLS_SCHEME}user:password@host:6379");
            return Err(ConfigError::Invalid { variable: URL_VARIABLE, reason });
        }
        // The cause may repeat the URL, and with it a password.
        let client = Client::open(url).map_err(|_| ConfigError::Invalid {
            variable: URL_VARIABLE,
            reason: "it must look like redis://host:6379 or rediss://user:password@host:6379".to_owned(),
        })?;
        let breaker = Mutex::new(CircuitBreaker::new());
        let slot = tokio::sync::Mutex::default();
        Ok(Self { client, need: RedisUse::Helpful, call_budget: CALL_BUDGET, breaker, slot })
    }

    /// The same Redis for a caller that needs it so.
    #[must_use]
    pub fn with_need(self, need: RedisUse) -> Self {
        Self { need, call_budget: need.call_budget(), ..self }
    }

    /// With another budget for a call: for hundreds of clients that share a core, as those of a test do.
    #[must_use]
    pub fn with_budget(self, call_budget: Duration) -> Self {
        Self { call_budget, ..self }
    }

    /// Sends the commands that `commands` makes for the server's incarnation, together, and gives all their answers.
    pub async fn ask<T: FromRedisValue>(
        &self,
        commands: impl FnOnce(&Incarnation) -> Pipeline,
    ) -> Result<Answer<T>, RedisError> {
        self.ask_within(self.call_budget, commands).await
    }

    /// The same, for a caller that may wait for less than the whole budget.
    pub async fn ask_within<T: FromRedisValue>(
        &self,
        wait: Duration,
        commands: impl FnOnce(&Incarnation) -> Pipeline,
    ) -> Result<Answer<T>, RedisError> {
        if self.breaker().admit(Instant::now()) == BreakerDecision::Refuse {
            return Err(RedisError::CircuitOpen);
        }
        let end = Instant::now() + wait.min(self.call_budget);
        let Connection { mut link, incarnation } = self.connection(end).await?;
        let asked = timeout_at(end, async { commands(&incarnation).query_async(&mut link).await });
        let answer = asked.await.map_or(Err(RedisError::Late), |answer| answer.map_err(RedisError::from));
        if answer.is_ok() {
            self.breaker().succeeded();
        } else {
            self.breaker().failed(Instant::now());
            // Somebody else who holds the slot is connecting: then there is nothing to close.
            if let Ok(mut slot) = self.slot.try_lock() {
                slot.close();
            }
        }
        Ok(Answer { value: answer?, from: incarnation })
    }

    async fn connection(&self, end: Instant) -> Result<Connection, RedisError> {
        // Somebody else who holds the slot until then is connecting.
        let Ok(mut slot) = timeout_at(end, self.slot.lock()).await else {
            return Err(RedisError::Connecting);
        };
        slot.open(&self.client, self.need, end).await.map_err(|why| match why {
            NotOpen::Yet => RedisError::Connecting,
            NotOpen::GivenUp => {
                self.breaker().trip(Instant::now());
                RedisError::Unreachable
            }
            NotOpen::Failed(error) => {
                self.breaker().failed(Instant::now());
                error
            }
        })
    }

    fn breaker(&self) -> MutexGuard<'_, CircuitBreaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL: it may hold a password.
        f.debug_struct("RedisClient").field("breaker", &*self.breaker()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_url_is_told_without_repeating_it() {
        let env = Env::of([("STAGE", "local"), (URL_VARIABLE, "http://:s3cret@redis:6379")]);
        let error = RedisClient::from_env(&env).unwrap_err().to_string();
        assert!(error.contains(URL_VARIABLE) && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn a_live_stage_is_refused_a_server_without_tls() {
        let client =
            |stage: &str, url: &str| RedisClient::from_env(&Env::of([("STAGE", stage), (URL_VARIABLE, url)]));
        for url in ["redis://:s3cret@redis:6379", "redis+unix:///tmp/redis", "unix:///tmp/redis"] {
            let error = client("live", url).unwrap_err().to_string();
            assert!(
                error.contains(URL_VARIABLE) && error.contains("TLS") && !error.contains("s3cret"),
                "{error}"
            );
        }
        assert!(client("live", "rediss://redis:6379").is_ok());
        assert!(client("dev", "redis://redis:6379").is_ok());
    }

    #[test]
    fn nothing_prints_the_password_of_a_url() {
        let env = Env::of([("STAGE", "live"), (URL_VARIABLE, "rediss://sojourn:s3cret@redis:6379")]);
        let client = RedisClient::from_env(&env).unwrap();
        assert!(!format!("{client:?}").contains("s3cret"));
    }
}
