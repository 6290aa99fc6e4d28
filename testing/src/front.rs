//! The stage for a handler's own tests: a store, callers who are signed in, and requests made of the files in `events/`.

use std::collections::BTreeSet;

use lambda_http::{Context, RequestExt};
use serde_json::{Value, json};
use sojourn::core::clock::{self, Clock, SystemClock};
use sojourn::core::env::Env;
use sojourn::core::ids;
use sojourn::core::redacted::Redacted;
use sojourn::edge::http::Incoming;
use sojourn::identity::principal::Role;
use sojourn::identity::sessions::SessionStarter;
use sojourn::identity::sessions::dynamo::DynamoSessions;
use sojourn::identity::tokens::{SigningKey, TokenSigner};
use sojourn::identity::users::User;
use sojourn::platform::tables;

use crate::{Store, TestKey, jwks, sealing_key, sealing_keys};

/// Milliseconds that an invocation has.
const TIMEOUT_MS: u64 = 29_000;

/// A store and the environment of a function that works on it.
pub struct Front {
    /// The store.
    pub store: Store,
    /// What the function reads its configuration from.
    pub env: Env,
    sessions: SessionStarter<DynamoSessions>,
}

impl Front {
    /// A new store, empty.
    pub fn open() -> Self {
        Self::open_with([])
    }

    /// With further variables in the function's environment.
    pub fn open_with(further: impl IntoIterator<Item = (String, String)>) -> Self {
        let store = Store::start();
        let key = TestKey::new("test");
        let names = tables::ALL.iter().map(|t| (t.variable.to_owned(), t.name(&store.env).unwrap()));
        let env = names.chain([
            ("AWS_REGION".to_owned(), "local".to_owned()),
            ("STAGE".to_owned(), "local".to_owned()),
            ("PAYMENT_PROVIDER".to_owned(), "sandbox".to_owned()),
            ("UNPAID_ORDERS_PER_CUSTOMER".to_owned(), "20".to_owned()),
            ("RESERVED_UNITS_PER_CUSTOMER".to_owned(), "1000".to_owned()),
            ("ALLOWED_ORIGINS".to_owned(), "https://shop.example".to_owned()),
            ("TOKEN_ISSUER".to_owned(), "https://issuer.example".to_owned()),
            ("TOKEN_AUDIENCE".to_owned(), "shop".to_owned()),
            ("TOKEN_JWKS".to_owned(), jwks(&[&key])),
        ]);
        let env = Env::of(env.chain(further));
        let signing_key = SigningKey::from_jwk(&Redacted::new(key.private_jwk().to_string())).unwrap();
        let sessions = SessionStarter {
            store: DynamoSessions::from_env(store.client.clone(), &env).unwrap(),
            signer: TokenSigner::from_env(&env, signing_key, clock::system()).unwrap(),
            sealing_keys: sealing_keys(&[sealing_key("test")]),
            clock: clock::system(),
            ids: ids::random(),
            region: "local".to_owned(),
            idle_timeout: "24".parse().unwrap(),
        };
        Self { store, env, sessions }
    }

    /// The access token of a new user with these roles.
    pub async fn token(&self, roles: &[Role]) -> String {
        let user = User {
            id: ids::random().next(),
            email: "ann@example.com".parse().unwrap(),
            roles: roles.iter().copied().collect::<BTreeSet<_>>(),
            token_version: 0,
            created_at: SystemClock.now(),
        };
        self.sessions.start(&user, None).await.unwrap().access.text.expose().clone()
    }
}

/// An event of API Gateway, on its way to a handler.
#[must_use = "a handler takes it"]
pub struct Event(Value);

impl Event {
    /// The event of a file.
    pub fn of(file: &str) -> Self {
        Self(serde_json::from_str(file).unwrap())
    }

    /// With an access token.
    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// With a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.0["headers"][name] = value.into();
        self
    }

    /// Without a header.
    pub fn without(mut self, header: &str) -> Self {
        self.0["headers"].as_object_mut().unwrap().remove(header);
        self
    }

    /// With a parameter in its path.
    pub fn path(mut self, name: &str, value: &str) -> Self {
        self.0["pathParameters"] = json!({name: value});
        self
    }

    /// With a parameter in its query.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.0["queryStringParameters"] = json!({name: value});
        self.0["rawQueryString"] = format!("{name}={value}").into();
        self
    }

    /// With a body.
    pub fn body(mut self, body: &str) -> Self {
        self.0["body"] = body.into();
        self
    }

    /// The request that a handler gets of it.
    pub fn incoming(self) -> Incoming {
        let mut context = Context::default();
        context.deadline = u64::try_from(SystemClock.now().as_millisecond()).unwrap() + TIMEOUT_MS;
        let request = lambda_http::request::from_str(&self.0.to_string()).unwrap();
        Incoming::new(request.with_lambda_context(context))
    }
}
