//! The schedule `order-cleanup`: cancels orders that stay unpaid and gives their stock back.

use std::process::ExitCode;

use sojourn::jobs::order_cleanup::UnpaidHours;
use sojourn::lock::{DynamoLocks, LeaseTerms, SlotRunner};
use sojourn::orders::dynamo::DynamoExpiry;
use sojourn::payments::sandbox::SandboxProvider;
use sojourn::{aws, boot, clock, ids, jobs};

mod handler;

const FUNCTION: &str = "job-order-cleanup";

fn main() -> ExitCode {
    boot::run(FUNCTION, |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamo = aws_sdk_dynamodb::Client::new(&sdk);
        let (clock, ids) = (clock::system(), ids::random());
        let provider = SandboxProvider::from_env(dynamo.clone(), &env, ids.clone())?;
        let unpaid_hours: UnpaidHours = env.parse("UNPAID_ORDER_HOURS")?;
        let locks = DynamoLocks::from_env(dynamo.clone(), &env, clock.clone(), LeaseTerms::JOBS)?;
        let app = handler::App {
            expiry: DynamoExpiry::from_env(dynamo, &env, provider, clock.clone(), ids.clone())?,
            runner: SlotRunner::new(locks, clock, ids),
            unpaid_hours,
        };
        jobs::serve(FUNCTION, app, handler::handle).await
    })
}
