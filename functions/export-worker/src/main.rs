//! The queue of exports: runs them, and ends those that failed too often.

use std::process::ExitCode;

use sojourn::commerce::orders::dynamo::DynamoOrders;
use sojourn::coordination::lock::{DynamoLocks, LeaseSettings};
use sojourn::core::clock;
use sojourn::core::ids;
use sojourn::edge::boot;
use sojourn::edge::queue;
use sojourn::files::exports::dynamo::DynamoRows;
use sojourn::files::exports::run::Exporter;
use sojourn::files::exports::{PART_BYTES, S3Results, Worker};
use sojourn::platform::aws;
use sojourn::platform::queue::SqsQueue;
use sojourn::platform::tables;

mod handler;

const FUNCTION: &str = "export-worker";

fn main() -> ExitCode {
    boot::run(FUNCTION, |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamo = aws_sdk_dynamodb::Client::new(&sdk);
        let (clock, ids) = (clock::system(), ids::random());
        let exporter = Exporter {
            rows: DynamoRows::from_env(dynamo.clone(), &env, clock.clone(), ids.clone())?,
            orders: DynamoOrders::from_env(dynamo.clone(), &env)?,
            results: S3Results::from_env(S3Results::client(&env, &sdk), &env)?,
            clock: clock.clone(),
            ids: ids.clone(),
            part_bytes: PART_BYTES,
        };
        let locks = DynamoLocks::new(
            dynamo,
            tables::LOCKS.name(&env)?,
            aws::region(&env)?,
            clock.clone(),
            LeaseSettings::EXPORTS,
        );
        let sqs = aws_sdk_sqs::Client::new(&sdk);
        let queue = SqsQueue::from_env(sqs.clone(), &env, "EXPORTS_QUEUE_URL")?;
        let app = handler::App {
            worker: Worker::new(locks, exporter, queue.clone(), clock, ids),
            queue,
            dead_letter_queue: SqsQueue::from_env(sqs, &env, "EXPORTS_DEAD_LETTER_QUEUE_URL")?,
            dead_letter_queue_arn: env.required("EXPORTS_DEAD_LETTER_QUEUE_ARN")?.to_owned(),
        };
        queue::serve(FUNCTION, app, handler::handle).await
    })
}
