//! The schedule `order-cleanup`: cancels orders that stay unpaid and returns their stock.

use std::process::ExitCode;

use sojourn::commerce::cancellation::Cancellations;
use sojourn::commerce::cancellation::cleanup::UnpaidHours;
use sojourn::commerce::payments::sandbox::SandboxProvider;
use sojourn::coordination::lock::{DynamoLocks, LeaseSettings, SlotRunner};
use sojourn::coordination::regions::Regions;
use sojourn::core::clock;
use sojourn::core::ids;
use sojourn::edge::boot;
use sojourn::edge::schedule;
use sojourn::platform::aws;

mod handler;

const FUNCTION: &str = "job-order-cleanup";

fn main() -> ExitCode {
    boot::run(FUNCTION, |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamo = aws_sdk_dynamodb::Client::new(&sdk);
        let (clock, ids) = (clock::system(), ids::random());
        let provider = SandboxProvider::from_env(&sdk, &env, ids.clone())?;
        let unpaid_hours: UnpaidHours = env.parse("UNPAID_ORDER_HOURS")?;
        let locks = DynamoLocks::from_env(dynamo.clone(), &env, clock.clone(), LeaseSettings::JOBS)?;
        let app = handler::App {
            regions: Regions::from_env(&sdk, &env, clock.clone())?,
            own: aws::region(&env)?,
            cancellations: Cancellations::from_env(dynamo, &env, provider, clock.clone())?,
            runner: SlotRunner::new(locks, clock, ids),
            unpaid_hours,
        };
        schedule::serve(FUNCTION, app, handler::handle).await
    })
}
