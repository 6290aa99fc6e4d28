//! The order clean-up on an embedded DynamoDB: stock comes back exactly once, whatever happens to
//! the run.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::Either;
use jiff::Timestamp;
use local_region::services::faults::{Effect, Failure, Rule, When};
use serde_json::{Value, json};
use sojourn::commerce::cancellation::Cancellations;
use sojourn::commerce::cancellation::cleanup::{self, CleanupResult};
use sojourn::commerce::orders::{DayShard, PendingShard};
use sojourn::commerce::payments::sandbox::SandboxProvider;
use sojourn::coordination::backlog::{BacklogError, JobRun};
use sojourn::coordination::lock::{AcquireOutcome, DynamoLocks, JobSlot, Lease, LeaseSettings};
use sojourn::core::clock::ManualClock;
use sojourn::core::date_time::rfc3339;
use sojourn::core::deadline::Deadline;
use sojourn::core::env::Env;
use sojourn::core::ids::{self, OrderId, UserId};
use sojourn::core::json::Plain;
use sojourn::platform::dynamo::{AttributeValue, DynamoError, Guard, number, text};
use sojourn_testing::{Fixture, Store};

const STOCK: u32 = 1_000;
const UNITS: u32 = 2;

struct Stage {
    store: Store,
    clock: Arc<ManualClock>,
    env: Env,
}

fn now() -> Timestamp {
    "2026-11-20T09:00:00Z".parse().unwrap()
}

impl Stage {
    /// A shop with one product, and `orders` orders that were placed two days ago and never paid.
    async fn with_unpaid(orders: usize) -> (Self, Vec<OrderId>) {
        let Fixture { store, env, .. } = Fixture::start();
        let stage = Self { store, clock: ManualClock::at(now()), env };
        let taken = UNITS * u32::try_from(orders).unwrap();
        stage
            .put("StockTable", json!({"productId": "tea", "region": "local", "available": STOCK - taken}))
            .await;
        let mut placed = Vec::new();
        for _ in 0..orders {
            placed.push(stage.place(now() - Duration::from_hours(48), "PENDING_PAYMENT").await);
        }
        (stage, placed)
    }

    async fn place(&self, at: Timestamp, status: &str) -> OrderId {
        let order_id: OrderId = ids::random().next();
        let customer_id: UserId = ids::random().next();
        self.put(
            "OrdersTable",
            json!({
                "orderId": order_id,
                "customerId": customer_id,
                "status": status,
                "lines": [{"productId": "tea", "quantity": UNITS, "unitPrice": {"amount": 50, "currency": "TWD"}}],
                "total": {"amount": 100, "currency": "TWD"},
                "region": "local",
                "createdAt": rfc3339(at),
                "updatedAt": rfc3339(at),
                "version": 1,
                "paymentGeneration": 0,
                "dayShard": DayShard::of(&order_id, at).to_string(),
                "reservedUnits": UNITS,
            }),
        )
        .await;
        let mut reservation = json!({
            "orderId": format!("{order_id}#reserved#local"),
            "customer": customer_id,
            "lines": [{"productId": "tea", "quantity": UNITS}],
            "createdAt": rfc3339(at),
            "pendingShard": PendingShard::of(&order_id).key("local"),
        });
        if status == "PENDING_PAYMENT" {
            reservation["unpaidUnits"] = UNITS.into();
        }
        self.put("OrdersTable", reservation).await;
        order_id
    }

    /// With orders older than all others, whose rows cannot be read.
    async fn with_poisoned(self, orders: usize) -> (Self, Vec<OrderId>) {
        let mut placed = Vec::new();
        for _ in 0..orders {
            let id = self.place(now() - Duration::from_hours(72), "PENDING_PAYMENT").await;
            self.set_version(&id, text("unreadable")).await;
            placed.push(id);
        }
        (self, placed)
    }

    async fn heal(&self, order_id: &OrderId) {
        self.set_version(order_id, number(1)).await;
    }

