//! A customer with orders, and workers that can be stopped at any request.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};
use jiff::{SignedDuration, Timestamp};
use local_region::services::faults::{Effect, Faults, Rule, RuleId, When};
use serde_json::{Value, json};
use sojourn::commerce::orders::dynamo::DynamoOrders;
use sojourn::coordination::idempotency::dynamo::atomic::{Decision, Effect as _, Refused};
use sojourn::coordination::lock::{AcquireOutcome, DynamoLocks, Lease, LeaseSettings, Task};
use sojourn::core::clock::{Clock, ManualClock};
use sojourn::core::date_time::rfc3339;
use sojourn::core::deadline::Deadline;
use sojourn::core::env::Env;
use sojourn::core::ids::{self, ExportId, OrderId, SessionId, UserId};
use sojourn::core::json::Plain;
use sojourn::core::problem::Problem;
use sojourn::files::exports::dynamo::{self, DynamoRows, DynamoSends, ExportTables, RequestExport};
use sojourn::files::exports::run::Exporter;
use sojourn::files::exports::{
    Export, ExportMessage, ExportRequest, PART_BYTES, S3Results, WorkError, Worker,
};
use sojourn::identity::principal::Principal;
use sojourn::identity::sessions::{self, SESSION_LIFETIME, Session, SessionCookie, SessionRows};
use sojourn::platform::dynamo::{Item, Transaction, read_rows, text};
use sojourn::platform::queue::{NotSent, Queue};
use sojourn_testing::{BUCKET, Files, Fixture, Store};

/// More than any run needs.
const AMPLE: Duration = Duration::from_mins(2);

/// Which service's requests a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    DynamoDb,
    S3,
}

pub(crate) struct Stage {
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) customer: UserId,
    pub(crate) sent: Sent,
    files: Files,
    env: Env,
    part_bytes: usize,
}

/// A queue that nobody takes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent(Arc<Mutex<Vec<(String, Duration)>>>);

impl Sent {
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(body, _)| body.clone()).collect()
    }

    pub(crate) fn delays(&self) -> Vec<Duration> {
        self.0.lock().unwrap().iter().map(|(_, delay)| *delay).collect()
    }
}

impl Queue for Sent {
    async fn send_later(&self, body: &str, delay: Duration) -> Result<(), NotSent> {
        self.0.lock().unwrap().push((body.to_owned(), delay));
        Ok(())
    }
}

impl Stage {
    pub(crate) fn open() -> Self {
        let files = Files::start();
        let Fixture { store, env, clock, ids, .. } = Fixture::start_with(files.variables());
        let (customer, sent) = (ids.next(), Sent::default());
        Self { store, clock, customer, sent, files, env, part_bytes: PART_BYTES }
    }

    /// A stage where each page of orders is a part: with a few orders of
    /// [`Stage::orders_of_two_pages`], a file of two parts.
    pub(crate) fn open_with_small_parts() -> Self {
        let stage = Self { part_bytes: 1, ..Self::open() };
        stage.files.accept_small_parts();
        stage
    }

    pub(crate) fn s3(&self) -> aws_sdk_s3::Client {
        self.files.client()
    }

    /// A process of the worker: wired as the function wires it.
    pub(crate) fn worker(&self) -> Worker<Sent> {
        let (locks, clock) = (self.locks(), self.clock.clone());
        Worker::new(locks, self.exporter(), self.sent.clone(), clock, ids::random())
    }

    pub(crate) fn exporter(&self) -> Exporter {
        let (client, env, clock) = (self.store.client.clone(), &self.env, self.clock.clone());
        Exporter {
            rows: self.rows(),
            orders: DynamoOrders::from_env(client, env).unwrap(),
            results: S3Results::from_env(self.s3(), env).unwrap(),
            clock,
            ids: ids::random(),
            part_bytes: self.part_bytes,
        }
    }

    pub(crate) fn rows(&self) -> DynamoRows {
        DynamoRows::from_env(self.store.client.clone(), &self.env, self.clock.clone(), ids::random()).unwrap()
    }

    /// The stamps of another region, which has heard of all rows.
    pub(crate) fn sends_in(&self, region: &str) -> DynamoSends {
        let env = self.store.env_with(&[("AWS_REGION", region)]);
        DynamoSends::from_env(self.store.client.clone(), &env, self.clock.clone()).unwrap()
    }

    pub(crate) fn sends(&self) -> DynamoSends {
        DynamoSends::from_env(self.store.client.clone(), &self.env, self.clock.clone()).unwrap()
    }

    pub(crate) fn locks(&self) -> DynamoLocks {
        let client = self.store.client.clone();
        DynamoLocks::new(client, "LocksTable", "local", self.clock.clone(), LeaseSettings::EXPORTS)
    }

