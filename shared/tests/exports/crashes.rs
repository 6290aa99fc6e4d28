//! Workers that die, at every request that they make, before it and after it.

use local_region::services::faults::{Rule, When};
use sojourn::core::ids::{ExportId, OrderId};

use crate::stage::{At, Stage, hold};

/// A rule about each of the requests that `rule` matches, in turn: hold it before its effect, and
/// after it.
fn every(at: At, operation: Option<&'static str>) -> impl Iterator<Item = (At, Rule)> {
    (0..).flat_map(move |skip| {
        [When::Before, When::After].map(|when| {
            let rule = hold(when).skip(skip);
            (at, operation.into_iter().fold(rule, Rule::operation))
        })
    })
}

/// So many workers die at each of those requests, one after the other, and one more ends the
/// export. Tells how many died.
async fn die_at_each(
    stage: &Stage,
    orders: &[OrderId],
    requests: impl Iterator<Item = (At, Rule)>,
    deaths: usize,
) -> usize {
    let mut crashes = 0;
    for (at, rule) in requests {
        let id = stage.request().await;
        let mut progress = stage.row(&id).await.progress;
        let mut died = 0;
        while died < deaths && stage.crash(&id, at, rule.clone()).await {
            died += 1;
            let now = stage.row(&id).await.progress;
            assert!(progress.percent <= now.percent && progress.rows <= now.rows, "{progress:?} to {now:?}");
            progress = now;
            stage.past_the_lease();
        }
        if died == 0 {
            stage.assert_ready(&id, orders).await;
            break;
        }
        crashes += died;
        stage.finish(&id).await;
        stage.assert_ready(&id, orders).await;
    }
    crashes
}

/// Each run dies a little later than the one before, until one does not. Tells how many died.
async fn die_later_and_later(stage: &Stage, id: &ExportId, at: At, when: When, first: u64) -> usize {
    let mut died = 0;
    let mut progress = stage.row(id).await.progress;
    for skip in first.. {
        stage.past_the_lease();
        let crashed = stage.crash(id, at, hold(when).skip(skip)).await;
        let now = stage.row(id).await.progress;
        assert!(progress.percent <= now.percent && progress.rows <= now.rows, "{progress:?} to {now:?}");
        progress = now;
        if !crashed {
            return died;
        }
        died += 1;
    }
    unreachable!("some run makes fewer requests than that");
}

#[tokio::test]
async fn whichever_requests_workers_die_at_there_is_one_result_and_progress_never_falls() {
    let stage = Stage::open();
    let orders = stage.orders(5, 10).await;
    let mut crashes = 0;
    for at in [At::DynamoDb, At::S3] {
        for deaths in [1, 3] {
            crashes += die_at_each(&stage, &orders, every(at, None), deaths).await;
        }
    }
    for first in 0..8 {
        for (at, when) in
            [At::DynamoDb, At::S3].into_iter().flat_map(|at| [When::Before, When::After].map(|w| (at, w)))
        {
            let id = stage.request().await;
            crashes += die_later_and_later(&stage, &id, at, when, first).await;
            stage.assert_ready(&id, &orders).await;
        }
    }
    assert!(crashes >= 100, "{crashes} workers have died");
}

#[tokio::test]
async fn a_worker_that_dies_in_the_middle_of_a_large_file_is_gone_on_from_where_it_was() {
    let stage = Stage::open_with_small_parts();
    // Two parts.
    let orders = stage.orders_of_two_pages().await;
    let written = die_at_each(&stage, &orders, every(At::DynamoDb, Some("TransactWriteItems")), 1).await;
    assert!(written >= 2 * 4, "begun, two parts, ready, each before and after: not {written}");
    let stored = die_at_each(&stage, &orders, every(At::S3, None), 1).await;
    assert_eq!(stored, 2 * 4, "begun, two parts, completed, each before and after");
}
