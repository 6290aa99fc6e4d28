//! Accounts on the embedded DynamoDB: unique addresses, passwords, roles.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::hashes;
use aws_sdk_dynamodb::types::AttributeValue;
use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use local_region::services::faults::{Effect, Rule};
use sojourn::core::clock::{self, Clock, ManualClock, SharedClock};
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::{self, UserId};
use sojourn::identity::email::Email;
use sojourn::identity::principal::Role;
use sojourn::identity::sessions::{SessionRevoker, SessionStore};
use sojourn::identity::throttle::dynamo::DynamoAttempts;
use sojourn::identity::throttle::{AttemptSource, Throttle};
use sojourn::identity::users::dynamo::{DynamoRoles, DynamoUsers};
use sojourn::identity::users::{
    self, Authentication, Credentials, NewPassword, Password, RoleChange, SignUp, User,
};
use sojourn::platform::dynamo::Agreement;
use sojourn_testing::Store;

const PASSWORD: &str = "correct horse battery staple";
/// A sign-up hashes a password; many at once share the machine's cores.
const LONG_ENOUGH: Duration = Duration::from_mins(1);

fn users(store: &Store) -> DynamoUsers {
    DynamoUsers::from_env(store.client.clone(), &store.env).unwrap()
}

fn roles(store: &Store) -> DynamoRoles {
    let sessions = SessionStore::from_env(store.client.clone(), &store.env, clock::system()).unwrap();
    let revoker = SessionRevoker::from_env(sessions, &store.env, ids::random()).unwrap();
    DynamoRoles::new(users(store), revoker)
}

fn email(text: &str) -> Email {
    text.parse().unwrap()
}

fn typed(password: &str) -> Password {
    Password::new(password.to_owned())
}

fn chosen(password: &str) -> NewPassword {
    typed(password).try_into().unwrap()
}

async fn sign_up(users: &DynamoUsers, address: &str) -> SignUp {
    let deadline = Deadline::after(LONG_ENOUGH);
    let (clock, ids) = (clock::system(), ids::random());
    users::sign_up(users, &clock, &ids, email(address), chosen(PASSWORD), deadline).await.unwrap()
}

async fn new_user(users: &DynamoUsers, address: &str) -> User {
    match sign_up(users, address).await {
        SignUp::Created(user) => user,
        refused => panic!("{address} was free: {refused:?}"),
    }
}

async fn authenticate(store: &Store, from: &str, address: &str, password: &str) -> Authentication {
    let attempts = DynamoAttempts::from_env(store.client.clone(), &store.env).unwrap();
    let throttle = Throttle { store: attempts, clock: clock::system() };
    let (email, password) = (email(address), typed(password));
    let origin = AttemptSource { address: Some(from.parse().unwrap()), device: None };
    users::authenticate(&users(store), &throttle, Credentials { email, password, origin }).await.unwrap()
}

async fn signed_in(store: &Store, address: &str) -> User {
    match authenticate(store, "192.0.2.1", address, PASSWORD).await {
        Authentication::Accepted { user, .. } => user,
        other => panic!("the password is right: {other:?}"),
    }
}

async fn settled(change: impl Future<Output = Result<RoleChange, users::UserError>>) -> User {
    match change.await.unwrap() {
        RoleChange::Settled(user) | RoleChange::Withdrawn(user) => user,
        RoleChange::UnknownUser => panic!("the account is there"),
    }
}

/// The keys of every item in the table.
async fn keys(store: &Store) -> BTreeSet<String> {
    let items = store.client.scan().table_name("UsersTable").send().await.unwrap().items.unwrap();
    items.iter().map(|item| item["userId"].as_s().unwrap().clone()).collect()
}

#[tokio::test]
async fn a_new_account_is_what_was_signed_up_with() {
    let store = Store::start();
    let clock = ManualClock::at("2026-11-20T09:30:00.123Z".parse().unwrap());
    let shared: SharedClock = clock.clone();
    let users = users(&store);
    let (ids, deadline) = (ids::random(), Deadline::after(LONG_ENOUGH));
    let outcome = users::sign_up(&users, &shared, &ids, email("Ann@Example.com"), chosen(PASSWORD), deadline);
    let SignUp::Created(made) = outcome.await.unwrap() else { panic!("the address was free") };
    assert_eq!(made.email.as_str(), "ann@example.com");
    assert_eq!(
        (made.created_at, made.ended_before, made.roles.len()),
        (clock.now(), Timestamp::UNIX_EPOCH, 0)
    );
    let (stored, _) = users.credentials(&email("ann@example.com")).await.unwrap().unwrap();
    assert_eq!(stored, made);
}

