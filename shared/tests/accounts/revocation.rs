//! The ends of sessions on the embedded DynamoDB: one, all, all but one; and what happens when they
//! meet.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use local_region::services::faults::{Failure, Rule, When};
use serde_json::json;
use sojourn::core::clock::Clock;
use sojourn::core::cursor::MAX_PAGE_SIZE;
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::UserId;
use sojourn::identity::principal::Role;
use sojourn::identity::sessions::dynamo;
use sojourn::identity::sessions::{
    CloseSockets, EndedSessions, Revocation, SESSION_LIFETIME, SessionError, SessionRows, SessionStore,
};
use sojourn::identity::sign_in::{Renewal, SignInError, SignedIn};
use sojourn::identity::users::dynamo::{DynamoPasswords, DynamoRoles};
use sojourn::identity::users::{Authentication, PasswordChange, PasswordHash, PasswordUpdate, User};
use sojourn::platform::dynamo::Item;

use crate::stage::{PASSWORD, Stage, at_once, soon, spared_of, stage};

const NEW_PASSWORD: &str = "tr0ub4dor and three";
/// Rounds of a race: enough to see both orders.
const ROUNDS: usize = 25;

impl Stage {
    async fn revoke(&self, signed_in: &SignedIn, user: &User) -> Revocation {
        self.revoker.revoke(&signed_in.session.id, &user.id, soon()).await.unwrap()
    }

    async fn revoke_all(&self, user: &User) {
        self.revoker.revoke_all(&user.id, soon()).await.unwrap();
    }

    async fn put(&self, row: Item) {
        self.store.client.put_item().table_name("SessionsTable").set_item(Some(row)).send().await.unwrap();
    }

    /// A row of the sessions table.
    async fn stored(&self, key: Item) -> Option<Item> {
        let get = self.store.client.get_item().table_name("SessionsTable").set_key(Some(key));
        get.send().await.unwrap().item
    }

    /// Runs `work`, and `change` after the first of its reads of this kind was made and before it
    /// is answered.
    async fn during<T>(
        &self,
        operation: &str,
        work: impl Future<Output = T>,
        change: impl Future<Output = ()>,
    ) -> T {
        let faults = self.store.embedded.faults();
        let read = faults.add(Rule::hold(When::After).operation(operation).times(1));
        let (outcome, ()) = tokio::join!(work, async {
            assert!(faults.until_held(read, 1).await);
            change.await;
            assert!(faults.release(read));
        });
        outcome
    }

    /// The store's part of a change of password.
    async fn replace(
        &self,
        (user, old): &(User, PasswordHash),
        new: &PasswordHash,
        spared: &SignedIn,
    ) -> PasswordUpdate {
        self.passwords.replace(user, old, new, &spared_of(spared), soon()).await.unwrap()
    }

    async fn list(&self, user: &User, current: &SignedIn) -> Vec<SessionRows> {
        self.page(user, current, None, MAX_PAGE_SIZE).await.0
    }

    /// A page of the list, and the cursor behind it.
    async fn page(
        &self,
        user: &User,
        current: &SignedIn,
        cursor: Option<&str>,
        limit: u32,
    ) -> (Vec<SessionRows>, Option<String>) {
        let page =
            self.sessions.rows().list(&user.id, &current.session.id, cursor, limit, soon()).await.unwrap();
        (page.items.into_iter().map(|session| session.rows).collect(), page.next_cursor)
    }
}

#[tokio::test]
async fn revoking_one_session_ends_it_and_no_other() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let (phone, laptop) = (stage.sign_in(&ann).await, stage.sign_in(&ann).await);
    assert_eq!(stage.revoke(&phone, &ann).await, Revocation::Revoked);
    assert!(!stage.stands(&phone).await);
    assert!(matches!(stage.renew(&phone.refresh).await, Renewal::Refused));
    assert!(stage.stands(&laptop).await);
    stage.renewed(&laptop.refresh).await;
    assert_eq!(stage.events().await, [json!({"userId": ann.id, "sessionId": phone.session.id})]);
}

#[tokio::test]
async fn what_has_ended_or_never_was_is_not_there_and_tells_nobody() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let (revoked, expired) = (stage.sign_in(&ann).await, stage.sign_in(&ann).await);
    stage.revoke(&revoked, &ann).await;
    assert_eq!(stage.revoke(&revoked, &ann).await, Revocation::NotThere);
    stage.clock.advance(SESSION_LIFETIME);
    assert_eq!(stage.revoke(&expired, &ann).await, Revocation::NotThere);
    let nobodys = stage.starter.ids.next();
    let outcome = stage.revoker.revoke(&nobodys, &ann.id, soon()).await.unwrap();
    assert_eq!(outcome, Revocation::NotThere);
    assert_eq!(stage.events().await.len(), 1);
}