    /// Somebody has the lock of `id`.
    pub(crate) async fn hold_the_lock(&self, id: &ExportId) -> Lease {
        let asked = self.locks().acquire(Task::of_export(id).lock_name(), &ids::random().next()).await;
        let Ok(AcquireOutcome::Acquired(lease)) = asked else { panic!("nobody has it: {asked:?}") };
        lease
    }

    /// Does what a message about `id` asks for.
    pub(crate) async fn take(&self, id: &ExportId) -> Result<(), WorkError> {
        self.worker().take(&ExportMessage { export_id: id.clone() }, Deadline::after(AMPLE)).await
    }

    /// Does so again until it is done: what the queue does.
    pub(crate) async fn finish(&self, id: &ExportId) {
        for _ in 0..5 {
            self.past_the_lease();
            if self.take(id).await.is_ok() {
                return;
            }
        }
        panic!("{id} does not end: {:?}", self.take(id).await);
    }

    /// Time passes, until the lock of whoever died can be taken over.
    pub(crate) fn past_the_lease(&self) {
        let terms = LeaseSettings::EXPORTS;
        self.clock.advance(terms.lease + terms.clock_skew + Duration::from_millis(1));
    }

    /// The worker that takes `id` dies at the request that `rule` is about. Whether it came that
    /// far.
    pub(crate) async fn crash(&self, id: &ExportId, at: At, rule: Rule) -> bool {
        let rule = self.faults(at).add(rule.times(1));
        let crashed = {
            let (worker, message) = (self.worker(), ExportMessage { export_id: id.clone() });
            tokio::select! {
                biased;
                () = self.until_held(at, rule) => true,
                done = worker.take(&message, Deadline::after(AMPLE)) => { done.unwrap(); false }
            }
        };
        // What was on its way when the worker died may still arrive, or not: both are right.
        self.faults(at).remove(rule);
        crashed
    }

    pub(crate) fn faults(&self, at: At) -> &Faults {
        match at {
            At::DynamoDb => self.store.embedded.faults(),
            At::S3 => &self.files.controls.faults,
        }
    }

    pub(crate) async fn until_held(&self, at: At, rule: RuleId) {
        assert!(self.faults(at).until_held(rule, 1).await);
    }

    /// Asks for an export of the first days of November.
    pub(crate) async fn request(&self) -> ExportId {
        self.request_of("2026-11-01T00:00:00Z", "2026-11-08T00:00:00Z").await
    }

    pub(crate) async fn request_of(&self, from: &str, to: &str) -> ExportId {
        self.ask(from, to).await.unwrap()
    }

    /// Asks for an export in the transaction of a request, without its idempotency record; or is
    /// told why there is none.
    pub(crate) async fn ask(&self, from: &str, to: &str) -> Result<ExportId, Problem> {
        let body = json!({"kind": "orders", "from": from, "to": to});
        let request: ExportRequest = serde_json::from_value(body).unwrap();
        let tables = ExportTables::from_env(&self.env, ids::random()).unwrap();
        let export_id: ExportId = ids::random().next();
        let client = &self.store.client;
        let effect = RequestExport { tables: &tables, export_id: export_id.clone(), request: &request };
        let caller = self.caller();
        loop {
            let rows = read_rows(client, effect.rows(&self.customer), Deadline::after(AMPLE)).await.unwrap();
            let (export, actions) = match effect.decide(&caller, rows, self.clock.now()).await.unwrap() {
                Decision::Commit { outcome, actions } => (outcome, actions),
                Decision::Refuse(Refused::ForNow(refusal)) => return Err(refusal.into()),
                other => panic!("{other:?}"),
            };
            match actions.commit(client, export_id.as_str()).await.unwrap() {
                Transaction::Committed => return Ok(export_id),
                Transaction::Cancelled(reasons) => {
                    assert_eq!(effect.explain(&export, &reasons), None, "another slot may be free");
                }
            }
        }
    }

    /// The customer, whose session is live.
    fn caller(&self) -> Principal {
        let id: SessionId = ids::random().next();
        let cookie = SessionCookie::generate(id.clone(), self.customer.clone(), BTreeSet::new()).unwrap();
        let now = self.clock.now();
        let session = Session {
            user_id: self.customer.clone(),
            created_at: now,
            last_activity: now,
            idle_timeout: "24".parse().unwrap(),
            expires_at: now + SESSION_LIFETIME,
            region: "local".to_owned(),
            cookie_hash: cookie.hash(),
            id,
        };
        let rows = SessionRows { session: Some(session), ..SessionRows::default() };
        sessions::check(&cookie.credential(), &rows, now).unwrap()
    }

    /// All items of a partition of the exports table: an export's, or a customer's slots.
    pub(crate) async fn items(&self, hash: &str) -> Vec<Item> {
        let query = self.store.client.query().table_name("ExportsTable").consistent_read(true);
        let query = query.key_condition_expression("exportId = :hash");
        let query = query.expression_attribute_values(":hash", text(hash));
        query.send().await.unwrap().items.unwrap()
    }

