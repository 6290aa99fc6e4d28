//! Stores the events of the write-behind buffer of activity.
//!
//! | `BUFFER` | invoked by | with |
//! |---|---|---|
//! | `sqs` | an event source mapping | messages of the queue |
//! | `kafka` | an event source mapping | records of the topic |
//! | `redis` | a schedule, each minute, or an operator | nothing: it polls batches until the buffer is empty |
//!
//! The schedule also reports how much waits, for every kind of buffer. An operator invokes the
//! function with `{"drain": {}}`; several invocations may run concurrently.

use std::process::ExitCode;

use sojourn::commerce::activity::dynamo::DynamoActivity;
use sojourn::commerce::activity::writer::ActivityWriter;
use sojourn::core::clock;
use sojourn::edge::boot;
use sojourn::edge::consumer;
use sojourn::platform::aws;
use sojourn::platform::buffer::WriteBehindBuffer;
use sojourn::platform::queue::SqsQueue;

mod handler;

const FUNCTION: &str = "activity-writer";

fn main() -> ExitCode {
    boot::run(FUNCTION, |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let (sqs, clock) = (aws_sdk_sqs::Client::new(&sdk), clock::system());
        let dead_letters = SqsQueue::from_env(sqs.clone(), &env, "ACTIVITY_DEAD_LETTER_QUEUE_URL")?;
        let activity = DynamoActivity::from_env(aws_sdk_dynamodb::Client::new(&sdk), &env, clock.clone())?;
        let app = handler::App {
            writer: ActivityWriter::new(activity, dead_letters),
            buffer: WriteBehindBuffer::from_env(sqs, &env, clock.clone())?,
            clock,
        };
        consumer::serve(FUNCTION, app).await
    })
}
