//! Who sends an export's message once more.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use serde_json::json;
use sojourn::coordination::idempotency::REPLAYED;
use sojourn::core::ids::{self, ExportId};
use sojourn::core::reply::Reply;
use sojourn::files::exports::dynamo::{SEND_EVERY, SendClaim};
use sojourn::files::exports::{SubmitError, submit};
use sojourn::platform::queue::{NotSent, Queue};

use crate::stage::Stage;

#[tokio::test]
async fn of_repetitions_at_once_one_sends_and_the_others_learn_whether_it_has() {
    let stage = Stage::open();
    let id = stage.request().await;
    let sends = stage.sends();
    let claims = stream::iter(0..10).map(|_| sends.claim(&id, Some("local"))).buffered(10);
    let claims: Vec<SendClaim> = claims.map(Result::unwrap).collect().await;
    assert_eq!(claims.iter().filter(|claim| **claim == SendClaim::Claimed).count(), 1, "{claims:?}");
    assert_eq!(claims.iter().filter(|claim| **claim == SendClaim::BeingSent).count(), 9, "{claims:?}");

    sends.sent(&id).await.unwrap();
    assert_eq!(sends.claim(&id, Some("local")).await.unwrap(), SendClaim::NotNeeded);
    stage.clock.advance(SEND_EVERY);
    assert_eq!(sends.claim(&id, Some("local")).await.unwrap(), SendClaim::Claimed, "one each {SEND_EVERY:?}");
}

#[tokio::test]
async fn a_claim_whose_holder_died_acknowledges_nothing_and_is_taken_over() {
    let stage = Stage::open();
    let id = stage.request().await;
    let sends = stage.sends();
    assert_eq!(sends.claim(&id, Some("local")).await.unwrap(), SendClaim::Claimed);
    stage.clock.advance(SEND_EVERY.checked_sub(Duration::from_millis(1)).unwrap());
    assert_eq!(sends.claim(&id, Some("local")).await.unwrap(), SendClaim::BeingSent);
    stage.clock.advance(Duration::from_millis(1));
    assert_eq!(sends.claim(&id, Some("local")).await.unwrap(), SendClaim::Claimed);
    assert_eq!(
        sends.claim(&id, Some("local")).await.unwrap(),
        SendClaim::BeingSent,
        "an earlier claim proves nothing"
    );
}

#[tokio::test]
async fn an_export_that_somebody_has_begun_or_that_is_gone_needs_no_message() {
    let stage = Stage::open();
    let id = stage.request().await;
    stage.finish(&id).await;
    let unknown: ExportId = ids::random().next();
    for id in [id, unknown] {
        assert_eq!(stage.sends().claim(&id, Some("local")).await.unwrap(), SendClaim::NotNeeded);
        stage.sends().sent(&id).await.unwrap();
    }
    assert_eq!(stage.store.client.scan().table_name("ExportsTable").send().await.unwrap().count(), 2);
}

#[tokio::test]
async fn an_export_of_another_region_is_sent_by_nobody_here_and_acknowledged_once_it_has_begun() {
    let stage = Stage::open();
    let id = stage.request().await;
    let elsewhere = stage.sends_in("tokyo");
    assert_eq!(elsewhere.claim(&id, Some("local")).await.unwrap(), SendClaim::Elsewhere("local".to_owned()));
    assert_eq!(
        stage.sends().claim(&id, Some("local")).await.unwrap(),
        SendClaim::Claimed,
        "nothing was claimed"
    );
    assert_eq!(elsewhere.claim(&id, Some("local")).await.unwrap(), SendClaim::Elsewhere("local".to_owned()));
    // The answer of the first request can arrive before the export does.
    let late: ExportId = ids::random().next();
    assert_eq!(
        elsewhere.claim(&late, Some("local")).await.unwrap(),
        SendClaim::Elsewhere("local".to_owned())
    );
    let answer = Reply::json(202, json!({"exportId": late, "region": "local"})).header(REPLAYED, "true");
    let refused = submit(answer, &NoQueue, &elsewhere).await.unwrap_err();
    assert!(matches!(refused, SubmitError::Elsewhere { ref region } if region == "local"), "{refused:?}");
    stage.finish(&id).await;
    assert_eq!(elsewhere.claim(&id, Some("local")).await.unwrap(), SendClaim::NotNeeded);
}

/// Takes no message.
struct NoQueue;

impl Queue for NoQueue {
    async fn send_later(&self, body: &str, _: Duration) -> Result<(), NotSent> {
        panic!("{body}")
    }
}
