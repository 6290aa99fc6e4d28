//! The sessions of a deployment: rows in DynamoDB and, optionally, copies of the rows of the check
//! in Redis.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;
use tokio::time::timeout;

use super::dynamo::DynamoSessions;
use super::redis::{CopyKey, CopyLifetimes, RedisCopies};
use super::{
    EndedSessions, ExchangeOutcome, Replaced, SealedPayload, Session, SessionError, SessionReader,
    SessionRows, check,
};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{SessionId, UserId};
use crate::identity::principal::{Credential, Principal};
use crate::platform::dynamo::{RowRead, read_rows};
use crate::platform::redis::RedisClient;
use crate::platform::telemetry::chain;

/// The variable that chooses the store. Default: [`Kind::Dynamo`].
const VARIABLE: &str = "SESSION_STORE";

/// How long a request waits for its stamp at most. The next request stamps as well.
const STAMP_PATIENCE: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    #[default]
    Dynamo,
    Redis,
}

#[derive(Debug, thiserror::Error)]
#[error("it is either dynamodb or redis")]
struct UnknownKind;

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        match text {
            "dynamodb" => Ok(Self::Dynamo),
            "redis" => Ok(Self::Redis),
            _ => Err(UnknownKind),
        }
    }
}

/// The sessions of this deployment.
#[derive(Debug, Clone)]
pub struct SessionStore {
    rows: DynamoSessions,
    /// The copies that the check reads first, if there are any.
    copies: Option<Arc<RedisCopies>>,
    clock: SharedClock,
}

impl SessionStore {
    /// The store that `SESSION_STORE` names: `dynamodb`, or `redis`, which also reads `REDIS_URL`
    /// and `SESSION_COPY_KEY`. Does not connect yet.
    pub fn from_env(client: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        let store = Self::new(DynamoSessions::from_env(client, env)?, clock);
        let kind = env.optional(VARIABLE).map(|_| env.parse(VARIABLE)).transpose()?.unwrap_or_default();
        Ok(match kind {
            Kind::Dynamo => store,
            Kind::Redis => {
                let redis = RedisClient::from_env(env)?;
                store.with_copies(redis, CopyLifetimes::SESSIONS, CopyKey::from_env(env)?)
            }
        })
    }

    /// Every check reads from `rows`.
    pub fn new(rows: DynamoSessions, clock: SharedClock) -> Self {
        Self { rows, copies: None, clock }
    }

    /// Checks read copies of the rows in `redis` first.
    #[must_use]
    pub fn with_copies(self, redis: RedisClient, terms: CopyLifetimes, key: CopyKey) -> Self {
        let copies = RedisCopies::new(redis, self.rows.table(), self.clock.clone(), terms, key);
        Self { copies: Some(Arc::new(copies)), ..self }
    }

    /// The rows, for reads that must not use copies.
    pub fn rows(&self) -> &DynamoSessions {
        &self.rows
    }

