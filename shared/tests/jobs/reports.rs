//! The daily report on an embedded DynamoDB and an embedded S3.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use jiff::civil::Date;
use local_region::services::faults::{Effect, Failure, Rule, When};
use serde_json::{Value, json};
use sojourn::commerce::orders::DayShard;
use sojourn::commerce::orders::dynamo::DynamoOrders;
use sojourn::commerce::reports::{self, DailyReport, Publication, ReportKeys, S3Reports};
use sojourn::coordination::lock::{FencingToken, JobSlot, Lease};
use sojourn::core::date_time::rfc3339;
use sojourn::core::deadline::Deadline;
use sojourn::core::env::Env;
use sojourn::core::ids::{self, OrderId, UserId};
use sojourn::core::json::Plain;
use sojourn_testing::{BUCKET, Files, Fixture, Store};

struct Stage {
    store: Store,
    files: Files,
    env: Env,
}

fn day() -> Date {
    Date::constant(2026, 11, 19)
}

fn now() -> Timestamp {
    "2026-11-20T02:00:03.5Z".parse().unwrap()
}

fn in_a_minute() -> Deadline {
    Deadline::after(Duration::from_mins(1))
}

/// A lease of the slot that reports on [`day`].
fn lease(fence: u64) -> Lease {
    let name = JobSlot::of_day("daily-report", now()).lock_name().clone();
    Lease { name, owner: ids::random().next(), fence: FencingToken(fence), ends_at: now() }
}

impl Stage {
    fn new() -> Self {
        let files = Files::start();
        let Fixture { store, env, .. } = Fixture::start_with(files.variables());
        Self { store, files, env }
    }

    fn client(&self) -> aws_sdk_s3::Client {
        self.files.client()
    }

    fn archive(&self) -> S3Reports {
        S3Reports::from_env(self.client(), &self.env).unwrap()
    }

    async fn compile(&self, lease: &Lease) -> DailyReport {
        let orders = DynamoOrders::from_env(self.store.client.clone(), &self.env).unwrap();
        reports::compile(&orders, day(), lease, now()).await.unwrap()
    }

    async fn publish(&self, lease: &Lease) -> Publication {
        let report = self.compile(lease).await;
        self.archive().publish(&report, in_a_minute()).await.unwrap()
    }

    async fn read(&self, key: &str) -> String {
        let object = self.client().get_object().bucket(BUCKET).key(key).send().await.unwrap();
        String::from_utf8(object.body.collect().await.unwrap().to_vec()).unwrap()
    }

    async fn latest(&self) -> Value {
        serde_json::from_str(&self.read("reports/2026-11-19/daily.json").await).unwrap()
    }

    async fn latest_csv_fence(&self) -> String {
        let csv = self.read("reports/2026-11-19/daily.csv").await;
        csv.lines().find_map(|line| line.strip_prefix("report,fence,,")).unwrap().to_owned()
    }

    /// Seeds an order as the orders table has it.
    async fn order(&self, at: &str, fields: Value) {
        let order_id: OrderId = ids::random().next();
        let customer_id: UserId = ids::random().next();
        let at: Timestamp = at.parse().unwrap();
        let mut order = json!({
            "orderId": order_id, "customerId": customer_id, "region": "local",
            "createdAt": rfc3339(at), "updatedAt": rfc3339(at), "version": 1, "paymentGeneration": 0,
            "dayShard": DayShard::of(&order_id, at).to_string(),
        });
        order.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let item = serde_dynamo::to_item(Plain(&order)).unwrap();
        self.store.client.put_item().table_name("OrdersTable").set_item(Some(item)).send().await.unwrap();
    }
}

fn sold(status: &str, product: &str, quantity: u32, amount: u64, currency: &str) -> Value {
    let price = json!({"amount": amount / u64::from(quantity), "currency": currency});
    json!({
        "status": status,
        "lines": [{"productId": product, "quantity": quantity, "unitPrice": price}],
        "total": {"amount": amount, "currency": currency},
    })
}

fn and(mut order: Value, name: &str, value: Value) -> Value {
    order[name] = value;
    order
}

fn published(publication: Publication) -> ReportKeys {
    match publication {
        Publication::Published(keys) => keys,
        Publication::Superseded { by } => panic!("superseded by {by}"),
    }
}

#[tokio::test]
async fn the_report_counts_the_orders_of_its_day_and_no_others() {
    let stage = Stage::new();
    for _ in 0..20 {
        stage.order("2026-11-19T12:00:00Z", sold("PAID", "tea", 2, 100, "TWD")).await;
    }
    stage.order("2026-11-19T00:00:00Z", sold("PAID", "cup", 3, 900, "JPY")).await;
    stage.order("2026-11-19T23:59:59.999Z", sold("PENDING_PAYMENT", "pot", 9, 900, "TWD")).await;
    let cancelled = sold("CANCELLED", "pot", 9, 900, "TWD");
    stage.order("2026-11-19T10:00:00Z", and(cancelled.clone(), "cancelReason", json!("unpaid"))).await;
    let declined = and(cancelled, "paymentGeneration", json!(2));
    stage.order("2026-11-19T11:00:00Z", and(declined, "cancelReason", json!("customer"))).await;
    stage.order("2026-11-19T12:00:00Z", json!({"status": "LOST", "lines": [], "total": 1})).await;
    stage.order("2026-11-18T23:59:59.999Z", sold("PAID", "cup", 50, 5_000, "JPY")).await;
    stage.order("2026-11-20T00:00:00Z", sold("PAID", "cup", 50, 5_000, "JPY")).await;

    let lease = lease(3);
    let report = serde_json::to_value(stage.compile(&lease).await).unwrap();
    assert_eq!(
        report,
        json!({
            "date": "2026-11-19",
            "slot": "daily-report#2026-11-20",
            "owner": lease.owner,
            "fence": 3,
            "generatedAt": "2026-11-20T02:00:03.500Z",
            "orders": {"total": 24, "byStatus": {"CANCELLED": 2, "PAID": 21, "PENDING_PAYMENT": 1}},
            "revenue": [{"amount": 900, "currency": "JPY"}, {"amount": 2_000, "currency": "TWD"}],
            "topProducts": [{"productId": "tea", "units": 40}, {"productId": "cup", "units": 3}],
            "topProductsErrorUnits": 0,
            "failures": {"cancelled": 1, "expired": 1, "declinedPayments": 2, "unreadableOrders": 1},
        })
    );
}

