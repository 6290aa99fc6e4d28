//! Everything that accounts and their sessions take, on the embedded DynamoDB, with a clock that is
//! set by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use local_region::services::faults::{Rule, RuleId, When};
use serde_json::Value;
use sojourn::core::clock::{ManualClock, SharedClock};
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::SessionId;
use sojourn::identity::email::Email;
use sojourn::identity::principal::Credential;
use sojourn::identity::sessions::{RefreshToken, SessionError, SessionRevoker, SessionStore, dynamo};
use sojourn::identity::sign_in::{Renewal, Renewed, SessionStarter, SignedIn};
use sojourn::identity::throttle::dynamo::DynamoAttempts;
use sojourn::identity::throttle::{AttemptSource, Throttle};
use sojourn::identity::tokens::TokenVerifier;
use sojourn::identity::users::dynamo::{DynamoPasswords, DynamoRoles, DynamoUsers};
use sojourn::identity::users::{
    self, Authentication, Credentials, NewPassword, Password, PasswordChange, PasswordChangeRequest,
    PasswordHash, SignUp, User,
};
use sojourn::platform::dynamo::Item;
use sojourn_testing::{Fixture, Regions, Store};

pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// Many at once share the machine's cores.
const LONG_ENOUGH: Duration = Duration::from_mins(1);

pub(crate) struct Stage {
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) users: DynamoUsers,
    pub(crate) throttle: Throttle,
    pub(crate) passwords: DynamoPasswords,
    pub(crate) roles: DynamoRoles,
    pub(crate) sessions: SessionStore,
    pub(crate) revoker: SessionRevoker,
    pub(crate) starter: SessionStarter,
    pub(crate) verifier: TokenVerifier,
}

pub(crate) fn stage() -> Stage {
    let fixture = Fixture::start();
    let starter = fixture.session_starter(fixture.clock.clone());
    let verifier = TokenVerifier::from_env(&fixture.env, fixture.clock.clone()).unwrap();
    stage_of(fixture, starter, verifier)
}

