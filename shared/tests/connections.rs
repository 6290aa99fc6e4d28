//! The connection registry on a DynamoDB of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage stops there")]

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use local_region::services::faults::{Failure, Rule};
use sojourn::core::clock::{Clock, ManualClock, SharedClock};
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::{ConnectionId, UserId, random};
use sojourn::identity::principal::{Credential, Role};
use sojourn::identity::sessions::{SessionError, SessionStore};
use sojourn::sockets::connections::{
    AdmissionError, Audience, CallbackEndpoint, Connection, ConnectionKey, Cursor, DynamoConnections,
    EXPIRY_GRACE, FRAMES_WINDOW, MAX_CONNECTION_AGE, PeerPage, Registrar, Removed, SAME_OPENING, Touched,
    admit, expiry,
};
use sojourn_testing::Store;
use sojourn_testing::sign_ins::{revoke, revoke_all, sign_in, sign_in_until};

const HOUR: Duration = Duration::from_hours(1);

struct Stage {
    store: Store,
    clock: Arc<ManualClock>,
    registry: DynamoConnections,
}

fn stage() -> Stage {
    let store = Store::start();
    let clock = ManualClock::at("2026-11-20T10:00:00.250Z".parse().unwrap());
    let registry = DynamoConnections::from_env(store.client.clone(), &store.env, clock.clone()).unwrap();
    Stage { store, clock, registry }
}

impl Stage {
    fn key(&self, id: &str) -> ConnectionKey {
        ConnectionKey { connection_id: id.parse().unwrap(), connected_at: self.clock.now() }
    }

    fn connection(&self, id: &str, user: &UserId) -> Connection {
        Connection {
            key: self.key(id),
            user_id: user.clone(),
            session_id: random().next(),
            roles: BTreeSet::new(),
            region: "local".into(),
            endpoint: "ws://127.0.0.1:3001/local".parse::<CallbackEndpoint>().unwrap(),
            last_activity: self.clock.now(),
            expires_at: expiry(self.clock.now()),
        }
    }

    async fn register(&self, connection: Connection) -> Connection {
        self.store.open_socket(&connection).await;
        connection
    }

    async fn register_many(&self, prefix: &str, count: usize, user: &UserId) {
        let connections = (0..count).map(|n| self.connection(&format!("{prefix}{n:04}="), user));
        let puts: Vec<_> =
            connections.map(|connection| async move { self.store.open_socket(&connection).await }).collect();
        stream::iter(puts).buffer_unordered(16).collect::<Vec<_>>().await;
    }

    async fn rows(&self) -> usize {
        let scan = self.store.client.scan().table_name("ConnectionsTable").send().await.unwrap();
        scan.items().len()
    }

    async fn page(&self, audience: &Audience, cursor: &Cursor) -> PeerPage {
        self.registry.find(audience, cursor).await.unwrap()
    }

    /// Every peer of the audience behind `cursor`, in the order of the pages, and the number of
    /// pages.
    async fn all(&self, audience: &Audience, cursor: Cursor) -> (Vec<ConnectionId>, usize) {
        let (mut found, mut pages, mut next) = (Vec::new(), 0, Some(cursor));
        while let Some(cursor) = next {
            let page = self.page(audience, &cursor).await;
            found.extend(page.peers.into_iter().map(|peer| peer.key.connection_id));
            next = page.next;
            pages += 1;
        }
        (found, pages)
    }
}

fn user() -> UserId {
    random().next()
}

#[tokio::test]
async fn a_touch_says_whose_the_socket_is_and_stamps_it() {
    let stage = stage();
    let mut operator = stage.connection("c1=", &user());
    operator.roles.insert(Role::Operator);
    let registered = stage.register(operator).await;

    stage.clock.advance(Duration::from_mins(3));
    stage.store.embedded.usage().record();
    let touched = stage.registry.touch(&registered.key).await.unwrap();
    assert_eq!(stage.store.embedded.usage().snapshot().total(), 1, "in a single call");
    let expected = Connection { last_activity: stage.clock.now(), ..registered };
    assert!(expected.has_role(Role::Operator));
    assert_eq!(touched, Touched::Live(expected));
}

#[tokio::test]
async fn an_unknown_connection_is_not_brought_to_life_by_a_touch() {
    let stage = stage();
    assert_eq!(stage.registry.touch(&stage.key("c1=")).await.unwrap(), Touched::Unknown);
    assert_eq!(stage.rows().await, 0);
}