    pub(super) fn table(&self) -> &str {
        self.rows.table()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The caller of `credential`, if its session is live. Stamps the session once a minute.
    pub async fn check(&self, credential: &Credential) -> Result<Principal, SessionError> {
        let rows = self.read(credential.session_id(), credential.user_id()).await?;
        self.check_rows(credential, &rows).await
    }

    /// The same for rows that were read already.
    pub(super) async fn check_rows(
        &self,
        credential: &Credential,
        rows: &SessionRows,
    ) -> Result<Principal, SessionError> {
        let now = self.clock.now();
        let caller = check(credential, rows, now)?;
        if rows.is_quiet(now) {
            stamp(self.touch(credential.session_id(), now)).await;
        }
        Ok(caller)
    }

    /// Checks the caller's session and reads rows: in one call if the session is read from
    /// DynamoDB, else concurrently.
    ///
    /// # Errors
    /// [`SessionError::Ended`] regardless of the other rows: a caller without a session learns
    /// nothing.
    pub async fn check_with_row<T: Send>(
        &self,
        credential: &Credential,
        read: RowRead<'_, T>,
        deadline: Deadline,
    ) -> Result<(Principal, T), SessionError> {
        let (id, user) = (credential.session_id(), credential.user_id());
        let others = read.rows();
        let (caller, mut rows) = if self.copies.is_none() {
            let (session, rows) = self.rows.read_with(id, user, others, deadline).await?;
            (self.check_rows(credential, &session).await?, rows)
        } else {
            // The result of the read is used after the check.
            let others =
                async { Ok::<_, SessionError>(read_rows(self.rows.client(), others, deadline).await) };
            let (caller, rows) = tokio::try_join!(self.check(credential), others)?;
            (caller, rows?)
        };
        Ok((caller, read.of(&mut rows)?))
    }

    /// Sets `lastActivity` to `now`, as [`DynamoSessions::touch`] does.
    pub async fn touch(&self, id: &SessionId, now: Timestamp) -> Result<(), SessionError> {
        self.rows.touch(id, now).await?;
        self.changed(id).await;
        Ok(())
    }

    /// Records an issued refresh token, as [`DynamoSessions::exchange`] does.
    pub async fn exchange(
        &self,
        rows: &SessionRows,
        began: &Session,
        next: u64,
        now: Timestamp,
    ) -> Result<ExchangeOutcome, SessionError> {
        let exchange = self.rows.exchange(rows, began, next, now).await?;
        if exchange == ExchangeOutcome::Done {
            self.changed(&began.id).await;
        }
        Ok(exchange)
    }

    /// Stores a new session with its first payload, as [`DynamoSessions::create`] does. The id is
    /// new, so no row exists.
    pub async fn create(
        &self,
        session: &Session,
        payload: &SealedPayload,
        ended_before: Timestamp,
    ) -> Result<(), SessionError> {
        match &self.copies {
            None => self.rows.create(session, payload, ended_before).await,
            Some(copies) => copies.create(&self.rows, session, payload, ended_before).await,
        }
    }

    /// Replaces a payload, as [`DynamoSessions::replace_payload`] does.
    pub async fn replace_payload(
        &self,
        caller: &Principal,
        rows: &SessionRows,
        next: &SealedPayload,
        now: Timestamp,
    ) -> Result<Replaced, SessionError> {
        let replaced = self.rows.replace_payload(caller, rows, next, now).await?;
        if replaced == Replaced::Done {
            self.changed(caller.session_id()).await;
        }
        Ok(replaced)
    }

    /// Drops the copies of a session's row that was changed and stays live. For seconds a read may
    /// see the earlier row.
    pub async fn changed(&self, id: &SessionId) {
        if let Some(copies) = &self.copies {
            copies.forget_session(id).await;
        }
    }

    /// Drops the copies of the rows that say which sessions of `user` have ended. When this
    /// returns, no later read sees the earlier rows. It may take seconds if copies have to expire.
    pub(super) async fn drop_copies(&self, user: &UserId, ended: &EndedSessions) {
        if let Some(copies) = &self.copies {
            copies.invalidate(user, ended).await;
        }
    }
}

impl SessionReader for SessionStore {
    async fn read(&self, id: &SessionId, user: &UserId) -> Result<SessionRows, SessionError> {
        match &self.copies {
            None => self.rows.read(id, user).await,
            Some(copies) => copies.read(&self.rows, id, user).await,
        }
    }
}

/// Waits a short time for a stamp. A failed stamp does not fail the request.
pub(crate) async fn stamp(touch: impl Future<Output = Result<(), SessionError>>) {
    match timeout(STAMP_PATIENCE, Box::pin(touch)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = chain(&error), "the session's activity was not written"),
        Err(_) => tracing::warn!("the session's activity was not written in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::clock;

    fn chosen(variables: &[(&str, &str)]) -> Result<SessionStore, String> {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
            .build();
        let table = ("SESSIONS_TABLE", "Sessions");
        let env = Env::of(variables.iter().copied().chain([table, ("AWS_REGION", "local")]));
        SessionStore::from_env(Client::from_conf(config), &env, clock::system()).map_err(|e| e.to_string())
    }

    #[test]
    fn dynamodb_is_the_default_and_redis_is_a_setting() {
        assert!(chosen(&[]).unwrap().copies.is_none());
        assert!(chosen(&[("SESSION_STORE", "dynamodb")]).unwrap().copies.is_none());
        let key = "k".repeat(32);
        let redis = [
            ("STAGE", "local"),
            ("SESSION_STORE", "redis"),
            ("REDIS_URL", "redis://127.0.0.1:1"),
            ("SESSION_COPY_KEY", key.as_str()),
        ];
        assert!(chosen(&redis).unwrap().copies.is_some());
        assert!(chosen(&redis[..3]).unwrap_err().contains("SESSION_COPY_KEY"));
    }

    #[test]
    fn a_wrong_setting_is_a_sentence_that_names_it() {
        let sentence = chosen(&[("SESSION_STORE", "memcached")]).unwrap_err();
        assert!(
            sentence.contains("SESSION_STORE") && sentence.contains("either dynamodb or redis"),
            "{sentence}"
        );
        assert!(chosen(&[("SESSION_STORE", "redis")]).unwrap_err().contains("REDIS_URL"));
    }
}
