//! Events of activity: stored once, counted once, whatever is delivered twice.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use local_region::services::Service;
use local_region::services::faults::{Effect, Failure, Rule};
use sojourn::commerce::activity::dynamo::{DynamoActivity, StoreOutcome};
use sojourn::commerce::activity::{ActivityEvent, ActivityKind, Counts, Days};
use sojourn::core::clock::Clock;
use sojourn::core::deadline::Deadline;
use sojourn::platform::tables;
use sojourn_testing::Fixture;
use ulid::Ulid;

struct Stage {
    fixture: Fixture,
    activity: DynamoActivity,
}

impl Stage {
    fn set() -> Self {
        let fixture = Fixture::start();
        let client = fixture.store.client.clone();
        let activity = DynamoActivity::from_env(client, &fixture.env, fixture.clock.clone()).unwrap();
        Self { fixture, activity }
    }

    /// An event of so many days ago.
    fn event(&self, kind: ActivityKind, product: &str, days_ago: i64) -> ActivityEvent {
        let now = self.fixture.clock.now().as_second();
        ActivityEvent {
            event_id: Ulid::generate().to_string().parse().unwrap(),
            kind,
            product_id: product.parse().unwrap(),
            at: Timestamp::from_second(now - days_ago * 86_400).unwrap(),
        }
    }

    /// Views of so many products, one after the other.
    fn views(&self, number: usize, products: usize) -> Vec<ActivityEvent> {
        let view = |n| self.event(ActivityKind::View, &format!("product-{}", n % products), 0);
        (0..number).map(view).collect()
    }

    async fn store(&self, events: &[ActivityEvent]) -> StoreOutcome {
        self.activity.store(events.to_vec(), patience()).await.unwrap()
    }

    /// What is counted of a product, newest day first.
    async fn counts(&self, product: &str, days: &str) -> Vec<Counts> {
        let days = Days::from_query(Some(days)).unwrap();
        let read = self.activity.of_product(&product.parse().unwrap(), days).await.unwrap();
        read.days.into_iter().map(|(_, counts)| counts).collect()
    }

    async fn views_of_all(&self, products: usize) -> u64 {
        let mut sum = 0;
        for n in 0..products {
            sum += self.counts(&format!("product-{n}"), "1").await[0].views;
        }
        sum
    }

    /// The ids of the events that are stored.
    async fn stored(&self) -> BTreeSet<String> {
        let scan = self.fixture.store.client.scan().table_name(tables::ACTIVITY.logical_id);
        let rows = scan.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.unwrap();
        let id = |key: &str| key.strip_prefix("event#").map(str::to_owned);
        rows.iter().filter_map(|row| id(row["activityId"].as_s().unwrap())).collect()
    }
}

fn patience() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn ids(events: &[ActivityEvent]) -> BTreeSet<String> {
    events.iter().map(|event| event.event_id.to_string()).collect()
}

#[tokio::test]
async fn events_are_counted_by_product_day_and_kind_and_days_without_events_are_told() {
    use ActivityKind::{AddToCart, Share, View};
    let stage = Stage::set();
    let events = [
        stage.event(View, "tea", 0),
        stage.event(View, "tea", 0),
        stage.event(AddToCart, "tea", 0),
        stage.event(Share, "tea", 2),
        stage.event(View, "tea", 7),
        stage.event(View, "pot", 0),
    ];
    assert_eq!(stage.store(&events).await, StoreOutcome { new: 6, known: 0 });
    let nothing = Counts::default();
    let today = Counts { views: 2, cart_additions: 1, shares: 0 };
    let shared = Counts { shares: 1, ..nothing };
    assert_eq!(stage.counts("tea", "4").await, [today, nothing, shared, nothing]);
    assert_eq!(stage.counts("tea", "8").await[7], Counts { views: 1, ..nothing });
    assert_eq!(stage.counts("cup", "1").await, [nothing]);
    assert_eq!(stage.stored().await, ids(&events));
}

#[tokio::test]
async fn a_batch_that_is_delivered_again_with_new_events_is_counted_once() {
    let stage = Stage::set();
    let mut events = stage.views(350, 40);
    assert_eq!(stage.store(&events).await, StoreOutcome { new: 350, known: 0 });
    assert_eq!(stage.store(&events).await, StoreOutcome { new: 0, known: 350 });
    let repeated = events[0].clone();
    events.extend(stage.views(150, 40));
    events.push(repeated);
    assert_eq!(stage.store(&events).await, StoreOutcome { new: 150, known: 351 });
    assert_eq!(stage.views_of_all(40).await, 500);
    assert_eq!(stage.stored().await, ids(&events));
}

#[tokio::test]
async fn writers_that_store_the_same_events_at_once_count_each_event_once() {
    let stage = Stage::set();
    let events = stage.views(400, 7);
    // Each writer has three quarters of the events.
    let parts: Vec<Vec<ActivityEvent>> = (0..8)
        .map(|writer| {
            let keep = |(n, _): &(usize, _)| n % 4 != writer % 4;
            events.iter().cloned().enumerate().filter(keep).map(|(_, event)| event).collect()
        })
        .collect();
    let stores: FuturesUnordered<_> = parts.iter().map(|part| stage.store(part)).collect();
    let outcomes: Vec<StoreOutcome> = stores.collect().await;
    assert_eq!(outcomes.iter().map(|outcome| outcome.new).sum::<usize>(), 400);
    assert_eq!(stage.views_of_all(7).await, 400);
    assert_eq!(stage.stored().await, ids(&events));
}

#[tokio::test]
async fn a_transaction_whose_answer_is_lost_is_not_counted_twice() {
    let stage = Stage::set();
    let events = stage.views(60, 3);
    let lost = Rule::new(Effect::CommitThenReset).service(Service::DynamoDb).operation("TransactWriteItems");
    let lost = stage.fixture.store.embedded.faults().add(lost);
    stage.activity.store(events.clone(), patience()).await.unwrap_err();
    stage.fixture.store.embedded.faults().remove(lost);
    assert_eq!(stage.store(&events).await, StoreOutcome { new: 0, known: 60 });
    assert_eq!(stage.views_of_all(3).await, 60);
}

#[tokio::test]
async fn a_conflict_is_tried_again_and_is_no_error() {
    let stage = Stage::set();
    let events = stage.views(60, 3);
    let conflict = Effect::Error { failure: Failure::TransactionConflict { positions: vec![0, 61] } };
    let rule = Rule::new(conflict).service(Service::DynamoDb).operation("TransactWriteItems").times(3);
    stage.fixture.store.embedded.faults().add(rule);
    assert_eq!(stage.store(&events).await, StoreOutcome { new: 60, known: 0 });
    assert_eq!(stage.views_of_all(3).await, 60);
}

#[tokio::test]
async fn the_activity_of_thirty_days_is_one_query() {
    let stage = Stage::set();
    let events: Vec<_> =
        (0..8).flat_map(|_| (0..30).map(|day| stage.event(ActivityKind::View, "tea", day))).collect();
    stage.store(&events).await;
    stage.fixture.store.embedded.usage().record();
    let counts = stage.counts("tea", "30").await;
    assert_eq!(counts.iter().map(|counts| counts.views).collect::<Vec<_>>(), [8; 30]);
    assert_eq!(stage.fixture.store.embedded.usage().snapshot().count("Query"), 1);
}