#[tokio::test]
async fn an_expired_row_is_neither_touched_nor_found() {
    let stage = stage();
    let owner = user();
    let old = stage.register(stage.connection("old=", &owner)).await;
    stage.clock.advance(HOUR);
    let fresh = stage.register(stage.connection("fresh=", &owner)).await;
    stage.clock.advance(HOUR + Duration::from_mins(5));

    assert_eq!(stage.rows().await, 2, "TTL has not collected it yet");
    assert_eq!(stage.registry.touch(&old.key).await.unwrap(), Touched::Unknown);
    for audience in [Audience::User(owner.clone()), Audience::Everyone] {
        let (found, _) = stage.all(&audience, Cursor::START).await;
        assert_eq!(found, std::slice::from_ref(&fresh.key.connection_id));
    }
}

#[tokio::test]
async fn late_disconnect_does_not_remove_the_newer_connection() {
    let stage = stage();
    let owner = user();
    let old = stage.register(stage.connection("reused=", &owner)).await;
    stage.clock.advance(SAME_OPENING + Duration::from_millis(1));
    let new = stage.register(stage.connection("reused=", &owner)).await;

    assert_eq!(stage.registry.remove(&old.key).await.unwrap(), Removed::NotThere);
    assert_eq!(stage.registry.touch(&old.key).await.unwrap(), Touched::Unknown, "nor does it speak for it");
    assert!(matches!(stage.registry.touch(&new.key).await.unwrap(), Touched::Live(_)));
    assert_eq!(stage.registry.remove(&new.key).await.unwrap(), Removed::Removed);
    assert_eq!(stage.rows().await, 0);
}

#[tokio::test]
async fn events_whose_opening_differs_by_less_than_a_handshake_are_of_the_same_connection() {
    let stage = stage();
    let millisecond = Duration::from_millis(1);
    let half = SAME_OPENING / 2;
    for drift in [millisecond, Duration::from_millis(7), half, SAME_OPENING] {
        let row = stage.register(stage.connection("c1=", &user())).await;
        let opened = row.key.connected_at;
        for connected_at in [opened - drift, opened + drift] {
            let event = ConnectionKey { connected_at, ..row.key.clone() };
            let Touched::Live(touched) = stage.registry.touch(&event).await.unwrap() else {
                panic!("{drift:?} apart is another connection");
            };
            assert_eq!(touched.key, row.key, "the row keeps what $connect said");
        }
        let late = ConnectionKey { connected_at: opened + drift, ..row.key.clone() };
        assert_eq!(stage.registry.remove(&late).await.unwrap(), Removed::Removed, "{drift:?}");
    }
    let row = stage.register(stage.connection("c1=", &user())).await;
    for connected_at in
        [row.key.connected_at - SAME_OPENING - millisecond, row.key.connected_at + SAME_OPENING + millisecond]
    {
        let other = ConnectionKey { connected_at, ..row.key.clone() };
        assert_eq!(stage.registry.touch(&other).await.unwrap(), Touched::Unknown);
        assert_eq!(stage.registry.remove(&other).await.unwrap(), Removed::NotThere);
    }
    assert_eq!(stage.rows().await, 1);
}

#[tokio::test]
async fn a_disconnect_removes_one_socket_of_several_and_may_come_twice() {
    let stage = stage();
    let owner = user();
    let gone = stage.register(stage.connection("a=", &owner)).await;
    let kept = stage.register(stage.connection("b=", &owner)).await;

    assert_eq!(stage.registry.remove(&gone.key).await.unwrap(), Removed::Removed);
    assert_eq!(stage.registry.remove(&gone.key).await.unwrap(), Removed::NotThere);
    let (found, _) = stage.all(&Audience::User(owner), Cursor::START).await;
    assert_eq!(found, [kept.key.connection_id]);
}

#[tokio::test]
async fn registering_twice_is_registering_once() {
    let stage = stage();
    let (_, principal) = sign_in(&stage.store, &user(), stage.clock.now()).await;
    let one = [("SOCKETS_PER_USER", "1")];
    for _ in 0..2 {
        stage.handshake_with(&one, "c1=", &principal).await.unwrap();
        assert_eq!(stage.rows().await, 1);
    }
    assert_eq!(stage.registry.remove(&stage.key("c1=")).await.unwrap(), Removed::Removed);
}

