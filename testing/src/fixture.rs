//! The fixture of most tests: everything that a function needs.

use std::sync::Arc;

use sojourn::core::clock::{self, Clock, ManualClock, SharedClock, SystemClock};
use sojourn::core::env::Env;
use sojourn::core::ids::{self, SharedIds};
use sojourn::identity::principal::Role;
use sojourn::identity::sessions::SessionStore;
use sojourn::identity::sign_in::SessionStarter;
use sojourn::identity::tokens::TokenSigner;
use sojourn::identity::users::User;
use sojourn::platform::aws;

use crate::sign_ins::{new_user, revoke};
use crate::{Store, TestKey, jwks, sealing_key, sealing_keys};

/// The time on the fixture's clock when a test begins.
const START: &str = "2026-11-20T09:30:00.123Z";

/// An empty store, and everything that adapters and functions are built from.
pub struct Fixture {
    /// DynamoDB with every table.
    pub store: Store,
    /// The variables of functions, except those for files.
    pub env: Env,
    /// Stands still until the test advances it.
    pub clock: Arc<ManualClock>,
    pub ids: SharedIds,
    token_key: TestKey,
}

impl Fixture {
    /// Starts the store.
    pub fn start() -> Self {
        Self::start_with([])
    }

    /// The same with further variables, such as [`crate::Files::variables`], or with other values.
    pub fn start_with(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self::on(Store::start(), variables)
    }

    /// The same on a started store: one of [`crate::Regions`].
    pub fn on(store: Store, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let token_key = TestKey::new("test");
        let settings = [
            ("UNPAID_ORDERS_PER_CUSTOMER", "20"),
            ("RESERVED_UNITS_PER_CUSTOMER", "1000"),
            ("ALLOWED_ORIGINS", "https://shop.example"),
            ("TOKEN_ISSUER", "https://issuer.example"),
            ("TOKEN_AUDIENCE", "shop"),
            ("TOKEN_JWKS", &jwks(&[&token_key])),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            env: Env::of(store.variables().chain(settings).chain(variables)),
            store,
            clock: ManualClock::at(START.parse().unwrap()),
            ids: ids::random(),
            token_key,
        }
    }

    /// Starts sessions at this clock's time.
    pub fn session_starter(&self, clock: SharedClock) -> SessionStarter {
        SessionStarter {
            store: SessionStore::from_env(self.store.client.clone(), &self.env, clock.clone()).unwrap(),
            signer: TokenSigner::from_env(&self.env, self.token_key.signing_key(), clock.clone()).unwrap(),
            sealing_keys: sealing_keys(&[sealing_key("test")]),
            clock,
            ids: self.ids.clone(),
            region: aws::region(&self.env).unwrap(),
            idle_timeout: "24".parse().unwrap(),
        }
    }

    /// Ends every session of the store.
    pub async fn end_sessions(&self) {
        let rows = self.store.client.scan().table_name("SessionsTable").send().await.unwrap().items.unwrap();
        for row in rows.iter().filter(|row| row.contains_key("userId")) {
            revoke(&self.store, &row["sessionId"].as_s().unwrap().parse().unwrap()).await;
        }
    }

    /// The access token of a new user with these roles. It is valid now: handlers use the system's
    /// clock.
    pub async fn token(&self, roles: &[Role]) -> String {
        let user = User { roles: roles.iter().copied().collect(), ..new_user(SystemClock.now()) };
        let signed_in = self.session_starter(clock::system()).start(&user, None).await.unwrap();
        signed_in.access.text.expose().clone()
    }
}
