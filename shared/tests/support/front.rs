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

use super::support::{self, Store};
use super::token_keys::{TestKey, jwks, sealing_key, sealing_keys};

/// Milliseconds that an invocation has.
const TIMEOUT_MS: u64 = 29_000;

/// A store and the environment of a function that works on it.
pub(crate) struct Front {
    pub(crate) store: Store,
    pub(crate) env: Env,
    sessions: SessionStarter<DynamoSessions>,
}

impl Front {
    pub(crate) fn open() -> Self {
        Self::open_with([])
    }

    /// With further variables in the function's environment.
    pub(crate) fn open_with(further: impl IntoIterator<Item = (String, String)>) -> Self {
        let store = support::store();
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
    pub(crate) async fn token(&self, roles: &[Role]) -> String {
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
pub(crate) struct Event(Value);

impl Event {
    /// The event of a file.
    pub(crate) fn of(file: &str) -> Self {
        Self(serde_json::from_str(file).unwrap())
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.0["headers"][name] = value.into();
        self
    }

    pub(crate) fn without(mut self, header: &str) -> Self {
        self.0["headers"].as_object_mut().unwrap().remove(header);
        self
    }

    pub(crate) fn path(mut self, name: &str, value: &str) -> Self {
        self.0["pathParameters"] = json!({name: value});
        self
    }

    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.0["queryStringParameters"] = json!({name: value});
        self.0["rawQueryString"] = format!("{name}={value}").into();
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.0["body"] = body.into();
        self
    }

    /// The request that a handler gets of it.
    pub(crate) fn incoming(self) -> Incoming {
        let mut context = Context::default();
        context.deadline = u64::try_from(SystemClock.now().as_millisecond()).unwrap() + TIMEOUT_MS;
        let request = lambda_http::request::from_str(&self.0.to_string()).unwrap();
        Incoming::new(request.with_lambda_context(context))
    }
}
