//! The adapters that the handler works with, built once.

use aws_sdk_dynamodb::Client;
use sojourn::commerce::cancellation::Cancellations;
use sojourn::commerce::orders::dynamo::{Checkout, DynamoOrders, OrderWrites};
use sojourn::commerce::orders::summary::OrderSummaries;
use sojourn::commerce::payments::Payments;
use sojourn::commerce::payments::sandbox::SandboxProvider;
use sojourn::coordination::idempotency::dynamo::KeyedRequests;
use sojourn::core::clock::SharedClock;
use sojourn::core::env::{ConfigError, Env};
use sojourn::core::ids;
use sojourn::edge::http::Authenticator;

/// What the handler works with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) authenticator: Authenticator,
    pub(crate) orders: DynamoOrders,
    pub(crate) summaries: OrderSummaries,
    pub(crate) checkout: Checkout,
    pub(crate) payments: Payments<SandboxProvider>,
    pub(crate) cancellations: Cancellations<SandboxProvider>,
    pub(crate) requests: KeyedRequests,
}

impl App {
    /// Reads the whole configuration. Does not connect yet.
    pub(crate) fn from_env(
        dynamodb: Client,
        provider: SandboxProvider,
        env: &Env,
        clock: SharedClock,
    ) -> Result<Self, ConfigError> {
        let requests = KeyedRequests::from_env(dynamodb.clone(), env, clock.clone())?;
        let writes = OrderWrites::from_env(env)?;
        let payments = Payments::new(
            dynamodb.clone(),
            requests.clone(),
            writes.clone(),
            provider.clone(),
            clock.clone(),
            ids::random(),
        );
        let cancellations = Cancellations::from_env(dynamodb.clone(), env, provider, clock.clone())?;
        Ok(Self {
            authenticator: Authenticator::from_env(dynamodb.clone(), env, clock.clone())?,
            summaries: OrderSummaries::from_env(dynamodb.clone(), env, clock)?,
            orders: DynamoOrders::from_env(dynamodb.clone(), env)?,
            checkout: Checkout::from_env(dynamodb, env, writes)?,
            payments,
            cancellations,
            requests,
        })
    }
}
