//! The relay of a [transactional outbox]: publishes the outbox's events.
//!
//! # Protocol
//! 1. The stream of the outbox table delivers new rows in batches, in order per subject. The relay
//!    skips rows of other regions, which publish them themselves.
//! 2. Each event goes to the EventBridge bus. An event that concerns a customer's sockets also goes
//!    to the SNS topic of its kind, as a message or as the order to close sockets
//!    ([`TopicMessage`]).
//! 3. Events are published in rounds. A round has the first unpublished event of each subject. So
//!    an event is sent after the event before it has arrived everywhere, and events of different
//!    subjects share calls ([`MAX_ENTRIES`] each).
//! 4. Each entry of a call has its own result. Only failed entries are retried, with backoff and
//!    jitter, until the invocation's deadline.
//! 5. An entry that cannot be published (too large, malformed, not an event) goes to a dead-letter
//!    queue with its reason and raises an alarm. The events after it continue.
//! 6. Events that are left at the deadline are reported as failed. Lambda delivers the batch again
//!    from the first failed row on. While an entry fails, no later event is started: it would be
//!    published again with that batch.
//!
//! # Limits
//! Events are published at least once, and consumers drop an `eventId` that they have seen. An
//! event is published again if the relay dies between the call and the answer, or if an earlier
//! event of the batch failed until the deadline. DynamoDB guarantees the stream's order per item.
//! Rows of one partition key share a shard unless DynamoDB splits a hot key; then newer event ids
//! go to the newer shard, which Lambda reads after the older one. If the bus is down for longer
//! than the event source retries, its events stay in the table for [`RETENTION`], and the event
//! source's failure queue has their positions in the stream.
//!
//! [transactional outbox]: https://microservices.io/patterns/data/transactional-outbox.html
//! [`RETENTION`]: crate::platform::outbox::RETENTION
//! [`TopicMessage`]: crate::sockets::delivery::TopicMessage

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::stream::{self, StreamExt};

use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::retry::Backoff;
use crate::platform::aws;
use crate::platform::publish::{
    BusEvent, EntryOutcome, EventBus, MAX_BUS_BYTES, MAX_ENTRIES, MAX_TOPIC_BYTES, TopicEntry, Topics,
};
use crate::platform::queue::{Queue, SqsQueue};
use crate::platform::stream::Change;
use crate::platform::telemetry::{Metric, chain, count, count_case, measure};
use crate::sockets::delivery::Topic;
use outgoing::{Destination, Outgoing, Step};

mod outgoing;

/// Most concurrent calls. A batch of 100 events makes 10 calls to the bus and about as many to
/// topics.
const MAX_CALLS: usize = 8;

/// The topics that events go to.
const TOPICS: [Topic; 3] = [Topic::Orders, Topic::Exports, Topic::Sessions];

/// The position of a step: the index of its event, and the index of the step within the event.
type StepPosition = (usize, usize);

/// Publishes events.
#[derive(Debug)]
pub struct Relay {
    bus: EventBus,
    topics: Topics,
    topic_arns: BTreeMap<Topic, String>,
    set_aside: SqsQueue,
    region: String,
    clock: SharedClock,
}

impl Relay {
    /// Publishes to the bus and topics that the environment names. `SET_ASIDE_QUEUE_URL` is the
    /// dead-letter queue.
    pub fn from_env(
        bus: aws_sdk_eventbridge::Client,
        topics: aws_sdk_sns::Client,
        queues: aws_sdk_sqs::Client,
        env: &Env,
        clock: SharedClock,
    ) -> Result<Self, ConfigError> {
        let arn = |topic: Topic| Ok((topic, env.required(topic.variable())?.to_owned()));
        Ok(Self {
            bus: EventBus::from_env(bus, env)?,
            topics: Topics::new(topics),
            topic_arns: TOPICS.into_iter().map(arn).collect::<Result<_, ConfigError>>()?,
            set_aside: SqsQueue::from_env(queues, env, "SET_ASIDE_QUEUE_URL")?,
            region: aws::region(env)?,
            clock,
        })
    }

