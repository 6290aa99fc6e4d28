//! An export of many orders: time from the request to the file, and the peak memory of the worker.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};
use futures::stream::{self, StreamExt};
use serde_json::json;
use sojourn::core::ids::{self, OrderId};
use sojourn::core::json::Plain;
use sojourn_tests::{Customer, TestRegion, fresh_key};

use crate::{Figures, row, section};

/// Orders of the export.
const ORDERS: usize = 100_000;
/// Most rows of a `BatchWriteItem`.
const BATCH: usize = 25;
/// Concurrent batches.
const BATCHES_AT_ONCE: usize = 4;
/// Polling interval for the export, and the longest wait.
const POLL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_mins(5);

/// Measures one export.
pub(crate) async fn measure(region: &TestRegion) -> Figures {
    section("Export", &["rows/s", "seconds", "MB of CSV", "MiB at most"]);
    let customer = region.customer().await;
    place(&region.dynamodb(), &customer).await;

    let began = Instant::now();
    let body = json!({"kind": "orders", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"});
    let asked = region.call_as(&customer, "POST", "/exports").key(&fresh_key()).json(&body).send().await;
    let path = asked.expect(202).header("location").unwrap().to_owned();
    let export = loop {
        let export = region.call_as(&customer, "GET", &path).send().await.expect(200).body;
        match export["status"].as_str().unwrap() {
            "READY" => break export,
            "FAILED" => panic!("the export failed: {export}"),
            _ => assert!(began.elapsed() < PATIENCE, "the export takes too long: {export}"),
        }
        tokio::time::sleep(POLL).await;
    };
    let seconds = began.elapsed().as_secs_f64();
    let rows = export["rows"].as_f64().unwrap();
    assert_eq!(export["rows"], json!(ORDERS), "every order is in the file");
    let file = reqwest::get(export["downloadUrl"].as_str().unwrap()).await.unwrap().bytes().await.unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let megabytes = file.len() as f64 / 1e6;
    let peak = peak_mib(region).await;
    let name = format!("{ORDERS} orders");
    row(
        &name,
        &[
            format!("{:.0}", rows / seconds),
            format!("{seconds:.1}"),
            format!("{megabytes:.1}"),
            format!("{peak:.1}"),
        ],
    );
    let figure =
        json!({"rowsPerSecond": rows / seconds, "seconds": seconds, "megabytes": megabytes, "peakMiB": peak});
    Figures::from([(name, figure)])
}

/// Puts the customer's orders into the table: placing them one by one would take minutes.
async fn place(dynamodb: &Client, customer: &Customer) {
    let first: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let batches = (0..ORDERS).collect::<Vec<_>>();
    stream::iter(batches.chunks(BATCH))
        .for_each_concurrent(BATCHES_AT_ONCE, async |batch| {
            let writes = batch.iter().map(|n| write(customer, first, *n)).collect();
            let answer =
                dynamodb.batch_write_item().request_items("OrdersTable", writes).send().await.unwrap();
            assert!(answer.unprocessed_items.unwrap_or_default().is_empty());
        })
        .await;
}

/// An order of three lines, some seconds after the one before.
fn write(customer: &Customer, first: jiff::Timestamp, n: usize) -> WriteRequest {
    let order_id: OrderId = ids::random().next();
    let at = first + Duration::from_secs(20) * u32::try_from(n).unwrap();
    let line = |product: &str| json!({"productId": product, "quantity": 2, "unitPrice": {"amount": 12_900, "currency": "TWD"}});
    let order = json!({
        "orderId": order_id, "customerId": customer.user_id, "createdAt": sojourn::core::date_time::rfc3339(at), "region": "local",
        "status": "PAID", "paidAt": sojourn::core::date_time::rfc3339(at), "total": {"amount": 77_400, "currency": "TWD"},
        "lines": [line("lamp"), line("espresso-beans-1kg"), line("desk")],
    });
    let item = serde_dynamo::to_item(Plain(&order)).unwrap();
    WriteRequest::builder().put_request(PutRequest::builder().set_item(Some(item)).build().unwrap()).build()
}

/// The peak resident memory of the worker's process, from the kernel.
async fn peak_mib(region: &TestRegion) -> f64 {
    let processes = region.processes().await;
    let worker = processes.iter().find(|process| process["function"] == "export-worker");
    let pid = worker.and_then(|process| process["pid"].as_u64()).expect("the worker has a process");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1_024.0
}
