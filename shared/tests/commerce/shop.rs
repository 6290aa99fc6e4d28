//! A shop to test in: the library's adapters wired as the functions wire them, and a clock that
//! stands still.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sojourn::commerce::cancellation::{CancelOrder, Cancellations};
use sojourn::commerce::carts::dynamo::Carts;
use sojourn::commerce::carts::{Cart, CartDraft, CartError, Replacement};
use sojourn::commerce::catalog::cached::Catalog;
use sojourn::commerce::catalog::dynamo::{AdjustStock, DynamoCatalog, StockTables};
use sojourn::commerce::catalog::{ProductDraft, StockChange};
use sojourn::commerce::orders::dynamo::{Checkout, DynamoOrders, OrderWrites, PlaceOrder};
use sojourn::commerce::orders::{Order, OrderStatus, UnpaidLimits, order_id_of};
use sojourn::commerce::payments::sandbox::SandboxProvider;
use sojourn::commerce::payments::{PaymentProvider, PaymentRequest, Payments};
use sojourn::coordination::idempotency::KeyedRequest;
use sojourn::coordination::idempotency::dynamo::KeyedRequests;
use sojourn::core::clock::{Clock, ManualClock};
use sojourn::core::deadline::Deadline;
use sojourn::core::env::Env;
use sojourn::core::ids::{OrderId, ProductId, SharedIds, UserId};
use sojourn::core::precondition::Preconditions;
use sojourn::core::problem::{Problem, ProblemType};
use sojourn::core::reply::Reply;
use sojourn::edge::answers;
use sojourn::identity::principal::Credential;
use sojourn::identity::sign_in::SessionStarter;
use sojourn::identity::tokens::TokenVerifier;
use sojourn::platform::cache::Cache;
use sojourn::platform::dynamo::{Item, text};
use sojourn_testing::sign_ins::new_user;
use sojourn_testing::{Fixture, Regions, Store};

/// More than any test needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client gets: an answer, or a problem.
pub(crate) type Answer = Result<Reply, Problem>;

/// A customer who is signed in.
#[derive(Clone)]
pub(crate) struct Customer {
    pub(crate) credential: Credential,
    user_id: UserId,
}

impl Customer {
    pub(crate) fn user_id(&self) -> &UserId {
        &self.user_id
    }
}

pub(crate) struct Shop {
    pub(crate) store: Store,
    ledger: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ids: SharedIds,
    pub(crate) orders: DynamoOrders,
    pub(crate) catalog: Catalog,
    pub(crate) carts: Carts,
    env: Env,
    requests: KeyedRequests,
    checkout: Checkout,
    writes: OrderWrites,
    stock: StockTables,
    sessions: SessionStarter,
    verifier: TokenVerifier,
}

impl Shop {
    /// A shop whose customers may leave as much unpaid as a test needs.
    pub(crate) fn open() -> Self {
        Self::with_limits(UnpaidLimits { orders: 1_000, units: 100_000 })
    }

    pub(crate) fn with_limits(limits: UnpaidLimits) -> Self {
        let store = Store::start();
        Self::on(store.clone(), store, limits)
    }

    /// The shop of the region that has this store. The payment provider keeps its ledger in another
    /// one: all regions have one provider.
    pub(crate) fn on(store: Store, ledger: Store, limits: UnpaidLimits) -> Self {
        let variables = [
            ("UNPAID_ORDERS_PER_CUSTOMER".to_owned(), limits.orders.to_string()),
            ("RESERVED_UNITS_PER_CUSTOMER".to_owned(), limits.units.to_string()),
        ];
        let fixture = Fixture::on(store, variables);
        let starter = fixture.session_starter(fixture.clock.clone());
        let Fixture { store, env, clock, ids, .. } = fixture;
        let client = store.client.clone();
        let writes = OrderWrites::from_env(&env).unwrap();
        Self {
            carts: Carts::from_env(client.clone(), &env, clock.clone(), ids.clone()).unwrap(),
            checkout: Checkout::from_env(client.clone(), &env, writes.clone()).unwrap(),
            orders: DynamoOrders::from_env(client.clone(), &env).unwrap(),
            catalog: Catalog::new(
                DynamoCatalog::from_env(client.clone(), &env).unwrap(),
                Cache::none(clock.clone()),
            ),
            requests: KeyedRequests::from_env(client.clone(), &env, clock.clone()).unwrap(),
            writes,
            stock: StockTables::from_env(&env).unwrap(),
            // Tests let more than a day pass between two requests.
            sessions: SessionStarter { idle_timeout: "720".parse().unwrap(), ..starter },
            verifier: TokenVerifier::from_env(&env, clock.clone()).unwrap(),
            store,
            ledger,
            clock,
            ids,
            env,
        }
    }