    /// Publishes the events of `changes`. Returns the sequence number of the first one that is not
    /// published, if there is one.
    pub async fn publish(&self, changes: Vec<Change>, deadline: Deadline) -> Option<String> {
        let now = self.clock.now();
        let events = changes.into_iter().filter_map(|change| Outgoing::of(change, &self.region, now));
        let mut waiting: Vec<Outgoing> = events.collect();
        if let Some(oldest) = waiting.iter().map(|event| event.occurred_at).min() {
            let age = now.duration_since(oldest).as_secs();
            measure(Metric::OldestEventAge, u64::try_from(age).unwrap_or(0));
        }
        let mut backoff = Backoff::within(deadline);
        let mut failing = None;
        while !waiting.is_empty() {
            let outcomes = self.round(&waiting, failing, deadline).await;
            failing = advance(&mut waiting, outcomes);
            if failing.is_none() {
                backoff = Backoff::within(deadline);
            } else if !backoff.wait().await {
                break;
            }
        }
        waiting.into_iter().next().map(|event| event.sequence_number)
    }

    /// Performs all steps of the first event of each subject. Does not start events after the one
    /// at `failing`.
    async fn round(
        &self,
        waiting: &[Outgoing],
        failing: Option<usize>,
        deadline: Deadline,
    ) -> HashMap<StepPosition, EntryOutcome> {
        let calls = calls(waiting, failing.unwrap_or(waiting.len()));
        let answers = calls.into_iter().map(|(destination, places)| async move {
            let call = self.call(destination, waiting, &places);
            let outcomes = deadline
                .cut_off(call)
                .await
                .unwrap_or_else(|passed| vec![EntryOutcome::Failed(passed.to_string()); places.len()]);
            places.into_iter().zip(outcomes).collect::<Vec<_>>()
        });
        let answers: Vec<_> = stream::iter(answers).buffer_unordered(MAX_CALLS).collect().await;
        answers.into_iter().flatten().collect()
    }

    /// One call: the steps at `places`, which have one destination.
    async fn call(
        &self,
        to: Destination,
        waiting: &[Outgoing],
        places: &[StepPosition],
    ) -> Vec<EntryOutcome> {
        let steps = || places.iter().filter_map(|(event, step)| waiting.get(*event)?.steps.get(*step));
        match to {
            Destination::Bus => {
                let events = steps().filter_map(|step| match step {
                    Step::Bus(event) => Some(event),
                    Step::Topic(..) | Step::SetAside(_) => None,
                });
                self.bus.put(&events.collect::<Vec<&BusEvent>>()).await
            }
            Destination::Topic(topic) => {
                let entries = steps().filter_map(|step| match step {
                    Step::Topic(_, entry) => Some(entry),
                    Step::Bus(_) | Step::SetAside(_) => None,
                });
                let arn = self.topic_arns.get(&topic).map_or("", String::as_str);
                self.topics.publish(arn, &entries.collect::<Vec<&TopicEntry>>()).await
            }
            Destination::SetAside => {
                let mut outcomes = Vec::with_capacity(places.len());
                for step in steps() {
                    let Step::SetAside(text) = step else { continue };
                    outcomes.push(match self.set_aside.send(text).await {
                        Ok(()) => EntryOutcome::Published,
                        Err(error) => EntryOutcome::Failed(chain(&error)),
                    });
                }
                outcomes
            }
        }
    }
}

/// The calls of a round: the steps of the first event of each subject, up to the event at `last`.
fn calls(waiting: &[Outgoing], last: usize) -> Vec<(Destination, Vec<StepPosition>)> {
    let mut subjects = HashSet::new();
    let mut by_destination: BTreeMap<Destination, Vec<(StepPosition, usize)>> = BTreeMap::new();
    for (place, event) in waiting.iter().enumerate().take(last.saturating_add(1)) {
        if !subjects.insert(event.subject.as_str()) {
            continue;
        }
        for (number, step) in event.steps.iter().enumerate() {
            let steps = by_destination.entry(step.destination()).or_default();
            steps.push(((place, number), step.size_bytes()));
        }
    }
    let mut calls = Vec::new();
    for (destination, steps) in by_destination {
        let limit = match destination {
            Destination::Bus => MAX_BUS_BYTES,
            Destination::Topic(_) => MAX_TOPIC_BYTES,
            Destination::SetAside => usize::MAX,
        };
        let (mut places, mut bytes) = (Vec::new(), 0);
        for (place, size) in steps {
            if places.len() == MAX_ENTRIES || (!places.is_empty() && bytes + size > limit) {
                calls.push((destination, std::mem::take(&mut places)));
                bytes = 0;
            }
            places.push(place);
            bytes += size;
        }
        calls.push((destination, places));
    }
    calls
}

