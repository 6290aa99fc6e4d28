//! The schedule `daily-report`: a report of yesterday's orders, to S3.

use std::process::ExitCode;

use sojourn::commerce::orders::dynamo::DynamoOrders;
use sojourn::commerce::reports::S3Reports;
use sojourn::coordination::lock::{DynamoLocks, LeaseSettings, SlotRunner};
use sojourn::core::clock;
use sojourn::core::ids;
use sojourn::edge::boot;
use sojourn::edge::schedule;
use sojourn::platform::aws;
use sojourn::platform::dynamo::Agreement;

mod handler;

const FUNCTION: &str = "job-daily-report";

fn main() -> ExitCode {
    boot::run(FUNCTION, |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamo = aws_sdk_dynamodb::Client::new(&sdk);
        let clock = clock::system();
        let terms = LeaseSettings::JOBS;
        // One report in the world, from whichever region is first.
        let locks = match Agreement::from_env(&sdk, &env)? {
            Some(agreement) => {
                DynamoLocks::of_all_regions(agreement, aws::region(&env)?, clock.clone(), terms)
            }
            None => DynamoLocks::from_env(dynamo.clone(), &env, clock.clone(), terms)?,
        };
        let app = handler::App {
            runner: SlotRunner::new(locks, clock.clone(), ids::random()),
            orders: DynamoOrders::from_env(dynamo, &env)?,
            archive: S3Reports::from_env(aws::s3_client(&env, &sdk), &env)?,
            clock,
        };
        schedule::serve(FUNCTION, app, handler::handle).await
    })
}
