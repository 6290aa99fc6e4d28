//! The stream of the outbox table: publishes events to the bus and to the topics.

use std::process::ExitCode;

use sojourn::core::clock;
use sojourn::edge::{boot, stream};
use sojourn::platform::aws;
use sojourn::relay::Relay;

const FUNCTION: &str = "outbox-relay";

fn main() -> ExitCode {
    boot::run(FUNCTION, |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let relay = Relay::from_env(
            aws_sdk_eventbridge::Client::new(&sdk),
            aws_sdk_sns::Client::new(&sdk),
            aws_sdk_sqs::Client::new(&sdk),
            &env,
            clock::system(),
        )?;
        stream::serve(FUNCTION, relay, |relay, changes, deadline| async move {
            relay.publish(changes, deadline).await
        })
        .await
    })
}
