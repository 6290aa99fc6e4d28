//! The schedule `upload-cleanup`: ends uploads that nobody finished, and takes away what deleted ones left behind.

use std::process::ExitCode;

use sojourn::lock::{DynamoLocks, LeaseTerms, SlotRunner};
use sojourn::uploads::dynamo::DynamoSweep;
use sojourn::uploads::s3::S3Uploads;
use sojourn::{aws, boot, clock, ids, jobs};

mod handler;

const FUNCTION: &str = "job-upload-cleanup";

fn main() -> ExitCode {
    boot::run(FUNCTION, |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamo = aws_sdk_dynamodb::Client::new(&sdk);
        let clock = clock::system();
        let locks = DynamoLocks::from_env(dynamo.clone(), &env, clock.clone(), LeaseTerms::JOBS)?;
        let app = handler::App {
            rows: DynamoSweep::from_env(dynamo, &env, clock.clone())?,
            files: S3Uploads::from_env(&sdk, &env, clock.clone())?,
            runner: SlotRunner::new(locks, clock, ids::random()),
        };
        jobs::serve(FUNCTION, app, handler::handle).await
    })
}
