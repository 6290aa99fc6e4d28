//! The inbox: what no socket took, stored once, in order, and deleted by its reader alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use local_region::services::faults::{Effect, Failure, Rule, When};
use serde_json::{Value, json};
use sojourn::core::clock::{Clock, ManualClock, SharedClock, SystemClock, system};
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::{MessageId, UserId, random};
use sojourn::identity::principal::Role;
use sojourn::platform::dynamo::{number, text};
use sojourn::sockets::connections::ConnectionKey;
use sojourn::sockets::delivery::{HAND_ON_MARGIN, LAST_START_MARGIN, Recipient, SendError, SendRequest};
use sojourn::sockets::inbox::{
    CAPACITY, Inbox, InboxError, RESERVED, RETENTION, ReadBounds, StoreOutcome, UndeliveredMessage,
};

use crate::stage::{Stage, request, soon, stage, user};

/// Everything that a small inbox holds.
const ALL: ReadBounds = ReadBounds { messages: 100, bytes: 1_000_000 };

fn inbox_at(stage: &Stage, clock: &Arc<ManualClock>) -> Inbox {
    let clock: SharedClock = clock.clone();
    Inbox::from_env(stage.store.client.clone(), &stage.store.env, clock).unwrap()
}

async fn put(inbox: &Inbox, to: &UserId, frame: &str) -> StoreOutcome {
    let message_id = random().next();
    store(inbox, to, &message_id, frame).await
}

async fn store(inbox: &Inbox, to: &UserId, message_id: &MessageId, frame: &str) -> StoreOutcome {
    let message = UndeliveredMessage { message_id, from: None, frame };
    inbox.store(to, message, soon()).await.unwrap()
}

pub(crate) async fn frames(inbox: &Inbox, of: &UserId) -> Vec<String> {
    inbox.read(of, None, ALL).await.unwrap().frames
}

/// The inbox as if it had been written before: a full one takes a thousand transactions otherwise.
async fn fill(stage: &Stage, of: &UserId, expires_at: impl Fn(u64) -> Timestamp) {
    fill_to(stage, of, CAPACITY, expires_at).await;
}

async fn fill_to(stage: &Stage, of: &UserId, last: u64, expires_at: impl Fn(u64) -> Timestamp) {
    let row = |item: String| {
        let put = stage.store.client.put_item().table_name("InboxTable");
        put.item("inboxId", text(format!("{of}#local"))).item("item", text(item))
    };
    let messages = (1..=last).map(|position| {
        let expires_at = expires_at(position).as_second();
        let row = row(format!("m#{position:016}"));
        row.item("frame", text(position.to_string())).item("expiresAt", number(expires_at)).send()
    });
    stream::iter(messages).for_each_concurrent(16, async |put| drop(put.await.unwrap())).await;
    let head = row("head".to_owned()).item("lastPosition", number(last));
    head.item("deletedThrough", number(0)).send().await.unwrap();
}

#[tokio::test]
async fn a_message_to_somebody_without_sockets_is_stored_as_a_socket_would_have_got_it() {
    let stage = stage().await;
    let (alice, bob) = (user(), user());
    let sender = stage.connect("alice=", &alice).await;
    let body = r#"{ "n": 123456789012345678901234567890, "b": 117.63331139400017, "a": 1e400 }"#;
    let raw: &serde_json::value::RawValue = serde_json::from_str(body).unwrap();
    let said = SendRequest { body: raw.into(), ..request(Recipient::UserId(bob.clone()), None) };

    let ack = stage.messenger().send(&sender, said, soon()).await.unwrap();
    assert_eq!((ack.delivered, ack.failed, ack.stored), (0, 0, true));
    let page = stage.inbox().read(&bob, None, ALL).await.unwrap();
    let [frame] = page.frames.as_slice() else { panic!("{page:?}") };
    assert!(frame.ends_with(&format!(",\"body\":{body}}}")), "{frame}");
    let read: Value = serde_json::from_str(frame).unwrap();
    assert_eq!((&read["messageId"], &read["from"]), (&json!(ack.message_id), &json!(alice)));
    assert!(page.document("", "nextCursor").contains(body), "an answer holds the frame byte for byte");
}

