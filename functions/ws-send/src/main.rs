//! Routes `send`, `inbox`, `ping` and `$default`: accepts clients' messages, delivers them, continues long deliveries, and
//! reads the inbox. Closes the sockets of senders whose session has ended.

use std::process::ExitCode;

use sojourn::commerce::orders::dynamo::DynamoOrders;
use sojourn::coordination::idempotency::dynamo::DynamoClaims;
use sojourn::core::clock;
use sojourn::core::ids;
use sojourn::edge::boot;
use sojourn::edge::websocket;
use sojourn::identity::sessions::SessionStore;
use sojourn::platform::aws;
use sojourn::sockets::connections::{CallbackEndpoint, DynamoConnections};
use sojourn::sockets::delivery::{ApiGateway, Deliverer, FanOut, Messenger, SelfInvocation, SocketCloser};
use sojourn::sockets::inbox::Inbox;

mod handler;

const NAME: &str = "ws-send";

fn main() -> ExitCode {
    boot::run(NAME, |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamo = aws_sdk_dynamodb::Client::new(&sdk);
        let connections = DynamoConnections::from_env(dynamo.clone(), &env, clock::system())?;
        let next_hop = SelfInvocation::from_env(aws_sdk_lambda::Client::new(&sdk), &env)?;
        let gateway = ApiGateway::new(sdk);
        let deliverer = Deliverer::new(connections.clone(), gateway.clone(), clock::system());
        let messenger = Messenger::new(
            connections.clone(),
            SessionStore::from_env(dynamo.clone(), &env, clock::system())?,
            DynamoOrders::from_env(dynamo.clone(), &env)?,
            DynamoClaims::from_env(dynamo.clone(), &env, clock::system(), ids::random())?,
            FanOut::new(deliverer, Inbox::from_env(dynamo, &env, clock::system())?, next_hop),
            clock::system(),
            ids::random(),
        );
        let app = handler::App {
            messenger,
            closer: SocketCloser::new(connections, gateway, clock::system(), ids::random()),
            endpoint: env.parse::<CallbackEndpoint>("WEBSOCKET_ENDPOINT")?,
        };
        websocket::serve_messages(NAME, app, handler::on_message, handler::on_continuation).await
    })
}
