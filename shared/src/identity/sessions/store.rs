//! Which adapter a deployment uses: one setting, and no code that knows.

use std::str::FromStr;

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;

use super::dynamo::DynamoSessions;
use super::redis::{CopyKey, CopyTerms, RedisSessions};
use super::{
    ActivityWriter, CheckedRow, CopyHolder, Exchange, ListError, ListedSession, PayloadStore, Replaced,
    SealedPayload, Session, SessionError, SessionLister, SessionReader, SessionRows, SessionWriter,
    TokenFamily, TokenRotator, admit, require_live,
};
use crate::core::clock::SharedClock;
use crate::core::cursor::Page;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{SessionId, UserId};
use crate::identity::principal::Credential;
use crate::identity::secret::SecretHash;
use crate::platform::dynamo::{RowRead, read_rows};
use crate::platform::redis::RedisClient;

/// The variable that chooses. Absent means [`Kind::Dynamo`].
const VARIABLE: &str = "SESSION_STORE";

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
pub enum SessionStore {
    /// Every check reads DynamoDB.
    Dynamo(DynamoSessions),
    /// Checks read copies in Redis where there are some.
    Redis(RedisSessions),
}

impl SessionStore {
    /// The store that `SESSION_STORE` names: `dynamodb`, or `redis`, which reads `REDIS_URL` and
    /// `SESSION_COPY_KEY` as well. Connects to nothing yet.
    pub fn from_env(client: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        let rows = DynamoSessions::from_env(client, env)?;
        let kind = env.optional(VARIABLE).map(|_| env.parse(VARIABLE)).transpose()?.unwrap_or_default();
        Ok(match kind {
            Kind::Dynamo => Self::Dynamo(rows),
            Kind::Redis => {
                let redis = RedisClient::from_env(env)?;
                let key = CopyKey::from_env(env)?;
                Self::Redis(RedisSessions::new(rows, redis, clock, CopyTerms::SESSIONS, key))
            }
        })
    }

    /// Reads a row and checks the caller's session: in one call where the session is read from DynamoDB, else at the same
    /// time. What was read is told only if the session stands.
    ///
    /// # Errors
    /// [`SessionError::Ended`] also where there is no such row: who has no session learns nothing.
    pub async fn read_row<T: Send>(
        &self,
        caller: &Credential,
        clock: &SharedClock,
        read: RowRead<'_, T>,
        deadline: Deadline,
    ) -> Result<T, SessionError> {
        let (id, user) = (caller.session_id(), caller.user_id());
        let row = vec![read.row.clone()];
        let mut rows = match self {
            Self::Dynamo(store) => {
                let (session, rows) = store.read_with(id, user, row, deadline).await?;
                admit(self, caller, &session, clock).await?;
                rows
            }
            Self::Redis(store) => {
                let check = require_live(self, caller, clock);
                let client = store.rows().client();
                let row = async { read_rows(client, row, deadline).await.map_err(SessionError::from) };
                let (_, rows) = tokio::try_join!(check, row)?;
                rows
            }
        };
        Ok(read.of(&mut rows)?)
    }

    fn rows(&self) -> &DynamoSessions {
        match self {
            Self::Dynamo(rows) => rows,
            Self::Redis(store) => store.rows(),
        }
    }
}

impl SessionReader for SessionStore {
    async fn read(&self, id: &SessionId, user: &UserId) -> Result<SessionRows, SessionError> {
        match self {
            Self::Dynamo(store) => store.read(id, user).await,
            Self::Redis(store) => store.read(id, user).await,
        }
    }
}

impl ActivityWriter for SessionStore {
    async fn touch(&self, id: &SessionId, now: Timestamp) -> Result<(), SessionError> {
        self.rows().touch(id, now).await?;
        self.changed(&[CheckedRow::Session(id)]).await;
        Ok(())
    }
}

impl TokenRotator for SessionStore {
    async fn find(&self, id: &SessionId) -> Result<Option<Session>, SessionError> {
        self.rows().find(id).await
    }

    async fn rotate(
        &self,
        id: &SessionId,
        from: &SecretHash,
        family: &TokenFamily,
        now: Timestamp,
    ) -> Result<Exchange, SessionError> {
        let exchange = self.rows().rotate(id, from, family, now).await?;
        if exchange == Exchange::Done {
            self.changed(&[CheckedRow::Session(id)]).await;
        }
        Ok(exchange)
    }
}

impl SessionLister for SessionStore {
    async fn list(
        &self,
        user: &UserId,
        current: &SessionId,
        cursor: Option<&str>,
        limit: u32,
        deadline: Deadline,
    ) -> Result<Page<ListedSession>, ListError> {
        self.rows().list(user, current, cursor, limit, deadline).await
    }
}

impl SessionWriter for SessionStore {
    async fn create(&self, session: &Session, payload: &SealedPayload) -> Result<(), SessionError> {
        match self {
            Self::Dynamo(store) => store.create(session, payload).await,
            Self::Redis(store) => store.create(session, payload).await,
        }
    }
}

/// Payloads are not copied: they are read with the rows by one function, and not with each request.
impl PayloadStore for SessionStore {
    async fn read_payload(
        &self,
        id: &SessionId,
        user: &UserId,
    ) -> Result<(SessionRows, Option<SealedPayload>), SessionError> {
        self.rows().read_payload(id, user).await
    }

    async fn replace_payload(
        &self,
        id: &SessionId,
        seen: u64,
        next: &SealedPayload,
        now: Timestamp,
    ) -> Result<Replaced, SessionError> {
        let replaced = self.rows().replace_payload(id, seen, next, now).await?;
        if replaced == Replaced::Done {
            self.changed(&[CheckedRow::Session(id)]).await;
        }
        Ok(replaced)
    }
}

impl CopyHolder for SessionStore {
    async fn changed(&self, rows: &[CheckedRow<'_>]) {
        match self {
            Self::Dynamo(store) => store.changed(rows).await,
            Self::Redis(store) => store.changed(rows).await,
        }
    }

    async fn revoked(&self, rows: &[CheckedRow<'_>]) {
        match self {
            Self::Dynamo(store) => store.revoked(rows).await,
            Self::Redis(store) => store.revoked(rows).await,
        }
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
        let env = Env::of(variables.iter().copied().chain([table]));
        SessionStore::from_env(Client::from_conf(config), &env, clock::system()).map_err(|e| e.to_string())
    }

    #[test]
    fn dynamodb_is_the_default_and_redis_is_a_setting() {
        assert!(matches!(chosen(&[]), Ok(SessionStore::Dynamo(_))));
        assert!(matches!(chosen(&[("SESSION_STORE", "dynamodb")]), Ok(SessionStore::Dynamo(_))));
        let key = "k".repeat(32);
        let redis = [
            ("STAGE", "local"),
            ("SESSION_STORE", "redis"),
            ("REDIS_URL", "redis://127.0.0.1:1"),
            ("SESSION_COPY_KEY", key.as_str()),
        ];
        assert!(matches!(chosen(&redis), Ok(SessionStore::Redis(_))));
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
