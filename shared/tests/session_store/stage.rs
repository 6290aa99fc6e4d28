//! Tables, perhaps a Redis, and any number of stores on them, each as a process of its own would
//! have one.

use std::time::Duration;

use jiff::Timestamp;
use sojourn::core::clock::{self, Clock, SystemClock};
use sojourn::core::deadline::Deadline;
use sojourn::core::env::Env;
use sojourn::core::ids::{self, SessionId, UserId};
use sojourn::identity::sessions::redis::{CopyKey, CopyLifetimes};
use sojourn::identity::sessions::{
    FIRST_VERSION, Revocation, SESSION_LIFETIME, SealedPayload, Session, SessionCookie, SessionError,
    SessionReader, SessionRevoker, SessionStore,
};
use sojourn::identity::users::dynamo::{DynamoPasswords, DynamoUsers};
use sojourn::identity::users::{PasswordHash, PasswordUpdate, User};
use sojourn::platform::redis::RedisClient;
use sojourn_testing::sign_ins::new_user;
use sojourn_testing::{RedisServer, Store};

/// Copies that last longer than any test: what is seen in time was not seen because a copy lapsed.
pub(crate) const LASTING: CopyLifetimes =
    CopyLifetimes { lifetime: Duration::from_mins(10), clock_skew: Duration::from_secs(1) };

/// Copies that a test can outwait.
pub(crate) const SHORT: CopyLifetimes =
    CopyLifetimes { lifetime: Duration::from_millis(1_500), clock_skew: Duration::from_millis(100) };

/// Longest wait for a conflict to pass.
const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) struct Stage {
    pub(crate) dynamodb: Store,
    pub(crate) redis: Option<RedisServer>,
    terms: CopyLifetimes,
}

impl Stage {
    /// DynamoDB alone.
    pub(crate) fn dynamodb() -> Self {
        Self { dynamodb: Store::start(), redis: None, terms: LASTING }
    }

    /// With a Redis in front, if this machine has one.
    pub(crate) fn redis() -> Option<Self> {
        Self::redis_with(LASTING)
    }

    pub(crate) fn redis_with(terms: CopyLifetimes) -> Option<Self> {
        Some(Self { dynamodb: Store::start(), redis: Some(RedisServer::start()?), terms })
    }

    /// The server, which this stage has.
    pub(crate) fn server(&mut self) -> &mut RedisServer {
        self.redis.as_mut().unwrap()
    }

    /// A store, as another process has it.
    pub(crate) fn store(&self) -> SessionStore {
        match &self.redis {
            None => self.store_without_redis(),
            Some(server) => self.store_at(&server.url()),
        }
    }

    /// A store of a deployment that knows of no Redis.
    pub(crate) fn store_without_redis(&self) -> SessionStore {
        SessionStore::from_env(self.dynamodb.client.clone(), &self.dynamodb.env, clock::system()).unwrap()
    }

    /// A store that is told that Redis is elsewhere.
    pub(crate) fn store_at(&self, url: &str) -> SessionStore {
        self.store_with_key(url, "0123456789abcdef0123456789abcdef")
    }

    /// A store whose copies are sealed with this key.
    pub(crate) fn store_with_key(&self, url: &str, key: &str) -> SessionStore {
        let env = Env::of([("STAGE", "local"), ("REDIS_URL", url), ("SESSION_COPY_KEY", key)]);
        let (redis, key) = (RedisClient::from_env(&env).unwrap(), CopyKey::from_env(&env).unwrap());
        self.store_without_redis().with_copies(redis, self.terms, key)
    }

    /// A new session of a new user, stored.
    pub(crate) async fn session(&self, store: &SessionStore) -> Session {
        self.session_of(store, ids::random().next()).await
    }

    pub(crate) async fn session_of(&self, store: &SessionStore, user: UserId) -> Session {
        let session = session_of(user);
        create(store, &session).await.unwrap();
        session
    }

