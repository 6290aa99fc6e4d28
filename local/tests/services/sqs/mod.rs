//! Queues, as the SDK sees them.

mod messages;
mod requests;
mod visibility;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Region};
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::operation::receive_message::builders::ReceiveMessageFluentBuilder;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use jiff::{SignedDuration, Timestamp};
use local_region::clock::Clock;
use local_region::services::Controls;
use local_region::services::access::Access;
use local_region::services::sqs::{Queues, Sqs};
use local_region::template::arn;
use local_region::template::model::{Queue, Redrive, Stack};

use crate::support::{ANYWHERE, credentials, function, key};

const MIB: usize = 1024 * 1024;

/// Stands still until the test moves it.
#[derive(Clone, Default)]
struct HandClock(Arc<AtomicI64>);

impl HandClock {
    fn pass(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        "2026-11-20T10:00:00Z".parse::<Timestamp>().unwrap()
            + SignedDuration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

struct Stage {
    sqs: Sqs,
    controls: Controls,
    queues: Arc<Queues>,
    clock: HandClock,
}

impl Stage {
    fn start() -> Self {
        Self::on(None, HandClock::default())
    }

    fn on(file: Option<&Path>, clock: HandClock) -> Self {
        let redrive = Redrive { dead_letter_queue: "Dead".to_owned(), maximum_receives: 2 };
        let queues = [Queue { redrive: Some(redrive), ..Queue::new("Jobs") }, Queue::new("Dead")];
        let sender = function("api-exports", &[(&["sqs:SendMessage"], &[arn::local().queue("Jobs")])]);
        let stack = Stack { functions: vec![sender], ..Stack::default() };
        let controls = Controls::new(Access::new(&stack));
        let queues = Arc::new(Queues::open(file, &queues, clock.clone()).unwrap());
        let listener = TcpListener::bind(ANYWHERE).unwrap();
        let sqs = Sqs::start(listener, Arc::clone(&queues), controls.clone()).unwrap();
        Self { sqs, controls, queues, clock }
    }

    fn client(&self, function: Option<&str>) -> Client {
        Client::from_conf(
            aws_sdk_sqs::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new(arn::local().region().to_owned()))
                .credentials_provider(credentials(key(&self.controls.access, function)))
                .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(5)))
                .endpoint_url(self.sqs.endpoint_url())
                .build(),
        )
    }

    fn url(&self, queue: &str) -> String {
        format!("{}/000000000000/{queue}", self.sqs.endpoint_url())
    }

    async fn send(&self, body: &str) -> String {
        let sent = self.client(None).send_message().queue_url(self.url("Jobs")).message_body(body);
        sent.send().await.unwrap().message_id.unwrap()
    }

    fn receiving(&self, queue: &str) -> ReceiveMessageFluentBuilder {
        self.client(None)
            .receive_message()
            .queue_url(self.url(queue))
            .max_number_of_messages(10)
            .message_system_attribute_names(MessageSystemAttributeName::All)
    }

    async fn receive(&self, queue: &str) -> Vec<Message> {
        self.receiving(queue).send().await.unwrap().messages.unwrap_or_default()
    }

    async fn delete(&self, message: &Message) {
        let delete = self.client(None).delete_message().queue_url(self.url("Jobs"));
        delete.receipt_handle(message.receipt_handle().unwrap()).send().await.unwrap();
    }

    async fn attribute(&self, queue: &str, name: QueueAttributeName) -> String {
        let asked = self.client(None).get_queue_attributes().queue_url(self.url(queue));
        let answer = asked.attribute_names(QueueAttributeName::All).send().await.unwrap();
        answer.attributes.unwrap()[&name].clone()
    }
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.body().unwrap()).collect()
}

fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap().to_owned()
}