/// Removes the completed steps. Returns the position of the first event with a failed step.
fn advance(waiting: &mut Vec<Outgoing>, mut outcomes: HashMap<StepPosition, EntryOutcome>) -> Option<usize> {
    let mut failing = None;
    let mut left = Vec::with_capacity(waiting.len());
    for (place, mut event) in std::mem::take(waiting).into_iter().enumerate() {
        let mut has_failed = false;
        let steps = std::mem::take(&mut event.steps).into_iter().enumerate();
        event.steps = steps
            .filter_map(|(number, step)| {
                let destination = step.destination();
                match outcomes.remove(&(place, number)) {
                    None => Some(step),
                    Some(EntryOutcome::Published) => {
                        published(destination, &event.subject);
                        None
                    }
                    Some(EntryOutcome::Failed(reason)) => {
                        count_case(Metric::EventsFailed, destination.name(), 1);
                        let (subject, to) = (&event.subject, destination.name());
                        tracing::warn!(subject, to, reason, "an event was not published and is retried");
                        has_failed = true;
                        Some(step)
                    }
                    Some(EntryOutcome::Refused(reason)) => Some(step.set_aside(&reason)),
                }
            })
            .collect();
        if has_failed && failing.is_none() {
            failing = Some(left.len());
        }
        if !event.steps.is_empty() {
            left.push(event);
        }
    }
    *waiting = left;
    failing
}

