//! Redis is down, slow, or loses everything in the middle of traffic: no session is lost, no read
//! fails, and no revocation is answered before it holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sojourn::identity::sessions::{ACTIVITY_RESOLUTION, Session, SessionStore};

use crate::stage::{SHORT, Stage, is_live, warm_up};

/// Nobody listens there.
const NOWHERE: &str = "redis://127.0.0.1:1";
/// Readers at once.
const READERS: usize = 8;
/// Far more than anything here takes, and far less than [`crate::stage::LASTING`] copies.
const PATIENCE: Duration = Duration::from_mins(1);

/// Readers that go on for as long as they live, each in a process of its own.
struct Traffic {
    reads: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    readers: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    fn of(stage: &Stage, session: &Session) -> Self {
        let (reads, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let reader = |_| {
            let (store, session) = (stage.store(), session.clone());
            let (reads, over) = (Arc::clone(&reads), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    assert!(is_live(&store, &session).await, "a live session was lost");
                    reads.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        };
        Self { readers: (0..READERS).map(reader).collect(), reads, over }
    }

    /// Waits until so many more reads have been answered.
    async fn goes_on(&self, reads: u64) {
        let goal = self.reads.load(Ordering::SeqCst) + reads;
        let reached = async {
            while self.reads.load(Ordering::SeqCst) < goal {
                assert!(!self.readers.iter().any(tokio::task::JoinHandle::is_finished), "a reader failed");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.unwrap();
    }

    async fn end(self) {
        self.over.store(true, Ordering::SeqCst);
        for reader in self.readers {
            reader.await.unwrap();
        }
    }
}

#[tokio::test]
async fn with_redis_down_from_the_start_everything_works() {
    let Some(stage) = Stage::redis_with(SHORT) else { return };
    let store = stage.store_at(NOWHERE);
    let session = stage.session(&store).await;
    for _ in 0..20 {
        assert!(is_live(&store, &session).await);
    }
    store.touch(&session.id, session.last_activity + ACTIVITY_RESOLUTION).await.unwrap();
    stage.revoke(&store, &session).await;
    assert!(!is_live(&store, &session).await);
}

#[tokio::test]
async fn traffic_goes_on_while_redis_is_paused_killed_and_restarted_empty() {
    let Some(mut stage) = Stage::redis() else { return };
    let session = stage.session(&stage.store()).await;
    let traffic = Traffic::of(&stage, &session);
    traffic.goes_on(200).await;
    stage.server().pause();
    traffic.goes_on(200).await;
    stage.server().resume();
    traffic.goes_on(200).await;
    stage.server().kill();
    traffic.goes_on(200).await;
    stage.server().restart();
    traffic.goes_on(200).await;
    traffic.end().await;
    let (writer, reader) = (stage.store(), stage.store());
    warm_up(&stage, &reader, &session).await;
    stage.revoke(&writer, &session).await;
    assert!(!is_live(&reader, &session).await);
}

/// Revokes through `writer`, and tells whether `reader` took the session for live once that was
/// answered.
async fn is_live_after_revocation(
    stage: &Stage,
    writer: &SessionStore,
    reader: &SessionStore,
    session: &Session,
) -> bool {
    tokio::time::timeout(PATIENCE, stage.revoke(writer, session)).await.unwrap();
    is_live(reader, session).await
}

#[tokio::test]
async fn a_revocation_by_somebody_who_is_cut_off_from_redis_is_answered_when_no_copy_counts() {
    let Some(stage) = Stage::redis_with(SHORT) else { return };
    let (writer, reader) = (stage.store_at(NOWHERE), stage.store());
    let session = stage.session(&writer).await;
    warm_up(&stage, &reader, &session).await;
    assert!(!is_live_after_revocation(&stage, &writer, &reader, &session).await);
}

#[tokio::test]
async fn a_raised_version_by_somebody_who_is_cut_off_from_redis_is_answered_when_no_copy_counts() {
    let Some(stage) = Stage::redis_with(SHORT) else { return };
    let (writer, reader) = (stage.store_at(NOWHERE), stage.store());
    let session = stage.session(&writer).await;
    warm_up(&stage, &reader, &session).await;
    stage.revoke_all(&writer, &session.user_id).await;
    assert!(!is_live(&reader, &session).await);
}

#[tokio::test]
async fn a_revocation_during_a_pause_holds_when_redis_goes_on() {
    let Some(mut stage) = Stage::redis_with(SHORT) else { return };
    let (writer, reader) = (stage.store(), stage.store());
    let session = stage.session(&writer).await;
    warm_up(&stage, &reader, &session).await;
    stage.server().pause();
    tokio::time::timeout(PATIENCE, stage.revoke(&writer, &session)).await.expect("it is answered");
    stage.server().resume();
    for store in [reader, stage.store()] {
        assert!(!is_live(&store, &session).await);
    }
}

#[tokio::test]
async fn a_revocation_waits_no_longer_than_redis_is_away() {
    let Some(mut stage) = Stage::redis() else { return };
    let (writer, reader) = (stage.store(), stage.store());
    let session = stage.session(&writer).await;
    warm_up(&stage, &reader, &session).await;
    stage.server().pause();
    // The copies last for minutes, so it does not wait for them.
    let revoked = is_live_after_revocation(&stage, &writer, &reader, &session);
    let back = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.redis.as_ref().unwrap().resume();
    };
    let (live, ()) = tokio::join!(revoked, back);
    assert!(!live);
}

#[tokio::test]
async fn a_revocation_that_redis_was_killed_before_is_answered_once_it_is_back_and_empty() {
    let Some(mut stage) = Stage::redis() else { return };
    let (writer, reader) = (stage.store(), stage.store());
    let session = stage.session(&writer).await;
    warm_up(&stage, &reader, &session).await;
    stage.server().kill();
    stage.commit_revocation(&session).await;
    stage.server().restart();
    assert!(!is_live_after_revocation(&stage, &writer, &reader, &session).await);
}

#[tokio::test]
async fn a_write_that_revokes_nothing_waits_for_nobody() {
    let Some(stage) = Stage::redis() else { return };
    let store = stage.store_at(NOWHERE);
    let session = stage.session(&store).await;
    let touched = store.touch(&session.id, session.last_activity + ACTIVITY_RESOLUTION);
    tokio::time::timeout(PATIENCE, touched).await.expect("it does not wait for copies to lapse").unwrap();
}
