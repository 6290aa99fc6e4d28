//! Hops of a delivery: one, and one after the other.

use std::time::Duration;

use local_region::services::faults::{Failure, Rule};
use serde_json::json;
use sojourn::core::clock::{Clock, SystemClock};
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::UserId;
use sojourn::identity::principal::Role;
use sojourn::sockets::connections::{Audience, Cursor};
use sojourn::sockets::delivery::{
    Continuation, DeliveryProgress, DeliveryReport, Frame, HAND_ON_MARGIN, LAST_START_MARGIN,
    MAX_FRAME_BYTES, MAX_HOPS, MAX_IN_FLIGHT, Recipient, SendError,
};

use crate::stage::{AMPLE, Stage, message, request, soon, stage, user};

async fn deliver(stage: &Stage, to: &UserId) -> DeliveryReport {
    let frame = Frame::of(&message(json!("hi"))).unwrap();
    let audience = Audience::User(to.clone());
    stage.deliverer().deliver(&frame, &audience, &Cursor::START, soon()).await.unwrap()
}

#[tokio::test]
async fn one_bad_peer_fails_nobody_else() {
    let stage = stage().await;
    let to = user();
    for id in ["fine1=", "gone=", "large=", "broken=", "clogged=", "fine2="] {
        stage.connect(id, &to).await;
    }
    stage.gateway.always("gone=", 410);
    stage.gateway.always("large=", 413);
    stage.gateway.always("broken=", 500);
    stage.gateway.always("clogged=", 429);

    let report = deliver(&stage, &to).await;
    let expected = DeliveryReport {
        delivered: 2,
        gone: 1,
        throttled: 1,
        too_large: 1,
        failed: 1,
        ..DeliveryReport::default()
    };
    assert_eq!(report, expected);
    assert_eq!(stage.gateway.delivered("fine1=") + stage.gateway.delivered("fine2="), 2);
}

#[tokio::test]
async fn a_peer_that_is_gone_is_removed_and_nobody_else() {
    let stage = stage().await;
    let to = user();
    for id in ["a=", "gone=", "refused=", "z="] {
        stage.connect(id, &to).await;
    }
    stage.gateway.always("gone=", 410);
    stage.gateway.always("refused=", 403);

    let report = deliver(&stage, &to).await;
    assert_eq!((report.delivered, report.gone, report.failed), (2, 1, 1));
    let mut left = stage.registered(&to).await;
    left.sort();
    assert_eq!(left, ["a=", "refused=", "z="]);
}

#[tokio::test]
async fn a_peer_whose_handshake_is_not_answered_yet_keeps_its_row() {
    let stage = stage().await;
    let to = user();
    stage.connect_at(SystemClock.now(), "opening=", &to, &[]).await;
    stage.gateway.always("opening=", 410);

    assert_eq!(deliver(&stage, &to).await.gone, 1);
    assert_eq!(stage.registered(&to).await, ["opening="]);
}

#[tokio::test]
async fn a_throttled_post_is_tried_again_until_it_is_taken() {
    let stage = stage().await;
    let to = user();
    stage.connect("busy=", &to).await;
    stage.gateway.answers("busy=", [429, 429, 200]);

    assert_eq!(deliver(&stage, &to).await, DeliveryReport { delivered: 1, ..DeliveryReport::default() });
    assert_eq!(stage.gateway.posts("busy="), 3);
}

#[tokio::test]
async fn a_hiccup_is_forgiven_once() {
    let stage = stage().await;
    let to = user();
    stage.connect("hiccup=", &to).await;
    stage.connect("broken=", &to).await;
    stage.gateway.answers("hiccup=", [500, 200]);
    stage.gateway.always("broken=", 500);

    let report = deliver(&stage, &to).await;
    assert_eq!((report.delivered, report.failed), (1, 1));
    assert_eq!(stage.gateway.posts("broken="), 2);
}

#[tokio::test]
async fn a_thousand_peers_are_served_with_a_bounded_number_of_posts_at_a_time() {
    let stage = stage().await;
    let ids = stage.connect_many(1_000, &user()).await;
    stage.gateway.take(Duration::from_millis(5));

    let frame = Frame::of(&message(json!("hi"))).unwrap();
    let report =
        stage.deliverer().deliver(&frame, &Audience::Everyone, &Cursor::START, soon()).await.unwrap();
    assert_eq!(report, DeliveryReport { delivered: 1_000, ..DeliveryReport::default() });
    assert!(ids.iter().all(|id| stage.gateway.posts(id) == 1));
    let most = stage.gateway.most_in_flight();
    assert!((2..=MAX_IN_FLIGHT).contains(&most), "{most} posts at a time");
}

