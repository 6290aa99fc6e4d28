//! A message from its acceptance to the sockets.

use std::time::Duration;

use futures::future::{Either, select};
use futures::stream::{self, StreamExt};
use local_region::services::faults::{Failure, Rule, When};
use serde_json::{Value, json};
use sojourn::core::clock::{Clock, ManualClock, SystemClock};
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::{MessageId, OrderId, UserId, random};
use sojourn::identity::principal::Role;
use sojourn::identity::sessions::SessionError;
use sojourn::sockets::connections::{ConnectionKey, FRAMES_WINDOW, MAX_REFUSED_FRAMES};
use sojourn::sockets::delivery::{Recipient, SendError, SendRequest};
use sojourn_testing::sign_ins::{revoke, revoke_all, sign_in};

use crate::inbox::frames;
use crate::stage::{request, soon, stage, user};

/// Frames that a socket of the stage may send within the window.
const FRAMES: u16 = 50;

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
    let count = |operation| asked.count(operation);
    // The socket is touched and the receiver counted; the session is read, and the receiver's
    // sockets.
    assert_eq!((count("UpdateItem"), count("BatchGetItem"), count("Query"), asked.total()), (2, 1, 1, 4));
    assert_eq!(
        json!(ack),
        json!({"type": "ack", "messageId": ack.message_id, "delivered": 2, "failed": 0, "stored": false})
    );
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

    let other = SendRequest { body: json!("other").into(), ..request(Recipient::UserId(bob), Some(&id)) };
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
    let send = |deadline| messenger.send(&operator, request(Recipient::Broadcast, Some(&id)), deadline);

    stage.gateway.refuse_events(true);
    let failed = send(Deadline::after(Duration::from_secs(2))).await;
    assert!(matches!(failed, Err(SendError::NotHandedOn(_))), "{failed:?}");
    stage.gateway.refuse_events(false);
    assert_eq!(send(soon()).await.unwrap().delivered, 1);
}

#[tokio::test]
async fn a_broadcast_that_continues_says_so_in_its_acknowledgement() {
    let stage = stage().await;
    let operator = stage.connect_as("op=", &user(), &[Role::Operator]).await;
    let to_all = request(Recipient::Broadcast, None);
    let ack =
        stage.messenger().send(&operator, to_all, Deadline::after(Duration::from_secs(2))).await.unwrap();
    assert_eq!(
        json!(ack),
        json!({"type": "ack", "messageId": ack.message_id, "delivered": 0, "failed": 0, "stored": false, "continues": true})
    );
}

