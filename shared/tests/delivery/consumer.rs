//! Messages of topics: delivered once in each region, stored by the region that published them.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use local_region::services::faults::{Failure, Rule, When};
use sojourn::coordination::idempotency::dynamo::DynamoClaims;
use sojourn::core::clock::{Clock, ManualClock, SharedClock, SystemClock, system};
use sojourn::core::ids::{EventId, MessageId, random};
use sojourn::core::ids::{SessionId, UserId};
use sojourn::identity::sessions::SessionsRevoked;
use sojourn::sockets::connections::Audience;
use sojourn::sockets::delivery::{ConsumeError, Message, Task, TopicConsumer, TopicMessage};
use sojourn::sockets::inbox::ReadBounds;

use crate::stage::{AMPLE, Stage, message, soon, stage, user};

const HERE: &str = "local";
const ELSEWHERE: &str = "tokyo";

fn consumer(stage: &Stage) -> TopicConsumer {
    consumer_at(stage, system())
}

fn consumer_at(stage: &Stage, clock: SharedClock) -> TopicConsumer {
    TopicConsumer {
        claims: DynamoClaims::from_env(stage.store.client.clone(), &stage.store.env, clock, random())
            .unwrap(),
        fan_out: stage.fan_out(),
        closer: stage.closer(),
        region: HERE.to_owned(),
    }
}

fn published(region: &str, message: &Message, to: &UserId) -> TopicMessage {
    let task = Task::Deliver { message: message.clone(), to: Audience::User(to.clone()) };
    // By way of its text, as the queue has it.
    let entry = TopicMessage { region: region.to_owned(), task }.entry();
    assert_eq!(entry.attributes[0], ("region", region.to_owned()));
    serde_json::from_str(&entry.body).unwrap()
}

fn announcement() -> Message {
    let event: EventId = random().next();
    Message { from: None, message_id: MessageId::from(&event), ..message("order".into()) }
}

async fn stored(stage: &Stage, of: &UserId) -> usize {
    let all = ReadBounds { messages: 100, bytes: 1_000_000 };
    stage.inbox().read(of, None, all).await.unwrap().frames.len()
}

#[tokio::test]
async fn a_message_that_the_queue_delivers_twice_is_posted_once() {
    let stage = stage().await;
    let bob = user();
    stage.connect("bob=", &bob).await;
    let consumer = consumer(&stage);
    for message in [announcement(), message("chat".into())] {
        let before = stage.gateway.posts("bob=");
        for _ in 0..3 {
            consumer.take(published(ELSEWHERE, &message, &bob), soon()).await.unwrap();
        }
        assert_eq!(stage.gateway.posts("bob="), before + 1);
    }
}

#[tokio::test]
async fn of_two_deliveries_at_the_same_time_one_posts() {
    let stage = stage().await;
    let bob = user();
    stage.connect("bob=", &bob).await;
    stage.gateway.take(Duration::from_millis(50));
    let consumer = consumer(&stage);
    let message = announcement();
    let deliveries = stream::iter(0..8).map(|_| consumer.take(published(HERE, &message, &bob), soon()));
    let taken: Vec<_> = deliveries.buffer_unordered(8).collect().await;
    assert_eq!(stage.gateway.posts("bob="), 1);
    assert!(taken.iter().any(Result::is_ok));
    let others = taken.iter().filter_map(|taken| taken.as_ref().err());
    assert!(others.into_iter().all(|error| matches!(error, ConsumeError::InProgress)), "{taken:?}");
    consumer.take(published(HERE, &message, &bob), soon()).await.unwrap();
    assert_eq!(stage.gateway.posts("bob="), 1);
}

#[tokio::test]
async fn the_region_that_published_a_message_stores_it_and_no_other_does() {
    let stage = stage().await;
    let (bob, eve) = (user(), user());
    let consumer = consumer(&stage);
    consumer.take(published(ELSEWHERE, &announcement(), &bob), soon()).await.unwrap();
    assert_eq!(stored(&stage, &bob).await, 0);
    consumer.take(published(HERE, &announcement(), &eve), soon()).await.unwrap();
    assert_eq!(stored(&stage, &eve).await, 1);
}

