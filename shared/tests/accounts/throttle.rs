//! Guessing passwords on the embedded DynamoDB: who is stopped when, and who is not.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::hashes;
use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use local_region::services::faults::{Effect, Failure, Rule};
use serde_json::Value;
use sojourn::core::clock::{Clock, ManualClock};
use sojourn::core::deadline::Deadline;
use sojourn::core::ids;
use sojourn::core::problem::{Problem, ProblemType};
use sojourn::identity::email::Email;
use sojourn::identity::throttle::device::DEVICE_LIFETIME;
use sojourn::identity::throttle::dynamo::DynamoAttempts;
use sojourn::identity::throttle::{
    ACCOUNT_LIMIT, ADDRESS_LIMIT, AttemptPermit, AttemptSource, DEVICE_LIMIT, DeviceToken, DeviceTokens,
    KnownDevice, Limit, SignUpDecision, Throttle, ThrottleDecision, ThrottleKey, TooManyAttempts, WINDOW,
};
use sojourn::identity::users::dynamo::DynamoUsers;
use sojourn::identity::users::{self, Authentication, Credentials, Password, UserError};
use sojourn_testing::{Store, sealing_key, sealing_keys};

const PASSWORD: &str = "correct horse battery staple";
const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const ANN: &str = "ann@example.com";

/// Accounts, their throttle and a clock to wait with.
struct Stage {
    store: Store,
    clock: Arc<ManualClock>,
    users: DynamoUsers,
    throttle: Throttle,
}

fn stage() -> Arc<Stage> {
    let store = Store::start();
    let clock = ManualClock::at("2026-11-20T09:30:00.250Z".parse::<Timestamp>().unwrap());
    let attempts = DynamoAttempts::from_env(store.client.clone(), &store.env).unwrap();
    Arc::new(Stage {
        users: DynamoUsers::from_env(store.client.clone(), &store.env).unwrap(),
        throttle: Throttle { store: attempts, clock: clock.clone() },
        clock,
        store,
    })
}

fn email(text: &str) -> Email {
    text.parse().unwrap()
}