#[tokio::test]
async fn only_an_operator_broadcasts() {
    let stage = stage().await;
    let customer = stage.connect("customer=", &user()).await;
    let operator = stage.connect_as("operator=", &user(), &[Role::Operator]).await;
    let messenger = stage.messenger();

    let refused = messenger.send(&customer, request(Recipient::Broadcast, None), soon()).await;
    assert!(matches!(refused, Err(SendError::BroadcastForbidden)), "{refused:?}");
    assert_eq!(stage.gateway.posts("operator="), 0);

    let ack = messenger.send(&operator, request(Recipient::Broadcast, None), soon()).await.unwrap();
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

// Whether the sender's session stands

#[tokio::test]
async fn checking_the_session_makes_no_message_wait_longer() {
    let stage = stage().await;
    let (alice, bob) = (user(), user());
    let sender = stage.connect("alice=", &alice).await;
    stage.connect("bob=", &bob).await;
    let order_id = stage.order_of(&alice).await;
    let (messenger, id) = (stage.messenger(), random().next::<MessageId>());
    let send = |to, id| Box::pin(messenger.send(&sender, request(to, id), soon()));
    let to_bob = || Recipient::UserId(bob.clone());
    // The check is under way with the first request after the touch. The receiver is counted at
    // that time too.
    stage.in_rounds(&[1, 3], send(to_bob(), None)).await.expect("touch, find");
    let to_order = Recipient::OrderId(order_id);
    stage.in_rounds(&[1, 2, 1], send(to_order, None)).await.expect("touch, the order, find");
    stage.in_rounds(&[1, 3, 1, 1], send(to_bob(), Some(&id))).await.expect("touch, claim, find, complete");
    stage.in_rounds(&[1, 3], send(to_bob(), Some(&id))).await.expect("touch, claim");
}

#[tokio::test]
async fn nobody_is_posted_to_before_the_session_is_checked() {
    let stage = stage().await;
    let bob = user();
    let (sender, other) = (stage.connect("alice=", &user()).await, stage.connect("eve=", &user()).await);
    stage.connect("bob=", &bob).await;
    let check =
        stage.store.embedded.faults().add(Rule::hold(When::Before).operation("BatchGetItem").times(1));
    let (messenger, usage) = (stage.messenger(), stage.store.embedded.usage());
    usage.record();
    let to_bob = || request(Recipient::UserId(bob.clone()), None);
    let sending = Box::pin(messenger.send(&sender, to_bob(), soon()));
    let overtaken = Box::pin(async {
        while usage.snapshot().count("Query") == 0
            || stage.store.embedded.faults().status(check).unwrap().held == 0
        {
            tokio::task::yield_now().await;
        }
        // A message that is sent later arrives first.
        messenger.send(&other, to_bob(), soon()).await.unwrap()
    });
    let Either::Right((ack, sending)) = select(sending, overtaken).await else {
        panic!("the check was held")
    };
    assert_eq!((ack.delivered, stage.gateway.posts("bob=")), (1, 1));
    stage.store.embedded.faults().remove(check);
    sending.await.unwrap();
    assert_eq!(stage.gateway.posts("bob="), 2);
}

#[tokio::test]
async fn whose_session_has_ended_sends_nothing_and_learns_nothing_else() {
    let stage = stage().await;
    let (alice, bob) = (user(), user());
    let (revoked, _) = sign_in(&stage.store, &alice, SystemClock.now()).await;
    let one = stage.connect_in(&revoked.id, "one=", &alice).await;
    let foreign = stage
        .connect_in(&sign_in(&stage.store, &bob, SystemClock.now()).await.0.id, "foreign=", &alice)
        .await;
    let all = stage.connect("all=", &alice).await;
    stage.connect("bob=", &bob).await;
    let order_id = stage.order_of(&bob).await;
    let (messenger, id) = (stage.messenger(), random().next::<MessageId>());
    let first = request(Recipient::UserId(bob.clone()), Some(&id));
    assert_eq!(messenger.send(&all, first, soon()).await.unwrap().delivered, 1);

    revoke(&stage.store, &revoked.id).await;
    let refused = async |sender: &ConnectionKey| {
        let unnamed = |to| request(to, None);
        let fresh = random().next::<MessageId>();
        let messages = [
            unnamed(Recipient::UserId(bob.clone())),
            unnamed(Recipient::OrderId(order_id.clone())),
            unnamed(Recipient::Broadcast),
            request(Recipient::UserId(bob.clone()), Some(&fresh)),
            request(Recipient::UserId(bob.clone()), Some(&id)),
        ];
        for message in messages {
            let refused = messenger.send(sender, message, soon()).await.unwrap_err();
            assert!(matches!(refused, SendError::Session(SessionError::Ended)), "{refused:?}");
            assert!(refused.ends_the_socket());
        }
        fresh
    };
    refused(&one).await;
    refused(&foreign).await;
    let fresh = refused(&one).await;
    let named = request(Recipient::UserId(bob.clone()), Some(&fresh));
    assert_eq!(messenger.send(&all, named, soon()).await.unwrap().delivered, 1, "no claim was left behind");

    revoke_all(&stage.store, &alice).await;
    refused(&all).await;
    assert_eq!(stage.gateway.posts("bob="), 2);
}

#[tokio::test]
async fn a_socket_whose_session_has_not_arrived_here_sends_until_an_end_has() {
    let stage = stage().await;
    let (alice, bob) = (user(), user());
    let early = stage.connect_in(&random().next(), "early=", &alice).await;
    stage.connect("bob=", &bob).await;
    let messenger = stage.messenger();
    let send = || messenger.send(&early, request(Recipient::UserId(bob.clone()), None), soon());
    assert_eq!(send().await.unwrap().delivered, 1);
    revoke_all(&stage.store, &alice).await;
    assert!(matches!(send().await.unwrap_err(), SendError::Session(SessionError::Ended)));
}

#[tokio::test]
async fn a_session_that_cannot_be_checked_sends_nothing_now_and_may_try_again() {
    let stage = stage().await;
    let bob = user();
    let sender = stage.connect("alice=", &user()).await;
    stage.connect("bob=", &bob).await;
    let (messenger, id) = (stage.messenger(), random().next::<MessageId>());
    let send = || messenger.send(&sender, request(Recipient::UserId(bob.clone()), Some(&id)), soon());

    let faults = stage.store.embedded.faults();
    faults.add(Rule::fail(Failure::InternalServerError).operation("BatchGetItem"));
    let failed = send().await.unwrap_err();
    assert!(matches!(failed, SendError::Session(SessionError::Store(_))), "{failed:?}");
    assert!(!failed.ends_the_socket());
    assert_eq!(stage.gateway.posts("bob="), 0);
    faults.clear();
    assert_eq!(send().await.unwrap().delivered, 1);
}

// Floods, and whom a user may write to

#[tokio::test]
async fn a_socket_that_sends_too_fast_is_told_so_and_at_last_has_to_be_closed() {
    let stage = stage().await;
    let (alice, bob) = (user(), user());
    let sender = stage.connect("alice=", &alice).await;
    let bystander = stage.connect("bob=", &bob).await;
    // Time stands still, so the window of the limit does not end.
    let messenger = stage.messenger_at(ManualClock::at(SystemClock.now()));
    for _ in 0..FRAMES {
        messenger.touch(&sender).await.unwrap();
    }
    for refused in 1..=MAX_REFUSED_FRAMES {
        let to_bob = request(Recipient::UserId(bob.clone()), None);
        let error = messenger.send(&sender, to_bob, soon()).await.unwrap_err();
        assert_eq!(error.ends_the_socket(), refused == MAX_REFUSED_FRAMES, "{refused}: {error:?}");
        match error {
            SendError::TooFast { retry_after } => assert!(retry_after <= FRAMES_WINDOW, "{retry_after:?}"),
            SendError::Flooding => assert_eq!(refused, MAX_REFUSED_FRAMES),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stage.gateway.posts("bob="), 0);
    messenger.ping(&bystander).await.unwrap();
}

#[tokio::test]
async fn a_user_writes_to_as_many_others_as_are_allowed_in_a_minute() {
    let stage = stage().await;
    let alice = user();
    let sockets = [stage.connect("laptop=", &alice).await, stage.connect("phone=", &alice).await];
    let operator = stage.connect_as("op=", &user(), &[Role::Operator]).await;
    let receivers: Vec<_> = (0..3).map(|_| user()).collect();
    let messenger = stage.messenger_with(&[("RECIPIENTS_PER_MINUTE", "2")]);
    let id = random().next::<MessageId>();
    let send =
        |sender, to: &UserId, id| messenger.send(sender, request(Recipient::UserId(to.clone()), id), soon());

    until_a_minute_has_time_left().await;
    // From any of their sockets, to the same ones as often as they like, and to themselves.
    for (sender, to) in [(0, 0), (1, 1), (0, 1), (1, 0)] {
        assert!(send(&sockets[sender], &receivers[to], None).await.unwrap().stored);
    }
    send(&sockets[0], &alice, None).await.unwrap();
    let refused = send(&sockets[0], &receivers[2], Some(&id)).await;
    let Err(SendError::TooManyReceivers { retry_after }) = refused else { panic!("{refused:?}") };
    assert!(retry_after <= Duration::from_mins(1), "{retry_after:?}");
    assert!(frames(&stage.inbox(), &receivers[2]).await.is_empty());
    // Nothing of that limits others, nor does the refused message keep its id.
    for to in &receivers {
        assert!(send(&operator, to, None).await.unwrap().stored);
    }
    let unlimited = stage.messenger();
    let to_third = request(Recipient::UserId(receivers[2].clone()), Some(&id));
    assert!(unlimited.send(&sockets[0], to_third, soon()).await.unwrap().stored);
}

#[tokio::test]
async fn of_many_messages_at_once_as_many_receivers_get_one_as_are_allowed() {
    let stage = stage().await;
    let sender = stage.connect("alice=", &user()).await;
    let messenger = stage.messenger_with(&[("RECIPIENTS_PER_MINUTE", "5")]);
    until_a_minute_has_time_left().await;
    let sends = (0..30).map(|_| messenger.send(&sender, request(Recipient::UserId(user()), None), soon()));
    let outcomes: Vec<_> = stream::iter(sends).buffer_unordered(30).collect().await;
    let sent = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let refused = |it: &&Result<_, _>| matches!(it, Err(SendError::TooManyReceivers { .. }));
    assert_eq!((sent, outcomes.iter().filter(refused).count()), (5, 25), "{outcomes:?}");
}

#[tokio::test]
async fn where_users_write_to_parties_only_a_stranger_gets_nothing() {
    let stage = stage().await;
    let (alice, bob) = (user(), user());
    let sender = stage.connect("alice=", &alice).await;
    stage.connect("bob=", &bob).await;
    let operator = stage.connect_as("op=", &user(), &[Role::Operator]).await;
    let (own, foreign) = (stage.order_of(&alice).await, stage.order_of(&bob).await);
    let messenger = stage.messenger_with(&[("MESSAGES_FROM", "parties")]);
    let send = |sender, to| messenger.send(sender, request(to, None), soon());

    let refused = send(&sender, Recipient::UserId(bob.clone())).await;
    assert!(matches!(refused, Err(SendError::NotAParty)), "{refused:?}");
    let refused = send(&sender, Recipient::OrderId(foreign.clone())).await;
    assert!(matches!(refused, Err(SendError::NoSuchOrder(_))), "{refused:?}");
    assert_eq!(stage.gateway.posts("bob="), 0);

    for to in [Recipient::UserId(alice), Recipient::OrderId(own)] {
        assert_eq!(send(&sender, to).await.unwrap().delivered, 1);
    }
    for to in [Recipient::UserId(bob), Recipient::OrderId(foreign)] {
        assert_eq!(send(&operator, to).await.unwrap().delivered, 1);
    }
}

/// Receivers are counted by the minute: a test that begins shortly before its end begins with the
/// next one.
async fn until_a_minute_has_time_left() {
    let into_minute = SystemClock.now().as_second().rem_euclid(60);
    if into_minute >= 50 {
        tokio::time::sleep(Duration::from_secs(u64::try_from(60 - into_minute).unwrap())).await;
    }
}
