//! Others at the same uploads, and runs that end in the middle.

use std::time::Duration;

use local_region::services::faults::{Effect, Failure, Faults, Rule, When};
use sojourn::coordination::backlog::BacklogError;
use sojourn::core::clock::Clock;
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::UserId;
use sojourn::files::uploads::dynamo::key;
use sojourn::files::uploads::{SweepShard, Upload, UploadError};

use super::stage::{LARGE, LONG, SMALL, Stage, hours, nine, user};

impl Stage {
    /// One upload in each state that the clean-up acts on, and one that it must leave alone.
    async fn one_of_each(&self, owner: &UserId) -> [Upload; 4] {
        [
            self.sent_in_parts(owner).await,
            self.rejected(owner).await,
            self.deleted(owner).await,
            self.ready(owner).await,
        ]
    }
}

#[tokio::test]
async fn an_upload_that_is_completed_before_it_expires_stays() {
    let stage = Stage::new();
    let ann = user();
    let upload = stage.sent(&ann).await;
    stage.a_day_later();
    let turn = stage.turn(nine(), &stage.lease(nine()).await, LONG);
    // The run has seen it PENDING, and is about to end it.
    let faults = stage.store.embedded.faults();
    let held = faults.add(Rule::hold(When::Before).operation("TransactWriteItems").times(1));
    let completion = async {
        assert!(faults.until_held(held, 1).await);
        let completed = stage.complete(&upload).await;
        faults.release(held);
        completed
    };
    let (result, completed) = futures::join!(stage.run(&turn), completion);
    let result = result.unwrap();
    completed.unwrap();
    assert_eq!((result.expired, result.settled, result.failed), (0, 1, 0), "{result:?}");
    assert_eq!(stage.status(&upload).await.as_deref(), Some("READY"));
    assert_eq!(stage.objects().await, [upload.final_key()]);
    assert_eq!(stage.taken(&ann).await, (SMALL, 1));
}

#[tokio::test]
async fn an_upload_that_expires_before_its_completion_ends_is_gone() {
    let stage = Stage::new();
    let ann = user();
    let upload = stage.sent(&ann).await;
    stage.a_day_later();
    let turn = stage.turn(nine(), &stage.lease(nine()).await, LONG);
    // The completion has copied the file, and is about to say so.
    let faults = stage.store.embedded.faults();
    // The first update counts the try.
    let held = faults.add(Rule::hold(When::Before).operation("UpdateItem").skip(1).times(1));
    let expiry = async {
        assert!(faults.until_held(held, 1).await);
        assert_eq!(stage.objects().await.len(), 2);
        let result = stage.run(&turn).await;
        faults.release(held);
        result
    };
    let (completed, result) = futures::join!(stage.complete(&upload), expiry);
    assert!(matches!(completed, Err(UploadError::NotFound(_))), "{completed:?}");
    assert_eq!(result.unwrap().expired, 1);
    assert_eq!(stage.status(&upload).await.as_deref(), Some("DELETED"));
    assert_eq!(stage.objects().await, [""; 0]);
    assert_eq!(stage.taken(&ann).await, (SMALL, 1));
}

/// The index is late: it names an upload that its user has deleted since. Its tombstone has an hour
/// to go.
#[tokio::test]
async fn an_upload_that_is_deleted_under_the_runs_eyes_keeps_its_tombstone() {
    let stage = Stage::new();
    let ann = user();
    let upload = stage.sent(&ann).await;
    stage.a_day_later();
    let turn = stage.turn(nine(), &stage.lease(nine()).await, LONG);
    let faults = stage.store.embedded.faults();
    let held = faults.add(Rule::hold(When::Before).operation("GetItem").times(1));
    let deletion = async {
        assert!(faults.until_held(held, 1).await);
        stage.uploads().delete(&ann, &upload.upload_id, Deadline::after(LONG)).await.unwrap();
        faults.release(held);
    };
    let (result, ()) = futures::join!(stage.run(&turn), deletion);
    let result = result.unwrap();
    assert_eq!((result.expired, result.forgotten, result.ended_before), (0, 0, 1), "{result:?}");
    assert_eq!(stage.status(&upload).await.as_deref(), Some("DELETED"));
    assert_eq!(stage.taken(&ann).await, (SMALL, 1));
}

