//! Workers that die, at every request that they make, before it and after it.

use sojourn::ids::OrderId;
use sojourn_local::services::faults::{Rule, When};

use crate::stage::{At, Stage, hold};

/// Orders that make two parts of the file.
const ORDERS: usize = 20;
/// How long each is.
const ORDER_BYTES: usize = 300_000;

async fn stage() -> (Stage, Vec<OrderId>) {
    let stage = Stage::open();
    let orders = stage.orders(ORDERS, ORDER_BYTES).await;
    (stage, orders)
}

/// A rule about each request that a run makes, of one service, in turn: hold it before its effect, and after it.
fn every_request(at: At) -> impl Iterator<Item = (At, Rule)> {
    (0..).flat_map(move |skip| [When::Before, When::After].map(|when| (at, hold(when).skip(skip))))
}

#[tokio::test]
async fn whichever_request_a_worker_dies_at_there_is_one_result_and_progress_never_falls() {
    let (stage, orders) = stage().await;
    let mut crashes = 0;
    for at in [At::DynamoDb, At::S3] {
        for (at, rule) in every_request(at) {
            let id = stage.request().await;
            if !stage.crash(&id, at, rule).await {
                stage.assert_ready(&id, &orders).await;
                break;
            }
            crashes += 1;
            let before = stage.row(&id).await.progress;
            stage.finish(&id).await;
            stage.assert_ready(&id, &orders).await;
            let after = stage.row(&id).await.progress;
            assert!(before.percent <= after.percent && before.rows <= after.rows, "{before:?} to {after:?}");
        }
    }
    assert!(crashes > 30, "a run makes some twenty requests, but it died {crashes} times only");
}

#[tokio::test]
async fn a_worker_that_dies_again_and_again_ends_with_one_result() {
    let (stage, orders) = stage().await;
    // Each run dies at a request of its own: the next one goes on from elsewhere, and dies a little later.
    for (first, step) in [(1, 1), (2, 2), (3, 1), (5, 3)] {
        let id = stage.request().await;
        let mut progress = stage.row(&id).await.progress;
        for skip in (first..).step_by(step) {
            stage.past_the_lease();
            let crashed = stage.crash(&id, At::DynamoDb, hold(When::After).skip(skip)).await;
            let now = stage.row(&id).await.progress;
            assert!(progress.percent <= now.percent && progress.rows <= now.rows, "{progress:?} to {now:?}");
            progress = now;
            if !crashed {
                break;
            }
        }
        stage.assert_ready(&id, &orders).await;
    }
}