#[tokio::test]
async fn a_message_that_a_socket_took_costs_no_call_to_the_inbox() {
    let stage = stage().await;
    let (alice, bob) = (user(), user());
    let sender = stage.connect("alice=", &alice).await;
    stage.connect("bob1=", &bob).await;
    stage.connect("bob2=", &bob).await;
    stage.gateway.always("bob2=", 500);
    let usage = stage.store.embedded.usage();
    usage.record();
    let ack =
        stage.messenger().send(&sender, request(Recipient::UserId(bob.clone()), None), soon()).await.unwrap();
    // The sender's row, the session, the count of receivers, the receiver's sockets.
    assert_eq!(usage.snapshot().total(), 4);
    assert_eq!((ack.delivered, ack.failed, ack.stored), (1, 1, false));
    assert_eq!(frames(&stage.inbox(), &bob).await, [""; 0]);
}

#[tokio::test]
async fn whatever_keeps_the_sockets_from_taking_a_message_it_is_stored_once() {
    for status in [410, 413, 429, 500] {
        let stage = stage().await;
        let bob = user();
        let sender = stage.connect("alice=", &user()).await;
        for socket in ["bob1=", "bob2="] {
            stage.connect(socket, &bob).await;
            stage.gateway.always(socket, status);
        }
        let to_bob = request(Recipient::UserId(bob.clone()), None);
        let ack = stage.messenger().send(&sender, to_bob, soon()).await.unwrap();
        let failed = if status == 410 { 0 } else { 2 };
        assert_eq!((ack.delivered, ack.failed, ack.stored), (0, failed, true), "{status}");
        assert_eq!(frames(&stage.inbox(), &bob).await.len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_broadcast_is_stored_for_those_whom_it_did_not_reach() {
    let stage = stage().await;
    let operator = stage.connect_as("op=", &user(), &[Role::Operator]).await;
    let (gone, broken, fine) = (user(), user(), user());
    for (socket, of) in [("gone=", &gone), ("broken1=", &broken), ("broken2=", &broken), ("fine=", &fine)] {
        stage.connect(socket, of).await;
    }
    stage.gateway.always("gone=", 410);
    stage.gateway.always("broken1=", 500);
    stage.gateway.always("broken2=", 500);

    let ack = stage.messenger().send(&operator, request(Recipient::Broadcast, None), soon()).await.unwrap();
    assert_eq!((ack.delivered, ack.failed, ack.stored), (2, 2, true));
    let inbox = stage.inbox();
    let mut stored = Vec::new();
    for user in [&gone, &broken, &fine] {
        stored.push(frames(&inbox, user).await.len());
    }
    assert_eq!(stored, [1, 1, 0]);
}

#[tokio::test]
async fn a_message_that_could_not_be_stored_is_an_error_and_its_repetition_delivers() {
    let stage = stage().await;
    let bob = user();
    let sender = stage.connect("alice=", &user()).await;
    let (messenger, id) = (stage.messenger(), random().next::<MessageId>());
    let send = || messenger.send(&sender, request(Recipient::UserId(bob.clone()), Some(&id)), soon());
    let faults = stage.store.embedded.faults();

    faults.add(Rule::fail(Failure::InternalServerError).operation("TransactWriteItems"));
    let failed = send().await;
    assert!(matches!(failed, Err(SendError::Store(_))), "{failed:?}");
    faults.clear();
    stage.connect("bob=", &bob).await;
    assert_eq!(send().await.unwrap().delivered, 1, "the message id was free again");
    assert_eq!(stage.gateway.posts("bob="), 1);
}

#[tokio::test]
async fn a_message_is_stored_once_whichever_request_of_its_store_dies() {
    // Reading the head, and the transaction: each fails before it happens, or after it has
    // happened.
    for operation in ["GetItem", "TransactWriteItems"] {
        for effect in [Effect::Reset, Effect::CommitThenReset] {
            let stage = stage().await;
            let (inbox, bob, id) = (stage.inbox(), user(), random().next::<MessageId>());
            put(&inbox, &bob, "\"before\"").await;
            // The SDK's own three tries as well.
            stage.store.embedded.faults().add(Rule::new(effect).operation(operation).times(3));
            let message = UndeliveredMessage { message_id: &id, from: None, frame: "\"now\"" };
            inbox.store(&bob, message, soon()).await.unwrap_err();
            assert_eq!(store(&inbox, &bob, &id, "\"now\"").await, StoreOutcome::Stored);
            assert_eq!(frames(&inbox, &bob).await, ["\"before\"", "\"now\""], "{operation}");
        }
    }
}

#[tokio::test]
async fn stores_at_once_get_positions_without_gaps_in_the_order_of_their_visibility() {
    let stage = stage().await;
    let (inbox, bob) = (stage.inbox(), user());
    let stores = (0..40).map(|n: u32| {
        let (inbox, bob) = (&inbox, &bob);
        async move {
            let (id, frame) = (random().next(), n.to_string());
            // A store that lost too often fails, and its sender repeats it.
            while inbox
                .store(bob, UndeliveredMessage { message_id: &id, from: None, frame: &frame }, soon())
                .await
                .is_err()
            {}
        }
    });
    let reader = async {
        let (mut seen, mut after) = (Vec::new(), None);
        while seen.len() < 40 {
            let page = inbox.read(&bob, after.as_deref(), ALL).await.unwrap();
            seen.extend(page.frames);
            after = page.next.or(after);
        }
        seen
    };
    let (_, mut seen) = tokio::join!(stream::iter(stores).buffer_unordered(8).collect::<Vec<()>>(), reader);
    // Somebody who reads behind a cursor meanwhile misses nothing, since nothing ever becomes
    // visible before it.
    seen.sort_by_key(|frame| frame.parse::<u32>().unwrap());
    assert_eq!(seen, (0..40).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_deletion_removes_what_was_read_and_nothing_that_came_later() {
    let stage = stage().await;
    let (inbox, bob) = (stage.inbox(), user());
    for frame in ["1", "2", "3"] {
        put(&inbox, &bob, frame).await;
    }
    let two = ReadBounds { messages: 2, ..ALL };
    let first = inbox.read(&bob, None, two).await.unwrap();
    assert_eq!(first.frames, ["1", "2"]);
    let through = first.next.unwrap();
    put(&inbox, &bob, "4").await;
    for _ in 0..2 {
        inbox.delete(&bob, &through, soon()).await.unwrap();
        assert_eq!(frames(&inbox, &bob).await, ["3", "4"]);
    }
    let rest = inbox.read(&bob, Some(&through), ALL).await.unwrap();
    assert_eq!(rest.frames, ["3", "4"]);
    let end = inbox.read(&bob, rest.next.as_deref(), ALL).await.unwrap();
    assert_eq!((end.frames.len(), end.next), (0, None));
}

#[tokio::test]
async fn a_store_that_was_paused_takes_no_position_that_was_deleted_meanwhile() {
    let stage = stage().await;
    let (inbox, bob) = (stage.inbox(), user());
    put(&inbox, &bob, "before").await;
    let faults = stage.store.embedded.faults();
    // The first store has read the head, and its transaction waits.
    let held = faults.add(Rule::hold(When::Before).operation("TransactWriteItems").times(1));
    let meanwhile = async {
        assert!(faults.until_held(held, 1).await);
        put(&inbox, &bob, "meanwhile").await;
        let through = inbox.read(&bob, None, ALL).await.unwrap().next.unwrap();
        inbox.delete(&bob, &through, soon()).await.unwrap();
        faults.release(held);
        through
    };
    let (stored, through) = tokio::join!(put(&inbox, &bob, "paused"), meanwhile);
    assert_eq!(stored, StoreOutcome::Stored);
    let behind = inbox.read(&bob, Some(&through), ALL).await.unwrap();
    assert_eq!(behind.frames, ["paused"], "who reads behind the cursor finds it");
}

#[tokio::test]
async fn a_message_that_was_read_and_deleted_is_not_stored_again() {
    let stage = stage().await;
    let (inbox, bob, id) = (stage.inbox(), user(), random().next::<MessageId>());
    store(&inbox, &bob, &id, "1").await;
    let through = inbox.read(&bob, None, ALL).await.unwrap().next.unwrap();
    inbox.delete(&bob, &through, soon()).await.unwrap();
    assert_eq!(store(&inbox, &bob, &id, "1").await, StoreOutcome::Stored);
    assert_eq!(frames(&inbox, &bob).await, [""; 0]);
}

#[tokio::test]
async fn a_deletion_that_dies_anywhere_is_completed_by_its_repetition() {
    for operation in ["Query", "BatchWriteItem", "UpdateItem"] {
        for effect in [Effect::Reset, Effect::CommitThenReset] {
            let stage = stage().await;
            let (inbox, bob) = (stage.inbox(), user());
            for n in 0..30 {
                put(&inbox, &bob, &n.to_string()).await;
            }
            let through = inbox.read(&bob, None, ALL).await.unwrap().next.unwrap();
            let faults = stage.store.embedded.faults();
            faults.add(Rule::new(effect).operation(operation).times(3));
            inbox.delete(&bob, &through, soon()).await.unwrap_err();
            faults.clear();
            inbox.delete(&bob, &through, soon()).await.unwrap();
            assert_eq!(frames(&inbox, &bob).await, [""; 0], "{operation}");
        }
    }
}

#[tokio::test]
async fn a_cursor_opens_no_other_inbox_and_a_made_up_one_none() {
    let stage = stage().await;
    let (inbox, bob, eve) = (stage.inbox(), user(), user());
    put(&inbox, &bob, "1").await;
    put(&inbox, &eve, "2").await;
    let bobs = inbox.read(&bob, None, ALL).await.unwrap().next.unwrap();
    inbox.delete(&eve, &bobs, soon()).await.unwrap();
    assert_eq!(frames(&inbox, &bob).await, ["1"], "a cursor is a position in the caller's own inbox");
    assert_eq!(frames(&inbox, &eve).await, [""; 0]);

    let made_up = |list: &str, region: &str, position: u64| {
        sojourn::core::cursor::encode(list, &BTreeMap::from([(region, position)])).unwrap()
    };
    let nowhere = sojourn::core::cursor::encode("inbox", &BTreeMap::<String, u64>::new()).unwrap();
    let cursors = [
        made_up("inbox", "local", 1_000_000),
        made_up("inbox", "local", 0),
        made_up("inbox", "local", u64::MAX),
        made_up("inbox", "elsewhere", 1),
        made_up("orders", "local", 1),
        nowhere,
    ];
    for cursor in cursors.iter().map(String::as_str).chain(["", "nonsense"]) {
        let refused = inbox.delete(&bob, cursor, soon()).await;
        assert!(matches!(refused, Err(InboxError::Cursor(_))), "{cursor}: {refused:?}");
    }
}

#[tokio::test]
async fn a_full_inbox_refuses_what_comes_and_drops_nothing() {
    let stage = stage().await;
    let (inbox, bob) = (stage.inbox(), user());
    let sender = stage.connect("alice=", &user()).await;
    fill_to(&stage, &bob, CAPACITY - RESERVED, |_| SystemClock.now() + Duration::from_mins(10)).await;

    let id = random().next::<MessageId>();
    let messenger = stage.messenger();
    let send = || messenger.send(&sender, request(Recipient::UserId(bob.clone()), Some(&id)), soon());
    for _ in 0..2 {
        let refused = send().await;
        assert!(matches!(refused, Err(SendError::InboxFull)), "{refused:?}");
    }
    let first = inbox.read(&bob, None, ReadBounds { messages: 1, ..ALL }).await.unwrap();
    assert_eq!(first.frames, ["1"], "the oldest is still there");
    inbox.delete(&bob, first.next.as_deref().unwrap(), soon()).await.unwrap();
    assert!(send().await.unwrap().stored, "there is room for one");
    let one_more = messenger.send(&sender, request(Recipient::UserId(bob.clone()), None), soon()).await;
    assert!(matches!(one_more, Err(SendError::InboxFull)), "{one_more:?}");
    assert_eq!(
        put(&inbox, &bob, "order").await,
        StoreOutcome::Stored,
        "users cannot take the places of the service"
    );
}

#[tokio::test]
async fn expired_messages_are_not_read_and_make_room() {
    let stage = stage().await;
    let bob = user();
    let now = SystemClock.now();
    let ends =
        |position| if position <= 3 { now - Duration::from_secs(1) } else { now + Duration::from_mins(10) };
    fill(&stage, &bob, ends).await;
    let inbox = stage.inbox();
    let first = inbox.read(&bob, None, ReadBounds { messages: 2, ..ALL }).await.unwrap();
    assert_eq!(first.frames, ["4", "5"]);
    for frame in ["a", "b", "c"] {
        assert_eq!(put(&inbox, &bob, frame).await, StoreOutcome::Stored);
    }
    assert_eq!(put(&inbox, &bob, "d").await, StoreOutcome::Full);
}

#[tokio::test]
async fn a_message_is_kept_for_seven_days() {
    let stage = stage().await;
    let clock = ManualClock::at(SystemClock.now());
    let (inbox, bob) = (inbox_at(&stage, &clock), user());
    put(&inbox, &bob, "1").await;
    clock.advance(RETENTION.saturating_sub(Duration::from_secs(2)));
    assert_eq!(frames(&inbox, &bob).await, ["1"]);
    clock.advance(Duration::from_secs(2));
    assert_eq!(frames(&inbox, &bob).await, [""; 0]);
}

#[tokio::test]
async fn pages_keep_the_bound_of_bytes() {
    let stage = stage().await;
    let (inbox, bob) = (stage.inbox(), user());
    for letter in ["a", "b", "c"] {
        put(&inbox, &bob, &letter.repeat(100)).await;
    }
    let bounds = |bytes| ReadBounds { messages: 100, bytes };
    let page = inbox.read(&bob, None, bounds(250)).await.unwrap();
    assert_eq!(page.frames, ["a".repeat(100), "b".repeat(100)]);
    let rest = inbox.read(&bob, page.next.as_deref(), bounds(250)).await.unwrap();
    assert_eq!(rest.frames, ["c".repeat(100)]);
    let refused = inbox.read(&bob, None, bounds(99)).await;
    assert!(matches!(refused, Err(InboxError::TooLarge { bytes: 100 })), "{refused:?}");
}

#[tokio::test]
async fn an_inbox_is_read_over_a_socket_whose_session_is_live() {
    let stage = stage().await;
    let bob = user();
    put(&stage.inbox(), &bob, "1").await;
    let socket = stage.connect("bob=", &bob).await;
    let messenger = stage.messenger();
    assert_eq!(messenger.inbox(&socket, None).await.unwrap().frames, ["1"]);
    let wrong = messenger.inbox(&socket, Some("nonsense")).await;
    assert!(matches!(wrong, Err(SendError::Inbox(InboxError::Cursor(_)))), "{wrong:?}");

    sojourn_testing::sign_ins::revoke_all(&stage.store, &bob).await;
    let ended = messenger.inbox(&socket, None).await;
    assert!(matches!(&ended, Err(error) if error.ends_the_socket()), "{ended:?}");
    let unknown = ConnectionKey { connection_id: "nobody=".parse().unwrap(), ..socket };
    let refused = messenger.inbox(&unknown, None).await;
    assert!(matches!(refused, Err(SendError::NotConnected)), "{refused:?}");
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_given_up_in_time() {
    let stage = stage().await;
    let sender = stage.connect("alice=", &user()).await;
    stage.store.embedded.faults().add(Rule::delay(60_000).operation("TransactWriteItems"));
    let to_bob = request(Recipient::UserId(user()), None);
    let deadline = Deadline::after(LAST_START_MARGIN + HAND_ON_MARGIN + Duration::from_secs(1));
    let failed = stage.messenger().send(&sender, to_bob, deadline).await;
    assert!(matches!(failed, Err(SendError::Store(_))), "{failed:?}");
}

/// The inboxes as a region stores and reads them, beside another region. In this test both have one
/// copy of the table.
fn inbox_of(stage: &Stage, region: &str, peer: &str) -> Inbox {
    let env = stage.store.env_with(&[("AWS_REGION", region), ("PEER_REGIONS", peer)]);
    Inbox::from_env(stage.store.client.clone(), &env, system()).unwrap()
}

#[tokio::test]
async fn messages_of_every_region_are_read_page_by_page_and_deleted_in_any_region() {
    let stage = stage().await;
    let [here, there] = [inbox_of(&stage, "here", "there"), inbox_of(&stage, "there", "here")];
    let bob = user();
    for n in 1..=3 {
        put(&here, &bob, &format!("here {n}")).await;
        put(&there, &bob, &format!("there {n}")).await;
    }
    let two = ReadBounds { messages: 2, ..ALL };
    let (mut read, mut after) = (Vec::new(), None);
    loop {
        let page = here.read(&bob, after.as_deref(), two).await.unwrap();
        assert!(page.frames.len() <= 2);
        read.extend(page.frames);
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(read, ["here 1", "here 2", "here 3", "there 1", "there 2", "there 3"]);

    put(&here, &bob, "here 4").await;
    there.delete(&bob, after.as_deref().unwrap(), soon()).await.unwrap();
    for inbox in [&here, &there] {
        assert_eq!(frames(inbox, &bob).await, ["here 4"]);
    }
    put(&there, &bob, "there 4").await;
    assert_eq!(frames(&here, &bob).await, ["here 4", "there 4"], "positions go on");
}

#[tokio::test]
async fn regions_that_store_at_once_lose_no_message() {
    let stage = stage().await;
    let [here, there] = [inbox_of(&stage, "here", "there"), inbox_of(&stage, "there", "here")];
    let bob = user();
    let tasks = (0..20).map(|n| {
        let inbox = if n % 2 == 0 { &here } else { &there };
        let (bob, frame) = (&bob, n.to_string());
        async move {
            let message_id = random().next();
            let message = UndeliveredMessage { message_id: &message_id, from: None, frame: &frame };
            // A store that lost too often fails, and its sender repeats it.
            while inbox.store(bob, message, soon()).await.is_err() {}
        }
    });
    stream::iter(tasks).buffer_unordered(4).collect::<Vec<()>>().await;
    let mut read: Vec<u32> = frames(&here, &bob).await.iter().map(|frame| frame.parse().unwrap()).collect();
    read.sort_unstable();
    assert!(read.into_iter().eq(0..20));
}

#[tokio::test]
async fn what_another_region_deleted_makes_room() {
    let stage = stage().await;
    let (own, bob) = (stage.inbox(), user());
    fill(&stage, &bob, |_| SystemClock.now() + Duration::from_mins(10)).await;
    assert_eq!(put(&own, &bob, "too many").await, StoreOutcome::Full);
    let other = inbox_of(&stage, "other", "local");
    let through = other.read(&bob, None, ALL).await.unwrap().next.unwrap();
    other.delete(&bob, &through, soon()).await.unwrap();
    assert_eq!(put(&own, &bob, "one more").await, StoreOutcome::Stored);
    assert_eq!(own.read(&bob, None, ReadBounds { messages: 2_000, ..ALL }).await.unwrap().frames.len(), 901);
}
