//! An SQS for each test: embedded, with one queue and its dead-letter queue.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use local_region::clock::SystemClock;
use local_region::services::Controls;
use local_region::services::access::Access;
use local_region::services::sqs::{Queues, Sqs};
use local_region::template::arn;
use local_region::template::model::{Queue, Redrive};

/// The name of the queue.
const QUEUE: &str = "Waiting";
/// The name of its dead-letter queue.
const DEAD_LETTERS: &str = "Dead";
/// Receives after which a message goes to the dead-letter queue. More than a test of redelivery
/// needs.
const MAXIMUM_RECEIVES: u32 = 5;

/// The embedded SQS. Gone when dropped.
pub struct MessageQueue {
    sqs: Sqs,
    queues: Arc<Queues>,
    /// Its faults and its usage.
    pub controls: Controls,
}

impl MessageQueue {
    /// Starts an SQS with empty queues.
    pub fn start() -> Self {
        let redrive =
            Redrive { dead_letter_queue: DEAD_LETTERS.to_owned(), maximum_receives: MAXIMUM_RECEIVES };
        let queues = [Queue { redrive: Some(redrive), ..Queue::new(QUEUE) }, Queue::new(DEAD_LETTERS)];
        let queues = Arc::new(Queues::open(None, &queues, SystemClock).unwrap());
        let controls = Controls::new(Access::unrestricted());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self { sqs: Sqs::start(listener, Arc::clone(&queues), controls.clone()).unwrap(), queues, controls }
    }

    /// The queue's URL.
    pub fn url(&self) -> String {
        format!("{}/000000000000/{QUEUE}", self.sqs.endpoint_url())
    }

    /// A client that retries as functions do, but without waiting long.
    pub fn client(&self) -> Client {
        let key = self.controls.access.operator();
        let credentials = Credentials::new(&key.access_key_id, &key.secret_access_key, None, None, "test");
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(arn::local().region().to_owned()))
            .credentials_provider(credentials)
            .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(5)))
            .endpoint_url(self.sqs.endpoint_url());
        Client::from_conf(config.build())
    }

    /// How many messages are in the dead-letter queue.
    pub fn dead_letters(&self) -> u64 {
        self.queues.count(DEAD_LETTERS).unwrap().visible
    }
}
