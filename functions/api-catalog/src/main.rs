//! The catalogue: public reads, and the operators' writes.

use std::process::ExitCode;

use sojourn::catalog::dynamo::{DynamoCatalog, StockTables};
use sojourn::idempotency::dynamo::KeyedRequests;
use sojourn::sessions::dynamo::DynamoSessions;
use sojourn::tokens::TokenVerifier;
use sojourn::{aws, boot, clock, http, ids};

mod handler;

fn main() -> ExitCode {
    boot::run("api-catalog", |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
        let clock = clock::system();
        let app = handler::App {
            verifier: TokenVerifier::from_env(&env, clock.clone())?,
            sessions: DynamoSessions::from_env(dynamodb.clone(), &env)?,
            catalog: DynamoCatalog::from_env(dynamodb.clone(), &env)?,
            stock: StockTables::from_env(&env)?,
            requests: KeyedRequests::from_env(dynamodb, &env, clock.clone())?,
            clock,
            ids: ids::random(),
        };
        http::serve("api-catalog", app, handler::handle).await
    })
}
