//! Orders: place, pay, cancel, read. Every write is idempotent.

use std::process::ExitCode;

use sojourn::idempotency::dynamo::KeyedRequests;
use sojourn::orders::dynamo::{DynamoOrders, OrderWrites, Settling};
use sojourn::payments::Payments;
use sojourn::payments::dynamo::DynamoPayments;
use sojourn::payments::sandbox::SandboxProvider;
use sojourn::sessions::dynamo::DynamoSessions;
use sojourn::tokens::TokenVerifier;
use sojourn::{aws, boot, clock, http, ids, tables};

mod handler;

fn main() -> ExitCode {
    boot::run("api-orders", |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
        let (clock, ids) = (clock::system(), ids::random());
        let provider = SandboxProvider::from_env(dynamodb.clone(), &env, ids.clone())?;
        let requests = KeyedRequests::from_env(dynamodb.clone(), &env, clock.clone())?;
        let writes = OrderWrites::from_env(&env, ids.clone())?;
        let payments = DynamoPayments::new(
            dynamodb.clone(),
            requests.clone(),
            writes.clone(),
            clock.clone(),
            ids.clone(),
        );
        let app = handler::App {
            verifier: TokenVerifier::from_env(&env, clock.clone())?,
            sessions: DynamoSessions::from_env(dynamodb.clone(), &env)?,
            orders: DynamoOrders::from_env(dynamodb.clone(), &env)?,
            products: tables::PRODUCTS.name(&env)?,
            payments: Payments::new(payments, provider.clone(), clock.clone()),
            settling: Settling::new(dynamodb, writes.clone(), provider),
            requests,
            writes,
            clock,
            ids,
        };
        http::serve("api-orders", app, handler::handle).await
    })
}
