//! Delivery through the real SDK to an HTTP endpoint that answers as `@connections` does, and messages from their
//! acceptance to the sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage stops there")]

mod gateway_double;
mod support;

use std::time::Duration;

use futures::stream::{self, StreamExt};
use gateway_double::Gateway;
use jiff::Timestamp;
use serde_json::{Value, json};
use sojourn::clock::{Clock, SystemClock, system};
use sojourn::connections::{
    Audience, Connection, ConnectionKey, Cursor, DynamoConnections, Find, MAX_HANDSHAKE, Register, True,
    expiry,
};
use sojourn::deadline::Deadline;
use sojourn::delivery::{
    Continuation, Deliverer, DynamoOrderOwners, FanOut, FanOutError, Frame, GatewayPosts, HAND_ON_MARGIN,
    LAST_START_MARGIN, MAX_FRAME_BYTES, MAX_HOPS, MAX_IN_FLIGHT, Message, Messenger, Progress, Recipient,
    Report, SelfInvocation, SendError, SendRequest,
};
use sojourn::dynamo::text;
use sojourn::env::Env;
use sojourn::idempotency::dynamo::DynamoClaims;
use sojourn::ids::{MessageId, OrderId, UserId, random};
use sojourn::tokens::Role;
use sojourn_local::services::faults::{Failure, Rule};

type AwsFanOut = FanOut<DynamoConnections, GatewayPosts, SelfInvocation>;
type AwsMessenger =
    Messenger<DynamoConnections, DynamoOrderOwners, DynamoClaims, GatewayPosts, SelfInvocation>;

/// Time for everything.
const AMPLE: Duration = Duration::from_secs(25);

struct Stage {
    store: support::Store,
    gateway: Gateway,
    registry: DynamoConnections,
}

async fn stage() -> Stage {
    let store = support::store();
    let registry = DynamoConnections::from_env(store.client.clone(), &store.env, system()).unwrap();
    Stage { store, gateway: Gateway::start().await, registry }
}

impl Stage {
    fn deliverer(&self) -> Deliverer<DynamoConnections, GatewayPosts> {
        Deliverer::new(self.registry.clone(), GatewayPosts::new(self.gateway.sdk_config()), system())
    }

    fn fan_out(&self) -> AwsFanOut {
        let lambda = aws_sdk_lambda::config::Builder::from(&self.gateway.sdk_config())
            .endpoint_url(self.gateway.url())
            .retry_config(aws_sdk_lambda::config::retry::RetryConfig::disabled())
            .build();
        let env = Env::of([("AWS_LAMBDA_FUNCTION_NAME", "sojourn-ws-send")]);
        let next = SelfInvocation::from_env(aws_sdk_lambda::Client::from_conf(lambda), &env).unwrap();
        FanOut::new(self.deliverer(), next)
    }

    fn messenger(&self) -> AwsMessenger {
        let (client, env) = (self.store.client.clone(), &self.store.env);
        Messenger::new(
            self.registry.clone(),
            DynamoOrderOwners::from_env(client.clone(), env).unwrap(),
            DynamoClaims::from_env(client, env, system(), random()).unwrap(),
            self.fan_out(),
            system(),
            random(),
        )
    }

    async fn connect(&self, id: &str, user: &UserId) -> ConnectionKey {
        self.connect_as(id, user, &[]).await
    }

    async fn connect_as(&self, id: &str, user: &UserId, roles: &[Role]) -> ConnectionKey {
        self.connect_at(SystemClock.now() - MAX_HANDSHAKE, id, user, roles).await
    }

    async fn connect_at(&self, now: Timestamp, id: &str, user: &UserId, roles: &[Role]) -> ConnectionKey {
        let connection = Connection {
            key: ConnectionKey { connection_id: id.parse().unwrap(), connected_at: now },
            user_id: user.clone(),
            session_id: random().next(),
            roles: roles.iter().copied().collect(),
            region: "local".into(),
            endpoint: self.gateway.url().parse().unwrap(),
            last_activity: now,
            expires_at: expiry(now, now + Duration::from_hours(1)),
        };
        self.registry.register(&connection).await.unwrap();
        connection.key
    }