    async fn set_version(&self, order_id: &OrderId, version: AttributeValue) {
        let update = self.store.client.update_item().table_name("OrdersTable");
        let update =
            update.key("orderId", text(order_id.as_str())).update_expression("SET version = :version");
        update.expression_attribute_values(":version", version).send().await.unwrap();
    }

    async fn put(&self, table: &str, item: Value) {
        let item = serde_dynamo::to_item(Plain(&item)).unwrap();
        self.store.client.put_item().table_name(table).set_item(Some(item)).send().await.unwrap();
    }

    fn locks(&self) -> DynamoLocks {
        let client = self.store.client.clone();
        DynamoLocks::new(client, "LocksTable", "local", self.clock.clone(), LeaseSettings::JOBS)
    }

    async fn lease(&self) -> Lease {
        match self.locks().acquire(slot().lock_name(), &ids::random().next()).await.unwrap() {
            AcquireOutcome::Acquired(lease) => lease,
            other => panic!("not acquired but {other:?}"),
        }
    }

    fn turn(&self, lease: &Lease, time: Duration) -> JobRun<Guard> {
        self.turn_of(&slot(), lease, time)
    }

    /// The turn of the next hour's slot.
    fn next_turn(&self, lease: &Lease) -> JobRun<Guard> {
        let slot = JobSlot::of_second("order-cleanup", now() + Duration::from_hours(1));
        self.turn_of(&slot, lease, LONG)
    }

    fn turn_of(&self, slot: &JobSlot, lease: &Lease, time: Duration) -> JobRun<Guard> {
        let guard = self.locks().guard(lease).unwrap();
        // The run stops ten seconds before its deadline.
        let deadline = Deadline::after(time + Duration::from_secs(10));
        JobRun::of_slot(slot, deadline, guard)
    }

    async fn run(&self, turn: &JobRun<Guard>) -> Result<CleanupResult, BacklogError<DynamoError>> {
        let client = self.store.client.clone();
        let provider = SandboxProvider::with_ledger(client.clone().into(), &self.env, ids::random()).unwrap();
        let cancellations = Cancellations::from_env(client, &self.env, provider, self.clock.clone()).unwrap();
        cleanup::run(&cancellations, &["local".to_owned()], "24".parse().unwrap(), turn).await
    }

    async fn available(&self) -> u32 {
        let stock = self.store.client.get_item().table_name("StockTable");
        let stock = stock.key("productId", text("tea")).key("region", text("local")).send().await.unwrap();
        stock.item.unwrap()["available"].as_n().unwrap().parse().unwrap()
    }

    async fn status(&self, order_id: &OrderId) -> String {
        let order = self.store.client.get_item().table_name("OrdersTable");
        let order = order.key("orderId", text(order_id.as_str())).send().await.unwrap().item.unwrap();
        order["status"].as_s().unwrap().clone()
    }

    async fn cancelled_events(&self) -> usize {
        let events = self.store.client.scan().table_name("OutboxTable").send().await.unwrap();
        events.items().len()
    }
}

fn slot() -> JobSlot {
    JobSlot::of_second("order-cleanup", now())
}

const LONG: Duration = Duration::from_mins(1);

#[tokio::test]
async fn stale_unpaid_orders_are_cancelled_and_no_others() {
    let (stage, old) = Stage::with_unpaid(30).await;
    let young = stage.place(now() - Duration::from_hours(23), "PENDING_PAYMENT").await;
    let paid = stage.place(now() - Duration::from_hours(48), "PAID").await;
    let lease = stage.lease().await;
    let result = stage.run(&stage.turn(&lease, LONG)).await.unwrap();
    assert_eq!((result.expired, result.ended_before, result.failed, result.remaining), (30, 1, 0, false));
    for order in &old {
        assert_eq!(stage.status(order).await, "CANCELLED");
    }
    assert_eq!(stage.status(&young).await, "PENDING_PAYMENT");
    assert_eq!(stage.status(&paid).await, "PAID");
    assert_eq!(stage.available().await, STOCK);
    assert_eq!(stage.cancelled_events().await, 30);
}

