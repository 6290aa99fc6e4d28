//! The end of sockets: who is told, who is closed, and what stays when something fails.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, join, select};
use futures::stream::{self, StreamExt};
use local_region::services::faults::{Failure, Rule};
use serde_json::{Value, json};
use sojourn::core::clock::{Clock, SystemClock, system};
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::{SessionId, random};
use sojourn::identity::sessions::{EndedSessions, SessionStore};
use sojourn::sockets::connections::{Registrar, admit};
use sojourn::sockets::delivery::{CloseOutcome, CloseReport, LAST_CLOSE_MARGIN, MAX_IN_FLIGHT};
use sojourn_testing::sign_ins::{revoke, sign_in};
use tokio::sync::Notify;

use crate::stage::{AMPLE, soon, stage, user};

#[tokio::test]
async fn the_sockets_of_an_ended_session_are_told_closed_and_forgotten_and_no_others() {
    let stage = stage().await;
    let (alice, bob) = (user(), user());
    let (ended, kept): (SessionId, SessionId) = (random().next(), random().next());
    stage.connect_in(&ended, "phone1=", &alice).await;
    stage.connect_in(&ended, "phone2=", &alice).await;
    stage.connect_in(&kept, "laptop=", &alice).await;
    stage.connect("bob=", &bob).await;

    let closed = stage.closer().close(&alice, &EndedSessions::One(ended.clone()), soon()).await;
    assert_eq!(closed, CloseReport { closed: 2, ..CloseReport::default() });
    for socket in ["phone1=", "phone2="] {
        let mut told: Value = serde_json::from_slice(&stage.gateway.last_body(socket)).unwrap();
        let (message_id, sent_at) = (told["messageId"].take(), told["sentAt"].take());
        assert!(message_id.as_str().is_some_and(|id| id.len() == 26), "{message_id}");
        assert!(sent_at.as_str().is_some_and(|at| at.ends_with('Z')), "{sent_at}");
        let expected = json!({
            "type": "session.revoked", "messageId": null, "sentAt": null, "body": {"sessionId": ended},
        });
        assert_eq!(told, expected);
        assert_eq!(stage.gateway.closes(socket), [204]);
    }
    for socket in ["laptop=", "bob="] {
        assert_eq!((stage.gateway.posts(socket), stage.gateway.closes(socket).len()), (0, 0), "{socket}");
    }
    assert_eq!(stage.registered(&alice).await, ["laptop="]);
    assert_eq!(stage.registered(&bob).await, ["bob="]);
}

#[tokio::test]
async fn all_sockets_end_but_those_of_the_session_that_is_kept() {
    let stage = stage().await;
    let alice = user();
    let kept: SessionId = random().next();
    stage.connect_in(&kept, "kept=", &alice).await;
    stage.connect("a=", &alice).await;
    stage.connect("b=", &alice).await;

    let but_one = stage.closer().close(&alice, &EndedSessions::AllBut(kept), soon()).await;
    assert_eq!(but_one, CloseReport { closed: 2, ..CloseReport::default() });
    assert_eq!(stage.registered(&alice).await, ["kept="]);
    let all = stage.closer().close(&alice, &EndedSessions::All, soon()).await;
    assert_eq!(all, CloseReport { closed: 1, ..CloseReport::default() });
    assert!(stage.registered(&alice).await.is_empty());
}

#[tokio::test]
async fn one_socket_that_does_not_end_holds_up_nobody_else() {
    let stage = stage().await;
    let alice = user();
    for id in ["fine=", "untold=", "gone=", "busy=", "hiccup=", "broken=", "clogged="] {
        stage.connect(id, &alice).await;
    }
    stage.gateway.always("untold=", 500);
    stage.gateway.always("gone=", 410);
    stage.gateway.closes_with("gone=", [410]);
    stage.gateway.closes_with("busy=", [429, 429, 204]);
    stage.gateway.closes_with("hiccup=", [500, 204]);
    stage.gateway.closes_with("broken=", [500; 100]);
    stage.gateway.closes_with("clogged=", [429; 1_000]);

    let closed = stage.closer().close(&alice, &EndedSessions::All, soon()).await;
    assert_eq!(closed, CloseReport { closed: 4, gone: 1, failed: 2, is_cut_short: false });
    assert_eq!(stage.gateway.closes("gone="), [410], "one that is over is not asked twice");
    assert_eq!(stage.gateway.closes("broken="), [500, 500]);
    assert!(stage.registered(&alice).await.is_empty(), "what is still open is mute");
}

/// API Gateway says 410 until the handshake is answered.
#[tokio::test]
async fn a_socket_that_is_being_opened_is_closed_once_it_is_open() {
    let stage = stage().await;
    let alice = user();
    stage.connect_at(SystemClock.now(), "opening=", &alice, &[]).await;
    stage.gateway.always("opening=", 410);
    stage.gateway.closes_with("opening=", [410, 410, 204]);

    let closed = stage.closer().close(&alice, &EndedSessions::All, soon()).await;
    assert_eq!(closed, CloseReport { closed: 1, ..CloseReport::default() });
    assert_eq!(stage.gateway.closes("opening="), [410, 410, 204]);
}

#[tokio::test]
async fn a_row_that_cannot_be_removed_now_keeps_no_socket_open() {
    let stage = stage().await;
    let alice = user();
    stage.connect("a=", &alice).await;
    stage.store.embedded.faults().add(Rule::fail(Failure::InternalServerError).operation("DeleteItem"));

    let closed = stage.closer().close(&alice, &EndedSessions::All, soon()).await;
    assert_eq!(closed, CloseReport { closed: 1, ..CloseReport::default() });
    assert_eq!(stage.registered(&alice).await, ["a="], "$disconnect removes it");
}

