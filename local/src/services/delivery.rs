//! How SNS and `EventBridge` deliver: to a queue or to a function, with the permission of the
//! target's own policy.
//!
//! 1. The target's resource policy must let the service deliver for this topic or rule
//!    ([`ServicePermission`]). The role of the publisher does not matter.
//! 2. The first attempt is made before the publisher has its answer. When it reads the answer, the
//!    messages are in the queues.
//! 3. A refusal (no permission, a message that the queue does not accept) is final. Anything else
//!    (a throttled function, a queue that can't be written) is retried as the service does.
//! 4. A delivery that is given up goes to the dead-letter queue, if there is one and its policy
//!    allows it.
//!
//! Limits: AWS delivers after its answer, at least once, and from a standard topic or a bus in any
//! order. Here each delivery is made once, and deliveries to one queue keep the order of the calls,
//! except for one that is tried again. Retries are lost when the region stops.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::access::covers;
use super::sqs::{Message, MessageAttributes, Outgoing, Queues};
use super::trail::Trail;
use crate::template::model::{ServicePermission, Target};

/// Deliveries of the whole region that wait for another attempt. One more is given up at once.
const MAX_WAITING: usize = 10_000;

/// The longest event that Lambda takes (Lambda quota "Invocation payload", asynchronous).
const MAX_FUNCTION_EVENT_BYTES: usize = 1024 * 1024;

/// Whether Lambda took an event over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandedOver {
    /// What becomes of it is between Lambda and the function from now on.
    Accepted,
    /// Too many events wait already.
    Throttled,
    /// No function of that name.
    NotFound,
}

/// Invokes a function, by its short name, asynchronously.
pub type InvokeFunction = Box<dyn Fn(&str, Bytes) -> HandedOver + Send + Sync>;

/// What is delivered, on whose behalf.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    /// Such as `sns.amazonaws.com`.
    pub(super) principal: &'static str,
    /// The topic or the rule.
    pub(super) source_arn: String,
    pub(super) target: Target,
    pub(super) content: Content,
    /// How often, and for how long.
    pub(super) retries: Retries,
    /// What becomes of it in the end; it is lost without one.
    pub(super) dead_letter: Option<DeadLetter>,
    /// Leads to the target's region, if that is another one.
    pub(super) way: Option<Way>,
}

/// The way from one region to another.
#[derive(Clone)]
pub struct Way(Arc<dyn Fn() -> bool + Send + Sync>);

impl Way {
    /// A way that is open whenever `is_open` says so.
    pub fn new(is_open: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_open))
    }

    fn is_open(&self) -> bool {
        (self.0)()
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Way").field(&self.is_open()).finish()
    }
}

/// A body, and attributes for a queue.
#[derive(Debug, Clone)]
pub(super) struct Content {
    pub(super) body: String,
    pub(super) attributes: MessageAttributes,
}

/// When a delivery that failed is tried again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retries {
    pub(super) maximum: u32,
    pub(super) maximum_age: Duration,
    /// The pause before each retry, from 1.
    pub(super) pause: fn(u32) -> Duration,
}

/// What goes to a dead-letter queue.
#[derive(Debug, Clone)]
pub(super) struct DeadLetter {
    pub(super) queue: String,
    pub(super) content: Content,
    /// What the service says about the failure there.
    pub(super) explain: fn(&GivenUp) -> MessageAttributes,
}

/// A delivery that is not tried again.
#[derive(Debug)]
pub(super) struct GivenUp {
    pub(super) failure: Failure,
    /// Attempts after the first.
    pub(super) retries: u32,
    /// Which limit of its retries ended it; none for a refusal.
    pub(super) exhausted: Option<Exhausted>,
}

/// A limit of retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exhausted {
    Attempts,
    Age,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("{principal} may not deliver to it for {source_arn}: its policy does not allow that")]
    NoPermission { principal: &'static str, source_arn: String },
    /// A message that the target does not accept.
    #[error("{0}")]
    Refused(String),
    #[error("there is no such target")]
    NoTarget,
    /// Too much at once.
    #[error("it is throttled")]
    Throttled,
    /// The target does not answer.
    #[error("{0}")]
    Unavailable(String),
}

impl Failure {
    fn is_for_good(&self) -> bool {
        matches!(self, Self::NoPermission { .. } | Self::Refused(_) | Self::NoTarget)
    }
}

/// The targets of the region, and the permissions to deliver to them.
pub struct Deliveries {
    queues: Arc<Queues>,
    permissions: Vec<ServicePermission>,
    /// Functions start after the services that deliver to them, and again when their region was
    /// down.
    invoke: RwLock<Option<InvokeFunction>>,
    waiting: AtomicUsize,
    /// What was published and what became of it.
    pub trail: Trail,
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Deliveries").field("permissions", &self.permissions).finish_non_exhaustive()
    }
}

