//! Claim, complete, release on the embedded DynamoDB.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use serde_json::{Value, json};
use sojourn::coordination::idempotency::dynamo::DynamoClaims;
use sojourn::coordination::idempotency::{
    Claim, ClaimCompletion, Fingerprint, IdempotencyCheck, KeyedRequest, RETENTION, RequestScope,
};
use sojourn::core::clock::ManualClock;
use sojourn::core::ids::{self, UserId};
use sojourn::core::reply::Reply;
use sojourn_testing::Store;

const LIFETIME: Duration = Duration::from_secs(10);

struct Stage {
    clock: Arc<ManualClock>,
    claims: DynamoClaims,
    user: UserId,
    _store: Store,
}

fn stage() -> Stage {
    let store = Store::start();
    let clock = ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap());
    let claims =
        DynamoClaims::from_env(store.client.clone(), &store.env, clock.clone(), ids::random()).unwrap();
    Stage { clock, claims, user: ids::random().next(), _store: store }
}

impl Stage {
    fn request(&self, payload: &Value) -> KeyedRequest {
        KeyedRequest {
            scope: RequestScope::new("send", &self.user, "key-1".parse().unwrap()),
            fingerprint: Fingerprint::of(payload),
        }
    }

    async fn claim(&self, payload: Value) -> IdempotencyCheck<Claim> {
        self.claims.claim(self.request(&payload), LIFETIME).await.unwrap()
    }

    async fn started(&self) -> Claim {
        match self.claim(json!(1)).await {
            IdempotencyCheck::Start(claim) => claim,
            other => panic!("not started: {other:?}"),
        }
    }
}

fn answer() -> Reply {
    Reply::json(201, json!({"delivered": 2})).header("location", "/there")
}

#[tokio::test]
async fn of_many_concurrent_claims_one_starts() {
    let stage = stage();
    let tries: FuturesUnordered<_> = (0..20).map(|_| stage.claim(json!(1))).collect();
    let (started, waiting): (Vec<_>, Vec<_>) =
        tries.collect::<Vec<_>>().await.into_iter().partition(|a| matches!(a, IdempotencyCheck::Start(_)));
    assert_eq!(started.len(), 1);
    assert!(
        waiting.iter().all(|a| *a == IdempotencyCheck::InProgress { retry_after: LIFETIME }),
        "{waiting:?}"
    );
}

#[tokio::test]
async fn a_completed_claim_is_replayed_with_status_headers_and_body() {
    let stage = stage();
    let claim = stage.started().await;
    assert_eq!(stage.claims.complete(&claim, &answer()).await.unwrap(), ClaimCompletion::Recorded);
    let replay = answer().header("idempotent-replayed", "true");
    assert_eq!(stage.claim(json!(1)).await, IdempotencyCheck::Replay(replay));
    assert_eq!(stage.claim(json!(2)).await, IdempotencyCheck::Mismatch);
}

#[tokio::test]
async fn a_released_claim_can_be_taken_at_once_by_the_same_payload_only() {
    let stage = stage();
    let claim = stage.started().await;
    assert_eq!(stage.claims.release(&claim).await.unwrap(), ClaimCompletion::Recorded);
    assert_eq!(stage.claim(json!(2)).await, IdempotencyCheck::Mismatch);
    assert_ne!(stage.started().await.attempt, claim.attempt);
}

#[tokio::test]
async fn a_zombie_that_wakes_up_after_takeover_changes_nothing() {
    let stage = stage();
    let zombie = stage.started().await;
    stage.clock.advance(LIFETIME);
    let successor = stage.started().await;
    assert_eq!(
        stage.claims.complete(&zombie, &Reply::empty(500)).await.unwrap(),
        ClaimCompletion::Superseded
    );
    assert_eq!(stage.claims.release(&zombie).await.unwrap(), ClaimCompletion::Superseded);
    assert!(matches!(stage.claim(json!(1)).await, IdempotencyCheck::InProgress { .. }));
    assert_eq!(stage.claims.complete(&successor, &answer()).await.unwrap(), ClaimCompletion::Recorded);
    assert_eq!(
        stage.claims.complete(&zombie, &Reply::empty(500)).await.unwrap(),
        ClaimCompletion::Superseded
    );
    assert!(matches!(stage.claim(json!(1)).await, IdempotencyCheck::Replay(reply) if reply.status == 201));
}

#[tokio::test]
async fn a_completion_that_is_written_twice_knows_itself() {
    let stage = stage();
    let claim = stage.started().await;
    for _ in 0..2 {
        assert_eq!(stage.claims.complete(&claim, &answer()).await.unwrap(), ClaimCompletion::Recorded);
    }
}

#[tokio::test]
async fn an_expired_record_frees_the_key_though_ttl_has_not_deleted_it() {
    let stage = stage();
    let claim = stage.started().await;
    stage.claims.complete(&claim, &answer()).await.unwrap();
    stage.clock.advance(RETENTION);
    assert!(matches!(stage.claim(json!("another payload")).await, IdempotencyCheck::Start(_)));
}