/// Stops a run at its n-th request to one service, before or after the request's effect, for every
/// n that there is; then lets the same slot and later ones run.
async fn die_at_every_request(stage: &Stage, faults: &Faults, when: When) -> u64 {
    for survived in 0.. {
        let ann = user();
        let [in_parts, rejected, deleted, ready] = stage.one_of_each(&ann).await;
        stage.a_day_later();
        let slot = stage.clock.now();
        let turn = stage.turn(slot, &stage.lease(slot).await, LONG);
        let held = faults.add(Rule::hold(when).skip(survived).times(1));
        let died = tokio::select! {
            result = stage.run(&turn) => {
                result.unwrap();
                false
            }
            is_held = faults.until_held(held, 1) => is_held,
        };
        faults.clear();

        let taken = stage.taken(&ann).await;
        let possible = [(3 * SMALL + LARGE, 4), (2 * SMALL + LARGE, 3)];
        assert!(possible.contains(&taken), "{taken:?} after {survived} requests");
        stage.sweep(slot).await;
        assert_eq!(stage.taken(&ann).await, (2 * SMALL + LARGE, 3), "after {survived} requests");
        // By now all tombstones are due.
        stage.clock.advance(hours(4));
        let last = stage.sweep(stage.clock.now()).await;
        assert_eq!((last.expired, last.failed), (0, 0), "{last:?} after {survived} requests");
        for gone in [&in_parts, &rejected, &deleted] {
            assert_eq!(stage.status(gone).await, None, "after {survived} requests");
        }
        assert!(!stage.has_parts(&in_parts).await, "after {survived} requests");
        assert_eq!(stage.taken(&ann).await, (SMALL, 1), "after {survived} requests");
        assert_eq!(stage.objects().await, [ready.final_key()], "after {survived} requests");
        stage.uploads().delete(&ann, &ready.upload_id, Deadline::after(LONG)).await.unwrap();
        if !died {
            return survived;
        }
    }
    unreachable!("a run has an end")
}

#[tokio::test]
async fn a_run_that_dies_at_any_request_to_the_table_is_made_up_for() {
    let stage = Stage::new();
    for when in [When::Before, When::After] {
        let deaths = die_at_every_request(&stage, stage.store.embedded.faults(), when).await;
        // Eight pages, and a read and a transaction for each of three.
        assert!(deaths >= 14, "only {deaths} requests");
    }
}

#[tokio::test]
async fn a_run_that_dies_at_any_request_to_the_bucket_is_made_up_for() {
    let stage = Stage::new();
    for when in [When::Before, When::After] {
        let deaths = die_at_every_request(&stage, &stage.files.controls.faults, when).await;
        // Two deletions for each of three, and the parts of one.
        assert!(deaths >= 7, "only {deaths} requests");
    }
}

#[tokio::test]
async fn two_runs_at_the_same_time_give_the_quota_back_once() {
    let stage = Stage::new();
    let (ann, ben) = (user(), user());
    for owner in [&ann, &ben] {
        for _ in 0..10 {
            stage.sent(owner).await;
            stage.deleted(owner).await;
        }
        stage.ready(owner).await;
    }
    stage.a_day_later();
    // Two slots' runs beside each other: each has its own lock, so neither guard keeps the other
    // out.
    let other = nine() + hours(1);
    let one = stage.turn(nine(), &stage.lease(nine()).await, LONG);
    let two = stage.turn(other, &stage.lease(other).await, LONG);
    let (one, two) = futures::join!(stage.run(&one), stage.run(&two));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.expired + two.expired, one.forgotten + two.forgotten), (20, 20), "{one:?} {two:?}");
    assert_eq!((one.failed + two.failed, one.contended + two.contended), (0, 0), "{one:?} {two:?}");
    for owner in [&ann, &ben] {
        assert_eq!(stage.taken(owner).await, (11 * SMALL, 11), "the deleted ones are given back");
    }
    assert_eq!(stage.objects().await.len(), 2);
}

#[tokio::test]
async fn a_run_that_was_overtaken_changes_nothing() {
    let stage = Stage::new();
    let ann = user();
    let pending = stage.sent_in_parts(&ann).await;
    stage.a_day_later();
    let paused = stage.turn(nine(), &stage.lease(nine()).await, LONG);
    stage.lease_runs_out();
    stage.lease(nine()).await;
    let ended = stage.run(&paused).await;
    assert!(matches!(ended, Err(BacklogError::Overtaken)), "{ended:?}");
    assert_eq!(stage.status(&pending).await.as_deref(), Some("PENDING"));
    assert!(stage.has_parts(&pending).await);
    assert_eq!(stage.taken(&ann).await, (LARGE, 1));
}

/// A due tombstone is nobody's any more, with or without a lock.
#[tokio::test]
async fn a_run_that_was_overtaken_may_still_take_tombstones_away() {
    let stage = Stage::new();
    let ann = user();
    let deleted = stage.deleted(&ann).await;
    stage.a_day_later();
    let paused = stage.turn(nine(), &stage.lease(nine()).await, LONG);
    stage.lease_runs_out();
    stage.lease(nine()).await;
    let result = stage.run(&paused).await.unwrap();
    assert_eq!((result.forgotten, result.failed), (1, 0), "{result:?}");
    assert_eq!(stage.status(&deleted).await, None);
    assert_eq!(stage.taken(&ann).await, (0, 0));
}

