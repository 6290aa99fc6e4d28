//! Sessions with Redis in front of them: what happens to Redis happens to nobody else.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use serde_json::json;
use sojourn_testing::RedisServer;
use sojourn_tests::{Customer, Options, PASSWORD, TestRegion};

/// Customers who go on reading.
const CUSTOMERS: usize = 4;
/// Reads between two mishaps, of all of them together.
const READS: u64 = 60;
/// Longest wait for them.
const PATIENCE: Duration = Duration::from_mins(1);

async fn region_with(redis: &RedisServer) -> TestRegion {
    let key = "SessionCopyKey=0123456789abcdef0123456789abcdef".to_owned();
    let parameters = ["SessionStore=redis".to_owned(), format!("RedisUrl={}", redis.url()), key];
    let arguments = parameters.into_iter().flat_map(|value| ["--parameter".to_owned(), value]).collect();
    TestRegion::start_with(Options { arguments, ..Options::default() }).await
}

/// Reads as `who` until it is `over`. Every single answer is a 200.
async fn read_on(region: &TestRegion, who: &Customer, reads: &AtomicU64, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        region.call_as(who, "GET", "/orders").send().await.expect(200);
        reads.fetch_add(1, Ordering::SeqCst);
    }
}

async fn more_of(reads: &AtomicU64) {
    let goal = reads.load(Ordering::SeqCst) + READS;
    let reached = async {
        while reads.load(Ordering::SeqCst) < goal {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap();
}

/// How a session ends.
enum End {
    RoleWithdrawn,
    SignedOut,
    AllRevoked,
    PasswordChanged,
}

impl End {
    /// Ends the session of `who`, and returns when that is answered.
    async fn of(self, region: &TestRegion, who: &Customer) {
        match self {
            Self::RoleWithdrawn => {
                let withdraw = json!({"withdraw": {"userId": who.user_id, "role": "operator"}});
                region.invoke("admin-users", &withdraw).await.expect(200);
            }
            Self::SignedOut => {
                region.call_as(who, "DELETE", "/sessions/current").send().await.expect(204);
            }
            Self::AllRevoked => {
                region.call_as(who, "DELETE", "/sessions").send().await.expect(204);
            }
            Self::PasswordChanged => {
                let other_device = region.sign_in(&who.email).await;
                let change = json!({"current": PASSWORD, "new": "and another one of these"});
                let changed = region.call_as(&other_device, "PUT", "/users/me/password").json(&change);
                changed.send().await.expect(204);
                region.call_as(&other_device, "GET", "/orders").send().await.expect(200);
            }
        }
    }
}

/// An operator uses a session in two functions; it ends; once that was answered, both refuse it.
async fn a_revocation_holds(region: &TestRegion, victim: &Customer, end: End) {
    let product = json!({"name": "lamp", "price": {"amount": 12_900, "currency": "TWD"}});
    let read = || region.call_as(victim, "GET", "/orders").send();
    let write = || region.call_as(victim, "PUT", "/products/lamp").json(&product).send();
    read().await.expect(200);
    assert!(matches!(write().await.status, 200 | 201));
    end.of(region, victim).await;
    for _ in 0..3 {
        read().await.expect_problem(401, "unauthenticated");
        write().await.expect_problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn traffic_and_revocations_survive_a_redis_that_is_paused_killed_and_restarted_empty() {
    let Some(mut redis) = RedisServer::start() else { return };
    let region = region_with(&redis).await;
    let mut customers = Vec::new();
    for _ in 0..CUSTOMERS {
        customers.push(region.customer().await);
    }
    let mut victims = Vec::new();
    for _ in 0..4 {
        victims.push(region.operator().await);
    }
    let (reads, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let traffic = stream::iter(&customers)
        .map(|customer| read_on(&region, customer, &reads, &over))
        .buffer_unordered(CUSTOMERS)
        .for_each(async |()| {});
    let mishaps = async {
        more_of(&reads).await;
        a_revocation_holds(&region, &victims[0], End::RoleWithdrawn).await;
        redis.pause();
        more_of(&reads).await;
        a_revocation_holds(&region, &victims[1], End::SignedOut).await;
        redis.resume();
        more_of(&reads).await;
        redis.kill();
        more_of(&reads).await;
        a_revocation_holds(&region, &victims[2], End::AllRevoked).await;
        redis.restart();
        more_of(&reads).await;
        a_revocation_holds(&region, &victims[3], End::PasswordChanged).await;
        over.store(true, Ordering::SeqCst);
    };
    tokio::join!(traffic, mishaps);
    // Nobody was signed out by any of it.
    for customer in &customers {
        region.call_as(customer, "GET", "/orders").send().await.expect(200);
    }
}

#[tokio::test]
async fn a_session_in_use_is_read_from_redis() {
    let Some(redis) = RedisServer::start() else { return };
    let region = region_with(&redis).await;
    let customer = region.customer().await;
    let began = std::time::Instant::now();
    loop {
        region.record().await;
        region.call_as(&customer, "GET", "/orders").send().await.expect(200);
        if !region.usage().await.to_string().contains("SessionsTable") {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "every request reads the session's row");
    }
}