    /// A shop in each of these regions, with one payment provider for all.
    pub(crate) fn in_each(regions: &Regions) -> BTreeMap<&'static str, Self> {
        let ledger = Store::start();
        let limits = UnpaidLimits { orders: 1_000, units: 100_000 };
        let shop = |region| (region, Self::on(regions.store(region).clone(), ledger.clone(), limits));
        regions.names().map(shop).collect()
    }

    /// A new customer, signed in.
    pub(crate) async fn customer(&self) -> Customer {
        let user = new_user(self.clock.now());
        let signed_in = self.sessions.start(&user, None).await.unwrap();
        let credential = self.verifier.verify(signed_in.access.text.expose()).unwrap();
        Customer { credential, user_id: user.id }
    }

    /// Puts a product on sale, with units here.
    pub(crate) async fn sell(&self, product_id: &str, price: u64, units: i64) {
        let draft = json!({"name": "Thing", "price": {"amount": price, "currency": "TWD"}});
        let draft: ProductDraft = serde_json::from_value(draft).unwrap();
        self.catalog.put(&product_id.parse().unwrap(), &draft, self.clock.now()).await.unwrap();
        let operator = self.customer().await;
        self.adjust(&operator, "first-units", product_id, units).await.unwrap();
    }

    pub(crate) async fn adjust(&self, caller: &Customer, key: &str, product_id: &str, units: i64) -> Answer {
        let product_id: ProductId = product_id.parse().unwrap();
        let body = json!({"delta": units});
        let StockChange { delta } = serde_json::from_value(body.clone()).unwrap();
        let payload = json!({"productId": product_id, "body": body});
        let request = KeyedRequest::new("adjust-stock", &caller.credential, key.parse().unwrap(), &payload);
        let effect =
            AdjustStock { tables: &self.stock, product_id: &product_id, delta, event_id: self.ids.next() };
        let answer = answers::to(answers::adjusted);
        Ok(self
            .requests
            .run(&caller.credential, &request, &effect, answer, Deadline::after(PATIENCE))
            .await?)
    }

    pub(crate) async fn place(&self, caller: &Customer, key: &str, lines: &[(&str, u32)]) -> Answer {
        self.place_within(PATIENCE, caller, key, lines).await
    }

    pub(crate) async fn place_within(
        &self,
        patience: Duration,
        caller: &Customer,
        key: &str,
        lines: &[(&str, u32)],
    ) -> Answer {
        self.place_body(patience, caller, key, json!({"lines": lines_of(lines)})).await
    }

    /// Places an order of what is in the cart.
    pub(crate) async fn place_cart(&self, caller: &Customer, key: &str) -> Answer {
        self.place_body(PATIENCE, caller, key, json!({"fromCart": true})).await
    }

    async fn place_body(&self, patience: Duration, caller: &Customer, key: &str, body: Value) -> Answer {
        let request = KeyedRequest::new("place-order", &caller.credential, key.parse().unwrap(), &body);
        let deadline = Deadline::after(patience);
        let effect = PlaceOrder {
            checkout: &self.checkout,
            order_id: order_id_of(&request),
            request: &serde_json::from_value(body).unwrap(),
            deadline,
        };
        let answer = answers::to(answers::placed);
        Ok(self.requests.run(&caller.credential, &request, &effect, answer, deadline).await?)
    }

    pub(crate) async fn cart(&self, customer: &Customer) -> Cart {
        self.carts
            .cart(customer.user_id())
            .alone(&self.store.client, Deadline::after(PATIENCE))
            .await
            .unwrap()
    }

    /// Reads the cart and replaces it, as `PUT /cart` does.
    pub(crate) async fn put_cart(
        &self,
        customer: &Customer,
        lines: &[(&str, u32)],
        if_match: Option<&str>,
    ) -> Result<Cart, CartError> {
        let seen = self.cart(customer).await;
        self.put_cart_on(seen, customer, lines, if_match).await
    }

    /// Replaces a cart that was read before.
    pub(crate) async fn put_cart_on(
        &self,
        seen: Cart,
        customer: &Customer,
        lines: &[(&str, u32)],
        if_match: Option<&str>,
    ) -> Result<Cart, CartError> {
        let CartDraft { lines } = serde_json::from_value(json!({"lines": lines_of(lines)})).unwrap();
        let preconditions = Preconditions::from_headers(if_match, None).unwrap();
        let replacement = Replacement { lines, preconditions };
        self.carts.replace(customer.user_id(), seen, replacement, Deadline::after(PATIENCE)).await
    }

    /// Places an order that must succeed.
    pub(crate) async fn placed(&self, caller: &Customer, lines: &[(&str, u32)]) -> OrderId {
        let key: OrderId = self.ids.next();
        order_id(&self.place(caller, key.as_str(), lines).await.unwrap())
    }

    pub(crate) fn sandbox(&self) -> SandboxProvider {
        SandboxProvider::with_ledger(self.ledger.client.clone().into(), &self.env, self.ids.clone()).unwrap()
    }

    pub(crate) async fn pay(&self, caller: &Customer, key: &str, order_id: &OrderId, token: &str) -> Answer {
        self.pay_by(self.sandbox(), caller, key, order_id, token).await
    }

    pub(crate) async fn pay_by(
        &self,
        provider: impl PaymentProvider,
        caller: &Customer,
        key: &str,
        order_id: &OrderId,
        token: &str,
    ) -> Answer {
        let client = self.store.client.clone();
        let (requests, writes) = (self.requests.clone(), self.writes.clone());
        let payments =
            Payments::new(client, requests, writes, provider, self.clock.clone(), self.ids.clone());
        let body = json!({"paymentToken": token});
        let payload = json!({"orderId": order_id, "body": body});
        let request = KeyedRequest::new("pay-order", &caller.credential, key.parse().unwrap(), &payload);
        let PaymentRequest { payment_token } = serde_json::from_value(body).unwrap();
        let (answer, deadline) = (answers::to(answers::captured), Deadline::after(PATIENCE));
        let work = payments.pay(&caller.credential, &request, order_id, &payment_token, answer, deadline);
        Ok(Box::pin(work).await?)
    }

    pub(crate) async fn cancel(&self, caller: &Customer, key: &str, order_id: &OrderId) -> Answer {
        let cancellations = self.cancellations();
        let payload = json!({"orderId": order_id});
        let request = KeyedRequest::new("cancel-order", &caller.credential, key.parse().unwrap(), &payload);
        let deadline = Deadline::after(PATIENCE);
        let effect = CancelOrder::new(&cancellations, order_id, deadline);
        let answer = answers::to(answers::cancelled);
        Ok(Box::pin(self.requests.run(&caller.credential, &request, &effect, answer, deadline)).await?)
    }

    pub(crate) fn cancellations(&self) -> Cancellations<SandboxProvider> {
        let client = self.store.client.clone();
        Cancellations::from_env(client, &self.env, self.sandbox(), self.clock.clone()).unwrap()
    }

    pub(crate) async fn order_if_any(&self, caller: &Customer, order_id: &OrderId) -> Option<Order> {
        let read = self.orders.order(caller.user_id(), order_id);
        read.alone(&self.store.client, Deadline::after(PATIENCE)).await.unwrap()
    }

    pub(crate) async fn order(&self, caller: &Customer, order_id: &OrderId) -> Order {
        self.order_if_any(caller, order_id).await.unwrap()
    }

    pub(crate) async fn status(&self, caller: &Customer, order_id: &OrderId) -> OrderStatus {
        self.order(caller, order_id).await.status
    }

    pub(crate) async fn available(&self, product_id: &str) -> u64 {
        self.catalog.available(&product_id.parse().unwrap()).await.unwrap()
    }

    /// All rows of a table.
    pub(crate) async fn rows(&self, table: &str) -> Vec<Item> {
        self.rows_of(&self.store, table).await
    }

    async fn rows_of(&self, store: &Store, table: &str) -> Vec<Item> {
        store.client.scan().table_name(table).into_paginator().items().send().try_collect().await.unwrap()
    }

    /// All rows that are orders.
    pub(crate) async fn order_rows(&self) -> Vec<Item> {
        let rows = self.rows("OrdersTable").await;
        rows.into_iter().filter(|row| row.contains_key("customerId")).collect()
    }

    /// How many orders of a customer await payment, and how many units they reserve, by the row
    /// that counts them.
    pub(crate) async fn unpaid(&self, caller: &Customer) -> (i64, i64) {
        let key = format!("{}#unpaid#{}", caller.user_id(), self.store.region());
        let row = self.store.client.get_item().table_name("OrdersTable").key("orderId", text(key));
        let row = row.send().await.unwrap().item.unwrap_or_default();
        let count = |name: &str| row.get(name).map_or(0, |count| count.as_n().unwrap().parse().unwrap());
        (count("unpaidOrders"), count("reservedUnits"))
    }

    /// How many events of a type there are about something.
    pub(crate) async fn events(&self, kind: &str, subject: &str) -> usize {
        let is = |row: &Item, name: &str, text: &str| row[name].as_s().unwrap() == text;
        let rows = self.rows("OutboxTable").await;
        rows.iter().filter(|row| is(row, "type", kind) && is(row, "subject", subject)).count()
    }

    /// How often the provider charged an order.
    pub(crate) async fn charges(&self, order_id: &OrderId) -> u32 {
        let of_order =
            |row: &Item| row.get("orderId").is_some_and(|id| id.as_s().unwrap() == order_id.as_str());
        let rows = self.rows_of(&self.ledger, "PaymentLedgerTable").await;
        rows.iter()
            .filter(|row| of_order(row))
            .map(|row| row["charges"].as_n().unwrap().parse::<u32>().unwrap())
            .sum()
    }
}

pub(crate) fn lines_of(lines: &[(&str, u32)]) -> Value {
    lines.iter().map(|(id, n)| json!({"productId": id, "quantity": n})).collect()
}

pub(crate) fn order_id(reply: &Reply) -> OrderId {
    member(reply, "orderId").as_str().unwrap().parse().unwrap()
}

pub(crate) fn member<'a>(reply: &'a Reply, name: &str) -> &'a Value {
    &reply.body.as_ref().unwrap()[name]
}

pub(crate) fn kind(answer: Answer) -> ProblemType {
    match answer {
        Ok(reply) => panic!("not refused: {reply:?}"),
        Err(problem) => problem.kind,
    }
}

/// Whether an answer is a stored one.
pub(crate) fn is_replay(reply: &Reply) -> bool {
    reply.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
}