    /// The exports that hold a slot of the customer.
    pub(crate) async fn holders(&self) -> Vec<String> {
        let slots = self.items(self.customer.as_str()).await;
        slots.iter().map(|slot| slot["heldBy"].as_s().unwrap().clone()).collect()
    }

    /// Places as many orders as the store reads in two pages, of 1 MB at most.
    pub(crate) async fn orders_of_two_pages(&self) -> Vec<OrderId> {
        self.orders(5, 300_000).await
    }

    /// Places so many orders of about `bytes` each, an hour apart, from the first of November on.
    pub(crate) async fn orders(&self, count: usize, bytes: usize) -> Vec<OrderId> {
        let first: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let mut placed = Vec::new();
        for n in 0..count {
            let at = first + SignedDuration::from_hours(i64::try_from(n).unwrap());
            // A long region makes a long line.
            placed.push(self.order(&rfc3339(at), json!({"region": "r".repeat(bytes)})).await);
        }
        placed
    }

    /// Places an order.
    pub(crate) async fn order(&self, at: &str, fields: Value) -> OrderId {
        let order_id: OrderId = ids::random().next();
        let price = json!({"amount": 129, "currency": "TWD"});
        let mut order = json!({
            "orderId": order_id, "customerId": self.customer, "createdAt": at, "region": "local",
            "status": "PENDING_PAYMENT", "total": {"amount": 258, "currency": "TWD"},
            "lines": [{"productId": "tea", "quantity": 2, "unitPrice": price}],
        });
        order.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let item: Item = serde_dynamo::to_item(Plain(&order)).unwrap();
        let put = PutRequest::builder().set_item(Some(item)).build().unwrap();
        let write = WriteRequest::builder().put_request(put).build();
        let batch = self.store.client.batch_write_item().request_items("OrdersTable", vec![write]);
        batch.send().await.unwrap();
        order_id
    }

    /// All orders are paid from now on: what is read before and after differs.
    pub(crate) async fn pay_all(&self, orders: &[OrderId]) {
        for order_id in orders {
            let update = self.store.client.update_item().table_name("OrdersTable");
            let update = update.key("orderId", text(order_id.as_str()));
            let update = update.update_expression("SET #status = :paid");
            let update = update.expression_attribute_names("#status", "status");
            update.expression_attribute_values(":paid", text("PAID")).send().await.unwrap();
        }
    }

    pub(crate) async fn row(&self, id: &ExportId) -> Export {
        let row = self.store.client.get_item().table_name("ExportsTable").set_key(Some(dynamo::key(id)));
        dynamo::parse(row.send().await.unwrap().item.unwrap()).unwrap()
    }

    /// The types of the events about `id` after its request, in the order of their ids.
    pub(crate) async fn events(&self, id: &ExportId) -> Vec<String> {
        let events = self.store.client.scan().table_name("OutboxTable").send().await.unwrap();
        let mut events: Vec<_> = events
            .items
            .unwrap()
            .into_iter()
            .filter(|event| event["subject"] == text(id.as_str()))
            .map(|event| (event["eventId"].as_s().unwrap().clone(), event["type"].as_s().unwrap().clone()))
            .collect();
        events.sort();
        events.into_iter().map(|(_, kind)| kind).filter(|kind| kind != "export.requested").collect()
    }

    pub(crate) async fn file(&self, id: &ExportId) -> String {
        let key = self.row(id).await.result.unwrap().result_key;
        let object = self.s3().get_object().bucket(BUCKET).key(key).send().await.unwrap();
        String::from_utf8(object.body.collect().await.unwrap().to_vec()).unwrap()
    }

    /// The export is ready, once, and has exactly these orders, each once.
    pub(crate) async fn assert_ready(&self, id: &ExportId, orders: &[OrderId]) {
        let (row, file) = (self.row(id).await, self.file(id).await);
        assert_eq!(row.document()["status"], "READY");
        assert_eq!(row.progress.percent, 100);
        assert_eq!(row.progress.rows, u64::try_from(orders.len()).unwrap());
        assert_eq!(row.result.unwrap().size_bytes, u64::try_from(file.len()).unwrap());
        assert_eq!(row.checkpoint, None);
        assert!(!self.holders().await.contains(&id.to_string()), "its slot is free again");
        let mut lines = file.split_terminator("\r\n");
        assert_eq!(lines.next(), Some("orderId,createdAt,status,region,currency,total,units,lines"));
        let listed: Vec<&str> = lines.map(|line| line.split(',').next().unwrap()).collect();
        assert_eq!(listed, orders.iter().map(OrderId::as_str).collect::<Vec<_>>());
        assert_eq!(self.events(id).await, ["export.ready"]);
    }
}

/// Holds a request.
pub(crate) fn hold(when: When) -> Rule {
    Rule::new(Effect::Hold { when })
}
