//! What every adapter promises. Each test runs once for each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use local_region::services::faults::{Effect, Rule};
use sojourn::core::clock::{Clock, SystemClock};
use sojourn::core::deadline::Deadline;
use sojourn::core::ids;
use sojourn::identity::sessions::{
    ACTIVITY_RESOLUTION, ExchangeOutcome, FIRST_VERSION, Replaced, Session, SessionCookie, SessionError,
    SessionReader, SessionRows, SessionStore,
};
use sojourn::platform::dynamo::{Item, RowKey, RowRead, text};
use sojourn::platform::tables;

use crate::stage::{Stage, create, is_live, sealed, session_of, warm_up};

/// Readers at once.
const READERS: usize = 16;

/// Writes to a row after which a reader must have seen the first one.
const MENTIONS: usize = 20;

macro_rules! conformance {
    ($($(#[$attribute:meta])* async fn $name:ident($stage:ident: &Stage) $body:block)*) => {
        mod promise {
            use super::*;
            $($(#[$attribute])* pub(super) async fn $name($stage: &Stage) $body)*
        }

        mod dynamodb {
            use super::*;
            $(#[tokio::test] async fn $name() {
                promise::$name(&Stage::dynamodb()).await;
            })*
        }

        mod redis {
            use super::*;
            $(#[tokio::test] async fn $name() {
                if let Some(stage) = Stage::redis() { promise::$name(&stage).await; }
            })*
        }
    };
}

/// Whoever revokes nothing tells Redis of its write within the budget or not at all. A busy machine
/// may need several.
async fn until_seen(writer: &SessionStore, session: &Session, seen: impl AsyncFn() -> bool) {
    for _ in 0..MENTIONS {
        if seen().await {
            return;
        }
        writer.changed(&session.id).await;
    }
    panic!("the write is not seen");
}

conformance! {
    async fn a_new_session_is_read_as_it_was_stored(stage: &Stage) {
        let session = stage.session(&stage.store()).await;
        for store in [stage.store(), stage.store()] {
            for _ in 0..3 {
                let rows = store.read(&session.id, &session.user_id).await.unwrap();
                assert_eq!(rows, SessionRows { session: Some(session.clone()), ..SessionRows::default() });
            }
        }
    }

    async fn a_session_that_was_never_stored_is_not_there(stage: &Stage) {
        let (store, session) = (stage.store(), session_of(ids::random().next()));
        for _ in 0..3 {
            assert_eq!(store.read(&session.id, &session.user_id).await.unwrap().session, None);
        }
        create(&store, &session).await.unwrap();
        assert!(is_live(&store, &session).await, "not having been there is not remembered");
    }

    async fn a_session_is_not_stored_over_another(stage: &Stage) {
        let store = stage.store();
        let session = stage.session(&store).await;
        let mut thief = session_of(ids::random().next());
        thief.id = session.id.clone();
        assert!(matches!(create(&store, &thief).await, Err(SessionError::Store(_))));
        let rows = stage.store().read(&session.id, &session.user_id).await.unwrap();
        assert_eq!(rows.session, Some(session));
    }

    async fn a_revocation_is_seen_at_once_by_every_other_store(stage: &Stage) {
        let (writer, readers) = (stage.store(), [stage.store(), stage.store()]);
        let session = stage.session(&writer).await;
        for reader in &readers {
            warm_up(stage, reader, &session).await;
        }
        stage.revoke(&writer, &session).await;
        for reader in &readers {
            assert!(!is_live(reader, &session).await);
        }
        assert!(!is_live(&stage.store(), &session).await, "nor by one that starts now");
    }

    async fn the_end_of_all_sessions_of_a_user_ends_nobody_elses(stage: &Stage) {
        let (writer, reader) = (stage.store(), stage.store());
        let (first, other) = (stage.session(&writer).await, stage.session(&writer).await);
        let user = first.user_id.clone();
        let sessions = [stage.session_of(&writer, user.clone()).await, first];
        for session in sessions.iter().chain([&other]) {
            warm_up(stage, &reader, session).await;
        }
        stage.revoke_all(&writer, &user).await;
        for session in &sessions {
            assert!(!is_live(&reader, session).await);
        }
        assert!(is_live(&reader, &other).await);
    }

    async fn of_two_payloads_for_one_version_one_is_written_and_read_by_every_other_store(stage: &Stage) {
        let (writer, reader) = (stage.store(), stage.store());
        let mut session = session_of(ids::random().next());
        let (id, user) = (session.id.clone(), session.user_id.clone());
        let cookie = SessionCookie::generate(id, user, BTreeSet::new()).unwrap();
        session.cookie_hash = cookie.hash();
        create(&writer, &session).await.unwrap();
        warm_up(stage, &reader, &session).await;
        let (next, now) = (sealed(FIRST_VERSION + 1), SystemClock.now());
        let caller = writer.check(&cookie.credential()).await.unwrap();
        let rows = writer.read(&session.id, &session.user_id).await.unwrap();
        for (payload, outcome) in [(&next, Replaced::Done), (&sealed(9), Replaced::Overtaken)] {
            let replaced = writer.replace_payload(&caller, &rows, payload, now).await.unwrap();
            assert_eq!(replaced, outcome);
        }
        for store in [&reader, &writer] {
            let (rows, read) = store.rows().read_payload(&session.id, &session.user_id).await.unwrap();
            assert_eq!((rows.session.unwrap().last_activity, read), (now, Some(next.clone())));
        }
        stage.revoke(&writer, &session).await;
        let late = reader.replace_payload(&caller, &rows, &sealed(FIRST_VERSION + 2), now).await.unwrap();
        assert_eq!(late, Replaced::Ended);
    }

    async fn a_row_is_told_to_a_live_session_only_and_its_absence_too(stage: &Stage) {
        let store = stage.store();
        let mut session = session_of(ids::random().next());
        let (id, user) = (session.id.clone(), session.user_id.clone());
        let cookie = SessionCookie::generate(id, user, BTreeSet::new()).unwrap();
        let caller = cookie.credential();
        session.cookie_hash = cookie.hash();
        create(&store, &session).await.unwrap();
        let read = async |name: &str| {
            let key = Item::from([("customerId".to_owned(), text(name))]);
            let row = RowKey { table: tables::CARTS.logical_id, key };
            let read = RowRead::new(row, |item| Ok(item.is_some()));
            let checked = store.check_with_row(&caller, read, Deadline::after(Duration::from_mins(1))).await;
            checked.map(|(_, row)| row)
        };
        let put = stage.dynamodb.client.put_item().table_name(tables::CARTS.logical_id);
        put.item("customerId", text("there")).send().await.unwrap();
        for (name, is_there) in [("there", true), ("nowhere", false)] {
            let mut requests = 0;
            for _ in 0..MENTIONS {
                warm_up(stage, &store, &session).await;
                let read = async { assert_eq!(read(name).await.unwrap(), is_there) };
                requests = stage.requests(Box::pin(read)).await;
                // Redis answers within the budget or not at all: then DynamoDB is asked for the
                // session as well.
                if requests == 1 || stage.redis.is_none() {
                    break;
                }
            }
            assert_eq!(requests, 1, "{name}");
        }
        stage.revoke(&store, &session).await;
        for name in ["there", "nowhere"] {
            assert!(matches!(read(name).await, Err(SessionError::Ended)), "{name}");
        }
    }

    async fn an_exchange_is_seen_by_every_other_store_and_refused_after_the_end(stage: &Stage) {
        let (writer, reader) = (stage.store(), stage.store());
        let session = stage.session(&writer).await;
        warm_up(stage, &reader, &session).await;
        let rows = writer.read(&session.id, &session.user_id).await.unwrap();
        let now = session.last_activity + Duration::from_secs(1);
        let exchange = async |number| writer.exchange(&rows, &session, number, now).await.unwrap();
        assert_eq!(exchange(1).await, ExchangeOutcome::Done);
        assert_eq!(exchange(1).await, ExchangeOutcome::Overtaken, "its number is written already");
        let seen = async || {
            let read = reader.read(&session.id, &session.user_id).await.unwrap();
            read.session.unwrap().last_activity == now
        };
        until_seen(&writer, &session, seen).await;
        let (_, latest) = reader.rows().read_chain(&session.id, &session.user_id).await.unwrap();
        assert_eq!(latest, 1);
        stage.revoke(&writer, &session).await;
        assert_eq!(exchange(2).await, ExchangeOutcome::Ended);
        assert!(!is_live(&reader, &session).await);
    }

    async fn a_session_is_spared_for_every_other_store_until_all_are_ended_again(stage: &Stage) {
        let (writer, reader) = (stage.store(), stage.store());
        let spared = stage.session(&writer).await;
        let other = stage.session_of(&writer, spared.user_id.clone()).await;
        for session in [&spared, &other] {
            warm_up(stage, &reader, session).await;
        }
        stage.end_all_but(&writer, &spared).await;
        for _ in 0..3 {
            assert!(is_live(&reader, &spared).await && !is_live(&reader, &other).await);
        }
        warm_up(stage, &reader, &spared).await;
        stage.revoke_all(&writer, &spared.user_id).await;
        assert!(!is_live(&reader, &spared).await);
    }

    async fn a_session_that_arrives_late_is_read_at_once(stage: &Stage) {
        let (store, session) = (stage.store(), session_of(ids::random().next()));
        let rows = store.read(&session.id, &session.user_id).await.unwrap();
        assert_eq!(rows, SessionRows::default());
        assert_eq!(store.exchange(&rows, &session, 1, session.last_activity).await.unwrap(), ExchangeOutcome::Done);
        assert!(is_live(&stage.store(), &session).await && is_live(&store, &session).await);
        let again = store.exchange(&rows, &session, 2, session.last_activity).await.unwrap();
        assert_eq!(again, ExchangeOutcome::Overtaken, "a row that is there is not written from a token");
    }

    async fn activity_is_stamped_once_a_minute_and_seen_by_every_other_store(stage: &Stage) {
        let (writer, reader) = (stage.store(), stage.store());
        let session = stage.session(&writer).await;
        warm_up(stage, &reader, &session).await;
        let last = async || {
            reader.read(&session.id, &session.user_id).await.unwrap().session.unwrap().last_activity
        };
        let later = session.last_activity + ACTIVITY_RESOLUTION;
        writer.touch(&session.id, later - Duration::from_millis(1)).await.unwrap();
        assert_eq!(last().await, session.last_activity);
        writer.touch(&session.id, later).await.unwrap();
        until_seen(&writer, &session, async || last().await == later).await;
    }

    async fn a_store_that_fails_is_an_error_and_no_verdict(stage: &Stage) {
        let (store, session) = (stage.store(), session_of(ids::random().next()));
        stage.dynamodb.embedded.faults().add(Rule::new(Effect::Reset));
        assert!(matches!(store.read(&session.id, &session.user_id).await, Err(SessionError::Store(_))));
    }

    async fn no_read_that_begins_after_a_revocation_was_answered_takes_the_session_for_live(stage: &Stage) {
        let session = Arc::new(stage.session(&stage.store()).await);
        let answered = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..READERS).map(|_| {
            let (store, session, answered) = (stage.store(), Arc::clone(&session), Arc::clone(&answered));
            tokio::spawn(async move {
                let (mut reads, mut after) = (0_u32, 0_u32);
                while after < 20 {
                    let began_after = answered.load(Ordering::SeqCst);
                    let live = is_live(&store, &session).await;
                    assert!(!(began_after && live), "live after {reads} reads");
                    reads += 1;
                    after += u32::from(began_after);
                    tokio::task::yield_now().await;
                }
            })
        }).collect();
        let writer = stage.store();
        for _ in 0..50 {
            assert!(is_live(&writer, &session).await);
        }
        stage.revoke(&writer, &session).await;
        answered.store(true, Ordering::SeqCst);
        stream::iter(tasks).buffer_unordered(READERS).for_each(async |ended| ended.unwrap()).await;
    }
}