#[tokio::test]
async fn two_runs_at_the_same_time_give_the_stock_back_once() {
    let (stage, _) = Stage::with_unpaid(60).await;
    let lease = stage.lease().await;
    // Two slots' runs beside each other: each has its own lock, so neither guard keeps the other
    // out.
    let other_slot = JobSlot::of_second("order-cleanup", now() - Duration::from_hours(1));
    let AcquireOutcome::Acquired(other) =
        stage.locks().acquire(other_slot.lock_name(), &ids::random().next()).await.unwrap()
    else {
        panic!("the other slot is not free");
    };
    let (one, two) = (stage.turn(&lease, LONG), stage.turn(&other, LONG));
    let (one, two) = futures::join!(stage.run(&one), stage.run(&two));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.expired + two.expired, 60, "{one:?} {two:?}");
    assert_eq!(stage.available().await, STOCK);
    assert_eq!(stage.cancelled_events().await, 60);
}

#[tokio::test]
async fn a_run_cut_off_in_the_middle_is_continued_by_the_next_without_doing_anything_twice() {
    let (stage, _) = Stage::with_unpaid(60).await;
    let lease = stage.lease().await;
    // The process dies while its 21st transaction is on its way: done, and nobody hears of it.
    let faults = stage.store.embedded.faults();
    let rule = faults.add(Rule::hold(When::After).operation("TransactWriteItems").skip(20).times(1));
    let turn = stage.turn(&lease, LONG);
    tokio::select! {
        run = stage.run(&turn) => panic!("nothing was cut off: {run:?}"),
        is_held = faults.until_held(rule, 1) => assert!(is_held),
    }
    let before = stage.available().await;
    assert!((STOCK - 120 + 1..STOCK).contains(&before), "{before} units: not in the middle");
    faults.clear();
    stage.clock.advance(LeaseSettings::JOBS.lease + LeaseSettings::JOBS.clock_skew + Duration::from_secs(1));
    let successor = stage.lease().await;
    stage.run(&stage.turn(&successor, LONG)).await.unwrap();
    assert_eq!(stage.available().await, STOCK);
    assert_eq!(stage.cancelled_events().await, 60);
}

#[tokio::test]
async fn a_run_that_was_overtaken_changes_nothing() {
    let (stage, orders) = Stage::with_unpaid(3).await;
    let paused = stage.lease().await;
    stage.clock.advance(LeaseSettings::JOBS.lease + LeaseSettings::JOBS.clock_skew + Duration::from_secs(1));
    stage.lease().await;
    let ended = stage.run(&stage.turn(&paused, LONG)).await;
    assert!(matches!(ended, Err(BacklogError::Overtaken)), "{ended:?}");
    for order in &orders {
        assert_eq!(stage.status(order).await, "PENDING_PAYMENT");
    }
    assert_eq!(stage.available().await, STOCK - 3 * UNITS);
}

#[tokio::test]
async fn a_run_stops_before_its_deadline_and_says_that_work_remains() {
    let (stage, _) = Stage::with_unpaid(20).await;
    stage.store.embedded.faults().add(Rule::delay(40).operation("TransactWriteItems"));
    let lease = stage.lease().await;
    let result = stage.run(&stage.turn(&lease, Duration::from_millis(150))).await.unwrap();
    assert!(result.remaining && (1..20).contains(&result.expired), "{result:?}");
    let expired = u32::try_from(result.expired).unwrap();
    assert_eq!(stage.available().await, STOCK - (20 - expired) * UNITS);
}