    /// Revokes a session as a revoking function does: commits, and answers when this returns.
    pub(crate) async fn revoke(&self, store: &SessionStore, session: &Session) -> Revocation {
        let revoker = self.revoker(store);
        revoker.revoke(&session.id, &session.user_id, Deadline::after(DEADLINE)).await.unwrap()
    }

    /// Only the commit: somebody who never heard of Redis, or was cut off.
    pub(crate) async fn commit_revocation(&self, session: &Session) {
        assert_eq!(self.revoke(&self.store_without_redis(), session).await, Revocation::Revoked);
    }

    /// Ends all sessions of a user.
    pub(crate) async fn revoke_all(&self, store: &SessionStore, user: &UserId) {
        self.revoker(store).revoke_all(user, Deadline::after(DEADLINE)).await.unwrap();
    }

    /// Ends all sessions of the session's user but that one, as a change of the password does.
    pub(crate) async fn end_all_but(&self, store: &SessionStore, spared: &Session) {
        let users = DynamoUsers::from_env(self.dynamodb.client.clone(), &self.dynamodb.env).unwrap();
        let user = User { id: spared.user_id.clone(), ..new_user(spared.created_at) };
        let (hash, deadline) = (PasswordHash::dummy(), Deadline::after(DEADLINE));
        users.create(&user, &hash, deadline).await.unwrap();
        let passwords = DynamoPasswords::new(users, self.revoker(store));
        let spared = (spared.id.clone(), spared.created_at);
        let update = passwords.replace(&user, &hash, &hash, &spared, deadline).await.unwrap();
        assert_eq!(update, PasswordUpdate::Done);
    }

    fn revoker(&self, store: &SessionStore) -> SessionRevoker {
        SessionRevoker::from_env(store.clone(), &self.dynamodb.env, ids::random()).unwrap()
    }

    /// How many requests DynamoDB gets while `work` goes on.
    pub(crate) async fn requests(&self, work: impl Future<Output = ()>) -> u64 {
        let usage = self.dynamodb.embedded.usage();
        usage.record();
        work.await;
        usage.stop();
        usage.snapshot().total()
    }
}

/// Stores a new session of a user whose sessions were never ended.
pub(crate) async fn create(store: &SessionStore, session: &Session) -> Result<(), SessionError> {
    store.create(session, &sealed(FIRST_VERSION), Timestamp::UNIX_EPOCH).await
}

/// A payload at this version. No store can open one, so that any bytes do.
pub(crate) fn sealed(version: u64) -> SealedPayload {
    SealedPayload { version, bytes: format!("sealed {version}").into_bytes() }
}

pub(crate) fn session_of(user_id: UserId) -> Session {
    let id: SessionId = ids::random().next();
    let now = SystemClock.now();
    let expires_at = Timestamp::from_second((now + SESSION_LIFETIME).as_second()).unwrap();
    let cookie = SessionCookie::generate(id.clone(), user_id.clone(), std::collections::BTreeSet::new());
    Session {
        cookie_hash: cookie.unwrap().hash(),
        id,
        user_id,
        created_at: now,
        last_activity: now,
        expires_at,
        idle_timeout: "24".parse().unwrap(),
        region: "local".to_owned(),
    }
}

/// Whether `store` takes the session for a live one.
pub(crate) async fn is_live(store: &SessionStore, session: &Session) -> bool {
    let rows = store.read(&session.id, &session.user_id).await.unwrap();
    rows.live(&session.id, &session.user_id, SystemClock.now()).is_some()
}

/// Reads until DynamoDB is not asked any more: the copies are there.
pub(crate) async fn warm_up(stage: &Stage, store: &SessionStore, session: &Session) {
    for _ in 0..400 {
        let asked = stage.requests(async { assert!(is_live(store, session).await) }).await;
        if asked == 0 || stage.redis.is_none() {
            return;
        }
        // A lease may have to lapse, and a breaker to close.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the rows are never copied");
}
