//! What an export comes to.

use serde_json::json;

use crate::stage::Stage;

#[tokio::test]
async fn an_export_has_the_orders_of_its_period_and_its_customer_and_no_others() {
    let mut stage = Stage::open();
    let inside = [
        stage.order("2026-11-01T00:00:00.000Z", json!({"status": "PAID"})).await,
        stage.order("2026-11-04T12:00:00.000Z", json!({"status": "CANCELLED"})).await,
        stage.order("2026-11-07T23:59:59.999Z", json!({})).await,
    ];
    stage.order("2026-10-31T23:59:59.999Z", json!({})).await;
    stage.order("2026-11-08T00:00:00.000Z", json!({})).await;
    let owner = std::mem::replace(&mut stage.customer, sojourn::ids::random().next());
    stage.order("2026-11-04T12:00:00.000Z", json!({})).await;
    stage.customer = owner;

    let id = stage.request().await;
    stage.take(&id).await.unwrap();
    stage.assert_ready(&id, &inside).await;
    let file = stage.file(&id).await;
    let [first, ..] = &inside;
    let line = format!("{first},2026-11-01T00:00:00.000Z,PAID,local,TWD,258,2,tea*2@129\r\n");
    assert!(file.contains(&line), "{file}");
}