/// An unknown device at this address.
fn from(address: Option<IpAddr>) -> AttemptSource {
    AttemptSource { address, device: None }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Stage {
    async fn sign_up(&self, email: Email) {
        let password = Password::new(PASSWORD.to_owned()).try_into().unwrap();
        let deadline = Deadline::after(Duration::from_mins(1));
        let (clock, ids) = (self.throttle.clock.clone(), ids::random());
        users::sign_up(&self.users, &clock, &ids, email, password, deadline).await.unwrap();
    }

    async fn try_password(&self, password: &str) -> Result<Authentication, UserError> {
        let password = Password::new(password.to_owned());
        let credentials = Credentials { email: email(ANN), password, origin: from(Some(HOME)) };
        users::authenticate(&self.users, &self.throttle, credentials).await
    }

    async fn guess(&self, password: &str) -> Authentication {
        self.try_password(password).await.unwrap()
    }

    async fn reserve(
        &self,
        account: &str,
        address: Option<IpAddr>,
    ) -> Result<AttemptPermit, TooManyAttempts> {
        self.reserve_as(account, from(address)).await
    }

    async fn reserve_as(
        &self,
        account: &str,
        origin: AttemptSource,
    ) -> Result<AttemptPermit, TooManyAttempts> {
        match self.throttle.reserve(&email(account), origin).await.unwrap() {
            ThrottleDecision::Reserved(reservation) => Ok(reservation),
            ThrottleDecision::Refused(refusal) => Err(refusal),
        }
    }

    /// An attempt that is not given back.
    async fn fail(&self, account: &str, from: Option<IpAddr>) {
        drop(self.reserve(account, from).await.unwrap());
    }

    /// Uses up every attempt of an address, each at another account.
    async fn exhaust(&self, addresses: impl Iterator<Item = IpAddr>) {
        for (n, from) in addresses.take(ADDRESS_LIMIT as usize).enumerate() {
            self.fail(&format!("victim{n}@example.com"), Some(from)).await;
        }
    }

    /// How many attempts are counted, by subject.
    async fn counted(&self) -> HashMap<String, u32> {
        let rows = self.store.client.scan().table_name("SignInAttemptsTable").send().await.unwrap();
        let read = |row: &HashMap<String, aws_sdk_dynamodb::types::AttributeValue>| {
            let attempts = row["attempts"].as_n().unwrap().parse().unwrap();
            (row["subject"].as_s().unwrap().clone(), attempts)
        };
        rows.items().iter().map(read).collect()
    }

    async fn counted_of(&self, subject: ThrottleKey) -> Option<u32> {
        self.counted().await.get(subject.as_str()).copied()
    }
}

fn ann() -> ThrottleKey {
    ThrottleKey::of_account(&email(ANN))
}

fn home() -> ThrottleKey {
    ThrottleKey::of_address(HOME)
}

#[tokio::test]
async fn of_fifty_guesses_at_once_five_are_verified() {
    let stage = stage();
    stage.sign_up(email(ANN)).await;
    let hashes = hashes::count();
    let outcomes: Vec<Authentication> = stream::iter(0..50)
        .map(|n| {
            let stage = Arc::clone(&stage);
            async move { tokio::spawn(async move { stage.guess(&format!("guess {n}")).await }).await.unwrap() }
        })
        .buffer_unordered(50)
        .collect()
        .await;
    let refused = outcomes.iter().filter(|outcome| **outcome == Authentication::Refused).count();
    let throttled = Authentication::Throttled(TooManyAttempts {
        limit: Limit::Account,
        retry_after: window_left(&stage),
    });
    assert_eq!(refused, ACCOUNT_LIMIT as usize);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == throttled).count(), 50 - refused);
    assert_eq!(hashes.so_far(), ACCOUNT_LIMIT);
    assert_eq!(stage.guess(PASSWORD).await, throttled, "the right password comes too late");
}

/// To the end of a window that began just now: it ends on a whole second.
fn window_left(stage: &Stage) -> Duration {
    WINDOW.saturating_sub(Duration::from_millis(stage.clock.now().subsec_millisecond().unsigned_abs().into()))
}

#[tokio::test]
async fn a_right_password_is_given_back_and_the_wrong_ones_stay() {
    let stage = stage();
    stage.sign_up(email(ANN)).await;
    for _ in 1..ACCOUNT_LIMIT {
        assert_eq!(stage.guess("wrong").await, Authentication::Refused);
    }
    for _ in 0..3 {
        let Authentication::Accepted { reservation, .. } = stage.guess(PASSWORD).await else {
            panic!("one attempt was left")
        };
        stage.throttle.refund(reservation).await;
        assert_eq!(
            stage.counted().await,
            HashMap::from([ann(), home()].map(|s| (s.as_str().to_owned(), ACCOUNT_LIMIT - 1)))
        );
    }
    assert_eq!(stage.guess("wrong").await, Authentication::Refused);
    assert!(matches!(stage.guess(PASSWORD).await, Authentication::Throttled(_)));
}

#[tokio::test]
async fn only_a_failure_makes_the_next_attempt_cost_another_call() {
    let stage = stage();
    let usage = stage.store.embedded.usage();
    let mut calls = Vec::new();
    for _ in 0..2 {
        usage.record();
        let reservation = stage.reserve(ANN, None).await.unwrap();
        calls.push(usage.snapshot().total());
        stage.throttle.refund(reservation).await;
    }
    stage.fail(ANN, None).await;
    usage.record();
    stage.fail(ANN, None).await;
    calls.push(usage.snapshot().total());
    assert_eq!(calls, [1, 1, 2]);
}

