//! A stage for SNS and `EventBridge`: a template's topics, buses and queues, and clients of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use local_region::clock::SystemClock;
use local_region::services::Controls;
use local_region::services::access::Access;
use local_region::services::delivery::{Deliveries, HandedOver};
use local_region::services::events::EventBridge;
use local_region::services::sns::Sns;
use local_region::services::sqs::{MessageAttributes, Queues, Take};
use local_region::template::{self, Context, arn};
use serde_json::Value;

use crate::support::{ANYWHERE, credentials, key};

/// What a function was invoked with, and how it answers.
#[derive(Default)]
pub(crate) struct Invoked {
    pub(crate) payloads: Vec<(String, Value)>,
    /// How many invocations are throttled first.
    pub(crate) throttled: usize,
}

pub(crate) struct Stage {
    pub(crate) controls: Controls,
    pub(crate) deliveries: Arc<Deliveries>,
    pub(crate) invoked: Arc<Mutex<Invoked>>,
    queues: Arc<Queues>,
    sns: Sns,
    events: EventBridge,
}

/// A message of a queue.
pub(crate) struct Arrived {
    pub(crate) body: String,
    pub(crate) attributes: MessageAttributes,
}

impl Arrived {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The text of an attribute.
    pub(crate) fn text(&self, attribute: &str) -> &str {
        self.attributes[attribute].string_value.as_deref().unwrap()
    }
}

impl Stage {
    /// A region of these resources, as a template has them.
    pub(crate) fn start(resources: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("template.yaml");
        std::fs::write(&path, format!("Resources:\n{resources}")).unwrap();
        let context = Context { parameters: BTreeMap::new(), ..Context::default() };
        let stack = template::load(&path, &context).unwrap();
        let controls = Controls::new(Access::new(&stack));
        let queues = Arc::new(Queues::open(None, &stack.queues, SystemClock).unwrap());
        let deliveries = Deliveries::new(Arc::clone(&queues), stack.service_permissions.clone());
        let sns = Sns::start(ANYWHERE, &stack, Arc::clone(&deliveries), controls.clone()).unwrap();
        let events = EventBridge::start(ANYWHERE, &stack, Arc::clone(&deliveries), controls.clone()).unwrap();
        let invoked = Arc::<Mutex<Invoked>>::default();
        let functions = Arc::clone(&invoked);
        deliveries.connect(Box::new(move |function, payload: Bytes| {
            let mut invoked = functions.lock().unwrap_or_else(PoisonError::into_inner);
            if invoked.throttled > 0 {
                invoked.throttled -= 1;
                return HandedOver::Throttled;
            }
            invoked.payloads.push((function.to_owned(), serde_json::from_slice(&payload).unwrap()));
            HandedOver::Accepted
        }));
        Self { controls, deliveries, invoked, queues, sns, events }
    }

    /// A client of SNS with a function's key, or the operator's. It does not retry: each answer is
    /// seen.
    pub(crate) fn sns(&self, function: Option<&str>) -> aws_sdk_sns::Client {
        aws_sdk_sns::Client::from_conf(
            aws_sdk_sns::Config::builder()
                .behavior_version(aws_sdk_sns::config::BehaviorVersion::latest())
                .region(aws_sdk_sns::config::Region::new(arn::local().region().to_owned()))
                .credentials_provider(credentials(key(&self.controls.access, function)))
                .retry_config(aws_sdk_sns::config::retry::RetryConfig::disabled())
                .endpoint_url(self.sns.endpoint_url())
                .build(),
        )
    }

    /// The same of `EventBridge`.
    pub(crate) fn events(&self, function: Option<&str>) -> aws_sdk_eventbridge::Client {
        aws_sdk_eventbridge::Client::from_conf(
            aws_sdk_eventbridge::Config::builder()
                .behavior_version(aws_sdk_eventbridge::config::BehaviorVersion::latest())
                .region(aws_sdk_eventbridge::config::Region::new(arn::local().region().to_owned()))
                .credentials_provider(credentials(key(&self.controls.access, function)))
                .retry_config(aws_sdk_eventbridge::config::retry::RetryConfig::disabled())
                .endpoint_url(self.events.endpoint_url())
                .build(),
        )
    }

    /// What is in a queue, oldest first; each message once.
    pub(crate) fn take(&self, queue: &str) -> Vec<Arrived> {
        let mut arrived = Vec::new();
        loop {
            let take = Take { messages: 10, bytes: usize::MAX, overhead_bytes: 0, visibility_timeout: None };
            let received = self.queues.receive(queue, take).unwrap();
            if received.is_empty() {
                return arrived;
            }
            for message in received {
                self.queues.delete(queue, &message.receipt_handle).unwrap();
                arrived.push(Arrived { body: message.body, attributes: message.attributes });
            }
        }
    }

    /// The bodies of what is in a queue.
    pub(crate) fn bodies(&self, queue: &str) -> Vec<String> {
        self.take(queue).into_iter().map(|message| message.body).collect()
    }

    /// Waits until a function was invoked: its name and the payload.
    pub(crate) async fn until_invoked(&self) -> (String, Value) {
        for _ in 0..500 {
            if let Some(invocation) = self.invoked.lock().unwrap().payloads.pop() {
                return invocation;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no function was invoked in ten seconds");
    }

    /// Waits until a queue has something.
    pub(crate) async fn until_any(&self, queue: &str) -> Vec<Arrived> {
        for _ in 0..500 {
            let arrived = self.take(queue);
            if !arrived.is_empty() {
                return arrived;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nothing came to {queue} in ten seconds");
    }
}

/// A queue and its policy: `principal` may send for `source`.
pub(crate) fn queue(name: &str, principal: &str, source: &str) -> String {
    format!(
        r#"
  {name}: {{Type: AWS::SQS::Queue}}
  {name}Policy:
    Type: AWS::SQS::QueuePolicy
    Properties:
      Queues: [!Ref {name}]
      PolicyDocument:
        Statement:
          - Effect: Deny
            Principal: "*"
            Action: sqs:*
            Resource: !GetAtt {name}.Arn
            Condition: {{Bool: {{aws:SecureTransport: "false"}}}}
          - Effect: Allow
            Principal: {{Service: {principal}}}
            Action: sqs:SendMessage
            Resource: !GetAtt {name}.Arn
            Condition: {{ArnEquals: {{aws:SourceArn: {source}}}}}
"#
    )
}
