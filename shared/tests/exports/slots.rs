//! How many exports a customer may have open.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use sojourn::core::clock::Clock;
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::{self, ExportId};
use sojourn::core::problem::ProblemType;
use sojourn::files::exports::dynamo::GuardedWrite;
use sojourn::files::exports::{ExportMessage, MAX_OPEN, RETENTION};

use crate::stage::Stage;

impl Stage {
    async fn ask_for_november(&self) -> Result<ExportId, ProblemType> {
        let asked = self.ask("2026-11-01T00:00:00Z", "2026-11-08T00:00:00Z").await;
        asked.map_err(|problem| {
            assert!(problem.retry_after.is_some(), "it passes");
            problem.kind
        })
    }

    /// Asks for as many exports as may be open.
    async fn take_all_slots(&self) -> Vec<ExportId> {
        let mut open = Vec::new();
        for _ in 0..MAX_OPEN {
            open.push(self.ask_for_november().await.unwrap());
        }
        open
    }
}

#[tokio::test]
async fn one_export_too_many_is_refused_until_one_has_ended_however_it_ends() {
    let mut stage = Stage::open();
    let orders = stage.orders(2, 10).await;
    let open = stage.take_all_slots().await;
    assert_eq!(stage.ask_for_november().await, Err(ProblemType::TooManyOpenExports));
    let ann = std::mem::replace(&mut stage.customer, ids::random().next());
    stage.ask_for_november().await.unwrap();
    stage.customer = ann;

    stage.finish(&open[0]).await;
    stage.assert_ready(&open[0], &orders).await;
    stage.ask_for_november().await.unwrap();
    assert_eq!(stage.ask_for_november().await, Err(ProblemType::TooManyOpenExports));

    let message = ExportMessage { export_id: open[1].clone() };
    let minute = Deadline::after(Duration::from_mins(1));
    stage.worker().give_up(&message, stage.clock.now(), minute).await.unwrap();
    assert_eq!(stage.row(&open[1]).await.document()["status"], "FAILED");
    stage.ask_for_november().await.unwrap();
    assert_eq!(stage.ask_for_november().await, Err(ProblemType::TooManyOpenExports));
}

#[tokio::test]
async fn requests_at_once_open_no_more_than_there_may_be() {
    let stage = Stage::open();
    let asked = stream::iter(0..20).map(|_| stage.ask_for_november()).buffered(20);
    let asked: Vec<_> = asked.collect().await;
    let open: Vec<_> = asked.into_iter().filter_map(Result::ok).collect();
    assert_eq!(open.len(), usize::from(MAX_OPEN));
    let mut holders = stage.holders().await;
    holders.sort();
    let mut expected: Vec<String> = open.iter().map(ToString::to_string).collect();
    expected.sort();
    assert_eq!(holders, expected);
}

/// Nobody ever worked on them: their messages were never sent.
#[tokio::test]
async fn exports_that_expired_without_an_end_hold_no_slot_and_free_none_of_their_successors() {
    let stage = Stage::open();
    let lost = stage.take_all_slots().await;
    let lease = stage.hold_the_lock(&lost[0]).await;
    let expired = stage.row(&lost[0]).await;
    stage.clock.advance(RETENTION);
    stage.take_all_slots().await;
    let holders = stage.holders().await;
    assert!(lost.iter().all(|id| !holders.contains(&id.to_string())), "{holders:?}");

    // A worker that read the export just before it expired.
    let guard = stage.locks().guard(&lease).unwrap();
    assert_eq!(stage.rows().failed(&expired, "too late", &guard).await.unwrap(), GuardedWrite::Over);
    assert_eq!(stage.holders().await, holders);
}