#[tokio::test]
async fn nobody_revokes_somebody_elses_session() {
    let stage = stage();
    let (ann, bob) = (stage.new_user("ann@example.com").await, stage.new_user("bob@example.com").await);
    let anns = stage.sign_in(&ann).await;
    let before = stage.row(&anns.session.id).await;
    assert_eq!(stage.revoke(&anns, &bob).await, Revocation::NotThere);
    assert_eq!(stage.row(&anns.session.id).await, before);
    assert!(stage.events().await.is_empty());
}

#[tokio::test]
async fn of_many_revocations_of_one_session_at_once_one_counts() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let session = stage.sign_in(&ann).await;
    let outcomes = at_once(20, || stage.revoke(&session, &ann)).await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Revocation::Revoked).count(), 1);
    assert_eq!(stage.events().await.len(), 1);
}

#[tokio::test]
async fn revoking_all_ends_every_session_of_the_user_and_nobody_elses() {
    let stage = stage();
    let (ann, bob) = (stage.new_user("ann@example.com").await, stage.new_user("bob@example.com").await);
    let bobs = stage.sign_in(&bob).await;
    for times in 1..3 {
        let anns = at_once(5, || stage.sign_in(&ann)).await;
        stage.revoke_all(&ann).await;
        for session in &anns {
            assert!(!stage.stands(session).await);
        }
        assert_eq!(stage.events().await, vec![json!({"userId": ann.id}); times]);
    }
    assert!(stage.stands(&bobs).await);
    assert!(stage.stands(&stage.sign_in(&ann).await).await, "who knows the password signs in again");
}

#[tokio::test]
async fn a_revocation_that_meets_a_transaction_at_its_row_is_tried_again() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let (phone, laptop) = (stage.sign_in(&ann).await, stage.sign_in(&ann).await);
    let conflict = || Rule::fail(Failure::TransactionConflict { positions: vec![0] }).times(2);
    stage.store.embedded.faults().add(conflict().operation("TransactWriteItems"));
    assert_eq!(stage.revoke(&phone, &ann).await, Revocation::Revoked);
    assert!(!stage.stands(&phone).await);
    stage.store.embedded.faults().add(conflict().operation("TransactWriteItems"));
    stage.revoke_all(&ann).await;
    assert!(!stage.stands(&laptop).await);
    assert_eq!(stage.events().await.len(), 2);
}

#[tokio::test]
async fn the_list_has_the_newest_session_first_and_tells_which_have_ended() {
    let stage = stage();
    let (ann, bob) = (stage.new_user("ann@example.com").await, stage.new_user("bob@example.com").await);
    stage.sign_in(&bob).await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(stage.sign_in(&ann).await);
        stage.clock.advance(Duration::from_secs(1));
    }
    stage.revoke(&sessions[1], &ann).await;
    let (list, now) = (stage.list(&ann, &sessions[3]).await, stage.clock.now());
    let listed: Vec<_> = list.iter().map(|rows| rows.session.clone().unwrap().id).collect();
    let newest_first: Vec<_> = sessions.iter().rev().map(|signed_in| signed_in.session.id.clone()).collect();
    assert_eq!(listed, newest_first);
    let live = |rows: &&SessionRows| {
        let id = &rows.session.as_ref().unwrap().id;
        rows.live(id, &ann.id, now).is_some()
    };
    assert_eq!(list.iter().filter(live).count(), 3);
    stage.revoke_all(&ann).await;
    let list = stage.list(&ann, &sessions[3]).await;
    assert_eq!(list.iter().filter(live).count(), 0);
}