impl Deliveries {
    /// Delivers to `queues`; to functions from [`Deliveries::connect`] on.
    pub fn new(queues: Arc<Queues>, permissions: Vec<ServicePermission>) -> Arc<Self> {
        Arc::new(Self {
            queues,
            permissions,
            invoke: RwLock::default(),
            waiting: AtomicUsize::new(0),
            trail: Trail::default(),
        })
    }

    /// Delivers to functions by `invoke` from now on.
    pub fn connect(&self, invoke: InvokeFunction) {
        *self.invoke.write().unwrap_or_else(PoisonError::into_inner) = Some(invoke);
    }

    /// Makes the first attempt, and has the others made if it fails. What became of it, for people.
    pub(super) fn deliver(self: &Arc<Self>, delivery: Delivery) -> String {
        let failure = match self.attempt(&delivery) {
            Ok(()) => return "delivered".to_owned(),
            Err(failure) => failure,
        };
        if failure.is_for_good() || delivery.retries.maximum == 0 {
            let exhausted = (!failure.is_for_good()).then_some(Exhausted::Attempts);
            return self.give_up(&delivery, GivenUp { failure, retries: 0, exhausted });
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return self.give_up(&delivery, GivenUp { failure, retries: 0, exhausted: None });
        }
        let text = format!("failed, will be tried again: {failure}");
        tokio::spawn(Arc::clone(self).retry(delivery, failure));
        text
    }