#[tokio::test]
async fn one_bad_order_does_not_stop_the_rest() {
    let (stage, orders) = Stage::with_unpaid(10).await;
    // A row that no order can be read from.
    let bad = &orders[4];
    let broken =
        stage.store.client.update_item().table_name("OrdersTable").key("orderId", text(bad.as_str()));
    broken
        .update_expression("REMOVE #lines")
        .expression_attribute_names("#lines", "lines")
        .send()
        .await
        .unwrap();
    let lease = stage.lease().await;
    let result = stage.run(&stage.turn(&lease, LONG)).await.unwrap();
    assert_eq!((result.expired, result.failed, result.remaining), (9, 1, false));
    assert_eq!(stage.available().await, STOCK - UNITS);
}

#[tokio::test]
async fn conflicts_with_other_transactions_are_tried_again() {
    let (stage, _) = Stage::with_unpaid(8).await;
    let conflict = Effect::Error { failure: Failure::TransactionConflict { positions: vec![0] } };
    stage.store.embedded.faults().add(Rule::new(conflict).operation("TransactWriteItems").times(5));
    let lease = stage.lease().await;
    let result = stage.run(&stage.turn(&lease, LONG)).await.unwrap();
    assert_eq!((result.expired, result.contended), (8, 0));
    assert_eq!(stage.available().await, STOCK);
}

#[tokio::test]
async fn slots_begin_with_different_shards() {
    let (stage, _) = Stage::with_unpaid(0).await;
    let lease = stage.lease().await;
    let guard = || stage.locks().guard(&lease).unwrap();
    let first = |hour: u64| {
        let slot = JobSlot::of_second("order-cleanup", now() + Duration::from_hours(hour));
        JobRun::of_slot(&slot, Deadline::after(LONG), guard()).first_shard % PendingShard::fresh().count()
    };
    let firsts: HashSet<usize> = (0..8).map(first).collect();
    assert_eq!(firsts.len(), PendingShard::fresh().count());
}

/// Orders that fail at the head of the backlog: more than ten pages of them.
const POISONED: usize = 1_010;

/// Enough for a run to meet all of them, on a busy machine too.
const TIME_FOR_ALL: Duration = Duration::from_mins(15);

#[tokio::test]
async fn a_thousand_orders_that_always_fail_do_not_keep_the_others_waiting() {
    let (stage, poisoned) = Stage::with_unpaid(0).await.0.with_poisoned(POISONED).await;
    let lease = stage.lease().await;
    let first = stage.run(&stage.turn(&lease, TIME_FOR_ALL)).await.unwrap();
    assert_eq!((first.expired, first.failed), (0, u64::try_from(POISONED).unwrap()));

    // They are older than these, and still behind them: the next run reads these first, and dies at
    // the one after.
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(stage.place(now() - Duration::from_hours(30), "PENDING_PAYMENT").await);
    }
    let faults = stage.store.embedded.faults();
    let held = faults.add(Rule::hold(When::Before).operation("GetItem").skip(20));
    let turn = stage.next_turn(&lease);
    let run = std::pin::pin!(stage.run(&turn));
    let met_another = std::pin::pin!(faults.until_held(held, 1));
    let died = futures::future::select(run, met_another).await;
    assert!(matches!(died, Either::Right((true, _))), "the run met nothing else");
    faults.clear();
    for order in &others {
        assert_eq!(stage.status(order).await, "CANCELLED");
    }
    for order in &poisoned {
        assert_eq!(stage.status(order).await, "PENDING_PAYMENT");
    }
}

#[tokio::test]
async fn what_failed_is_tried_again_by_a_later_run() {
    let (stage, poisoned) = Stage::with_unpaid(0).await.0.with_poisoned(3).await;
    let lease = stage.lease().await;
    assert_eq!(stage.run(&stage.turn(&lease, LONG)).await.unwrap().failed, 3);
    for order in &poisoned {
        stage.heal(order).await;
    }
    let again = stage.run(&stage.next_turn(&lease)).await.unwrap();
    assert_eq!((again.expired, again.failed), (3, 0));
}
