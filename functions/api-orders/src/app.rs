//! The adapters that the handler works with, built once.

use aws_sdk_dynamodb::Client;
use sojourn::clock::SharedClock;
use sojourn::env::{ConfigError, Env};
use sojourn::http::Authenticator;
use sojourn::idempotency::dynamo::KeyedRequests;
use sojourn::ids::{self, SharedIds};
use sojourn::orders::dynamo::{Checkout, DynamoOrders, OrderWrites, Settling};
use sojourn::payments::Payments;
use sojourn::payments::dynamo::DynamoPayments;
use sojourn::payments::sandbox::SandboxProvider;
use sojourn::sessions::SessionStore;

/// What the handler works with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) authenticator: Authenticator,
    pub(crate) sessions: SessionStore,
    pub(crate) orders: DynamoOrders,
    pub(crate) checkout: Checkout,
    pub(crate) payments: Payments<DynamoPayments, SandboxProvider>,
    pub(crate) settling: Settling<SandboxProvider>,
    pub(crate) requests: KeyedRequests,
    pub(crate) clock: SharedClock,
    pub(crate) ids: SharedIds,
}

impl App {
    /// Reads the whole configuration, and connects nothing yet.
    pub(crate) fn from_env(dynamodb: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        let ids = ids::random();
        let provider = SandboxProvider::from_env(dynamodb.clone(), env, ids.clone())?;
        let requests = KeyedRequests::from_env(dynamodb.clone(), env, clock.clone())?;
        let writes = OrderWrites::from_env(env, ids.clone())?;
        let payments = DynamoPayments::new(
            dynamodb.clone(),
            requests.clone(),
            writes.clone(),
            clock.clone(),
            ids.clone(),
        );
        let sessions = SessionStore::from_env(dynamodb.clone(), env, clock.clone())?;
        Ok(Self {
            authenticator: Authenticator::from_env(env, sessions.clone(), clock.clone())?,
            sessions,
            orders: DynamoOrders::from_env(dynamodb.clone(), env)?,
            checkout: Checkout::from_env(dynamodb.clone(), env, writes.clone())?,
            payments: Payments::new(payments, provider.clone(), clock.clone()),
            settling: Settling::new(dynamodb, writes, provider),
            requests,
            clock,
            ids,
        })
    }
}