#[tokio::test]
async fn the_pages_of_the_list_have_each_session_once_and_the_last_one_has_no_cursor() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let mut newest_first = Vec::new();
    for _ in 0..120 {
        newest_first.insert(0, stage.sign_in(&ann).await.session.id);
        stage.clock.advance(Duration::from_secs(1));
    }
    let current = stage.sign_in(&ann).await;
    newest_first.insert(0, current.session.id.clone());
    for (limit, pages) in [(1, 121), (11, 11), (50, 3), (100, 2)] {
        let (mut listed, mut cursor, mut read) = (Vec::new(), None, 0);
        loop {
            let (page, next) = stage.page(&ann, &current, cursor.as_deref(), limit).await;
            assert!(page.len() <= usize::try_from(limit).unwrap());
            listed.extend(page.into_iter().map(|rows| rows.session.unwrap().id));
            (cursor, read) = (next, read + 1);
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!((listed, read), (newest_first.clone(), pages), "in pages of {limit}");
    }
    let of_another_list = sojourn::core::cursor::encode("orders", &"ord_1").unwrap();
    let refused =
        stage.sessions.rows().list(&ann.id, &current.session.id, Some(&of_another_list), 20, soon()).await;
    assert!(matches!(refused, Err(SessionError::Cursor(_))), "{refused:?}");
}

#[tokio::test]
async fn the_first_page_has_the_callers_own_session_before_the_index_has_it() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let (older, current) = (stage.sign_in(&ann).await, stage.sign_in(&ann).await);
    // The index is read when it has one of the two.
    let (row, key) = (stage.row(&current.session.id).await, dynamo::key(&current.session.id));
    stage.store.client.delete_item().table_name("SessionsTable").set_key(Some(key)).send().await.unwrap();
    let listed = Box::pin(stage.during("Query", stage.list(&ann, &current), stage.put(row))).await;
    let ids: Vec<_> = listed.into_iter().map(|rows| rows.session.unwrap().id).collect();
    assert_eq!(ids, [current.session.id, older.session.id]);
}

#[tokio::test]
async fn a_list_that_a_change_of_the_password_tore_shows_the_spared_session() {
    let stage = stage();
    let (ann, bob) = (stage.new_user("ann@example.com").await, stage.new_user("bob@example.com").await);
    let (current, other) = (stage.sign_in(&ann).await, stage.sign_in(&ann).await);
    let (account, (_, new)) = (stage.account(&ann).await, stage.account(&bob).await);
    assert_eq!(stage.replace(&account, &new, &current).await, PasswordUpdate::Done);
    // What the first batch saw: the instant of after, and nothing that spares a session.
    let key = dynamo::spared_key(&current.session.id);
    let spared = stage.stored(key.clone()).await.unwrap();
    stage.store.client.delete_item().table_name("SessionsTable").set_key(Some(key)).send().await.unwrap();
    let listed = Box::pin(stage.during("BatchGetItem", stage.list(&ann, &current), stage.put(spared))).await;
    let now = stage.clock.now();
    let live = |signed_in: &SignedIn| {
        let id = &signed_in.session.id;
        listed.iter().any(|rows| rows.live(id, &ann.id, now).is_some())
    };
    assert_eq!((live(&current), live(&other)), (true, false));
}

#[tokio::test]
async fn a_new_password_ends_every_session_but_the_one_that_chose_it() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let (current, other) = (stage.sign_in(&ann).await, stage.sign_in(&ann).await);
    let account = stage.account(&ann).await;
    let changed = stage.change_password(&account, &current, PASSWORD, NEW_PASSWORD).await;
    assert_eq!(changed, PasswordChange::Changed);
    assert!(stage.stands(&current).await, "its old access token is good");
    assert!(stage.is_live(&current.cookie.credential()).await, "and so is its cookie");
    stage.renewed(&current.refresh).await;
    assert!(!stage.stands(&other).await);
    assert!(!stage.is_live(&other.cookie.credential()).await);
    assert!(matches!(stage.renew(&other.refresh).await, Renewal::Refused));
    assert_eq!(stage.events().await, [json!({"userId": ann.id, "exceptSessionId": current.session.id})]);
    for (password, is_right) in [(PASSWORD, false), (NEW_PASSWORD, true)] {
        let outcome = stage.authenticate(&ann, password).await;
        assert_eq!(matches!(outcome, Authentication::Accepted { .. }), is_right, "{password}");
    }
    // A second change spares the session again, though it began before both.
    let account = stage.account(&ann).await;
    let changed = stage.change_password(&account, &current, NEW_PASSWORD, PASSWORD).await;
    assert_eq!(changed, PasswordChange::Changed);
    assert!(stage.stands(&current).await);
}