#[tokio::test]
async fn whoever_is_cut_off_while_closing_leaves_sockets_that_hear_nothing() {
    let stage = stage().await;
    let alice = user();
    stage.connect("a=", &alice).await;
    stage.connect("b=", &alice).await;
    stage.gateway.take(Duration::from_mins(1));

    let closer = stage.closer();
    let selection = EndedSessions::All;
    let closing = Box::pin(closer.close(&alice, &selection, soon()));
    let rows_are_gone = Box::pin(async { while !stage.registered(&alice).await.is_empty() {} });
    let cut_off = matches!(select(closing, rows_are_gone).await, Either::Right(_));
    assert!(cut_off, "the gateway answered");
    assert!(stage.gateway.closes("a=").is_empty() && stage.gateway.closes("b=").is_empty());
}

#[tokio::test]
async fn many_sockets_are_closed_with_a_bounded_number_of_calls_at_a_time() {
    let stage = stage().await;
    let alice = user();
    let ids = stage.connect_many(300, &alice).await;
    stage.gateway.take(Duration::from_millis(5));

    let closed = stage.closer().close(&alice, &EndedSessions::All, soon()).await;
    assert_eq!(closed, CloseReport { closed: 300, ..CloseReport::default() });
    assert!(ids.iter().all(|id| stage.gateway.closes(id) == [204]));
    assert!(stage.registered(&alice).await.is_empty());
    let most = stage.gateway.most_in_flight();
    assert!((2..=MAX_IN_FLIGHT).contains(&most), "{most} calls at a time");
}

#[tokio::test]
async fn what_time_or_the_store_leaves_is_reported() {
    let stage = stage().await;
    let alice = user();
    stage.connect("a=", &alice).await;
    let cut_short = CloseReport { is_cut_short: true, ..CloseReport::default() };
    let everything = EndedSessions::All;

    let hurried = Deadline::after(LAST_CLOSE_MARGIN / 2);
    assert_eq!(stage.closer().close(&alice, &everything, hurried).await, cut_short);
    let faults = stage.store.embedded.faults();
    faults.add(Rule::fail(Failure::InternalServerError).operation("Query"));
    assert_eq!(stage.closer().close(&alice, &everything, soon()).await, cut_short);
    faults.clear();
    faults.add(Rule::delay(60_000).operation("DeleteItem"));
    let soon = Deadline::after(LAST_CLOSE_MARGIN + Duration::from_millis(500));
    let in_time = tokio::time::timeout(AMPLE, stage.closer().close(&alice, &everything, soon)).await;
    assert_eq!(in_time.expect("it ends by itself"), CloseReport { closed: 1, ..CloseReport::default() });
}

#[tokio::test]
async fn of_many_who_close_a_socket_at_once_none_fails() {
    let stage = stage().await;
    let alice = user();
    let key = stage.connect("a=", &alice).await;
    stage.gateway.closes_with("a=", [204, 410, 410, 410, 410, 410, 410, 410]);
    let (closer, endpoint) = (stage.closer(), stage.gateway.url().parse().unwrap());
    let why = json!({"type": "error"});
    let ends = (0..8).map(|_| closer.end(&key, &endpoint, &why, soon()));

    let mut outcomes = stream::iter(ends).buffer_unordered(8).collect::<Vec<_>>().await;
    outcomes.sort_by_key(|outcome| *outcome != CloseOutcome::Closed);
    assert_eq!((outcomes[0], &outcomes[1..]), (CloseOutcome::Closed, [CloseOutcome::Gone; 7].as_slice()));
}

/// Each handshake registers and then looks; the revocation is committed and then looks. Whatever
/// comes first, one of them sees the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_amid_handshakes_leaves_no_socket_of_the_session() {
    let stage = Arc::new(stage().await);
    stage.store.embedded.faults().add(Rule::delay(3));
    for round in 0..5 {
        let alice = user();
        let (session, principal) = sign_in(&stage.store, &alice, SystemClock.now()).await;
        let ids_in_time = 15;
        let ids: Vec<String> = (0..20).map(|n| format!("r{round}s{n:02}=")).collect();
        let revoked = Notify::new();
        let handshakes = ids.iter().enumerate().map(|(n, id)| {
            let (stage, principal, revoked) = (Arc::clone(&stage), principal.clone(), &revoked);
            let connection = stage.connection(SystemClock.now(), id, &alice, &session.id);
            async move {
                // The last ones come when it is too late, however slow the machine is.
                if n >= ids_in_time {
                    revoked.notified().await;
                    revoked.notify_one();
                }
                let sessions =
                    SessionStore::from_env(stage.store.client.clone(), &stage.store.env, system()).unwrap();
                let registrar =
                    Registrar::from_env(stage.store.client.clone(), &stage.store.env, system()).unwrap();
                admit(&registrar, &sessions, &connection, &principal, &system(), soon()).await
            }
        });
        let revocation = async {
            while stage.registered(&alice).await.len() < 5 {}
            revoke(&stage.store, &session.id).await;
            revoked.notify_one();
            stage.closer().close(&alice, &EndedSessions::One(session.id.clone()), soon()).await
        };
        let (admitted, closed) =
            join(stream::iter(handshakes).buffered(6).collect::<Vec<_>>(), revocation).await;

        assert!(stage.registered(&alice).await.is_empty());
        let admitted: Vec<&String> =
            ids.iter().zip(&admitted).filter(|(_, admitted)| admitted.is_ok()).map(|(id, _)| id).collect();
        assert!(admitted.len() <= ids_in_time, "{} were let in", admitted.len());
        assert!(closed.closed >= admitted.len() as u64 && !closed.is_cut_short, "{closed:?}");
        assert!(admitted.iter().all(|id| stage.gateway.closes(id) == [204]), "no one that was let in stays");
    }
}