#[tokio::test]
async fn what_is_given_back_during_other_work_is_given_back_whatever_comes_of_it() {
    let stage = stage();
    let reservation = stage.reserve(ANN, Some(HOME)).await.unwrap();
    let outcome = stage.throttle.refund_during(reservation, async { Err::<(), _>("no session") }).await;
    assert_eq!(outcome, Err("no session"));
    assert_eq!(stage.counted_of(ann()).await, Some(0));
}

#[tokio::test]
async fn attempts_that_are_all_given_back_leave_none_counted_and_were_never_too_many() {
    let stage = stage();
    let (held, rounds) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    stream::iter(0..20)
        .map(|_| {
            let (stage, held, rounds) = (Arc::clone(&stage), Arc::clone(&held), Arc::clone(&rounds));
            async move {
                for _ in 0..10 {
                    let Ok(reservation) = stage.reserve(ANN, None).await else { continue };
                    assert!(held.fetch_add(1, Ordering::SeqCst) < ACCOUNT_LIMIT);
                    rounds.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    held.fetch_sub(1, Ordering::SeqCst);
                    stage.throttle.refund(reservation).await;
                }
            }
        })
        .map(tokio::spawn)
        .buffer_unordered(20)
        .for_each(|task| async { task.unwrap() })
        .await;
    assert!(rounds.load(Ordering::SeqCst) >= ACCOUNT_LIMIT);
    assert_eq!(stage.counted_of(ann()).await, Some(0));
}

#[tokio::test]
async fn a_window_ends_fifteen_minutes_after_its_first_attempt_with_or_without_ttl() {
    let stage = stage();
    for _ in 0..ACCOUNT_LIMIT {
        stage.fail(ANN, Some(HOME)).await;
        stage.clock.advance(Duration::from_mins(1));
    }
    let left = |refusal: Result<AttemptPermit, TooManyAttempts>| refusal.unwrap_err().retry_after.as_secs();
    assert_eq!(left(stage.reserve(ANN, Some(HOME)).await), 10 * 60 - 1);
    stage.clock.advance(Duration::from_secs(10 * 60 - 1));
    assert_eq!(left(stage.reserve(ANN, Some(HOME)).await), 0);
    stage.clock.advance(Duration::from_secs(1));
    stage.fail(ANN, Some(HOME)).await;
    assert_eq!(stage.counted_of(ann()).await, Some(1));
}

#[tokio::test]
async fn an_attempt_of_an_earlier_window_is_not_taken_from_a_later_one() {
    let stage = stage();
    let earlier = stage.reserve(ANN, Some(HOME)).await.unwrap();
    stage.clock.advance(WINDOW);
    stage.fail(ANN, Some(HOME)).await;
    stage.throttle.refund(earlier).await;
    assert_eq!((stage.counted_of(ann()).await, stage.counted_of(home()).await), (Some(1), Some(1)));
}

#[tokio::test]
async fn an_address_that_is_stopped_does_not_lock_accounts() {
    let stage = stage();
    stage.exhaust(std::iter::repeat(HOME)).await;
    for _ in 0..=ACCOUNT_LIMIT {
        let refusal = stage.reserve(ANN, Some(HOME)).await.unwrap_err();
        assert_eq!(refusal.limit, Limit::Address);
    }
    assert_eq!(stage.counted_of(ann()).await, None, "the account was not counted");
    stage.fail(ANN, Some(address("192.0.2.2"))).await;
}

#[tokio::test]
async fn an_account_that_is_stopped_leaves_the_address_counted() {
    let stage = stage();
    for _ in 0..ACCOUNT_LIMIT {
        stage.fail(ANN, Some(HOME)).await;
    }
    for _ in 0..3 {
        assert_eq!(stage.reserve(ANN, Some(HOME)).await.unwrap_err().limit, Limit::Account);
    }
    assert_eq!(stage.counted_of(home()).await, Some(ACCOUNT_LIMIT + 3));
    stage.fail("bob@example.com", Some(HOME)).await;
}