#[tokio::test]
async fn what_failed_is_delivered_when_it_comes_again() {
    let stage = stage().await;
    let bob = user();
    let consumer = consumer(&stage);
    let message = announcement();
    let faults = stage.store.embedded.faults();
    let rule = faults.add(Rule::fail(Failure::InternalServerError).operation("Query"));
    let failed = consumer.take(published(HERE, &message, &bob), soon()).await;
    assert!(matches!(failed, Err(ConsumeError::Delivery(_))), "{failed:?}");
    faults.remove(rule);
    consumer.take(published(HERE, &message, &bob), soon()).await.unwrap();
    assert_eq!(stored(&stage, &bob).await, 1);
}

#[tokio::test]
async fn a_consumer_that_died_is_replaced_when_its_claim_has_lapsed() {
    let stage = stage().await;
    let bob = user();
    stage.connect("bob=", &bob).await;
    let clock = ManualClock::at(SystemClock.now());
    let consumer = consumer_at(&stage, clock.clone());
    let message = announcement();
    // Dropped between the post and the completion of the claim, which is the second put.
    let faults = stage.store.embedded.faults();
    let rule = faults.add(Rule::hold(When::Before).operation("PutItem").skip(1).times(1));
    let dropped = consumer.take(published(HERE, &message, &bob), soon());
    tokio::select! {
        taken = dropped => panic!("{taken:?}"),
        is_held = faults.until_held(rule, 1) => assert!(is_held),
    }
    assert_eq!(stage.gateway.posts("bob="), 1);
    let held = consumer.take(published(HERE, &message, &bob), soon()).await;
    assert!(matches!(held, Err(ConsumeError::InProgress)), "{held:?}");
    clock.advance(AMPLE);
    consumer.take(published(HERE, &message, &bob), soon()).await.unwrap();
    assert_eq!(stage.gateway.posts("bob="), 2, "the same message, which its client has seen");
}

#[tokio::test]
async fn a_revocation_closes_the_sockets_of_the_sessions_that_began_before_it() {
    let stage = stage().await;
    let bob = user();
    let (old, spared): (SessionId, SessionId) = (random().next(), random().next());
    stage.connect_in(&old, "old=", &bob).await;
    stage.connect_in(&spared, "spared=", &bob).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let at = SystemClock.now();
    tokio::time::sleep(Duration::from_millis(5)).await;
    stage.connect_in(&random().next(), "later=", &bob).await;
    let close = |except: Option<&SessionId>| TopicMessage {
        region: ELSEWHERE.to_owned(),
        task: Task::Close {
            revoked: SessionsRevoked {
                user_id: bob.clone(),
                session_id: None,
                except_session_id: except.cloned(),
            },
            at,
        },
    };
    let consumer = consumer(&stage);
    consumer.take(close(Some(&spared)), soon()).await.unwrap();
    let mut left = stage.registered(&bob).await;
    left.sort();
    assert_eq!(left, ["later=", "spared="]);
    consumer.take(close(None), soon()).await.unwrap();
    consumer.take(close(None), soon()).await.unwrap();
    assert_eq!(stage.registered(&bob).await, ["later="]);
    assert_eq!(stage.gateway.closes("later=").len(), 0);
}

#[tokio::test]
async fn a_revocation_that_could_not_read_the_sockets_comes_again() {
    let stage = stage().await;
    let bob = user();
    let ended: SessionId = random().next();
    stage.connect_in(&ended, "bob=", &bob).await;
    let message = || {
        let revoked = SessionsRevoked {
            user_id: bob.clone(),
            session_id: Some(ended.clone()),
            except_session_id: None,
        };
        TopicMessage { region: HERE.to_owned(), task: Task::Close { revoked, at: SystemClock.now() } }
    };
    let faults = stage.store.embedded.faults();
    let rule = faults.add(Rule::fail(Failure::InternalServerError).operation("Query"));
    let taken = consumer(&stage).take(message(), soon()).await;
    assert!(matches!(taken, Err(ConsumeError::NotClosed)), "{taken:?}");
    faults.remove(rule);
    consumer(&stage).take(message(), soon()).await.unwrap();
    assert_eq!(stage.gateway.closes("bob="), [204]);
}
