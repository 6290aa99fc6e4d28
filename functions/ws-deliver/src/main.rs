//! The region's queue of messages for sockets: delivers each to this region's sockets, once.

use std::process::ExitCode;

use sojourn::coordination::idempotency::dynamo::DynamoClaims;
use sojourn::core::{clock, ids};
use sojourn::edge::{boot, queue};
use sojourn::platform::aws;
use sojourn::sockets::connections::DynamoConnections;
use sojourn::sockets::delivery::{ApiGateway, Deliverer, FanOut, NextHop, SocketCloser, TopicConsumer};
use sojourn::sockets::inbox::Inbox;

mod handler;

const FUNCTION: &str = "ws-deliver";

fn main() -> ExitCode {
    boot::run(FUNCTION, |env| async move {
        let region = aws::region(&env)?;
        let sdk = aws::sdk_config(&env).await?;
        let dynamo = aws_sdk_dynamodb::Client::new(&sdk);
        let connections = DynamoConnections::from_env(dynamo.clone(), &env, clock::system())?;
        let next_hop = NextHop::from_env(aws_sdk_lambda::Client::new(&sdk), &env)?;
        let gateway = ApiGateway::new(sdk);
        let deliverer = Deliverer::new(connections.clone(), gateway.clone(), clock::system());
        let consumer = TopicConsumer {
            claims: DynamoClaims::from_env(dynamo.clone(), &env, clock::system(), ids::random())?,
            fan_out: FanOut::new(deliverer, Inbox::from_env(dynamo, &env, clock::system())?, next_hop),
            closer: SocketCloser::new(connections, gateway, clock::system(), ids::random()),
            region,
        };
        queue::serve(FUNCTION, consumer, handler::handle).await
    })
}