fn published(destination: Destination, subject: &str) {
    if destination == Destination::SetAside {
        count(Metric::EventsSetAside, 1);
        tracing::error!(
            subject,
            error_type = "event-set-aside",
            "an event cannot be published and was sent to the dead-letter queue"
        );
    } else {
        count_case(Metric::EventsPublished, destination.name(), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::outbox::EventType;
    use crate::platform::stream::ChangeKind;
    use serde_json::{Value, json};

    const REGION: &str = "local";

    fn row(kind: EventType, subject: &str, data: &Value) -> Value {
        json!({
            "eventId": "evt_01KAGF5H7K9M1N3Q5S7V9X1Z3B", "type": kind, "version": 1, "expiresAt": 1_795_771_865,
            "occurredAt": "2026-11-20T09:31:05.250Z", "region": REGION, "subject": subject, "data": data,
        })
    }

    fn order(subject: &str) -> Value {
        let customer = "usr_01KAGCN3V5X7Z9B1D3F5H7K9M1";
        row(EventType::OrderPaid, subject, &json!({"orderId": subject, "customerId": customer}))
    }

    fn waiting(rows: impl IntoIterator<Item = Value>) -> Vec<Outgoing> {
        let now = "2026-11-20T09:31:06Z".parse().unwrap();
        let changes = rows.into_iter().enumerate().map(|(place, row)| Change {
            sequence_number: place.to_string(),
            kind: ChangeKind::Insert,
            keys: serde_dynamo::Item::default(),
            old_image: None,
            new_image: Some(serde_dynamo::to_item(crate::core::json::Plain(&row)).unwrap()),
        });
        changes.filter_map(|change| Outgoing::of(change, REGION, now)).collect()
    }

    /// The events whose steps are in the calls to `destination`.
    fn events(calls: &[(Destination, Vec<StepPosition>)], destination: Destination) -> Vec<usize> {
        let of_it = calls.iter().filter(|(to, _)| *to == destination);
        of_it.flat_map(|(_, places)| places.iter().map(|(event, _)| *event)).collect()
    }

    #[test]
    fn a_round_has_the_first_event_of_each_subject() {
        let waiting = waiting(["a", "b", "a", "c", "b"].map(order));
        let calls = calls(&waiting, waiting.len());
        assert_eq!(events(&calls, Destination::Bus), [0, 1, 3]);
        assert_eq!(events(&calls, Destination::Topic(Topic::Orders)), [0, 1, 3]);
        assert_eq!(calls.len(), 2, "subjects share calls");
    }

    #[test]
    fn no_event_behind_a_failing_one_is_started() {
        let waiting = waiting(["a", "b", "c"].map(order));
        assert_eq!(events(&calls(&waiting, 1), Destination::Bus), [0, 1]);
    }

    #[test]
    fn calls_have_ten_entries_and_a_mebibyte_at_most() {
        let many = waiting((0..25).map(|n| order(&n.to_string())));
        let sizes = |calls: Vec<(Destination, Vec<StepPosition>)>| -> Vec<usize> {
            let of_bus = calls.into_iter().filter(|(to, _)| *to == Destination::Bus);
            of_bus.map(|(_, places)| places.len()).collect()
        };
        assert_eq!(sizes(calls(&many, many.len())), [10, 10, 5]);
        let large =
            |n: usize| row(EventType::StockChanged, &n.to_string(), &json!({"text": "x".repeat(300_000)}));
        let large = waiting((0..7).map(large));
        assert_eq!(sizes(calls(&large, large.len())), [3, 3, 1]);
    }

    #[test]
    fn only_what_failed_is_left_and_an_event_that_can_never_pass_is_set_aside() {
        let mut waiting = waiting(["a", "b", "c", "c"].map(order));
        let failed = || EntryOutcome::Failed("throttled".to_owned());
        let outcomes = HashMap::from([
            ((0, 0), EntryOutcome::Published),
            ((0, 1), EntryOutcome::Published),
            ((1, 0), EntryOutcome::Published),
            ((1, 1), failed()),
            ((2, 0), EntryOutcome::Refused("MalformedDetail".to_owned())),
            ((2, 1), EntryOutcome::Published),
        ]);
        assert_eq!(advance(&mut waiting, outcomes), Some(0));
        let left: Vec<_> = waiting
            .iter()
            .map(|event| {
                (event.sequence_number.as_str(), event.steps.iter().map(Step::destination).collect())
            })
            .collect();
        let orders = Destination::Topic(Topic::Orders);
        let expected: [(&str, Vec<Destination>); 3] =
            [("1", vec![orders]), ("2", vec![Destination::SetAside]), ("3", vec![Destination::Bus, orders])];
        assert_eq!(left, expected);
    }

    #[test]
    fn rows_of_other_regions_and_deletions_are_left_out() {
        let mut elsewhere = order("a");
        elsewhere["region"] = "tokyo".into();
        assert!(waiting([elsewhere]).is_empty());
        let expired = Change {
            sequence_number: "1".to_owned(),
            kind: ChangeKind::Remove,
            keys: serde_dynamo::Item::default(),
            old_image: None,
            new_image: None,
        };
        assert!(Outgoing::of(expired, REGION, "2026-11-20T09:31:06Z".parse().unwrap()).is_none());
    }

    #[test]
    fn what_can_never_pass_is_set_aside_with_its_reason_and_the_rest_of_the_event_goes_on() {
        let text = |step: &Step| match step {
            Step::SetAside(text) => serde_json::from_str::<Value>(text).unwrap(),
            Step::Bus(_) | Step::Topic(..) => panic!("{step:?} is not set aside"),
        };
        let [no_event] = &waiting([json!({"subject": "a", "eventId": "b"})])[..] else { panic!("one row") };
        let [step] = &no_event.steps[..] else { panic!("{no_event:?}") };
        assert!(text(step)["reason"].as_str().unwrap().starts_with("the row is not an event"), "{step:?}");

        let nobodys = row(EventType::OrderPaid, "a", &json!({"orderId": "a"}));
        let [nobodys] = &waiting([nobodys])[..] else { panic!("one row") };
        let [Step::Bus(_), step] = &nobodys.steps[..] else { panic!("{nobodys:?}") };
        assert!(text(step)["reason"].as_str().unwrap().contains("not that of its type"), "{step:?}");

        let mut too_large = order("a");
        too_large["data"]["text"] = "x".repeat(MAX_TOPIC_BYTES).into();
        let [too_large] = &waiting([too_large])[..] else { panic!("one row") };
        let [Step::Bus(_), step] = &too_large.steps[..] else { panic!("{too_large:?}") };
        assert!(text(step)["reason"].as_str().unwrap().contains("at most 262144 pass"), "{step:?}");
    }

    #[test]
    fn an_event_is_published_as_its_row_is_without_the_expiry() {
        let mut row = order("a");
        row["type"] = "order.praised".into();
        row["data"]["total"] = json!({"amount": 129_800, "currency": "JPY"});
        let [event] = &waiting([row.clone()])[..] else { panic!("one row") };
        let [Step::Bus(bus)] = &event.steps[..] else {
            panic!("an unknown type concerns no socket: {event:?}")
        };
        row.as_object_mut().unwrap().remove("expiresAt");
        assert_eq!(serde_json::from_str::<Value>(&bus.detail).unwrap(), row);
        assert_eq!(bus.detail_type, "order.praised");
    }
}