#[tokio::test]
async fn twenty_sign_ups_at_once_with_one_address_make_one_account_and_no_orphan() {
    let store = Store::start();
    let users = Arc::new(users(&store));
    let outcomes: Vec<SignUp> = stream::iter(0..20)
        .map(|n| {
            let users = Arc::clone(&users);
            // Spelled in two ways: it is one address all the same.
            let address = if n % 2 == 0 { "ann@example.com" } else { "ANN@example.com" };
            async move { tokio::spawn(async move { sign_up(&users, address).await }).await.unwrap() }
        })
        .buffer_unordered(20)
        .collect()
        .await;

    let winners: Vec<&User> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            SignUp::Created(user) => Some(user),
            SignUp::EmailTaken | SignUp::CommonPassword => None,
        })
        .collect();
    assert_eq!(winners.len(), 1);
    let expected = ["email#ann@example.com".to_owned(), winners[0].id.to_string()];
    assert_eq!(keys(&store).await, BTreeSet::from(expected));
    let (stored, _) = users.credentials(&email("ann@example.com")).await.unwrap().unwrap();
    assert_eq!(&stored, winners[0]);
}

#[tokio::test]
async fn two_addresses_are_two_accounts() {
    let store = Store::start();
    let users = users(&store);
    let (ann, bob) = (new_user(&users, "ann@example.com").await, new_user(&users, "bob@example.com").await);
    assert_ne!(ann.id, bob.id);
    assert_eq!(keys(&store).await.len(), 4);
}