#[tokio::test]
async fn a_shard_of_many_pages_is_read_to_its_end() {
    let stage = Stage::new();
    // 40 orders of 60 KB are more than two pages of 1 MB.
    let padding = "x".repeat(60_000);
    for _ in 0..40 {
        stage
            .order("2026-11-19T12:00:00Z", and(sold("PAID", "tea", 1, 10, "TWD"), "note", json!(padding)))
            .await;
    }
    let report = stage.compile(&lease(1)).await;
    assert_eq!(report.orders.by_status["PAID"], 40);
    assert_eq!(report.top_products[0].units, 40);
}

#[tokio::test]
async fn a_day_without_orders_has_a_report_too() {
    let stage = Stage::new();
    let keys = published(stage.publish(&lease(1)).await);
    assert_eq!(keys.latest_json, "reports/2026-11-19/daily.json");
    assert_eq!(stage.latest().await["revenue"], json!([]));
    assert_eq!(stage.read(&keys.json).await, stage.read(&keys.latest_json).await);
    let csv = stage.read(&keys.csv).await;
    assert!(csv.starts_with("section,name,unit,value\r\nreport,date,,2026-11-19\r\n"), "{csv}");
}

#[tokio::test]
async fn a_later_run_replaces_the_report_and_an_earlier_one_does_not() {
    let stage = Stage::new();
    let (first, second) = (lease(1), lease(2));
    let early = published(stage.publish(&first).await);
    published(stage.publish(&second).await);
    assert_eq!(stage.latest().await["fence"], 2);
    assert_eq!(stage.publish(&lease(1)).await, Publication::Superseded { by: 2 });
    assert_eq!(stage.publish(&first).await, Publication::Superseded { by: 2 });
    assert_eq!(stage.latest().await["fence"], 2);
    assert_eq!(stage.latest_csv_fence().await, "2");
    let kept: Value = serde_json::from_str(&stage.read(&early.json).await).unwrap();
    assert_eq!(kept["owner"], json!(first.owner), "the run's own object was replaced");
}

/// The zombie has looked, and decided to replace what it saw; its write is held up on the way while
/// a later run publishes.
#[tokio::test]
async fn a_write_that_was_held_up_does_not_replace_a_later_report() {
    let stage = Stage::new();
    published(stage.publish(&lease(1)).await);
    // Of the zombie's puts under the plain CSV name: the first finds the object there, the second
    // replaces it.
    let replacement = Rule::hold(When::Before)
        .operation("PutObject")
        .resource(format!("{BUCKET}/reports/2026-11-19/daily.csv"))
        .skip(1)
        .times(1);
    let held = stage.files.controls.faults.add(replacement);
    let report = stage.compile(&lease(2)).await;
    let archive = stage.archive();
    let zombie = archive.publish(&report, in_a_minute());
    let successor = async {
        while stage.files.controls.faults.status(held).is_some_and(|status| status.held == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let outcome = stage.publish(&lease(3)).await;
        stage.files.controls.faults.release(held);
        outcome
    };
    let (zombie, successor) = futures::join!(zombie, successor);
    published(successor);
    assert_eq!(zombie.unwrap(), Publication::Superseded { by: 3 });
    assert_eq!(stage.latest().await["fence"], 3);
    assert_eq!(stage.latest_csv_fence().await, "3");
}

#[tokio::test]
async fn a_put_whose_answer_was_lost_counts_as_written() {
    let stage = Stage::new();
    stage.files.controls.faults.add(Rule::new(Effect::CommitThenReset).operation("PutObject").times(3));
    published(stage.publish(&lease(1)).await);
    stage.files.controls.faults.add(Rule::new(Effect::CommitThenReset).operation("PutObject").times(3));
    published(stage.publish(&lease(2)).await);
    assert_eq!(stage.latest().await["fence"], 2);
}

#[tokio::test]
async fn of_many_runs_at_once_the_last_fence_stays() {
    let stage = Stage::new();
    let leases: Vec<Lease> = (1..=6).map(lease).collect();
    let outcomes: Vec<Publication> =
        stream::iter(&leases).map(|lease| stage.publish(lease)).buffered(leases.len()).collect().await;
    assert!(matches!(outcomes[5], Publication::Published(_)), "{outcomes:?}");
    assert_eq!(stage.latest().await["fence"], 6);
    assert_eq!(stage.latest_csv_fence().await, "6");
}

#[tokio::test]
async fn a_store_that_fails_is_an_error_and_leaves_the_report_that_was_there() {
    let stage = Stage::new();
    published(stage.publish(&lease(1)).await);
    stage.files.controls.faults.add(Rule::fail(Failure::InternalServerError).operation("PutObject"));
    let report = stage.compile(&lease(2)).await;
    let error = stage.archive().publish(&report, in_a_minute()).await.unwrap_err();
    assert!(error.to_string().contains("PutObject"), "{error}");
    assert_eq!(stage.latest().await["fence"], 1);
}