#[tokio::test]
async fn a_user_finds_all_of_their_sockets_and_nobody_elses_page_by_page() {
    let stage = stage();
    let (owner, other) = (user(), user());
    stage.register_many("mine", 600, &owner).await;
    stage.register_many("other", 20, &other).await;

    let (found, pages) = stage.all(&Audience::User(owner), Cursor::START).await;
    let distinct: HashSet<_> = found.iter().collect();
    assert_eq!((found.len(), distinct.len()), (600, 600));
    assert!(found.iter().all(|id| id.as_str().starts_with("mine")));
    assert!(pages >= 3, "pages are bounded: {pages}");

    let (found, _) = stage.all(&Audience::User(other), Cursor::START).await;
    assert_eq!(found.len(), 20);
}

#[tokio::test]
async fn a_cursor_goes_on_behind_a_peer_that_was_removed_meanwhile() {
    let stage = stage();
    let owner = user();
    stage.register_many("c", 300, &owner).await;
    for audience in [Audience::User(owner), Audience::Everyone] {
        let first = stage.page(&audience, &Cursor::START).await.peers;
        let (head, last) = (&first[..100], &first[99]);
        stage.registry.remove(&last.key).await.unwrap();

        let cursor = Cursor::behind(last.key.connection_id.clone());
        let (rest, _) = stage.all(&audience, cursor).await;
        let seen: HashSet<_> = head.iter().map(|peer| &peer.key.connection_id).collect();
        assert!(rest.iter().all(|id| !seen.contains(id)), "nobody is served twice");
        let (left, _) = stage.all(&audience, Cursor::START).await;
        assert_eq!(rest.len() + head.len() - 1, left.len(), "nobody is passed over");
    }
}

// Letting a socket in

impl Stage {
    /// A handshake of `principal`.
    async fn handshake(&self, id: &str, principal: &Credential) -> Result<(), AdmissionError> {
        self.handshake_with(&[], id, principal).await
    }

    /// The same with other limits.
    async fn handshake_with(
        &self,
        limits: &[(&str, &str)],
        id: &str,
        principal: &Credential,
    ) -> Result<(), AdmissionError> {
        let endpoint = "ws://127.0.0.1:3001/local".parse::<CallbackEndpoint>().unwrap();
        let (region, now) = ("local".to_owned(), self.clock.now());
        let connection = Connection::opened_by(principal, self.key(id), region, endpoint, now);
        let clock: SharedClock = self.clock.clone();
        let sessions =
            SessionStore::from_env(self.store.client.clone(), &self.store.env, clock.clone()).unwrap();
        let env = self.store.env_with(limits);
        let registrar = Registrar::from_env(self.store.client.clone(), &env, clock.clone()).unwrap();
        let deadline = Deadline::after(Duration::from_secs(25));
        admit(&registrar, &sessions, &connection, principal, &clock, deadline).await
    }
}

#[tokio::test]
async fn a_socket_is_registered_before_its_session_is_read() {
    let stage = stage();
    let alice = user();
    let (_, principal) = sign_in(&stage.store, &alice, stage.clock.now()).await;
    stage.store.embedded.usage().record();
    stage.handshake("c1=", &principal).await.unwrap();
    let asked: Vec<String> =
        stage.store.embedded.usage().snapshot().log.into_iter().map(|entry| entry.operation).collect();
    assert_eq!(asked, ["TransactWriteItems", "BatchGetItem"]);
    let (found, _) = stage.all(&Audience::User(alice), Cursor::START).await;
    assert_eq!(found, ["c1=".parse().unwrap()]);
}

#[tokio::test]
async fn a_socket_of_a_session_that_has_ended_is_refused_and_leaves_no_row() {
    let stage = stage();
    let (alice, bob) = (user(), user());
    let (session, one) = sign_in(&stage.store, &alice, stage.clock.now()).await;
    let (_, all) = sign_in(&stage.store, &bob, stage.clock.now()).await;
    revoke(&stage.store, &session.id).await;
    revoke_all(&stage.store, &bob).await;
    for principal in [one, all] {
        let refused = stage.handshake("c1=", &principal).await;
        assert!(matches!(refused, Err(AdmissionError::Session(SessionError::Ended))), "{refused:?}");
        assert_eq!(stage.rows().await, 0);
    }
}