    async fn connect_many(&self, count: usize, user: &UserId) -> Vec<String> {
        let ids: Vec<String> = (0..count).map(|n| format!("peer{n:04}=")).collect();
        let connects: Vec<_> = ids.iter().map(|id| self.connect(id, user)).collect();
        stream::iter(connects).buffer_unordered(16).collect::<Vec<_>>().await;
        ids
    }

    async fn registered(&self, user: &UserId) -> Vec<String> {
        let page = self.registry.find(&Audience::User(user.clone()), &Cursor::START).await.unwrap();
        page.peers.into_iter().map(|peer| peer.key.connection_id.to_string()).collect()
    }

    async fn order_of(&self, customer: &UserId) -> OrderId {
        let order_id: OrderId = random().next();
        let put = self.store.client.put_item().table_name("OrdersTable");
        put.item("orderId", text(order_id.as_str()))
            .item("customerId", text(customer.as_str()))
            .item("createdAt", text("2026-11-20T09:30:00.000Z"))
            .send()
            .await
            .unwrap();
        order_id
    }
}

fn user() -> UserId {
    random().next()
}

fn message(body: Value) -> Message {
    Message {
        kind: "chat.message".parse().unwrap(),
        message_id: random().next(),
        from: user(),
        sent_at: "2026-11-20T09:30:00Z".parse().unwrap(),
        body,
    }
}

fn request(to: Recipient, message_id: Option<&MessageId>) -> SendRequest {
    SendRequest {
        message_id: message_id.cloned(),
        to,
        kind: "chat.message".parse().unwrap(),
        body: json!({"text": "hi"}),
    }
}

fn soon() -> Deadline {
    Deadline::after(AMPLE)
}

async fn deliver(stage: &Stage, to: &UserId) -> Report {
    let frame = Frame::of(&message(json!("hi"))).unwrap();
    let audience = Audience::User(to.clone());
    stage.deliverer().deliver(&frame, &audience, &Cursor::START, soon()).await.unwrap()
}

// One turn of a delivery

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
    let expected = Report { delivered: 2, gone: 1, throttled: 1, too_large: 1, failed: 1, rest: None };
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

    assert_eq!(deliver(&stage, &to).await, Report { delivered: 1, ..Report::default() });
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
        stage.deliverer().deliver(&frame, &Audience::Everyone(True), &Cursor::START, soon()).await.unwrap();
    assert_eq!(report, Report { delivered: 1_000, ..Report::default() });
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
        stage.deliverer().deliver(&frame, &Audience::Everyone(True), &Cursor::START, soon()).await.unwrap();
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

    let report = stage.deliverer().deliver(&frame, &Audience::Everyone(True), &start, hurried).await.unwrap();
    assert_eq!(report, Report { rest: Some(start), ..Report::default() });
    assert_eq!(stage.gateway.posts("a="), 0);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_not_waited_for_past_the_deadline() {
    let stage = stage().await;
    stage.connect("gone=", &user()).await;
    stage.gateway.always("gone=", 410);
    let frame = Frame::of(&message(json!("hi"))).unwrap();
    let deliverer = stage.deliverer();
    let (everyone, start) = (Audience::Everyone(True), Cursor::START);
    let deliver = async || {
        let deadline = Deadline::after(LAST_START_MARGIN + Duration::from_millis(500));
        let turn = deliverer.deliver(&frame, &everyone, &start, deadline);
        tokio::time::timeout(AMPLE, turn).await.expect("it ends by itself").unwrap()
    };
    let faults = stage.store.embedded.faults();

    faults.add(Rule::delay(60_000).operation("Scan"));
    assert_eq!(deliver().await, Report { rest: Some(Cursor::START), ..Report::default() });
    faults.clear();
    faults.add(Rule::delay(60_000).operation("DeleteItem"));
    assert_eq!(deliver().await, Report { gone: 1, ..Report::default() });
}