#[tokio::test]
async fn the_right_password_is_accepted_in_any_spelling_of_the_address() {
    let store = Store::start();
    let users = users(&store);
    let ann = new_user(&users, "ann@example.com").await;
    assert_eq!(signed_in(&store, " Ann@EXAMPLE.com").await, ann);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_are_refused_alike() {
    let store = Store::start();
    let users = users(&store);
    new_user(&users, "ann@example.com").await;
    for (address, password) in [
        ("ann@example.com", "correct horse battery stapler"),
        ("ann@example.com", ""),
        ("nobody@example.com", PASSWORD),
        ("nobody@example.com", ""),
    ] {
        let outcome = authenticate(&store, "192.0.2.1", address, password).await;
        assert_eq!(outcome, Authentication::Refused, "{address} {password:?}");
    }
}

#[tokio::test]
async fn an_unknown_address_costs_the_same_requests_and_the_same_work_as_a_known_one() {
    let store = Store::start();
    new_user(&users(&store), "ann@example.com").await;
    let usage = store.embedded.usage();
    let hashes = hashes::count();
    // The second time the window of the first is in the way, which costs a call more. What is typed
    // in another normalization form is compared as it came, too.
    for (password, computed) in [("wrong", 1), ("wrong", 1), ("wro\u{308}ng", 2)] {
        let mut costs = Vec::new();
        for (from, address) in [("192.0.2.1", "ann@example.com"), ("192.0.2.2", "nobody@example.com")] {
            usage.record();
            let before = hashes.so_far();
            assert_eq!(authenticate(&store, from, address, password).await, Authentication::Refused);
            costs.push((usage.snapshot().requests, hashes.so_far() - before));
        }
        assert_eq!(costs[0], costs[1]);
        assert_eq!(costs[0].1, computed, "{password}");
    }
}

#[tokio::test]
async fn the_stored_account_holds_a_hash_and_no_password() {
    let store = Store::start();
    let users = users(&store);
    let ann = new_user(&users, "ann@example.com").await;
    let item = store
        .client
        .get_item()
        .table_name("UsersTable")
        .key("userId", AttributeValue::S(ann.id.to_string()))
        .send()
        .await
        .unwrap()
        .item
        .unwrap();
    assert!(item["passwordHash"].as_s().unwrap().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    assert!(!format!("{item:?}").contains(PASSWORD));
    let (user, hash) = users.credentials(&ann.email).await.unwrap().unwrap();
    assert!(!format!("{user:?} {hash:?}").contains("argon2"));
}

#[tokio::test]
async fn granting_twice_is_granting_once() {
    let store = Store::start();
    let users = users(&store);
    let ann = new_user(&users, "ann@example.com").await;
    let first = settled(roles(&store).grant(&ann.id, Role::Operator)).await;
    let second = settled(roles(&store).grant(&ann.id, Role::Operator)).await;
    assert_eq!(first.roles, BTreeSet::from([Role::Operator]));
    assert_eq!(first, second);
    assert_eq!(first.ended_before, Timestamp::UNIX_EPOCH, "a new role ends no session");
}

#[tokio::test]
async fn a_withdrawal_ends_the_sessions_of_before_once() {
    let store = Store::start();
    let users = users(&store);
    let ann = new_user(&users, "ann@example.com").await;
    let unchanged =
        settled(roles(&store).withdraw(&ann.id, Role::Operator, Deadline::after(LONG_ENOUGH))).await;
    assert_eq!(unchanged, ann, "there was nothing to withdraw");
    settled(roles(&store).grant(&ann.id, Role::Operator)).await;
    let first = roles(&store).withdraw(&ann.id, Role::Operator, Deadline::after(LONG_ENOUGH)).await.unwrap();
    let RoleChange::Withdrawn(first) = first else { panic!("the account had the role: {first:?}") };
    let second = roles(&store).withdraw(&ann.id, Role::Operator, Deadline::after(LONG_ENOUGH)).await.unwrap();
    let RoleChange::Settled(second) = second else { panic!("no session ended: {second:?}") };
    assert!(first.roles.is_empty());
    assert!(first.ended_before > Timestamp::UNIX_EPOCH);
    assert_eq!(first, second);
}

#[tokio::test]
async fn of_many_withdrawals_at_once_one_counts() {
    let store = Store::start();
    let roles = roles(&store);
    let ann = new_user(&users(&store), "ann@example.com").await;
    let grants: Vec<User> = stream::iter(0..20)
        .map(|_| settled(roles.grant(&ann.id, Role::Operator)))
        .buffer_unordered(20)
        .collect()
        .await;
    assert!(grants.iter().all(|user| user.roles.contains(&Role::Operator)));
    let instants: HashSet<Timestamp> = stream::iter(0..20)
        .map(|_| async {
            settled(roles.withdraw(&ann.id, Role::Operator, Deadline::after(LONG_ENOUGH))).await.ended_before
        })
        .buffer_unordered(20)
        .collect()
        .await;
    assert_eq!(instants.len(), 1);
    assert!(!instants.contains(&Timestamp::UNIX_EPOCH));
}

#[tokio::test]
async fn roles_of_an_unknown_user_change_nothing() {
    let store = Store::start();
    let nobody: UserId = ids::random().next();
    assert_eq!(roles(&store).grant(&nobody, Role::Operator).await.unwrap(), RoleChange::UnknownUser);
    assert_eq!(
        roles(&store).withdraw(&nobody, Role::Operator, Deadline::after(LONG_ENOUGH)).await.unwrap(),
        RoleChange::UnknownUser
    );
    assert!(keys(&store).await.is_empty());
}

#[tokio::test]
async fn an_address_leads_to_its_account_and_to_no_other() {
    let store = Store::start();
    let users = users(&store);
    let ann = new_user(&users, "ann@example.com").await;
    let bob = new_user(&users, "bob@example.com").await;
    settled(roles(&store).grant(&ann.id, Role::Operator)).await;
    let ann = User { roles: BTreeSet::from([Role::Operator]), ..ann };
    assert_eq!(roles(&store).find(&email("Ann@example.com")).await.unwrap(), Some(ann));
    assert_eq!(roles(&store).find(&bob.email.clone()).await.unwrap(), Some(bob));
    assert_eq!(roles(&store).find(&email("nobody@example.com")).await.unwrap(), None);
}

#[tokio::test]
async fn a_role_survives_the_store_and_shows_at_the_next_sign_in() {
    let store = Store::start();
    let users = users(&store);
    let ann = new_user(&users, "ann@example.com").await;
    settled(roles(&store).grant(&ann.id, Role::Operator)).await;
    assert_eq!(signed_in(&store, "ann@example.com").await.roles, BTreeSet::from([Role::Operator]));
}

/// Two regions whose users tables have not heard of each other, and what they agree by.
struct TwoRegions {
    tokyo: Store,
    taiwan: Store,
    agreement: Store,
}

impl TwoRegions {
    fn new() -> Self {
        Self { tokyo: Store::start(), taiwan: Store::start(), agreement: Store::start() }
    }

    fn users(&self, region: &Store) -> DynamoUsers {
        let (table, replicas) = ("AgreementTable".to_owned(), self.agreement.client.clone().into());
        users(region).agreeing(Some(Agreement { table, replicas }))
    }

    /// The account that the region's pointer leads to.
    async fn owner(&self, region: &Store, address: &str) -> Option<UserId> {
        let found = self.users(region).credentials(&email(address)).await.unwrap();
        found.map(|(user, _)| user.id)
    }
}

#[tokio::test]
async fn sign_ups_with_one_address_in_two_regions_at_once_make_one_account() {
    for round in 0..20 {
        let regions = TwoRegions::new();
        let (tokyo, taiwan) = (regions.users(&regions.tokyo), regions.users(&regions.taiwan));
        let outcomes = tokio::join!(sign_up(&tokyo, "ann@example.com"), sign_up(&taiwan, "ann@example.com"));
        let (winner, (won, lost)) = match outcomes {
            (SignUp::Created(user), SignUp::EmailTaken) => (user, (&regions.tokyo, &regions.taiwan)),
            (SignUp::EmailTaken, SignUp::Created(user)) => (user, (&regions.taiwan, &regions.tokyo)),
            both => panic!("round {round}: {both:?}"),
        };
        assert_eq!(regions.owner(won, "ann@example.com").await, Some(winner.id.clone()));
        // The region that lost leads to the winner as well, whose row is still on its way.
        let pointer = lost.client.get_item().table_name("UsersTable");
        let pointer = pointer.key("userId", AttributeValue::S("email#ann@example.com".to_owned()));
        let pointer = pointer.send().await.unwrap().item.unwrap();
        assert_eq!(pointer["accountId"].as_s().unwrap(), winner.id.as_str());
        // And keeps neither the address nor the password of its own attempt.
        let rows = lost.client.scan().table_name("UsersTable").send().await.unwrap().items.unwrap();
        assert!(rows.iter().all(|row| !row.contains_key("passwordHash") && !row.contains_key("email")));
    }
}

#[tokio::test]
async fn a_sign_up_that_died_after_its_claim_is_completed_by_the_next_with_its_address() {
    let regions = TwoRegions::new();
    let tokyo = regions.users(&regions.tokyo);
    // The profile is put and the address claimed; the pointer is not written.
    let faults = regions.tokyo.embedded.faults();
    faults.add(Rule::new(Effect::Reset).operation("PutItem").skip(1));
    let (clock, ids) = (clock::system(), ids::random());
    let deadline = Deadline::after(LONG_ENOUGH);
    users::sign_up(&tokyo, &clock, &ids, email("ann@example.com"), chosen(PASSWORD), deadline)
        .await
        .unwrap_err();
    faults.clear();
    assert_eq!(regions.owner(&regions.tokyo, "ann@example.com").await, None);

    assert_eq!(sign_up(&tokyo, "ann@example.com").await, SignUp::EmailTaken);
    assert_eq!(signed_in(&regions.tokyo, "ann@example.com").await.email.as_str(), "ann@example.com");
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_found_to_be_ones_own() {
    let regions = TwoRegions::new();
    let lost = Rule::new(Effect::CommitThenReset).operation("PutItem").times(1);
    regions.agreement.embedded.faults().add(lost);
    new_user(&regions.users(&regions.tokyo), "ann@example.com").await;
    assert!(regions.owner(&regions.tokyo, "ann@example.com").await.is_some());
}

#[tokio::test]
async fn no_address_is_given_away_while_no_replica_of_the_agreement_answers() {
    let regions = TwoRegions::new();
    regions.agreement.embedded.faults().add(Rule::new(Effect::Reset));
    let tokyo = regions.users(&regions.tokyo);
    let (clock, ids) = (clock::system(), ids::random());
    let deadline = Deadline::after(LONG_ENOUGH);
    users::sign_up(&tokyo, &clock, &ids, email("ann@example.com"), chosen(PASSWORD), deadline)
        .await
        .unwrap_err();
    regions.agreement.embedded.faults().clear();
    assert_eq!(regions.owner(&regions.tokyo, "ann@example.com").await, None);
    new_user(&regions.users(&regions.taiwan), "ann@example.com").await;
}