#[tokio::test]
async fn no_socket_outlives_its_sessions_natural_end() {
    let stage = stage();
    let now = stage.clock.now();
    let second = Duration::from_secs(1);
    let (_, long) = sign_in_until(&stage.store, &user(), now, now + MAX_CONNECTION_AGE + second).await;
    let (_, short) = sign_in_until(&stage.store, &user(), now, now + MAX_CONNECTION_AGE - second).await;
    stage.handshake("long=", &long).await.unwrap();
    let refused = stage.handshake("short=", &short).await;
    assert!(matches!(refused, Err(AdmissionError::EndsTooSoon)), "{refused:?}");
    assert_eq!(stage.rows().await, 1);
}

#[tokio::test]
async fn a_session_that_cannot_be_checked_lets_nobody_in() {
    let stage = stage();
    let (_, principal) = sign_in(&stage.store, &user(), stage.clock.now()).await;
    let faults = stage.store.embedded.faults();
    faults.add(Rule::fail(Failure::InternalServerError).operation("BatchGetItem"));
    let failed = stage.handshake("c1=", &principal).await;
    assert!(matches!(failed, Err(AdmissionError::Session(SessionError::Store(_)))), "{failed:?}");
    assert_eq!(stage.rows().await, 0);
}

// As many sockets as a user may have