// Turn after turn

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
    let short = || Deadline::after(HAND_ON_MARGIN + LAST_START_MARGIN + Duration::from_millis(40));

    let mut progress = fan_out.send(message(json!("hi")), Audience::Everyone(True), short()).await.unwrap();
    let (mut total, mut turns) = (0, 1);
    while let Progress::HandedOn { delivered } = progress {
        total += delivered;
        let (function, mut event) = stage.gateway.next_event().unwrap();
        assert_eq!(function, "sojourn-ws-send");
        let next: Continuation = serde_json::from_value(event["continuation"].take()).unwrap();
        assert_eq!(next.hop, turns);
        progress = fan_out.resume(next, short()).await.unwrap();
        turns += 1;
    }
    let Progress::Complete { delivered } = progress else { panic!("{progress:?}") };
    assert!(turns > 1, "the deadline was never met");
    assert_eq!(total + delivered, (ids.len() - gone.len()) as u64);
    for id in &ids {
        assert_eq!(stage.gateway.posts(id), 1, "{id}");
    }
    assert_eq!(stage.gateway.next_event(), None);
}

#[tokio::test]
async fn a_page_that_cannot_be_read_is_left_to_the_next_turn() {
    let stage = stage().await;
    let ids = stage.connect_many(300, &user()).await;
    let faults = stage.store.embedded.faults();
    let fan_out = stage.fan_out();

    faults.add(Rule::fail(Failure::InternalServerError).operation("Scan").skip(1));
    let first = fan_out.send(message(json!("hi")), Audience::Everyone(True), soon()).await.unwrap();
    let Progress::HandedOn { delivered } = first else { panic!("{first:?}") };
    assert!((1..300).contains(&delivered), "{delivered}");

    faults.clear();
    let (_, mut event) = stage.gateway.next_event().unwrap();
    let rest = serde_json::from_value(event["continuation"].take()).unwrap();
    let second = fan_out.resume(rest, soon()).await.unwrap();
    assert_eq!(second, Progress::Complete { delivered: 300 - delivered });
    assert!(ids.iter().all(|id| stage.gateway.posts(id) == 1));
}

#[tokio::test]
async fn an_audience_that_cannot_be_read_at_all_is_an_error() {
    let stage = stage().await;
    stage.connect("a=", &user()).await;
    stage.store.embedded.faults().add(Rule::fail(Failure::InternalServerError).operation("Scan"));
    let failed = stage.fan_out().send(message(json!("hi")), Audience::Everyone(True), soon()).await;
    assert!(matches!(failed, Err(FanOutError::Registry(_))), "{failed:?}");
    assert_eq!(stage.gateway.posts("a="), 0);
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

    let expected = Report { delivered: 1, gone: 1, ..Report::default() };
    assert_eq!(deliver(&stage, &to).await, expected);
    faults.clear();
    assert_eq!(deliver(&stage, &to).await, expected, "it is found gone again");
    assert_eq!(stage.registered(&to).await, ["fine="]);
}

#[tokio::test]
async fn a_delivery_that_never_ends_is_ended() {
    let stage = stage().await;
    stage.connect("a=", &user()).await;
    let turn = |hop| Continuation {
        message: message(json!("hi")),
        target: Audience::Everyone(True),
        cursor: Cursor::START,
        hop,
    };
    let no_time = || Deadline::after(Duration::ZERO);

    let last = stage.fan_out().resume(turn(MAX_HOPS - 2), no_time()).await.unwrap();
    assert_eq!(last, Progress::HandedOn { delivered: 0 });
    let over = stage.fan_out().resume(turn(MAX_HOPS - 1), no_time()).await.unwrap();
    assert_eq!(over, Progress::Abandoned { delivered: 0 });
}