#[tokio::test]
async fn a_wrong_current_password_changes_nothing() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let (current, other) = (stage.sign_in(&ann).await, stage.sign_in(&ann).await);
    let account = stage.account(&ann).await;
    let outcome = stage.change_password(&account, &current, "a guess", NEW_PASSWORD).await;
    assert_eq!(outcome, PasswordChange::Refused);
    assert!(stage.stands(&current).await && stage.stands(&other).await);
    assert_eq!(stage.account(&ann).await.0, account.0);
    assert!(stage.events().await.is_empty());
}

#[tokio::test]
async fn of_two_changes_at_once_one_counts_and_only_its_session_stays() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    // Salted, as all are: no two are equal, and those of one round are none of the last.
    let mut hashes = Vec::new();
    for n in 0..4 {
        let other = stage.new_user(&format!("other{n}@example.com")).await;
        hashes.push(stage.account(&other).await.1);
    }
    for round in 1..=ROUNDS {
        let (phone, laptop) = (stage.sign_in(&ann).await, stage.sign_in(&ann).await);
        let account = stage.account(&ann).await;
        let [one, two] = [0, 1].map(|n| &hashes[(2 * round + n) % 4]);
        let (by_phone, by_laptop) =
            tokio::join!(stage.replace(&account, one, &phone), stage.replace(&account, two, &laptop));
        let done = [&by_phone, &by_laptop].map(|outcome| *outcome == PasswordUpdate::Done);
        assert!(done[0] != done[1], "{by_phone:?} {by_laptop:?}");
        assert!([by_phone, by_laptop].contains(&PasswordUpdate::OtherPassword), "{by_phone:?} {by_laptop:?}");
        assert_eq!([stage.stands(&phone).await, stage.stands(&laptop).await], done);
        assert_eq!(stage.events().await.len(), round);
    }
}

#[tokio::test]
async fn no_session_survives_a_change_of_password_that_raced_with_the_revocation_of_all() {
    let stage = stage();
    let (ann, bob) = (stage.new_user("ann@example.com").await, stage.new_user("bob@example.com").await);
    let (_, new) = stage.account(&bob).await;
    for _ in 0..ROUNDS {
        let current = stage.sign_in(&ann).await;
        let change = async {
            let account = stage.account(&ann).await;
            stage.replace(&account, &new, &current).await
        };
        let (outcome, ()) = tokio::join!(change, stage.revoke_all(&ann));
        assert!(matches!(outcome, PasswordUpdate::Done | PasswordUpdate::SessionEnded), "{outcome:?}");
        assert!(!stage.stands(&current).await, "spared by a change that is {outcome:?}");
    }
}

#[tokio::test]
async fn a_revocation_of_all_before_the_change_is_written_wins() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let current = stage.sign_in(&ann).await;
    let account = stage.account(&ann).await;
    let write = stage.hold("TransactWriteItems");
    let change = stage.change_password(&account, &current, PASSWORD, NEW_PASSWORD);
    let (outcome, ()) = stage.overtaken(write, change, stage.revoke_all(&ann)).await;
    assert_eq!(outcome, PasswordChange::SessionEnded);
    assert_eq!(stage.account(&ann).await.1, account.1, "the password is still the old one");
}

#[tokio::test]
async fn a_change_of_password_brings_no_session_back_that_ended_before_the_account_was_read() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let current = stage.sign_in(&ann).await;
    // The session was found live; then all were revoked; then the account was read.
    assert!(stage.stands(&current).await);
    stage.revoke_all(&ann).await;
    let account = stage.account(&ann).await;
    let outcome = stage.change_password(&account, &current, PASSWORD, NEW_PASSWORD).await;
    assert_eq!(outcome, PasswordChange::SessionEnded);
    assert!(!stage.stands(&current).await);
}

#[tokio::test]
async fn a_change_of_password_brings_no_revoked_session_back() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let current = stage.sign_in(&ann).await;
    let account = stage.account(&ann).await;
    stage.revoke(&current, &ann).await;
    let outcome = stage.change_password(&account, &current, PASSWORD, NEW_PASSWORD).await;
    assert_eq!(outcome, PasswordChange::SessionEnded);
    assert!(!stage.stands(&current).await);
    assert_eq!(stage.events().await.len(), 1);
}

