//! The stream of the orders: gives back what the region has reserved for orders that another region has ended or replaced.

use std::process::ExitCode;

use sojourn::commerce::reconciliation::Reconciler;
use sojourn::core::clock;
use sojourn::edge::{boot, stream};
use sojourn::platform::aws;

const FUNCTION: &str = "order-reconciler";

fn main() -> ExitCode {
    boot::run(FUNCTION, |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamo = aws_sdk_dynamodb::Client::new(&sdk);
        let reconciler = Reconciler::from_env(dynamo, &env, clock::system())?;
        stream::serve(FUNCTION, reconciler, |reconciler, changes, deadline| async move {
            reconciler.hear(&changes, deadline).await
        })
        .await
    })
}