#[tokio::test]
async fn a_run_stops_before_its_deadline_and_leaves_the_rest_to_the_next_slot() {
    let stage = Stage::new();
    let ann = user();
    for _ in 0..20 {
        stage.sent(&ann).await;
    }
    stage.a_day_later();
    let faults = stage.store.embedded.faults();
    // All but the first transaction wait until nothing more may be begun.
    let held = faults.add(Rule::hold(When::Before).operation("TransactWriteItems").skip(1));
    let turn = stage.turn(nine(), &stage.lease(nine()).await, Duration::from_secs(3));
    let stop = async {
        assert!(faults.until_held(held, 1).await);
        tokio::time::sleep(turn.stop_at.remaining()).await;
        faults.clear();
    };
    let (result, ()) = futures::join!(stage.run(&turn), stop);
    let result = result.unwrap();
    assert!(result.remaining && (1..20).contains(&result.expired), "{result:?}");
    let next = stage.sweep(nine() + hours(1)).await;
    assert_eq!((next.expired, next.remaining), (20 - result.expired, false), "{next:?}");
    let last = stage.sweep(nine() + hours(3)).await;
    assert_eq!((last.forgotten, stage.taken(&ann).await), (20, (0, 0)), "{last:?}");
}

#[tokio::test]
async fn uploads_that_hang_are_cut_off_and_the_run_ends_before_its_deadline() {
    let stage = Stage::new();
    let ann = user();
    for _ in 0..3 {
        stage.deleted(&ann).await;
    }
    stage.a_day_later();
    let held = stage.files.controls.faults.add(Rule::hold(When::Before));
    let mut turn = stage.turn(nine(), &stage.lease(nine()).await, LONG);
    turn.deadline = Deadline::after(Duration::from_millis(500));
    let result = stage.run(&turn).await.unwrap();
    assert_eq!((result.forgotten, result.failed), (0, 3), "{result:?}");
    stage.files.controls.faults.remove(held);
    let next = stage.sweep(nine() + hours(1)).await;
    assert_eq!((next.forgotten, next.failed), (3, 0), "{next:?}");
}

#[tokio::test]
async fn tombstones_are_taken_away_more_than_two_at_a_time() {
    let stage = Stage::new();
    let ann = user();
    let mut shard = None;
    let mut deleted = 0;
    while deleted < 3 {
        // Shards are worked off one after the other.
        let upload = stage.sent(&ann).await;
        let own = SweepShard::of(&upload.upload_id);
        if *shard.get_or_insert(own) == own {
            stage.uploads().delete(&ann, &upload.upload_id, Deadline::after(LONG)).await.unwrap();
            deleted += 1;
        } else {
            // As if it had never been.
            let row = stage.store.client.delete_item().table_name("UploadsTable");
            row.set_key(Some(key(&ann, &upload.upload_id))).send().await.unwrap();
        }
    }
    stage.a_day_later();
    let faults = &stage.files.controls.faults;
    // Two deletions for each.
    let held = faults.add(Rule::hold(When::Before).operation("DeleteObject"));
    let turn = stage.turn(nine(), &stage.lease(nine()).await, LONG);
    let release = async {
        assert!(faults.until_held(held, 6).await);
        faults.release(held);
    };
    let (result, ()) = futures::join!(stage.run(&turn), release);
    assert_eq!(result.unwrap().forgotten, 3);
}

#[tokio::test]
async fn conflicts_with_other_transactions_are_tried_again() {
    let stage = Stage::new();
    let ann = user();
    for _ in 0..4 {
        stage.sent(&ann).await;
    }
    stage.a_day_later();
    let conflict = Effect::Error { failure: Failure::TransactionConflict { positions: vec![1] } };
    stage.store.embedded.faults().add(Rule::new(conflict).operation("TransactWriteItems").times(5));
    let result = stage.sweep(nine()).await;
    assert_eq!((result.expired, result.contended), (4, 0), "{result:?}");
    let conflict = Effect::Error { failure: Failure::TransactionConflict { positions: vec![1] } };
    stage.store.embedded.faults().add(Rule::new(conflict).operation("TransactWriteItems").times(5));
    let result = stage.sweep(nine() + hours(2)).await;
    assert_eq!((result.forgotten, result.contended), (4, 0), "{result:?}");
    assert_eq!(stage.taken(&ann).await, (0, 0));
}
