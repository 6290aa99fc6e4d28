//! The stream of orders: restores ends of orders that another region overwrote, and settles the
//! region's reservations.

use std::process::ExitCode;

use sojourn::commerce::payments::sandbox::SandboxProvider;
use sojourn::commerce::reconciliation::Reconciler;
use sojourn::core::clock;
use sojourn::core::ids;
use sojourn::edge::{boot, stream};
use sojourn::platform::aws;

const FUNCTION: &str = "order-reconciler";

fn main() -> ExitCode {
    boot::run(FUNCTION, |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamo = aws_sdk_dynamodb::Client::new(&sdk);
        let provider = SandboxProvider::from_env(&sdk, &env, ids::random())?;
        let reconciler = Reconciler::from_env(dynamo, &env, provider, clock::system())?;
        stream::serve(FUNCTION, reconciler, |reconciler, changes, deadline| async move {
            reconciler.process(&changes, deadline).await
        })
        .await
    })
}
