//! Routes `send`, `ping` and `$default`: takes what clients say, delivers it, and goes on with long deliveries.

use std::process::ExitCode;

use sojourn::connections::DynamoConnections;
use sojourn::delivery::{ApiGateway, Deliverer, DynamoOrderOwners, FanOut, Messenger, SelfInvocation};
use sojourn::idempotency::dynamo::DynamoClaims;
use sojourn::{aws, boot, clock, ids, websocket};

mod handler;

const NAME: &str = "ws-send";

fn main() -> ExitCode {
    boot::run(NAME, |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamo = aws_sdk_dynamodb::Client::new(&sdk);
        let connections = DynamoConnections::from_env(dynamo.clone(), &env, clock::system())?;
        let next_turn = SelfInvocation::from_env(aws_sdk_lambda::Client::new(&sdk), &env)?;
        let deliverer = Deliverer::new(connections.clone(), ApiGateway::new(sdk), clock::system());
        let messenger = Messenger::new(
            connections,
            DynamoOrderOwners::from_env(dynamo.clone(), &env)?,
            DynamoClaims::from_env(dynamo, &env, clock::system(), ids::random())?,
            FanOut::new(deliverer, next_turn),
            clock::system(),
            ids::random(),
        );
        websocket::serve_messages(NAME, messenger, handler::on_message, handler::on_continuation).await
    })
}