#[tokio::test]
async fn of_fifty_handshakes_at_once_exactly_as_many_as_are_allowed_get_in() {
    let stage = stage();
    let (alice, bob) = (user(), user());
    let (_, principal) = sign_in(&stage.store, &alice, stage.clock.now()).await;
    let (_, other) = sign_in(&stage.store, &bob, stage.clock.now()).await;
    let handshakes: Vec<_> = (0..50).map(|n| format!("c{n}=")).collect();
    let handshakes = handshakes.iter().map(|id| stage.handshake(id, &principal));
    let outcomes: Vec<_> = stream::iter(handshakes).buffer_unordered(50).collect().await;

    let (let_in, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert!(refused.iter().all(|it| matches!(it, Err(AdmissionError::TooMany(20)))), "{refused:?}");
    assert_eq!(let_in.len(), 20);
    assert_eq!(stage.all(&Audience::User(alice), Cursor::START).await.0.len(), 20);
    stage.handshake("bob=", &other).await.unwrap();
}

#[tokio::test]
async fn a_closed_socket_makes_room_for_one_more_and_for_no_two() {
    let stage = stage();
    let (_, principal) = sign_in(&stage.store, &user(), stage.clock.now()).await;
    let limits = [("SOCKETS_PER_USER", "3")];
    for id in ["a=", "b=", "c="] {
        stage.handshake_with(&limits, id, &principal).await.unwrap();
    }
    for round in 0..3 {
        let ids: Vec<_> = (0..8).map(|n| format!("r{round}n{n}=")).collect();
        let refused = stage.handshake_with(&limits, &ids[0], &principal).await;
        assert!(matches!(refused, Err(AdmissionError::TooMany(3))), "{refused:?}");
        assert_eq!(stage.rows().await, 3);

        let open = stage.page(&Audience::Everyone, &Cursor::START).await.peers;
        assert_eq!(stage.registry.remove(&open[0].key).await.unwrap(), Removed::Removed);
        let handshakes = ids.iter().map(|id| stage.handshake_with(&limits, id, &principal));
        let outcomes: Vec<_> = stream::iter(handshakes).buffer_unordered(8).collect().await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        assert_eq!(stage.rows().await, 3);
    }
}

#[tokio::test]
async fn sockets_that_died_without_a_word_make_room_when_their_time_is_over() {
    let stage = stage();
    let (_, principal) = sign_in(&stage.store, &user(), stage.clock.now()).await;
    let limits = [("SOCKETS_PER_USER", "2")];
    for id in ["a=", "b="] {
        stage.handshake_with(&limits, id, &principal).await.unwrap();
    }
    let counts = MAX_CONNECTION_AGE + EXPIRY_GRACE;
    stage.clock.advance(counts.saturating_sub(Duration::from_secs(1)));
    assert!(stage.handshake_with(&limits, "c=", &principal).await.is_err());
    stage.clock.advance(Duration::from_secs(1));
    assert_eq!(stage.rows().await, 2, "TTL has not collected them yet");
    stage.handshake_with(&limits, "c=", &principal).await.unwrap();
    stage.handshake_with(&limits, "d=", &principal).await.unwrap();
    assert!(stage.handshake_with(&limits, "e=", &principal).await.is_err());
}

#[tokio::test]
async fn a_handshake_that_is_refused_for_its_session_takes_no_place() {
    let stage = stage();
    let alice = user();
    let (session, ended) = sign_in(&stage.store, &alice, stage.clock.now()).await;
    let (_, principal) = sign_in(&stage.store, &alice, stage.clock.now()).await;
    revoke(&stage.store, &session.id).await;
    let limits = [("SOCKETS_PER_USER", "1")];
    for id in ["a=", "b="] {
        let refused = stage.handshake_with(&limits, id, &ended).await;
        assert!(matches!(refused, Err(AdmissionError::Session(SessionError::Ended))), "{refused:?}");
    }
    stage.handshake_with(&limits, "c=", &principal).await.unwrap();
}

// As many frames as a socket may send

#[tokio::test]
async fn frames_that_come_too_fast_are_refused_until_the_first_is_long_enough_ago() {
    let stage = stage();
    let connection = stage.connection("c1=", &user());
    stage.register(connection.clone()).await;
    let millisecond = Duration::from_millis(1);
    for _ in 0..50 {
        assert!(matches!(stage.registry.touch(&connection.key).await.unwrap(), Touched::Live(_)));
        stage.clock.advance(millisecond);
    }
    for refused in 1..=3 {
        let retry_after = FRAMES_WINDOW.saturating_sub(50 * millisecond);
        let expected = Touched::TooFast { retry_after, refused };
        assert_eq!(stage.registry.touch(&connection.key).await.unwrap(), expected);
    }
    // One place for each of the first frames, when it is as long ago as the window.
    stage.clock.advance(FRAMES_WINDOW.saturating_sub(50 * millisecond));
    for _ in 0..3 {
        stage.store.embedded.usage().record();
        assert!(matches!(stage.registry.touch(&connection.key).await.unwrap(), Touched::Live(_)));
        assert_eq!(stage.store.embedded.usage().snapshot().total(), 1, "in a single call");
        let refused = stage.registry.touch(&connection.key).await.unwrap();
        assert!(matches!(refused, Touched::TooFast { .. }), "{refused:?}");
        stage.clock.advance(millisecond);
    }
    // After a rest, a whole burst again.
    stage.clock.advance(FRAMES_WINDOW);
    for _ in 0..50 {
        assert!(matches!(stage.registry.touch(&connection.key).await.unwrap(), Touched::Live(_)));
    }
}

#[tokio::test]
async fn of_a_hundred_frames_at_once_exactly_as_many_as_are_allowed_are_taken() {
    let stage = stage();
    let flooding = stage.register(stage.connection("c1=", &user())).await;
    let bystander = stage.register(stage.connection("c2=", &user())).await;
    let touches = (0..100).map(|_| stage.registry.touch(&flooding.key));
    let outcomes: Vec<_> = stream::iter(touches).buffer_unordered(100).collect().await;
    let taken = outcomes.iter().filter(|it| matches!(it, Ok(Touched::Live(_)))).count();
    let refused = outcomes.iter().filter(|it| matches!(it, Ok(Touched::TooFast { .. }))).count();
    assert_eq!((taken, refused), (50, 50), "{outcomes:?}");
    assert!(matches!(stage.registry.touch(&bystander.key).await.unwrap(), Touched::Live(_)));
}

#[tokio::test]
async fn a_frame_that_comes_too_fast_is_nobodys_once_the_connection_is_over() {
    let stage = stage();
    let old = stage.register(stage.connection("c1=", &user())).await;
    for _ in 0..50 {
        stage.registry.touch(&old.key).await.unwrap();
    }
    let other = ConnectionKey { connected_at: old.key.connected_at + 2 * SAME_OPENING, ..old.key.clone() };
    assert_eq!(stage.registry.touch(&other).await.unwrap(), Touched::Unknown, "it is another connection");
    assert!(matches!(stage.registry.touch(&old.key).await.unwrap(), Touched::TooFast { refused: 1, .. }));
    stage.registry.remove(&old.key).await.unwrap();
    assert_eq!(stage.registry.touch(&old.key).await.unwrap(), Touched::Unknown);
}