#[tokio::test]
async fn the_largest_frame_arrives_whole_and_a_larger_one_is_not_posted_at_all() {
    let stage = stage().await;
    let to = user();
    stage.connect("a=", &to).await;
    let envelope = Frame::of(&message(json!(""))).unwrap().bytes().len();
    let body = |bytes: usize| message(json!("x".repeat(bytes - envelope)));
    let fan_out = stage.fan_out();

    let largest = fan_out.send(body(MAX_FRAME_BYTES), Audience::User(to.clone()), soon()).await.unwrap();
    assert_eq!(largest, Progress::Complete { delivered: 1 });
    assert_eq!(stage.gateway.last_body("a=").len(), 131_072);

    let refused = fan_out.send(body(MAX_FRAME_BYTES + 1), Audience::User(to), soon()).await;
    assert!(matches!(refused, Err(FanOutError::TooLarge(_))), "{refused:?}");
    assert_eq!(stage.gateway.posts("a="), 1);
}

// From acceptance to the sockets

#[tokio::test]
async fn a_message_reaches_all_sockets_of_its_receiver_as_documented() {
    let stage = stage().await;
    let (alice, bob) = (user(), user());
    let sender = stage.connect("alice=", &alice).await;
    stage.connect("bob1=", &bob).await;
    stage.connect("bob2=", &bob).await;

    let usage = stage.store.embedded.usage();
    usage.record();
    let ack = stage.messenger().send(&sender, request(Recipient::UserId(bob), None), soon()).await.unwrap();
    let asked = usage.snapshot();
    assert_eq!((asked.count("UpdateItem"), asked.count("Query"), asked.total()), (1, 1, 2));
    assert_eq!(json!(ack), json!({"type": "ack", "messageId": ack.message_id, "delivered": 2}));
    for socket in ["bob1=", "bob2="] {
        let mut frame: Value = serde_json::from_slice(&stage.gateway.last_body(socket)).unwrap();
        let sent_at = frame["sentAt"].take();
        assert!(sent_at.as_str().is_some_and(|at| at.ends_with('Z')), "{sent_at}");
        let expected = json!({
            "type": "chat.message", "messageId": ack.message_id, "from": alice, "sentAt": null, "body": {"text": "hi"},
        });
        assert_eq!(frame, expected);
    }
    assert_eq!(stage.gateway.posts("alice="), 0);
}

#[tokio::test]
async fn a_repeated_message_id_is_acknowledged_again_and_delivered_once() {
    let stage = stage().await;
    let (alice, bob) = (user(), user());
    let sender = stage.connect("alice=", &alice).await;
    stage.connect("bob=", &bob).await;
    let (messenger, id) = (stage.messenger(), random().next::<MessageId>());
    let send = || messenger.send(&sender, request(Recipient::UserId(bob.clone()), Some(&id)), soon());

    let first = send().await.unwrap();
    assert_eq!((first.message_id.clone(), first.delivered), (id.clone(), 1));
    assert_eq!(send().await.unwrap(), first);
    assert_eq!(stage.gateway.posts("bob="), 1);

    let other = SendRequest { body: json!("other"), ..request(Recipient::UserId(bob), Some(&id)) };
    let reused = messenger.send(&sender, other, soon()).await;
    assert!(matches!(reused, Err(SendError::MessageIdReused)), "{reused:?}");
}