/// Two regions with the same keys and one clock. Nothing is replicated between them unless a test
/// does it.
pub(crate) fn regions() -> [Stage; 2] {
    let [taiwan, tokyo] = ["taiwan", "tokyo"];
    let place = |region: &str, peer: &str| {
        [("AWS_REGION", region), ("PEER_REGIONS", peer)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let fixtures =
        [(taiwan, tokyo), (tokyo, taiwan)].map(|(one, other)| Fixture::start_with(place(one, other)));
    let mut stages = with_one_clock_and_key(fixtures);
    [stages.next().unwrap(), stages.next().unwrap()]
}

/// A stage in each of these regions, with the same keys and one clock.
pub(crate) fn of_regions(regions: &Regions) -> BTreeMap<&'static str, Stage> {
    let fixtures = regions.names().map(|name| Fixture::on(regions.store(name).clone(), []));
    regions.names().zip(with_one_clock_and_key(fixtures)).collect()
}

fn with_one_clock_and_key(fixtures: impl IntoIterator<Item = Fixture>) -> impl Iterator<Item = Stage> {
    let mut fixtures = fixtures.into_iter();
    let first = fixtures.next().unwrap();
    let verifier = TokenVerifier::from_env(&first.env, first.clock.clone()).unwrap();
    let starter = first.session_starter(first.clock.clone());
    let (clock, signer, keys) = (first.clock.clone(), starter.signer.clone(), starter.sealing_keys.clone());
    let others = {
        let verifier = verifier.clone();
        fixtures.map(move |mut fixture| {
            fixture.clock = clock.clone();
            let own = fixture.session_starter(clock.clone());
            let starter = SessionStarter { signer: signer.clone(), sealing_keys: keys.clone(), ..own };
            stage_of(fixture, starter, verifier.clone())
        })
    };
    std::iter::once(stage_of(first, starter, verifier)).chain(others)
}

fn stage_of(fixture: Fixture, starter: SessionStarter, verifier: TokenVerifier) -> Stage {
    let Fixture { store, env, clock, ids, .. } = fixture;
    let client = store.client.clone();
    let sessions = starter.store.clone();
    let revoker = SessionRevoker::from_env(sessions.clone(), &env, ids).unwrap();
    let users = DynamoUsers::from_env(client.clone(), &env).unwrap();
    Stage {
        throttle: Throttle { store: DynamoAttempts::from_env(client, &env).unwrap(), clock: clock.clone() },
        passwords: DynamoPasswords::new(users.clone(), revoker.clone()),
        roles: DynamoRoles::new(users.clone(), revoker.clone()),
        users,
        revoker,
        sessions,
        starter,
        verifier,
        store,
        clock,
    }
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(LONG_ENOUGH)
}

pub(crate) fn typed(password: &str) -> Password {
    Password::new(password.to_owned())
}

pub(crate) fn chosen(password: &str) -> NewPassword {
    typed(password).try_into().unwrap()
}

/// The session of a sign-in as a change of the password spares it.
pub(crate) fn spared_of(signed_in: &SignedIn) -> (SessionId, Timestamp) {
    (signed_in.session.id.clone(), signed_in.session.created_at)
}

/// Does the same so many times at once.
pub(crate) async fn at_once<F: Future>(times: usize, work: impl Fn() -> F) -> Vec<F::Output> {
    stream::iter(0..times).map(|_| work()).buffer_unordered(times).collect().await
}

impl Stage {
    pub(crate) fn shared_clock(&self) -> SharedClock {
        self.clock.clone()
    }

    pub(crate) async fn new_user(&self, address: &str) -> User {
        let (clock, email) = (self.shared_clock(), address.parse::<Email>().unwrap());
        let made =
            users::sign_up(&self.users, &clock, &self.starter.ids, email, chosen(PASSWORD), soon()).await;
        match made.unwrap() {
            SignUp::Created(user) => user,
            refused => panic!("{address} was free: {refused:?}"),
        }
    }

    /// The account as it stands, with its password's hash.
    pub(crate) async fn account(&self, user: &User) -> (User, PasswordHash) {
        self.users.profile(&user.id).await.unwrap().unwrap()
    }

    /// A session of the user as the account stands.
    pub(crate) async fn sign_in(&self, user: &User) -> SignedIn {
        let (user, _) = self.account(user).await;
        self.starter.start(&user, None).await.unwrap()
    }

    pub(crate) fn caller(&self, signed_in: &SignedIn) -> Credential {
        self.verifier.verify(signed_in.access.text.expose()).unwrap()
    }

    pub(crate) async fn is_live(&self, caller: &Credential) -> bool {
        match self.sessions.check(caller).await {
            Ok(_) => true,
            Err(SessionError::Ended) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Whether the access token that came with a sign-in is good.
    pub(crate) async fn stands(&self, signed_in: &SignedIn) -> bool {
        self.is_live(&self.caller(signed_in)).await
    }

    pub(crate) async fn renew(&self, token: &RefreshToken) -> Renewal {
        self.starter.renew(&self.users, token, soon()).await.unwrap()
    }

    pub(crate) async fn renewed(&self, token: &RefreshToken) -> Renewed {
        match self.renew(token).await {
            Renewal::Renewed(renewed) => renewed,
            other => panic!("{other:?}"),
        }
    }

    /// Changes the password of an account as it was read, sparing a session.
    pub(crate) async fn change_password(
        &self,
        account: &(User, PasswordHash),
        spared: &SignedIn,
        current: &str,
        new: &str,
    ) -> PasswordChange {
        let change = PasswordChangeRequest {
            account: account.clone(),
            spared: spared_of(spared),
            current: typed(current),
            new: chosen(new),
            origin: AttemptSource::default(),
        };
        users::change_password(&self.passwords, &self.throttle, change, soon()).await.unwrap()
    }

    /// Holds a password against the account of an address.
    pub(crate) async fn authenticate(&self, user: &User, password: &str) -> Authentication {
        let credentials = Credentials {
            email: user.email.clone(),
            password: typed(password),
            origin: AttemptSource::default(),
        };
        users::authenticate(&self.users, &self.throttle, credentials).await.unwrap()
    }

    /// A session's row as it is stored.
    pub(crate) async fn row(&self, id: &SessionId) -> Item {
        let get = self.store.client.get_item().table_name("SessionsTable").set_key(Some(dynamo::key(id)));
        get.send().await.unwrap().item.unwrap()
    }

    /// What the events that were written so far tell.
    pub(crate) async fn events(&self) -> Vec<Value> {
        let items = self.store.client.scan().table_name("OutboxTable").send().await.unwrap().items.unwrap();
        let events: Vec<Value> = serde_dynamo::from_items(items).unwrap();
        events
            .into_iter()
            .map(|mut event| {
                assert_eq!(event["type"], "sessions.revoked");
                assert_eq!(event["subject"], event["data"]["userId"]);
                event["data"].take()
            })
            .collect()
    }

    /// Keeps the next request of this kind from having its effect.
    pub(crate) fn hold(&self, operation: &str) -> RuleId {
        let rule = Rule::hold(When::Before).operation(operation).resource("SessionsTable").times(1);
        self.store.embedded.faults().add(rule)
    }

    /// Runs `late`, whose held request has its effect after all of `early`.
    pub(crate) async fn overtaken<T, U>(
        &self,
        rule: RuleId,
        late: impl Future<Output = T>,
        early: impl Future<Output = U>,
    ) -> (T, U) {
        let faults = self.store.embedded.faults();
        tokio::join!(late, async {
            assert!(faults.until_held(rule, 1).await);
            let early = early.await;
            faults.remove(rule);
            early
        })
    }
}