#[tokio::test]
async fn an_ipv6_network_is_one_address_however_many_its_owner_uses() {
    let stage = stage();
    stage.exhaust((1..).map(|host: u16| address(&format!("2001:db8:1:2::{host:x}")))).await;
    let refusal = stage.reserve(ANN, Some(address("2001:db8:1:2:ffff:ffff:ffff:ffff"))).await.unwrap_err();
    assert_eq!(refusal.limit, Limit::Address);
    stage.fail(ANN, Some(address("2001:db8:1:3::1"))).await;
}

#[tokio::test]
async fn without_an_address_the_account_is_counted_alone() {
    let stage = stage();
    for _ in 0..ACCOUNT_LIMIT {
        stage.fail(ANN, None).await;
    }
    assert_eq!(stage.reserve(ANN, None).await.unwrap_err().limit, Limit::Account);
    assert_eq!(stage.counted().await, HashMap::from([(ann().as_str().to_owned(), ACCOUNT_LIMIT)]));
}

#[tokio::test]
async fn while_attempts_cannot_be_counted_no_password_is_verified() {
    let stage = stage();
    stage.sign_up(email(ANN)).await;
    let broken = Effect::Error { failure: Failure::ThrottlingException };
    for operation in ["PutItem", "UpdateItem"] {
        // The second time there is a window, so that the update is reached.
        let hashes = hashes::count();
        stage.store.embedded.faults().add(Rule::new(broken.clone()).operation(operation));
        let error = stage.try_password(PASSWORD).await.unwrap_err();
        assert_eq!(Problem::from(error).kind, ProblemType::Unavailable, "{operation}");
        assert_eq!(hashes.so_far(), 0);
        stage.store.embedded.faults().clear();
        stage.guess("wrong").await;
    }
}

#[tokio::test]
async fn an_attempt_that_cannot_be_given_back_stays_counted_and_fails_nobody() {
    let stage = stage();
    let reservation = stage.reserve(ANN, Some(HOME)).await.unwrap();
    let broken = Effect::Error { failure: Failure::ThrottlingException };
    stage.store.embedded.faults().add(Rule::new(broken).operation("UpdateItem"));
    stage.throttle.refund(reservation).await;
    assert_eq!((stage.counted_of(ann()).await, stage.counted_of(home()).await), (Some(1), Some(1)));
}

impl Stage {
    /// Device tokens under these keys.
    fn tokens(&self, keys: &[Value]) -> DeviceTokens {
        DeviceTokens { keys: sealing_keys(keys), clock: self.clock.clone() }
    }
}

/// A device that has signed in to the account of `account`, and its token.
fn device_of(tokens: &DeviceTokens, account: &str) -> (KnownDevice, DeviceToken) {
    let token = tokens.issue(None, &email(account)).unwrap();
    (tokens.known(&token, &email(account)).unwrap(), token)
}

#[tokio::test]
async fn strangers_cannot_lock_out_a_device_that_signed_in_before() {
    let stage = stage();
    let (phone, _) = device_of(&stage.tokens(&[sealing_key("a")]), ANN);
    let (laptop, _) = device_of(&stage.tokens(&[sealing_key("a")]), ANN);
    for _ in 0..ACCOUNT_LIMIT {
        stage.fail(ANN, Some(HOME)).await;
    }
    assert_eq!(stage.reserve(ANN, Some(HOME)).await.unwrap_err().limit, Limit::Account);
    // A known device has as many attempts as ever, and no more than that.
    let from_phone = AttemptSource { address: Some(HOME), device: Some(phone) };
    for _ in 0..DEVICE_LIMIT {
        drop(stage.reserve_as(ANN, from_phone).await.unwrap());
    }
    assert_eq!(stage.reserve_as(ANN, from_phone).await.unwrap_err().limit, Limit::Device);
    // Its failures are its own.
    drop(stage.reserve_as(ANN, AttemptSource { address: Some(HOME), device: Some(laptop) }).await.unwrap());
    assert_eq!(stage.counted_of(ann()).await, Some(ACCOUNT_LIMIT));
}

