//! Redis (or Valkey), either as an optional helper or as a store.
//!
//! [`RedisUse`] says which. A caller that can do without Redis ([`RedisUse::Helpful`]) has a
//! bounded cost: no call takes longer than [`CALL_BUDGET`]. An outage costs a process about thirty
//! budgets, since the budget of a connection must leave room for a TLS handshake, and then one a
//! second. A caller that stores data in Redis ([`RedisUse::Kept`]) waits a second for an answer,
//! and does not connect to a server that may evict the data.
//!
//! 1. A call first asks the circuit breaker. While it is open, the call fails at once with
//!    [`RedisError::CircuitOpen`].
//! 2. The call takes the process's connection, or continues to connect. A connection attempt has a
//!    larger budget, since a TLS handshake takes longer than a call may. It does not proceed
//!    between requests: each request spends its own budget on it and fails with
//!    [`RedisError::Connecting`], which the breaker does not count. When the attempt has used up
//!    its budget, the breaker opens.
//! 3. The commands are sent and answered within the rest of the budget. Otherwise the call fails
//!    ([`RedisError::Late`]), the connection is dropped and the next call connects again: the
//!    connection of a function that was frozen may be dead.
//!
//! A failed call may have been executed. It is never sent twice.
//!
//! Every answer names the [`Incarnation`] of the server. A key that contains it belongs to one
//! server process, so that data from before a restart or failover cannot be mistaken for current
//! data.
//!
//! The crate `redis` runs one task per connection, which moves bytes between the socket and the
//! waiting calls, and ends with the connection. TLS (`rediss://`) is the AWS SDK's rustls with the
//! system's root certificates.
//!
//! Not here: cluster mode (a call uses several keys), and reading from replicas (they may lag).

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

/// The variable with the URL of Redis: `redis://` or, with TLS, `rediss://`, user and password
/// included.
pub const URL_VARIABLE: &str = "REDIS_URL";

/// Scheme of a server with TLS.
const TLS_SCHEME: &str = "rediss://";

/// Longest call of an optional helper. Redis answers in a third of a millisecond within a zone;
/// customers do not notice ten milliseconds.
pub const CALL_BUDGET: Duration = Duration::from_millis(10);

/// How long requests wait in total for a helper's connection attempt; each waits a call's budget at
/// most. A TLS handshake takes about a millisecond of a whole core, and reading the root
/// certificates six: fourteen times that where a function has 128 MB.
const CONNECT_BUDGET: Duration = Duration::from_millis(300);

/// Longest call, and longest connection attempt, of a store. A failover takes seconds, so a longer
/// wait would not outlast it; a fork or a slow disk takes less.
const KEPT_BUDGET: Duration = Duration::from_secs(1);

/// Prefix of the eviction policies that may remove keys without an expiry.
const EVICTS_ANY_KEY: &str = "allkeys-";

/// How the caller uses Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisUse {
    /// The caller can do without Redis.
    Helpful,
    /// Redis is the only store of the data. A server that may evict keys without an expiry is
    /// refused.
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

/// Redis gave no answer. It is unknown whether the command was executed.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// Redis failed too often recently to be called now.
    #[error("Redis is not called: it failed too often")]
    CircuitOpen,
    /// The connection is not open yet, and the budget was used up.
    #[error("Redis is not connected yet")]
    Connecting,
    #[error("connecting to Redis took too long")]
    Unreachable,
    /// The budget was used up.
    #[error("Redis did not answer in time")]
    Late,
    /// The server may evict stored data.
    #[error(
        "Redis may evict keys that nothing else holds: its maxmemory-policy is {0}, and has to be noeviction"
    )]
    Evicts(String),
    /// An error of the connection, or an error answer.
    #[error("Redis failed")]
    Failed(#[from] ::redis::RedisError),
}

/// An answer, and the server that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    pub value: T,
    /// The server that gave it.
    pub from: Incarnation,
}

/// A process's client of Redis. Connects on first use.
pub struct RedisClient {
    client: Client,
    need: RedisUse,
    call_budget: Duration,
    breaker: Mutex<CircuitBreaker>,
    slot: tokio::sync::Mutex<ConnectionState>,
}

impl RedisClient {
    /// The Redis that `REDIS_URL` names, as an optional helper.
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

    /// The same Redis for another use.
    #[must_use]
    pub fn with_need(self, need: RedisUse) -> Self {
        Self { need, call_budget: need.call_budget(), ..self }
    }

    /// With another call budget, for tests with hundreds of clients on one core.
    #[must_use]
    pub fn with_budget(self, call_budget: Duration) -> Self {
        Self { call_budget, ..self }
    }

    /// Sends the commands that `commands` builds for the server's incarnation in one pipeline, and
    /// returns all answers.
    pub async fn ask<T: FromRedisValue>(
        &self,
        commands: impl FnOnce(&Incarnation) -> Pipeline,
    ) -> Result<Answer<T>, RedisError> {
        self.ask_within(self.call_budget, commands).await
    }

    /// The same with a shorter budget.
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
            // If another call holds the lock, it is connecting: there is nothing to close.
            if let Ok(mut slot) = self.slot.try_lock() {
                slot.close();
            }
        }
        Ok(Answer { value: answer?, from: incarnation })
    }

    async fn connection(&self, end: Instant) -> Result<Connection, RedisError> {
        // Another call holds the lock while it connects.
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
