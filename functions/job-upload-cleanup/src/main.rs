//! The schedule `upload-cleanup`: deletes unfinished uploads, and the remains of deleted ones.

use std::process::ExitCode;

use sojourn::coordination::lock::{DynamoLocks, LeaseSettings, SlotRunner};
use sojourn::core::clock;
use sojourn::core::ids;
use sojourn::edge::boot;
use sojourn::edge::schedule;
use sojourn::files::uploads::{DynamoUploads, S3Uploads};
use sojourn::platform::aws;

mod handler;

const FUNCTION: &str = "job-upload-cleanup";

fn main() -> ExitCode {
    boot::run(FUNCTION, |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamo = aws_sdk_dynamodb::Client::new(&sdk);
        let clock = clock::system();
        let locks = DynamoLocks::from_env(dynamo.clone(), &env, clock.clone(), LeaseSettings::JOBS)?;
        let app = handler::App {
            rows: DynamoUploads::from_env(dynamo, &env)?,
            files: S3Uploads::from_env(&sdk, &env, clock.clone())?,
            runner: SlotRunner::new(locks, clock.clone(), ids::random()),
            clock,
        };
        schedule::serve(FUNCTION, app, handler::handle).await
    })
}