#[tokio::test]
async fn one_peer_that_does_not_read_does_not_hold_up_the_others() {
    let stage = stage().await;
    let ids = stage.connect_many(200, &user()).await;
    stage.gateway.always(&ids[0], 429);

    let frame = Frame::of(&message(json!("hi"))).unwrap();
    let report =
        stage.deliverer().deliver(&frame, &Audience::Everyone, &Cursor::START, soon()).await.unwrap();
    assert_eq!((report.delivered, report.throttled), (199, 1));
    let order = stage.gateway.order();
    let last_try = order.iter().rposition(|id| *id == ids[0]).unwrap();
    assert_eq!(last_try, order.len() - 1, "the others did not wait for its patience to end");
}

#[tokio::test]
async fn without_time_nothing_is_begun_and_all_is_left() {
    let stage = stage().await;
    let to = user();
    stage.connect("a=", &to).await;
    let frame = Frame::of(&message(json!("hi"))).unwrap();
    let start = Cursor::behind("0=".parse().unwrap());
    let hurried = Deadline::after(LAST_START_MARGIN / 2);

    let report = stage.deliverer().deliver(&frame, &Audience::Everyone, &start, hurried).await.unwrap();
    assert_eq!(report, DeliveryReport { rest: Some(start), ..DeliveryReport::default() });
    assert_eq!(stage.gateway.posts("a="), 0);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_not_waited_for_past_the_deadline() {
    let stage = stage().await;
    stage.connect("gone=", &user()).await;
    stage.gateway.always("gone=", 410);
    let frame = Frame::of(&message(json!("hi"))).unwrap();
    let deliverer = stage.deliverer();
    let (everyone, start) = (Audience::Everyone, Cursor::START);
    let deliver = async || {
        let deadline = Deadline::after(LAST_START_MARGIN + Duration::from_millis(500));
        let delivery = deliverer.deliver(&frame, &everyone, &start, deadline);
        tokio::time::timeout(AMPLE, delivery).await.expect("it ends by itself").unwrap()
    };
    let faults = stage.store.embedded.faults();

    faults.add(Rule::delay(60_000).operation("Scan"));
    assert_eq!(deliver().await, DeliveryReport { rest: Some(Cursor::START), ..DeliveryReport::default() });
    faults.clear();
    faults.add(Rule::delay(60_000).operation("DeleteItem"));
    assert_eq!(deliver().await, DeliveryReport { gone: 1, ..DeliveryReport::default() });
}

#[tokio::test]
async fn what_the_deadline_leaves_is_handed_on_until_everybody_is_served_exactly_once() {
    let stage = stage().await;
    let ids = stage.connect_many(600, &user()).await;
    stage.gateway.take(Duration::from_millis(20));
    let gone: Vec<&String> = ids.iter().step_by(7).collect();
    for id in &gone {
        stage.gateway.always(id, 410);
    }
    let fan_out = stage.fan_out();
    // The first hop cannot serve everybody in its time; each later one has twice as much, so that a
    // slow machine does not run out of hops.
    let deadline = |hop: u32| {
        let budget = Duration::from_millis(100) * 2_u32.pow(hop);
        Deadline::after(HAND_ON_MARGIN + LAST_START_MARGIN + budget)
    };

    let mut sent = fan_out.send(message(json!("hi")), Audience::Everyone, deadline(0)).await.unwrap();
    let (mut total, mut hops) = (0, 1);
    while sent.progress == DeliveryProgress::HandedOn {
        total += sent.delivered;
        let (function, mut event) = stage.gateway.next_event().unwrap();
        assert_eq!(function, "sojourn-ws-send");
        let next: Continuation = serde_json::from_value(event["continuation"].take()).unwrap();
        assert_eq!(next.hop, hops);
        sent = fan_out.resume(next, deadline(hops)).await.unwrap();
        hops += 1;
    }
    assert_eq!(sent.progress, DeliveryProgress::Complete);
    assert!(hops > 1, "the deadline was never met");
    assert_eq!(total + sent.delivered, (ids.len() - gone.len()) as u64);
    for id in &ids {
        assert_eq!(stage.gateway.posts(id), 1, "{id}");
    }
    assert_eq!(stage.gateway.next_event(), None);
}

#[tokio::test]
async fn a_page_that_cannot_be_read_is_left_to_the_next_hop() {
    let stage = stage().await;
    let ids = stage.connect_many(300, &user()).await;
    let faults = stage.store.embedded.faults();
    let fan_out = stage.fan_out();

    faults.add(Rule::fail(Failure::InternalServerError).operation("Scan").skip(1));
    let first = fan_out.send(message(json!("hi")), Audience::Everyone, soon()).await.unwrap();
    assert_eq!(first.progress, DeliveryProgress::HandedOn);
    assert!((1..300).contains(&first.delivered), "{first:?}");

    faults.clear();
    let (_, mut event) = stage.gateway.next_event().unwrap();
    let rest = serde_json::from_value(event["continuation"].take()).unwrap();
    let second = fan_out.resume(rest, soon()).await.unwrap();
    assert_eq!((second.progress, second.delivered), (DeliveryProgress::Complete, 300 - first.delivered));
    assert!(ids.iter().all(|id| stage.gateway.posts(id) == 1));
}

#[tokio::test]
async fn an_audience_that_cannot_be_read_at_all_is_an_error() {
    let stage = stage().await;
    stage.connect("a=", &user()).await;
    stage.store.embedded.faults().add(Rule::fail(Failure::InternalServerError).operation("Scan"));
    let failed = stage.fan_out().send(message(json!("hi")), Audience::Everyone, soon()).await;
    assert!(matches!(failed, Err(SendError::Store(_))), "{failed:?}");
    assert_eq!(stage.gateway.posts("a="), 0);
}

#[tokio::test]
async fn without_leave_to_post_nobody_is_served() {
    let stage = stage().await;
    stage.connect("a=", &user()).await;
    let operator = stage.connect_as("operator=", &user(), &[Role::Operator]).await;
    let faults = stage.store.embedded.faults();
    faults.add(Rule::fail(Failure::InternalServerError).operation("BatchGetItem"));
    let to_all = request(Recipient::Broadcast, None);
    let refused = stage.messenger().send(&operator, to_all, soon()).await;
    assert!(matches!(refused, Err(SendError::Session(_))), "{refused:?}");
    assert_eq!(stage.gateway.posts("a="), 0);
    assert_eq!(stage.gateway.next_event(), None);
}

#[tokio::test]
async fn a_gone_peer_whose_row_cannot_be_removed_now_fails_nobody() {
    let stage = stage().await;
    let to = user();
    stage.connect("gone=", &to).await;
    stage.connect("fine=", &to).await;
    stage.gateway.always("gone=", 410);
    let faults = stage.store.embedded.faults();
    faults.add(Rule::fail(Failure::InternalServerError).operation("DeleteItem"));

    let expected = DeliveryReport { delivered: 1, gone: 1, ..DeliveryReport::default() };
    assert_eq!(deliver(&stage, &to).await, expected);
    faults.clear();
    assert_eq!(deliver(&stage, &to).await, expected, "it is found gone again");
    assert_eq!(stage.registered(&to).await, ["fine="]);
}

#[tokio::test]
async fn a_delivery_that_never_ends_is_ended() {
    let stage = stage().await;
    stage.connect("a=", &user()).await;
    let hop = |hop| Continuation {
        message: message(json!("hi")),
        target: Audience::Everyone,
        cursor: Cursor::START,
        hop,
        reached: false,
    };
    let no_time = || Deadline::after(Duration::ZERO);

    let last = stage.fan_out().resume(hop(MAX_HOPS - 2), no_time()).await.unwrap();
    assert_eq!((last.progress, last.delivered), (DeliveryProgress::HandedOn, 0));
    let over = stage.fan_out().resume(hop(MAX_HOPS - 1), no_time()).await.unwrap();
    assert_eq!((over.progress, over.delivered), (DeliveryProgress::Abandoned, 0));
}

#[tokio::test]
async fn the_largest_frame_arrives_whole_and_a_larger_one_is_not_posted_at_all() {
    let stage = stage().await;
    let to = user();
    stage.connect("a=", &to).await;
    let envelope = Frame::of(&message(json!(""))).unwrap().as_str().len();
    let body = |bytes: usize| message(json!("x".repeat(bytes - envelope)));
    let fan_out = stage.fan_out();

    let largest = fan_out.send(body(MAX_FRAME_BYTES), Audience::User(to.clone()), soon()).await.unwrap();
    assert_eq!((largest.progress, largest.delivered), (DeliveryProgress::Complete, 1));
    assert_eq!(stage.gateway.last_body("a=").len(), 131_072);

    let refused = fan_out.send(body(MAX_FRAME_BYTES + 1), Audience::User(to), soon()).await;
    assert!(matches!(refused, Err(SendError::TooLarge(_))), "{refused:?}");
    assert_eq!(stage.gateway.posts("a="), 1);
}