#[tokio::test]
async fn many_repetitions_at_once_are_delivered_once() {
    let stage = stage().await;
    let (alice, bob) = (user(), user());
    let sender = stage.connect("alice=", &alice).await;
    stage.connect("bob=", &bob).await;
    stage.gateway.take(Duration::from_millis(50));
    let (messenger, id) = (stage.messenger(), random().next::<MessageId>());
    let send = |_| messenger.send(&sender, request(Recipient::UserId(bob.clone()), Some(&id)), soon());

    let answers: Vec<_> = stream::iter(0..20).map(send).buffer_unordered(20).collect().await;
    assert_eq!(stage.gateway.posts("bob="), 1);
    assert!(answers.iter().any(Result::is_ok));
    for refused in answers.into_iter().filter_map(Result::err) {
        assert!(matches!(refused, SendError::InProgress { .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn a_message_id_is_its_senders_own() {
    let stage = stage().await;
    let (alice, eve, bob) = (user(), user(), user());
    let first = stage.connect("alice=", &alice).await;
    let second = stage.connect("eve=", &eve).await;
    stage.connect("bob=", &bob).await;
    let (messenger, id) = (stage.messenger(), random().next::<MessageId>());

    for sender in [first, second] {
        let to_bob = request(Recipient::UserId(bob.clone()), Some(&id));
        assert_eq!(messenger.send(&sender, to_bob, soon()).await.unwrap().delivered, 1);
    }
    assert_eq!(stage.gateway.posts("bob="), 2);
}

#[tokio::test]
async fn a_message_that_could_not_be_handed_on_can_be_sent_again() {
    let stage = stage().await;
    let operator = stage.connect_as("op=", &user(), &[Role::Operator]).await;
    let (messenger, id) = (stage.messenger(), random().next::<MessageId>());
    let send = |deadline| messenger.send(&operator, request(Recipient::Broadcast(True), Some(&id)), deadline);

    stage.gateway.refuse_events(true);
    let failed = send(Deadline::after(Duration::from_secs(2))).await;
    assert!(matches!(failed, Err(SendError::FanOut(FanOutError::NotHandedOn(_)))), "{failed:?}");
    stage.gateway.refuse_events(false);
    assert_eq!(send(soon()).await.unwrap().delivered, 1);
}

#[tokio::test]
async fn a_broadcast_that_continues_says_so_in_its_acknowledgement() {
    let stage = stage().await;
    let operator = stage.connect_as("op=", &user(), &[Role::Operator]).await;
    let to_all = request(Recipient::Broadcast(True), None);
    let ack =
        stage.messenger().send(&operator, to_all, Deadline::after(Duration::from_secs(2))).await.unwrap();
    assert_eq!(
        json!(ack),
        json!({"type": "ack", "messageId": ack.message_id, "delivered": 0, "continues": true})
    );
}

#[tokio::test]
async fn only_an_operator_broadcasts() {
    let stage = stage().await;
    let customer = stage.connect("customer=", &user()).await;
    let operator = stage.connect_as("operator=", &user(), &[Role::Operator]).await;
    let messenger = stage.messenger();

    let refused = messenger.send(&customer, request(Recipient::Broadcast(True), None), soon()).await;
    assert!(matches!(refused, Err(SendError::BroadcastForbidden)), "{refused:?}");
    assert_eq!(stage.gateway.posts("operator="), 0);

    let ack = messenger.send(&operator, request(Recipient::Broadcast(True), None), soon()).await.unwrap();
    assert_eq!(ack.delivered, 2);
}

#[tokio::test]
async fn a_message_about_an_order_goes_to_its_customer_from_those_who_may_know_of_it() {
    let stage = stage().await;
    let customer = user();
    let own = stage.connect("customer=", &customer).await;
    let operator = stage.connect_as("operator=", &user(), &[Role::Operator]).await;
    let stranger = stage.connect("stranger=", &user()).await;
    let order_id = stage.order_of(&customer).await;
    let messenger = stage.messenger();
    let about = |order_id: &OrderId| request(Recipient::OrderId(order_id.clone()), None);

    for allowed in [&own, &operator] {
        assert_eq!(messenger.send(allowed, about(&order_id), soon()).await.unwrap().delivered, 1);
    }
    assert_eq!(stage.gateway.posts("customer="), 2);
    assert_eq!(stage.gateway.posts("operator="), 0);

    let foreign = messenger.send(&stranger, about(&order_id), soon()).await;
    let unknown = messenger.send(&own, about(&random().next()), soon()).await;
    assert!(matches!(foreign, Err(SendError::NoSuchOrder(_))), "{foreign:?}");
    assert!(matches!(unknown, Err(SendError::NoSuchOrder(_))), "{unknown:?}");
}

#[tokio::test]
async fn who_is_not_registered_sends_nothing() {
    let stage = stage().await;
    let bob = user();
    stage.connect("bob=", &bob).await;
    let stranger =
        ConnectionKey { connection_id: "nobody=".parse().unwrap(), connected_at: SystemClock.now() };
    let refused = stage.messenger().send(&stranger, request(Recipient::UserId(bob), None), soon()).await;
    assert!(matches!(refused, Err(SendError::NotConnected)), "{refused:?}");
    assert_eq!(stage.gateway.posts("bob="), 0);
}
