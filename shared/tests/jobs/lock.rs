//! Locks and slots on an embedded DynamoDB, by the real SDK.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use local_region::services::faults::{Effect, Failure, Rule};
use proptest::prelude::*;
use sojourn::coordination::lock::{
    AcquireOutcome, DynamoLocks, IfHolder, JobSlot, Lease, LeaseSettings, LockName, Owner, RETENTION,
    SlotRun, SlotRunner,
};
use sojourn::core::clock::{self, Clock, ManualClock};
use sojourn::core::deadline::Deadline;
use sojourn::core::ids;
use sojourn::platform::dynamo::{Actions, Agreement, Reasons, Replicas, Transaction, text};
use sojourn_testing::Store;

const SETTINGS: LeaseSettings = LeaseSettings::JOBS;

/// Longest wait for what must happen.
const PATIENCE: Duration = Duration::from_mins(1);

struct Stage {
    store: Store,
    clock: Arc<ManualClock>,
}

fn start() -> Timestamp {
    "2026-11-20T02:00:00.500Z".parse().unwrap()
}

fn slot() -> JobSlot {
    JobSlot::of_day("daily-report", start())
}

impl Stage {
    fn new() -> Self {
        Self { store: Store::start(), clock: ManualClock::at(start()) }
    }

    fn locks(&self) -> DynamoLocks {
        self.locks_by(self.clock.clone())
    }

    fn locks_by(&self, clock: Arc<ManualClock>) -> DynamoLocks {
        DynamoLocks::new(self.store.client.clone(), "LocksTable", "local", clock, SETTINGS)
    }

    /// Writes an item in a transaction that carries the guard of `lease`.
    async fn guarded_write(&self, lease: &Lease, key: &str) -> Transaction<Reasons<&'static str>> {
        let put = Put::builder().table_name("IdempotencyTable").item("key", text(key)).build().unwrap();
        let actions = Actions::from([
            ("item", TransactWriteItem::builder().put(put).build()),
            ("guard", self.locks().guard(lease).unwrap().0),
        ]);
        actions.commit(&self.store.client, key).await.unwrap()
    }

    /// Waits until somebody has asked in vain for a lock since the recording began.
    async fn until_refused(&self) {
        let refused = async {
            while self
                .store
                .embedded
                .usage()
                .snapshot()
                .requests
                .iter()
                .all(|requests| requests.failures == 0)
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, refused).await.unwrap();
    }

    fn fail_next(&self, times: u64, effect: Effect) {
        self.store.embedded.faults().add(Rule::new(effect).operation("UpdateItem").times(times));
    }
}

fn fresh() -> Owner {
    ids::random().next()
}

async fn take(locks: &DynamoLocks) -> Lease {
    match locks.acquire(slot().lock_name(), &fresh()).await.unwrap() {
        AcquireOutcome::Acquired(lease) => lease,
        other => panic!("not acquired but {other:?}"),
    }
}

/// Longer than a lease and the clocks' difference.
fn past_takeover() -> Duration {
    SETTINGS.lease + SETTINGS.clock_skew + Duration::from_millis(1)
}

#[tokio::test]
async fn of_fifty_contenders_one_wins_and_the_others_learn_who() {
    let stage = Stage::new();
    let locks = stage.locks();
    let slot = slot();
    let owners: Vec<Owner> = (0..50).map(|_| fresh()).collect();
    let outcomes: Vec<AcquireOutcome> = owners
        .iter()
        .map(|owner| locks.acquire(slot.lock_name(), owner))
        .collect::<FuturesUnordered<_>>()
        .map(Result::unwrap)
        .collect()
        .await;
    let leases: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| if let AcquireOutcome::Acquired(lease) = outcome { Some(lease) } else { None })
        .collect();
    let [winner] = leases[..] else { panic!("{} winners", leases.len()) };
    assert_eq!(winner.fence.0, 1);
    assert_eq!(
        winner.ends_at,
        Timestamp::from_millisecond((start() + SETTINGS.lease).as_millisecond()).unwrap()
    );
    let held = AcquireOutcome::Held { by: winner.owner.clone(), until: winner.ends_at };
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == held).count(), 49);
}