#[tokio::test]
async fn a_known_device_of_a_stopped_address_is_stopped_too() {
    let stage = stage();
    let (phone, _) = device_of(&stage.tokens(&[sealing_key("a")]), ANN);
    stage.exhaust(std::iter::repeat(HOME)).await;
    let refusal =
        stage.reserve_as(ANN, AttemptSource { address: Some(HOME), device: Some(phone) }).await.unwrap_err();
    assert_eq!(refusal.limit, Limit::Address);
}

#[tokio::test]
async fn a_device_token_is_good_for_its_account_and_its_time_and_while_its_key_is_there() {
    let stage = stage();
    let (old, new) = (sealing_key("a"), sealing_key("b"));
    let tokens = stage.tokens(std::slice::from_ref(&old));
    let (phone, token) = device_of(&tokens, ANN);
    assert_eq!(tokens.known(&token, &email("ANN@example.com")), Some(phone));
    assert_eq!(tokens.known(&token, &email("bob@example.com")), None);
    let text = token.expose();
    let changed = if text.ends_with('A') { "B" } else { "A" };
    let changed = format!("{}{changed}", &text[..text.len() - 1]);
    for forged in ["", "AAAA", &text[1..], &changed, &format!("{text}A"), &text.replace('-', "+")] {
        if forged != text {
            assert_eq!(tokens.known(&DeviceToken::new(forged.to_owned()), &email(ANN)), None, "{forged}");
        }
    }
    assert_eq!(stage.tokens(&[new.clone(), old]).known(&token, &email(ANN)), Some(phone), "after a rotation");
    assert_eq!(stage.tokens(&[new]).known(&token, &email(ANN)), None, "its key was removed");

    // A sign-in makes it last longer, and the device stays the same.
    stage.clock.advance(DEVICE_LIFETIME.saturating_sub(Duration::from_secs(1)));
    let next = tokens.issue(tokens.known(&token, &email(ANN)), &email(ANN)).unwrap();
    stage.clock.advance(Duration::from_secs(1));
    assert_eq!(tokens.known(&token, &email(ANN)), None, "its time is over");
    assert_eq!(tokens.known(&next, &email(ANN)), Some(phone));
}

#[tokio::test]
async fn sign_ups_are_counted_by_network_and_apart_from_passwords() {
    let stage = stage();
    for host in 1..=3 {
        let from = Some(address(&format!("2001:db8:1:2::{host:x}")));
        assert_eq!(stage.throttle.count_sign_up(from, 3).await.unwrap(), SignUpDecision::Counted);
    }
    let fourth = stage.throttle.count_sign_up(Some(address("2001:db8:1:2::ffff")), 3).await.unwrap();
    let SignUpDecision::Refused(refusal) = fourth else { panic!("three are the limit") };
    assert_eq!((refusal.limit, refusal.retry_after), (Limit::SignUps, window_left(&stage)));
    let elsewhere = Some(address("2001:db8:1:3::1"));
    assert_eq!(stage.throttle.count_sign_up(elsewhere, 3).await.unwrap(), SignUpDecision::Counted);
    assert_eq!(stage.throttle.count_sign_up(None, 1).await.unwrap(), SignUpDecision::Counted);
    stage.fail(ANN, Some(address("2001:db8:1:2::1"))).await;
    stage.clock.advance(WINDOW);
    let later = stage.throttle.count_sign_up(Some(address("2001:db8:1:2::1")), 3).await.unwrap();
    assert_eq!(later, SignUpDecision::Counted);
}

#[tokio::test]
async fn a_refusal_is_429_with_the_time_that_is_left() {
    for limit in [Limit::Account, Limit::Address, Limit::Device, Limit::SignUps] {
        let problem = Problem::from(TooManyAttempts { limit, retry_after: Duration::from_millis(61_500) });
        let reply = problem.into_reply();
        assert_eq!((reply.status, reply.headers["retry-after"].as_str()), (429, "62"));
    }
}