#[tokio::test]
async fn a_sign_in_with_the_old_password_that_a_change_overtakes_stores_no_session() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let current = stage.sign_in(&ann).await;
    let account = stage.account(&ann).await;
    // The old password is verified, the account read; the change is made; the session is written.
    let sign_in = async {
        let accepted = stage.authenticate(&ann, PASSWORD).await;
        let Authentication::Accepted { user, .. } = accepted else { panic!("the password was right") };
        stage.starter.start(&user, None).await
    };
    let write = stage.hold("TransactWriteItems");
    let change = stage.change_password(&account, &current, PASSWORD, NEW_PASSWORD);
    let (late, changed) = stage.overtaken(write, sign_in, change).await;
    assert_eq!(changed, PasswordChange::Changed);
    assert!(matches!(late, Err(SignInError::Session(SessionError::Busy))), "{late:?}");
    assert_eq!(stage.list(&ann, &current).await.len(), 1, "its row is not stored");
    assert!(stage.stands(&current).await);
}

#[tokio::test]
async fn a_sign_in_with_the_old_password_while_a_change_is_on_its_way_has_no_session_afterwards() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let current = stage.sign_in(&ann).await;
    let account = stage.account(&ann).await;
    let write = stage.hold("TransactWriteItems");
    let change = stage.change_password(&account, &current, PASSWORD, NEW_PASSWORD);
    // The change has taken its instant. The clock goes on, and the session is stored before the
    // change is.
    let sign_in = async {
        stage.clock.advance(Duration::from_secs(8));
        stage.sign_in(&ann).await
    };
    let (changed, early) = stage.overtaken(write, change, sign_in).await;
    assert_eq!(changed, PasswordChange::Changed);
    assert!(!stage.stands(&early).await);
    assert!(!stage.is_live(&early.cookie.credential()).await);
    assert!(matches!(stage.renew(&early.refresh).await, Renewal::Refused));
    assert!(stage.stands(&current).await);
}

#[tokio::test]
async fn an_old_password_never_opens_a_session_that_outlives_a_change_however_they_meet() {
    let stage = stage();
    let (ann, bob) = (stage.new_user("ann@example.com").await, stage.new_user("bob@example.com").await);
    let current = stage.sign_in(&ann).await;
    let hashes = [stage.account(&ann).await.1, stage.account(&bob).await.1];
    for round in 0..ROUNDS {
        let account = stage.account(&ann).await;
        let new = &hashes[(round + 1) % 2];
        // What a sign-in does but for the verification, which here is a comparison of hashes.
        let sign_in = async {
            let (user, hash) = stage.account(&ann).await;
            let is_old = hash == account.1;
            (is_old, stage.starter.start(&user, None).await)
        };
        let ((is_old, late), outcome) = tokio::join!(sign_in, stage.replace(&account, new, &current));
        assert_eq!(outcome, PasswordUpdate::Done);
        match late {
            Ok(late) => assert_eq!(stage.stands(&late).await, !is_old),
            Err(error) => assert!(is_old && error.to_string().contains("busy"), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_withdrawn_role_ends_the_users_sessions_with_an_event_and_a_repetition_does_not() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    stage.roles.grant(&ann.id, Role::Operator).await.unwrap();
    let session = stage.sign_in(&ann).await;
    assert!(stage.events().await.is_empty(), "a grant ends nothing");
    stage.roles.withdraw(&ann.id, Role::Operator, soon()).await.unwrap();
    assert!(!stage.stands(&session).await);
    let next = stage.sign_in(&ann).await;
    stage.roles.withdraw(&ann.id, Role::Operator, soon()).await.unwrap();
    assert!(stage.stands(&next).await);
    assert_eq!(stage.events().await, [json!({"userId": ann.id})]);
}

/// Notes which sessions it is told of, and whether the watched one was live then.
#[derive(Debug, Clone)]
struct ToldSockets {
    told: Arc<Mutex<Vec<(EndedSessions, bool)>>>,
    store: SessionStore,
    watched: SignedIn,
    stage_now: jiff::Timestamp,
}

impl CloseSockets for ToldSockets {
    fn close_sockets<'a>(
        &'a self,
        user: &'a UserId,
        ended: &'a EndedSessions,
        _: Deadline,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let id = &self.watched.session.id;
            let (rows, _) = self.store.rows().read_payload(id, user).await.unwrap();
            let was_live = rows.live(id, user, self.stage_now).is_some();
            self.told.lock().unwrap().push((ended.clone(), was_live));
        })
    }
}

