//! Routes `send`, `inbox`, `ping` and `$default`: accepts clients' messages, delivers them,
//! continues long deliveries, and reads the inbox. Closes the sockets of senders whose session has
//! ended, and of those that ignore the frame limit.

use std::process::ExitCode;

use sojourn::coordination::idempotency::dynamo::DynamoClaims;
use sojourn::core::clock;
use sojourn::core::ids;
use sojourn::edge::boot;
use sojourn::edge::websocket;
use sojourn::identity::sessions::SessionStore;
use sojourn::platform::aws;
use sojourn::sockets::connections::{CallbackEndpoint, DynamoConnections};
use sojourn::sockets::delivery::{
    ApiGateway, Deliverer, FanOut, Messenger, NextHop, PeerTopics, Recipients, SocketCloser,
};
use sojourn::sockets::inbox::Inbox;

mod handler;

const NAME: &str = "ws-send";

fn main() -> ExitCode {
    boot::run(NAME, |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamo = aws_sdk_dynamodb::Client::new(&sdk);
        let connections = DynamoConnections::from_env(dynamo.clone(), &env, clock::system())?;
        let next_hop = NextHop::from_env(aws_sdk_lambda::Client::new(&sdk), &env)?;
        let peers = PeerTopics::from_env(aws_sdk_sns::Client::new(&sdk), &env, aws::region(&env)?)?;
        let gateway = ApiGateway::new(sdk);
        let deliverer = Deliverer::new(connections.clone(), gateway.clone(), clock::system());
        let messenger = Messenger {
            registry: connections.clone(),
            sessions: SessionStore::from_env(dynamo.clone(), &env, clock::system())?,
            claims: DynamoClaims::from_env(dynamo.clone(), &env, clock::system(), ids::random())?,
            recipients: Recipients::from_env(dynamo.clone(), &env, clock::system())?,
            fan_out: FanOut::new(deliverer, Inbox::from_env(dynamo, &env, clock::system())?, next_hop),
            peers,
            clock: clock::system(),
            ids: ids::random(),
        };
        let app = handler::App {
            messenger,
            closer: SocketCloser::new(connections, gateway, clock::system(), ids::random()),
            endpoint: env.parse::<CallbackEndpoint>("WEBSOCKET_ENDPOINT")?,
        };
        websocket::serve_messages(NAME, app, handler::on_message, handler::on_continuation).await
    })
}