    async fn retry(self: Arc<Self>, delivery: Delivery, mut failure: Failure) {
        let start = Instant::now();
        let Retries { maximum, maximum_age, pause } = delivery.retries;
        let mut given_up = None;
        for retry in 1..=maximum {
            let pause = pause(retry);
            if start.elapsed() + pause > maximum_age {
                given_up = Some((retry - 1, Some(Exhausted::Age)));
                break;
            }
            sleep(pause).await;
            match self.attempt(&delivery) {
                Ok(()) => {
                    self.waiting.fetch_sub(1, Ordering::Relaxed);
                    let target = &delivery.target;
                    return tracing::info!(source = delivery.source_arn, ?target, retry, "delivered at last");
                }
                Err(last) if last.is_for_good() => {
                    failure = last;
                    given_up = Some((retry, None));
                    break;
                }
                Err(last) => failure = last,
            }
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let (retries, exhausted) = given_up.unwrap_or((maximum, Some(Exhausted::Attempts)));
        self.give_up(&delivery, GivenUp { failure, retries, exhausted });
    }

    fn attempt(&self, delivery: &Delivery) -> Result<(), Failure> {
        if delivery.way.as_ref().is_some_and(|way| !way.is_open()) {
            return Err(Failure::Unavailable("its region is not reached".to_owned()));
        }
        self.check(delivery, &delivery.target)?;
        match &delivery.target {
            Target::Queue(name) => self.send(delivery, name, &delivery.content),
            Target::Function(name) => {
                if delivery.content.body.len() > MAX_FUNCTION_EVENT_BYTES {
                    return Err(Failure::Refused("the event is longer than a function takes".to_owned()));
                }
                let invoke = self.invoke.read().unwrap_or_else(PoisonError::into_inner);
                let Some(invoke) = invoke.as_ref() else {
                    return Err(Failure::Unavailable("the functions are not started yet".to_owned()));
                };
                match invoke(name, Bytes::from(delivery.content.body.clone())) {
                    HandedOver::Accepted => Ok(()),
                    HandedOver::Throttled => Err(Failure::Throttled),
                    HandedOver::NotFound => Err(Failure::NoTarget),
                }
            }
        }
    }

    /// Whether the target's policy lets the service deliver.
    fn check(&self, delivery: &Delivery, target: &Target) -> Result<(), Failure> {
        let Delivery { principal, source_arn, .. } = delivery;
        let allows = |permission: &ServicePermission| {
            permission.target == *target
                && (permission.principal == *principal || permission.principal == "*")
                && permission
                    .sources
                    .as_ref()
                    .is_none_or(|sources| sources.iter().any(|pattern| covers(pattern, source_arn)))
        };
        if self.permissions.iter().any(allows) {
            return Ok(());
        }
        Err(Failure::NoPermission { principal, source_arn: source_arn.clone() })
    }

    fn send(&self, delivery: &Delivery, queue: &str, content: &Content) -> Result<(), Failure> {
        let limit = self.queues.queue(queue).map_err(|_| Failure::NoTarget)?.maximum_message_bytes;
        let message = Message::new(content.body.clone(), content.attributes.clone(), limit)
            .map_err(|error| Failure::Refused(error.to_string()))?;
        let sent =
            self.queues.send(queue, delivery.principal, &[Outgoing { message: &message, delay: None }]);
        sent.map(|_| ()).map_err(|error| Failure::Unavailable(error.to_string()))
    }

    /// Says what became of it.
    fn give_up(&self, delivery: &Delivery, given_up: GivenUp) -> String {
        let (source, target) = (&delivery.source_arn, &delivery.target);
        let fate = match &delivery.dead_letter {
            None => "lost, since there is no dead-letter queue".to_owned(),
            Some(DeadLetter { queue, content, explain }) => {
                let mut content = content.clone();
                content.attributes.extend(explain(&given_up));
                let allowed = self.check(delivery, &Target::Queue(queue.clone()));
                match allowed.and_then(|()| self.send(delivery, queue, &content)) {
                    Ok(()) => format!("now in {queue}"),
                    Err(failure) => format!("lost, since {queue} can't take it: {failure}"),
                }
            }
        };
        let GivenUp { failure, retries, .. } = given_up;
        tracing::warn!(source, ?target, retries, "not delivered: {failure}; {fate}");
        format!("not delivered: {failure}; {fate}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::template::model::Queue;

    /// Deliveries to a function that is always throttled, and to the queue `Dead`.
    fn deliveries() -> Arc<Deliveries> {
        let dead = Queue { maximum_message_bytes: 1024, ..Queue::new("Dead") };
        let permission = |target| ServicePermission {
            principal: "events.amazonaws.com".to_owned(),
            target,
            sources: Some(vec!["arn:aws:events:*:*:rule/*".to_owned()]),
        };
        let permissions =
            [Target::Function("worker".to_owned()), Target::Queue("Dead".to_owned())].map(permission);
        let queues = Arc::new(Queues::open(None, &[dead], SystemClock).unwrap());
        let deliveries = Deliveries::new(queues, permissions.to_vec());
        deliveries.connect(Box::new(|_, _| HandedOver::Throttled));
        deliveries
    }

    fn delivery(source_arn: &str, maximum: u32) -> Delivery {
        let content = Content { body: "b".to_owned(), attributes: MessageAttributes::new() };
        Delivery {
            principal: "events.amazonaws.com",
            way: None,
            source_arn: source_arn.to_owned(),
            target: Target::Function("worker".to_owned()),
            content: content.clone(),
            retries: Retries {
                maximum,
                maximum_age: Duration::from_mins(1),
                pause: |retry| Duration::from_secs(u64::from(retry) * 10),
            },
            dead_letter: Some(DeadLetter {
                queue: "Dead".to_owned(),
                content,
                explain: |given_up| {
                    let text = format!("{:?} {}", given_up.exhausted, given_up.retries);
                    let value = crate::services::sqs::MessageAttribute {
                        data_type: "String".to_owned(),
                        string_value: Some(text),
                        binary_value: None,
                    };
                    MessageAttributes::from([("why".to_owned(), value)])
                },
            }),
        }
    }

    fn dead(deliveries: &Deliveries) -> Vec<String> {
        let take = super::super::sqs::Take {
            messages: 10,
            bytes: usize::MAX,
            overhead_bytes: 0,
            visibility_timeout: None,
        };
        let received = deliveries.queues.receive("Dead", take).unwrap();
        received.into_iter().map(|message| message.attributes["why"].string_value.clone().unwrap()).collect()
    }

    const RULE: &str = "arn:aws:events:local:000000000000:rule/shop/Orders";

    #[tokio::test(start_paused = true)]
    async fn a_delivery_ends_with_its_retries_or_with_its_age() {
        // 10, 20 and 30 seconds are within the age, 40 more are not.
        for (maximum, why) in [(2, "Some(Attempts) 2"), (100, "Some(Age) 3")] {
            let deliveries = deliveries();
            let outcome = deliveries.deliver(delivery(RULE, maximum));
            assert!(outcome.contains("will be tried again"), "{outcome}");
            sleep(Duration::from_secs(29)).await;
            assert!(dead(&deliveries).is_empty(), "given up too early");
            sleep(Duration::from_mins(1)).await;
            assert_eq!(dead(&deliveries), [why]);
            assert_eq!(deliveries.waiting.load(Ordering::Relaxed), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_delivery_for_another_source_is_given_up_at_once() {
        let deliveries = deliveries();
        let outcome = deliveries.deliver(delivery("arn:aws:sns:local:000000000000:Orders", 2));
        assert!(outcome.contains("its policy does not allow that"), "{outcome}");
        assert_eq!(deliveries.waiting.load(Ordering::Relaxed), 0);
    }
}