#[tokio::test]
async fn a_crashed_holder_is_replaced_when_its_lease_has_run_out_and_not_before() {
    let stage = Stage::new();
    let crashed = take(&stage.locks()).await;
    stage.clock.advance(SETTINGS.lease + SETTINGS.clock_skew);
    let early = stage.locks().acquire(slot().lock_name(), &fresh()).await.unwrap();
    assert!(matches!(early, AcquireOutcome::Held { ref by, .. } if *by == crashed.owner), "{early:?}");
    stage.clock.advance(Duration::from_millis(1));
    let successor = take(&stage.locks()).await;
    assert!(successor.fence > crashed.fence);
}

#[tokio::test]
async fn a_clock_that_is_ahead_by_the_allowed_skew_takes_nothing_from_a_live_holder() {
    let stage = Stage::new();
    let holder = take(&stage.locks()).await;
    let ahead = ManualClock::at(start() + SETTINGS.clock_skew);
    // The holder's own clock still shows the last moment of its lease.
    ahead.advance(SETTINGS.lease);
    let outcome = stage.locks_by(ahead).acquire(slot().lock_name(), &fresh()).await.unwrap();
    assert_eq!(outcome, AcquireOutcome::Held { by: holder.owner, until: holder.ends_at });
}

#[tokio::test]
async fn a_paused_holder_that_resumes_after_takeover_changes_nothing() {
    let stage = Stage::new();
    let locks = stage.locks();
    let paused = take(&locks).await;
    stage.clock.advance(past_takeover());
    let successor = take(&locks).await;

    assert_eq!(locks.renew(&paused).await.unwrap(), IfHolder::Lost);
    assert_eq!(locks.release(&paused).await.unwrap(), IfHolder::Lost);
    assert_eq!(locks.complete(&paused, Some("late")).await.unwrap(), IfHolder::Lost);
    let Transaction::Cancelled(reasons) = stage.guarded_write(&paused, "late").await else {
        panic!("the late write was accepted");
    };
    assert!(reasons.row_refusing(&"guard").is_some(), "{reasons:?}");

    assert_eq!(stage.guarded_write(&successor, "in time").await, Transaction::Committed);
    assert!(matches!(locks.renew(&successor).await.unwrap(), IfHolder::Done(_)));
    assert_eq!(locks.complete(&successor, Some("right")).await.unwrap(), IfHolder::Done(()));
    let found = locks.acquire(slot().lock_name(), &fresh()).await.unwrap();
    assert!(
        matches!(found, AcquireOutcome::Done { result: Some(ref result), .. } if result == "right"),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_holder_that_gave_back_or_completed_writes_no_more() {
    let stage = Stage::new();
    let locks = stage.locks();
    let first = take(&locks).await;
    locks.release(&first).await.unwrap();
    assert!(matches!(stage.guarded_write(&first, "after release").await, Transaction::Cancelled(_)));
    let second = take(&locks).await;
    locks.complete(&second, None).await.unwrap();
    assert!(matches!(stage.guarded_write(&second, "after completion").await, Transaction::Cancelled(_)));
    assert_eq!(locks.release(&second).await.unwrap(), IfHolder::Lost);
}

#[tokio::test]
async fn an_acquire_whose_answer_was_lost_is_recognised_and_counts_once() {
    let stage = Stage::new();
    stage.fail_next(1, Effect::CommitThenReset);
    let lease = take(&stage.locks()).await;
    assert_eq!(lease.fence.0, 1, "the repeated request took the lock a second time");
    assert_eq!(stage.guarded_write(&lease, "mine").await, Transaction::Committed);
}

#[tokio::test]
async fn a_completion_or_release_whose_answer_was_lost_is_done() {
    let stage = Stage::new();
    let locks = stage.locks();
    let first = take(&locks).await;
    stage.fail_next(1, Effect::CommitThenReset);
    assert_eq!(locks.release(&first).await.unwrap(), IfHolder::Done(()));
    let second = take(&locks).await;
    stage.fail_next(1, Effect::CommitThenReset);
    assert_eq!(locks.complete(&second, None).await.unwrap(), IfHolder::Done(()));
}

#[tokio::test]
async fn a_transaction_at_the_same_item_is_waited_for() {
    let stage = Stage::new();
    let conflict = Effect::Error { failure: Failure::TransactionConflictException };
    stage.fail_next(2, conflict);
    assert_eq!(take(&stage.locks()).await.fence.0, 1);
}

#[tokio::test]
async fn an_owner_takes_a_lock_at_most_once() {
    let stage = Stage::new();
    let locks = stage.locks();
    let lease = take(&locks).await;
    locks.release(&lease).await.unwrap();
    let again = locks.acquire(slot().lock_name(), &lease.owner).await.unwrap();
    assert!(matches!(again, AcquireOutcome::Held { .. }), "{again:?}");
}

#[tokio::test]
async fn ttl_leaves_an_item_alone_for_longer_than_a_delivery_can_be_kept() {
    let stage = Stage::new();
    let locks = stage.locks();
    let lease = take(&locks).await;
    locks.complete(&lease, None).await.unwrap();
    let item =
        stage.store.client.get_item().table_name("LocksTable").key("lockName", text(slot().to_string()));
    let item = item.send().await.unwrap().item.unwrap();
    let kept_until: i64 = item["expiresAt"].as_n().unwrap().parse().unwrap();
    let dead_letters_kept_for = Duration::from_hours(14 * 24);
    assert!(kept_until > (start() + dead_letters_kept_for).as_second(), "{item:?}");
}

fn runner(stage: &Stage) -> SlotRunner {
    SlotRunner::new(stage.locks(), stage.clock.clone(), ids::random())
}

fn in_a_minute() -> Deadline {
    Deadline::after(Duration::from_mins(1))
}

#[tokio::test]
async fn a_second_delivery_finds_the_slot_done_and_its_result() {
    let stage = Stage::new();
    let runner = runner(&stage);
    let first = runner.run(slot().task(), in_a_minute(), |_| async { Ok::<_, String>(41) }).await.unwrap();
    assert!(matches!(first, SlotRun::Completed(41)), "{first:?}");
    stage.clock.advance(Duration::from_hours(5));
    let second = runner
        .run(slot().task(), in_a_minute(), |_| async { Err::<u32, _>("the work was done twice".to_owned()) })
        .await
        .unwrap();
    assert!(
        matches!(second, SlotRun::AlreadyDone { result: Some(ref result), .. } if result == "41"),
        "{second:?}"
    );
}

#[tokio::test]
async fn a_delivery_during_a_run_waits_for_its_result() {
    let stage = Stage::new();
    let runner = runner(&stage);
    stage.store.embedded.usage().record();
    let work = async |lease: Lease| {
        stage.until_refused().await;
        Ok::<_, String>(lease.fence.0)
    };
    let slot = slot();
    let (one, two) = futures::join!(
        runner.run(slot.task(), in_a_minute(), work),
        runner.run(slot.task(), in_a_minute(), work)
    );
    let runs = [one.unwrap(), two.unwrap()];
    assert_eq!(runs.iter().filter(|run| matches!(run, SlotRun::Completed(1))).count(), 1, "{runs:?}");
    let found = |run: &&SlotRun<u64, String>| matches!(run, SlotRun::AlreadyDone { result: Some(result), .. } if result == "1");
    assert_eq!(runs.iter().filter(found).count(), 1, "{runs:?}");
}

#[tokio::test]
async fn a_delivery_during_a_run_that_crashed_takes_over_when_the_lease_has_run_out() {
    let stage = Stage::new();
    let crashed = take(&stage.locks()).await;
    let runner = runner(&stage);
    let slot = slot();
    stage.store.embedded.usage().record();
    let takeover =
        runner.run(slot.task(), in_a_minute(), |lease| async move { Ok::<_, String>(lease.fence.0) });
    let time_passes = async {
        stage.until_refused().await;
        stage.clock.advance(past_takeover());
    };
    let (run, ()) = futures::join!(takeover, time_passes);
    assert!(matches!(run.unwrap(), SlotRun::Completed(fence) if fence == crashed.fence.0 + 1));
}

#[tokio::test]
async fn a_delivery_without_time_to_wait_says_who_holds_the_slot() {
    let stage = Stage::new();
    let holder = take(&stage.locks()).await;
    let soon = Deadline::after(SETTINGS.margin + Duration::from_millis(100));
    let run = runner(&stage).run(slot().task(), soon, |_| async { Ok::<_, String>(()) }).await.unwrap();
    assert!(matches!(run, SlotRun::HeldElsewhere { ref by, .. } if *by == holder.owner), "{run:?}");
}

#[tokio::test]
async fn failed_work_frees_the_slot_for_the_retry() {
    let stage = Stage::new();
    let runner = runner(&stage);
    let failed =
        runner.run(slot().task(), in_a_minute(), |_| async { Err::<u32, _>("no luck") }).await.unwrap();
    assert!(matches!(failed, SlotRun::Failed("no luck")));
    let retried = runner
        .run(slot().task(), in_a_minute(), |lease| async move { Ok::<_, String>(lease.fence.0) })
        .await
        .unwrap();
    assert!(matches!(retried, SlotRun::Completed(2)), "{retried:?}");
}

#[tokio::test]
async fn work_is_cut_off_before_the_invocation_ends_and_the_slot_is_free_again() {
    let stage = Stage::new();
    let runner = runner(&stage);
    let soon = Deadline::after(SETTINGS.margin + Duration::from_millis(30));
    let endless = |_| std::future::pending::<Result<(), String>>();
    assert!(matches!(runner.run(slot().task(), soon, endless).await.unwrap(), SlotRun::CutOff));
    assert!(!soon.has_passed(), "no time was left to give the lock back");
    assert_eq!(take(&stage.locks()).await.fence.0, 2);
}

#[tokio::test]
async fn the_heartbeat_keeps_a_lease_longer_than_it_lasts_and_notices_a_takeover() {
    let terms = LeaseSettings {
        lease: Duration::from_secs(2),
        clock_skew: Duration::ZERO,
        margin: Duration::from_millis(200),
    };
    let stage = Stage::new();
    let locks = DynamoLocks::new(stage.store.client.clone(), "LocksTable", "local", clock::system(), terms);
    let runner = SlotRunner::new(locks.clone(), clock::system(), ids::random());
    let long = |_| async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok::<_, String>(())
    };
    assert!(matches!(runner.run(slot().task(), in_a_minute(), long).await.unwrap(), SlotRun::Completed(())));

    let other = JobSlot::of_second("order-cleanup", start());
    // Somebody whose clock is an hour ahead takes the slot over while the work goes on.
    let ahead = stage.locks_by(ManualClock::at(clock::SystemClock.now() + Duration::from_hours(1)));
    let robbed = |_| {
        let (ahead, name) = (&ahead, other.lock_name());
        async move {
            let taken = ahead.acquire(name, &fresh()).await.map_err(|error| error.to_string())?;
            assert!(matches!(taken, AcquireOutcome::Acquired(_)), "{taken:?}");
            std::future::pending::<Result<(), String>>().await
        }
    };
    assert!(matches!(runner.run(other.task(), in_a_minute(), robbed).await.unwrap(), SlotRun::TakenOver));
}

#[derive(Debug, Clone)]
enum Step {
    Acquire,
    Renew(usize),
    Release(usize),
    Pass(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Acquire),
        1 => (0..8_usize).prop_map(Step::Renew),
        2 => (0..8_usize).prop_map(Step::Release),
        1 => (0..60_u8).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Every acquisition has a larger fence than the one before, and of all leases ever given only the
/// last can be valid.
async fn fences_only_rise(stage: &Stage, name: &LockName, steps: &[Step]) -> Result<(), TestCaseError> {
    let locks = stage.locks();
    let mut leases: Vec<Lease> = Vec::new();
    let mut lost = HashSet::new();
    for step in steps {
        match step {
            Step::Acquire => {
                if let AcquireOutcome::Acquired(lease) = locks.acquire(name, &fresh()).await.unwrap() {
                    prop_assert_eq!(lease.fence.0, leases.last().map_or(1, |last| last.fence.0 + 1));
                    lost.extend(leases.iter().map(|old| old.fence));
                    leases.push(lease);
                }
            }
            Step::Renew(back) | Step::Release(back) => {
                let Some(lease) = leases.iter().rev().nth(*back) else { continue };
                let is_done = match step {
                    Step::Renew(_) => matches!(locks.renew(lease).await.unwrap(), IfHolder::Done(_)),
                    _ => matches!(locks.release(lease).await.unwrap(), IfHolder::Done(())),
                };
                prop_assert!(!is_done || !lost.contains(&lease.fence), "an old lease was obeyed");
            }
            Step::Pass(seconds) => stage.clock.advance(Duration::from_secs(u64::from(*seconds))),
        }
    }
    Ok(())
}

#[test]
fn the_fence_never_goes_back_whatever_is_done() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let stage = Stage::new();
    let cases = proptest::test_runner::Config::with_cases(60);
    proptest::test_runner::TestRunner::new(cases)
        .run(&(steps(), any::<u64>()), |(steps, tag)| {
            let name = format!("case-{tag}-{}", steps.len()).parse().unwrap();
            runtime.block_on(fences_only_rise(&stage, &name, &steps))
        })
        .unwrap();
}

/// Locks in the agreement table, as processes of `region` see them. Its replicas are the stage's
/// store, after `silent` ones.
fn of_all_regions(stage: &Stage, region: &str, silent: &[Client]) -> DynamoLocks {
    let mut replicas = silent.to_vec();
    replicas.push(stage.store.client.clone());
    let replicas = Replicas::new(replicas.remove(0), replicas);
    let agreement = Agreement { table: "AgreementTable".to_owned(), replicas };
    DynamoLocks::of_all_regions(agreement, region, stage.clock.clone(), SETTINGS)
}

#[tokio::test]
async fn of_the_contenders_of_three_regions_one_completes_the_slot() {
    let stage = Stage::new();
    let runs: Vec<u64> = ["tokyo", "taiwan", "singapore"]
        .map(|region| {
            let locks = of_all_regions(&stage, region, &[]);
            let runner = SlotRunner::new(locks, stage.clock.clone(), ids::random());
            async move {
                let work = |lease: Lease| async move { Ok::<_, String>(lease.fence.0) };
                match runner.run(slot().task(), in_a_minute(), work).await.unwrap() {
                    SlotRun::Completed(fence) => Some(fence),
                    SlotRun::AlreadyDone { .. } => None,
                    other => panic!("{other:?}"),
                }
            }
        })
        .into_iter()
        .collect::<FuturesUnordered<_>>()
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert_eq!(runs, [1]);
}

#[tokio::test]
async fn the_next_replica_is_asked_when_one_does_not_answer_and_the_lock_is_the_same() {
    let stage = Stage::new();
    let silent = Store::start();
    silent.embedded.faults().add(Rule::new(Effect::Reset));
    let lease = take(&of_all_regions(&stage, "taiwan", std::slice::from_ref(&silent.client))).await;
    let held = of_all_regions(&stage, "tokyo", &[]).acquire(slot().lock_name(), &fresh()).await.unwrap();
    assert_eq!(held, AcquireOutcome::Held { by: lease.owner.clone(), until: lease.ends_at });
    let taiwan = of_all_regions(&stage, "taiwan", std::slice::from_ref(&silent.client));
    assert_eq!(taiwan.complete(&lease, None).await.unwrap(), IfHolder::Done(()));
}

#[tokio::test]
async fn a_slot_of_all_regions_is_forgotten_after_its_retention_and_not_before() {
    let stage = Stage::new();
    let locks = of_all_regions(&stage, "tokyo", &[]);
    let lease = take(&locks).await;
    assert_eq!(locks.complete(&lease, None).await.unwrap(), IfHolder::Done(()));
    let is_done = async || {
        let outcome = locks.acquire(slot().lock_name(), &fresh()).await.unwrap();
        matches!(outcome, AcquireOutcome::Done { .. })
    };
    stage.clock.advance(RETENTION);
    locks.forget(slot().lock_name()).await;
    assert!(is_done().await, "forgotten too early");
    stage.clock.advance(Duration::from_secs(1));
    locks.forget(slot().lock_name()).await;
    assert!(!is_done().await, "kept for ever");
}