impl ToldSockets {
    fn take(&self) -> Vec<(EndedSessions, bool)> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

#[tokio::test]
async fn whatever_ends_sessions_has_their_sockets_closed_after_the_commit_and_before_the_answer() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let (kept, watched) = (stage.sign_in(&ann).await, stage.sign_in(&ann).await);
    let sockets = |watched: &SignedIn| ToldSockets {
        told: Arc::default(),
        store: stage.sessions.clone(),
        watched: watched.clone(),
        stage_now: stage.clock.now(),
    };
    let told = sockets(&watched);
    let revoker = stage.revoker.clone().with_sockets(told.clone());
    let one = EndedSessions::One(watched.session.id.clone());
    // The second time: the first may have been cut off before it closed them.
    for _ in 0..2 {
        revoker.revoke(&watched.session.id, &ann.id, soon()).await.unwrap();
        assert_eq!(told.take(), [(one.clone(), false)]);
    }

    let watched = stage.sign_in(&ann).await;
    let told = sockets(&watched);
    let revoker = stage.revoker.clone().with_sockets(told.clone());
    let passwords = DynamoPasswords::new(stage.users.clone(), revoker.clone());
    let (account, old) = stage.account(&ann).await;
    let spared = spared_of(&kept);
    assert_eq!(passwords.replace(&account, &old, &old, &spared, soon()).await.unwrap(), PasswordUpdate::Done);
    assert_eq!(told.take(), [(EndedSessions::AllBut(spared.0), false)]);

    let told = sockets(&kept);
    let revoker = stage.revoker.clone().with_sockets(told.clone());
    let roles = DynamoRoles::new(stage.users.clone(), revoker.clone());
    roles.withdraw(&ann.id, Role::Operator, soon()).await.unwrap();
    assert_eq!(told.take(), [], "she never had the role, and her sessions go on");
    roles.grant(&ann.id, Role::Operator).await.unwrap();
    assert_eq!(told.take(), []);
    roles.withdraw(&ann.id, Role::Operator, soon()).await.unwrap();
    assert_eq!(told.take(), [(EndedSessions::All, false)]);
    revoker.revoke_all(&ann.id, soon()).await.unwrap();
    assert_eq!(told.take(), [(EndedSessions::All, false)]);
}

#[tokio::test]
async fn the_instant_that_ends_all_sessions_never_falls_and_sessions_begin_after_it() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let mut before = stage.account(&ann).await.0.ended_before;
    for _ in 0..5 {
        let session = stage.sign_in(&ann).await;
        assert!(session.session.created_at > before);
        // The clock stands still, and yet each revocation ends the session of a moment ago.
        stage.revoke_all(&ann).await;
        let after = stage.account(&ann).await.0.ended_before;
        assert!(after > before && after >= session.session.created_at, "{before} {after}");
        assert!(!stage.stands(&session).await);
        before = after;
    }
    at_once(10, || stage.revoke_all(&ann)).await;
    assert!(stage.account(&ann).await.0.ended_before > before);
}

#[tokio::test]
async fn a_spared_session_ends_with_the_next_revocation_of_all() {
    let stage = stage();
    let (ann, bob) = (stage.new_user("ann@example.com").await, stage.new_user("bob@example.com").await);
    let current = stage.sign_in(&ann).await;
    let (account, (_, new)) = (stage.account(&ann).await, stage.account(&bob).await);
    assert_eq!(stage.replace(&account, &new, &current).await, PasswordUpdate::Done);
    assert!(stage.stands(&current).await);
    stage.revoke_all(&ann).await;
    assert!(!stage.stands(&current).await);
    assert!(!stage.is_live(&current.cookie.credential()).await);
    assert!(matches!(stage.renew(&current.refresh).await, Renewal::Refused));
}

#[tokio::test]
async fn nothing_that_writes_to_a_session_brings_it_back_after_its_end() {
    let stage = stage();
    let ann = stage.new_user("ann@example.com").await;
    let session = stage.sign_in(&ann).await;
    let before = stage.row(&session.session.id).await;
    stage.revoke(&session, &ann).await;
    let end = stage.stored(dynamo::end_key(&session.session.id)).await.unwrap();
    stage.clock.advance(Duration::from_mins(5));
    stage.sessions.touch(&session.session.id, stage.clock.now()).await.unwrap();
    assert!(!stage.stands(&session).await, "after a stamp");
    assert!(matches!(stage.renew(&session.refresh).await, Renewal::Refused));
    stage.put(before).await;
    assert!(!stage.stands(&session).await, "after an older write of the row has arrived");
    assert_eq!(stage.revoke(&session, &ann).await, Revocation::NotThere);
    assert_eq!(
        stage.stored(dynamo::end_key(&session.session.id)).await,
        Some(end),
        "an end is never changed"
    );
}
