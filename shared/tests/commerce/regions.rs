//! Orders in regions that replicate: the same request makes the same order, whoever writes an order
//! last it ends as the payment provider decided, and every unit is given back once.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use local_region::services::dynamodb::streams::Position;
use local_region::services::faults::{Effect, Rule};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sojourn::commerce::cancellation::Expiration;
use sojourn::commerce::orders::{Order, OrderStatus, PendingShard};
use sojourn::commerce::payments::CLAIM_LIFETIME;
use sojourn::commerce::payments::sandbox::SandboxProvider;
use sojourn::commerce::reconciliation::{ABANDONED_AFTER, Reconciler};
use sojourn::coordination::idempotency::RETENTION;
use sojourn::core::clock::Clock;
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::OrderId;
use sojourn::core::problem::ProblemType;
use sojourn::platform::dynamo::text;
use sojourn::platform::stream::{Change, ChangeKind};
use sojourn_testing::Regions;

use crate::shop::{Customer, Shop, is_replay, kind, member, order_id};

const TOKYO: &str = "tokyo";
const TAIWAN: &str = "taiwan";
const SINGAPORE: &str = "singapore";
const ALL: [&str; 3] = [TOKYO, SINGAPORE, TAIWAN];

/// Units of each product in each region.
const UNITS: i64 = 100;

/// Of which each order takes so many.
const ORDERED: u32 = 3;

/// Schedules of the random test.
const SCHEDULES: u64 = 200;

/// Worlds that share the schedules. Each waits for its replication most of the time.
const WORLDS: u64 = 4;

/// Worlds at the same time.
const WORLDS_AT_ONCE: usize = 4;

/// How often each reconciler hears what is new until nothing is.
const ROUNDS: usize = 3;

/// Steps of each schedule.
const STEPS: usize = 12;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// Three regions of one shop.
struct World {
    regions: Regions,
    shops: BTreeMap<&'static str, Shop>,
    /// How far each region's reconciler has read its stream.
    heard: BTreeMap<&'static str, Position>,
}

impl World {
    fn open() -> Self {
        let regions = Regions::start(ALL);
        let shops = Shop::in_each(&regions);
        Self { regions, shops, heard: ALL.map(|region| (region, Position::TRIM_HORIZON)).into() }
    }

    /// With a product, units of it in each region, and a customer whom all know.
    async fn with(product: &str) -> (Self, Customer) {
        let world = Self::open();
        let ann = world.sell(product).await;
        (world, ann)
    }

    async fn sell(&self, product: &str) -> Customer {
        self.shop(TOKYO).sell(product, 50, UNITS).await;
        let ann = self.shop(TOKYO).customer().await;
        self.regions.settle().await;
        for region in [SINGAPORE, TAIWAN] {
            let key = format!("{product}-{region}");
            self.shop(region).adjust(&ann, &key, product, UNITS).await.unwrap();
        }
        self.regions.settle().await;
        ann
    }

    fn shop(&self, region: &str) -> &Shop {
        &self.shops[region]
    }

    async fn meet(&self) {
        self.regions.heal();
        self.regions.settle().await;
    }

    /// From now on only these two regions reach each other.
    fn connect_only(&self, one: &str, other: &str) {
        self.regions.heal();
        for (a, b) in [(TOKYO, SINGAPORE), (TOKYO, TAIWAN), (SINGAPORE, TAIWAN)] {
            if (a, b) != (one, other) {
                self.regions.replication.partition(a, b).unwrap();
            }
        }
    }

    /// Waits until a region's copy of an order is the one that `owner` placed.
    async fn until_order_is_of(&self, owner: &str, region: &str, ann: &Customer, id: &OrderId) {
        while self.shop(region).order_if_any(ann, id).await.is_none_or(|order| order.region != owner) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// What is new in a region's stream of orders.
    fn news(&mut self, region: &'static str) -> Vec<Change> {
        let streams = self.shops[region].store.embedded.streams().unwrap();
        let heard = self.heard.get_mut(region).unwrap();
        let mut changes = Vec::new();
        loop {
            let page = streams.read("OrdersTable", *heard, 1_000, |_| true).unwrap();
            *heard = page.end;
            changes.extend(page.records.iter().map(|record| {
                let event = record.in_event().unwrap();
                let item = |name| -> Option<serde_dynamo::Item> {
                    serde_json::from_value(event["dynamodb"][name].clone()).unwrap()
                };
                Change {
                    sequence_number: record.sequence_number(),
                    kind: ChangeKind::Modify,
                    keys: item("Keys").unwrap(),
                    old_image: item("OldImage"),
                    new_image: item("NewImage"),
                }
            }));
            if page.exhausted {
                return changes;
            }
        }
    }

    fn reconciler(&self, region: &str) -> Reconciler<SandboxProvider> {
        let shop = self.shop(region);
        let (client, env) = (shop.store.client.clone(), &shop.store.env);
        Reconciler::from_env(client, env, shop.sandbox(), shop.clock.clone()).unwrap()
    }

    /// The reconciler of a region hears what is new, when every payment has lapsed for long.
    async fn reconcile(&mut self, region: &'static str) {
        self.advance(CLAIM_LIFETIME + ABANDONED_AFTER);
        let changes = self.news(region);
        assert_eq!(self.reconciler(region).process(&changes, soon()).await, None);
    }

    /// Everything arrives, and every reconciler hears of it. What a reconciler writes is news to
    /// the others.
    async fn meet_and_reconcile(&mut self) {
        self.meet().await;
        for _ in 0..ROUNDS {
            for region in ALL {
                self.reconcile(region).await;
            }
            self.regions.settle().await;
        }
    }

    /// So much later, the clean-up of a region goes through all of its reservations of before.
    async fn clean_up(&self, region: &str) -> Vec<Expiration> {
        let shop = self.shop(region);
        let now = shop.clock.now();
        let mut ended = Vec::new();
        for shard in PendingShard::fresh() {
            let mut after = None;
            loop {
                let page = shop.orders.pending(region, shard, now, after).await.unwrap();
                for reservation in page.entries {
                    assert_eq!(reservation.key.region, region);
                    let order = reservation.key.order_id;
                    ended.push(shop.cancellations().expire(&order, region, None, soon()).await.unwrap());
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        ended
    }

    fn advance(&self, time: Duration) {
        self.shops.values().for_each(|shop| shop.clock.advance(time));
    }

    async fn available(&self, region: &str, product: &str) -> i64 {
        let stock = self.shop(region).store.client.get_item().table_name("StockTable");
        let stock = stock.key("productId", text(product)).key("region", text(region)).send().await.unwrap();
        stock.item.unwrap()["available"].as_n().unwrap().parse().unwrap()
    }

    /// The order that stands in every region, and that each region's stock and count are what it
    /// has left of it.
    async fn check(&self, ann: &Customer, product: &str, order_id: &OrderId, hint: &str) -> Order {
        let order = self.shop(TOKYO).order(ann, order_id).await;
        for region in [SINGAPORE, TAIWAN] {
            assert_eq!(order, self.shop(region).order(ann, order_id).await, "{region}: {hint}");
        }
        for region in ALL {
            let stands = order.region == region;
            let taken = stands && order.status != OrderStatus::Cancelled;
            let left = UNITS - if taken { i64::from(ORDERED) } else { 0 };
            assert_eq!(self.available(region, product).await, left, "stock of {region}: {hint}: {order:?}");
            let unpaid = stands && order.status == OrderStatus::PendingPayment;
            let counted = if unpaid { (1, i64::from(ORDERED)) } else { (0, 0) };
            assert_eq!(self.shop(region).unpaid(ann).await, counted, "count of {region}: {hint}: {order:?}");
        }
        let charges = self.shop(TOKYO).charges(order_id).await;
        assert!(charges <= 1, "{charges} charges: {hint}");
        assert!(order.status != OrderStatus::Paid || charges == 1, "paid without a charge: {hint}");
        assert!(order.status != OrderStatus::Cancelled || charges == 0, "charged and cancelled: {hint}");
        order
    }

    /// Places one order in both regions while they do not reach each other. Taiwan's is the later
    /// one and stands.
    async fn placed_twice(&self, ann: &Customer) -> OrderId {
        self.regions.cut();
        let first = order_id(&self.shop(TOKYO).place(ann, "k", &[("tea", ORDERED)]).await.unwrap());
        let second = order_id(&self.shop(TAIWAN).place(ann, "k", &[("tea", ORDERED)]).await.unwrap());
        assert_eq!(first, second);
        first
    }
}

#[tokio::test]
async fn the_same_request_in_two_regions_makes_one_order_and_one_event() {
    let (mut world, ann) = World::with("tea").await;
    let id = world.placed_twice(&ann).await;
    world.meet_and_reconcile().await;
    let order = world.check(&ann, "tea", &id, "met").await;
    assert_eq!((order.region.as_str(), order.status), (TAIWAN, OrderStatus::PendingPayment));
    for region in [TOKYO, TAIWAN] {
        assert_eq!(world.shop(region).order_rows().await.len(), 1);
        assert_eq!(world.shop(region).events("order.placed", id.as_str()).await, 1);
    }
}

#[tokio::test]
async fn another_customer_key_or_payload_makes_another_order() {
    let (world, ann) = World::with("tea").await;
    let shop = world.shop(TOKYO);
    let eve = shop.customer().await;
    let mut ids = vec![
        order_id(&shop.place(&ann, "k", &[("tea", 1)]).await.unwrap()),
        order_id(&shop.place(&eve, "k", &[("tea", 1)]).await.unwrap()),
        order_id(&shop.place(&ann, "l", &[("tea", 1)]).await.unwrap()),
    ];
    shop.clock.advance(RETENTION);
    ids.push(order_id(&shop.place(&ann, "k", &[("tea", 2)]).await.unwrap()));
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn an_order_whose_record_has_expired_is_answered_as_a_replay() {
    let (world, ann) = World::with("tea").await;
    let shop = world.shop(TOKYO);
    shop.put_cart(&ann, &[("tea", ORDERED)], None).await.unwrap();
    let id = order_id(&shop.place_cart(&ann, "k").await.unwrap());
    shop.clock.advance(RETENTION);
    let again = shop.place_cart(&ann, "k").await.unwrap();
    assert_eq!((again.status, is_replay(&again), order_id(&again)), (201, true, id.clone()));
    shop.cancel(&ann, "c", &id).await.unwrap();
    let again = shop.place_cart(&ann, "k").await.unwrap();
    assert_eq!((again.status, member(&again, "status").as_str()), (201, Some("CANCELLED")));
    assert_eq!((world.available(TOKYO, "tea").await, shop.order_rows().await.len()), (UNITS, 1));
}

#[tokio::test]
async fn an_order_that_arrived_before_its_record_is_answered_as_a_replay() {
    let (world, ann) = World::with("tea").await;
    let id = order_id(&world.shop(TOKYO).place(&ann, "k", &[("tea", ORDERED)]).await.unwrap());
    world.meet().await;
    let taiwan = world.shop(TAIWAN);
    let record = format!("place-order#{}#k", ann.user_id());
    let delete = taiwan.store.client.delete_item().table_name("IdempotencyTable").key("key", text(record));
    delete.send().await.unwrap();
    let again = taiwan.place(&ann, "k", &[("tea", ORDERED)]).await.unwrap();
    assert_eq!((is_replay(&again), order_id(&again)), (true, id));
    assert_eq!(world.available(TAIWAN, "tea").await, UNITS);
}

#[tokio::test]
async fn stream_events_that_come_again_give_nothing_back_again() {
    let (mut world, ann) = World::with("tea").await;
    let id = world.placed_twice(&ann).await;
    world.meet().await;
    let changes = world.news(TOKYO);
    let reconciler = world.reconciler(TOKYO);
    // Three deliveries at the same time, and one later.
    let (one, two, three) = tokio::join!(
        reconciler.process(&changes, soon()),
        reconciler.process(&changes, soon()),
        reconciler.process(&changes, soon())
    );
    assert_eq!([one, two, three], [None, None, None]);
    assert_eq!(reconciler.process(&changes, soon()).await, None);
    world.check(&ann, "tea", &id, "again and again").await;
}

#[tokio::test]
async fn a_reconciler_that_dies_after_its_transaction_gives_nothing_back_twice() {
    let (mut world, ann) = World::with("tea").await;
    let id = world.placed_twice(&ann).await;
    world.meet().await;
    let changes = world.news(TOKYO);
    let faults = world.shop(TOKYO).store.embedded.faults();
    let lost = faults.add(Rule::new(Effect::CommitThenReset).operation("TransactWriteItems"));
    let failed = world.reconciler(TOKYO).process(&changes, soon()).await;
    assert!(failed.is_some(), "nobody knows that it was done");
    faults.remove(lost);
    assert_eq!(world.reconciler(TOKYO).process(&changes, soon()).await, None);
    world.check(&ann, "tea", &id, "after the restart").await;
}

#[tokio::test]
async fn the_clean_up_gives_back_what_the_stream_did_not_tell() {
    let (world, ann) = World::with("tea").await;
    let id = world.placed_twice(&ann).await;
    world.meet().await;
    world.advance(Duration::from_secs(1));
    assert_eq!(world.clean_up(TOKYO).await, [Expiration::GivenBack]);
    world.check(&ann, "tea", &id, "cleaned up").await;
    assert_eq!(world.clean_up(TOKYO).await, []);
}

#[tokio::test]
async fn an_order_cancelled_in_another_region_gives_its_units_back_in_its_own() {
    let (mut world, ann) = World::with("tea").await;
    let id = order_id(&world.shop(TOKYO).place(&ann, "k", &[("tea", ORDERED)]).await.unwrap());
    world.meet().await;
    world.regions.cut();
    world.shop(TAIWAN).cancel(&ann, "c", &id).await.unwrap();
    let foreign = world.shop(TAIWAN).store.client.get_item().table_name("StockTable");
    let foreign = foreign.key("productId", text("tea")).key("region", text(TOKYO)).send().await.unwrap();
    assert_eq!(foreign.item.unwrap()["available"].as_n().unwrap(), "97", "Taiwan leaves Tokyo's row alone");
    world.meet_and_reconcile().await;
    assert_eq!(world.check(&ann, "tea", &id, "met").await.status, OrderStatus::Cancelled);
    assert_eq!(world.available(TOKYO, "tea").await, UNITS);
}

#[tokio::test]
async fn an_order_cancelled_in_both_regions_gives_its_units_back_once() {
    let (mut world, ann) = World::with("tea").await;
    let id = order_id(&world.shop(TOKYO).place(&ann, "k", &[("tea", ORDERED)]).await.unwrap());
    world.meet().await;
    world.regions.cut();
    world.shop(TOKYO).cancel(&ann, "t", &id).await.unwrap();
    world.shop(TAIWAN).cancel(&ann, "c", &id).await.unwrap();
    world.meet_and_reconcile().await;
    world.check(&ann, "tea", &id, "met").await;
}

#[tokio::test]
async fn orders_paid_in_both_regions_before_they_meet_are_charged_once_and_one_keeps_its_units() {
    let (mut world, ann) = World::with("tea").await;
    let id = world.placed_twice(&ann).await;
    for region in [TOKYO, TAIWAN] {
        assert_eq!(world.shop(region).pay(&ann, region, &id, "tok_ok").await.unwrap().status, 201);
    }
    world.meet_and_reconcile().await;
    let order = world.check(&ann, "tea", &id, "met").await;
    assert_eq!((order.region.as_str(), order.status), (TAIWAN, OrderStatus::Paid));
}

#[tokio::test]
async fn a_paid_order_that_the_clean_up_has_seen_still_gives_its_units_back_when_it_is_replaced() {
    let (mut world, ann) = World::with("tea").await;
    world.regions.cut();
    let id = order_id(&world.shop(TOKYO).place(&ann, "k", &[("tea", ORDERED)]).await.unwrap());
    world.shop(TOKYO).pay(&ann, "p", &id, "tok_ok").await.unwrap();
    world.advance(Duration::from_secs(1));
    assert_eq!(world.clean_up(TOKYO).await, [Expiration::Paid]);
    assert_eq!(world.clean_up(TOKYO).await, [], "the clean-up is done with it");
    world.shop(TAIWAN).place(&ann, "k", &[("tea", ORDERED)]).await.unwrap();
    world.meet_and_reconcile().await;
    assert_eq!(world.check(&ann, "tea", &id, "met").await.region, TAIWAN);
    // The later order awaited payment. Tokyo has seen it replace a paid one.
    assert_eq!(world.shop(TAIWAN).status(&ann, &id).await, OrderStatus::Paid);
    assert_eq!(world.shop(TAIWAN).charges(&id).await, 1);
}

#[tokio::test]
async fn a_region_that_has_not_seen_a_charge_of_another_does_not_cancel() {
    let (mut world, ann) = World::with("tea").await;
    let id = world.placed_twice(&ann).await;
    assert_eq!(world.shop(TOKYO).pay(&ann, "p", &id, "tok_ok").await.unwrap().status, 201);
    let taiwan = world.shop(TAIWAN);
    assert_eq!(taiwan.order(&ann, &id).await.payment, None);
    assert_eq!(kind(taiwan.cancel(&ann, "c", &id).await), ProblemType::OrderStateConflict);
    assert_eq!(taiwan.status(&ann, &id).await, OrderStatus::Paid);
    world.meet_and_reconcile().await;
    assert_eq!(world.check(&ann, "tea", &id, "met").await.status, OrderStatus::Paid);
}

#[tokio::test]
async fn a_charge_of_a_generation_that_the_canceller_has_not_seen_is_found() {
    let (mut world, ann) = World::with("tea").await;
    let id = world.placed_twice(&ann).await;
    let tokyo = world.shop(TOKYO);
    assert!(tokyo.pay(&ann, "p", &id, "tok_declined").await.is_err());
    // Captured in the second generation, and the answer is lost.
    assert!(tokyo.pay(&ann, "q", &id, "tok_timeout_after_charge").await.is_err());
    assert_eq!(world.shop(TAIWAN).order(&ann, &id).await.payment_generation, 0);
    assert!(world.shop(TAIWAN).cancel(&ann, "c", &id).await.is_err());
    world.meet_and_reconcile().await;
    assert_eq!(world.check(&ann, "tea", &id, "met").await.status, OrderStatus::Paid);
}

#[tokio::test]
async fn an_order_paid_in_one_region_and_claimed_later_by_one_that_has_not_seen_it_stays_paid() {
    let (mut world, ann) = World::with("tea").await;
    let id = order_id(&world.shop(TOKYO).place(&ann, "k", &[("tea", ORDERED)]).await.unwrap());
    world.meet().await;
    world.regions.cut();
    assert_eq!(world.shop(TOKYO).pay(&ann, "p", &id, "tok_ok").await.unwrap().status, 201);
    // Taiwan claims the order and does not get an answer: its row, which awaits payment, is the
    // last one written.
    assert!(world.shop(TAIWAN).pay(&ann, "q", &id, "tok_unavailable").await.is_err());
    world.meet().await;
    assert_eq!(world.shop(TOKYO).status(&ann, &id).await, OrderStatus::PendingPayment, "the last writer won");
    world.meet_and_reconcile().await;
    assert_eq!(world.check(&ann, "tea", &id, "met").await.status, OrderStatus::Paid);
}

#[tokio::test]
async fn an_order_cancelled_in_one_region_is_not_paid_in_another_that_has_not_seen_it() {
    let (mut world, ann) = World::with("tea").await;
    let id = order_id(&world.shop(TOKYO).place(&ann, "k", &[("tea", ORDERED)]).await.unwrap());
    world.meet().await;
    world.regions.cut();
    assert_eq!(world.shop(TAIWAN).cancel(&ann, "c", &id).await.unwrap().status, 200);
    let refused = kind(world.shop(SINGAPORE).pay(&ann, "p", &id, "tok_ok").await);
    assert_eq!(refused, ProblemType::OrderStateConflict);
    let refused = kind(world.shop(TOKYO).pay(&ann, "p", &id, "tok_ok").await);
    assert_eq!(refused, ProblemType::OrderStateConflict);
    assert_eq!(world.available(TOKYO, "tea").await, UNITS, "Tokyo found that the order is cancelled");
    world.meet_and_reconcile().await;
    assert_eq!(world.check(&ann, "tea", &id, "met").await.status, OrderStatus::Cancelled);
}

/// A customer pays in Tokyo, which dies after the charge: neither the outcome nor the end of the
/// claim is recorded.
async fn die_after_the_charge(world: &World, ann: &Customer, id: &OrderId) {
    let tokyo = world.shop(TOKYO);
    let faults = tokyo.store.embedded.faults();
    let dead = faults.add(Rule::new(Effect::Reset).operation("TransactWriteItems").skip(1));
    assert!(tokyo.pay(ann, "p", id, "tok_ok").await.is_err());
    faults.remove(dead);
    assert_eq!(tokyo.charges(id).await, 1);
    assert_eq!(tokyo.status(ann, id).await, OrderStatus::PendingPayment);
}

#[tokio::test]
async fn a_charge_that_was_not_recorded_before_its_region_died_is_recorded_when_the_region_is_back() {
    let (mut world, ann) = World::with("tea").await;
    world.regions.cut();
    let id = order_id(&world.shop(TOKYO).place(&ann, "k", &[("tea", ORDERED)]).await.unwrap());
    die_after_the_charge(&world, &ann, &id).await;
    assert_eq!(kind(world.shop(TAIWAN).pay(&ann, "p", &id, "tok_ok").await), ProblemType::NotFound);
    world.meet_and_reconcile().await;
    assert_eq!(world.check(&ann, "tea", &id, "met").await.status, OrderStatus::Paid);
    assert_eq!(world.shop(TOKYO).events("order.paid", id.as_str()).await, 1);
}

#[tokio::test]
async fn a_payment_that_may_be_tried_again_is_left_to_its_customer() {
    let (mut world, ann) = World::with("tea").await;
    let id = order_id(&world.shop(TOKYO).place(&ann, "k", &[("tea", ORDERED)]).await.unwrap());
    die_after_the_charge(&world, &ann, &id).await;
    world.meet().await;
    let news = world.news(TOKYO);
    let too_soon = Deadline::after(Duration::from_secs(1));
    assert!(world.reconciler(TOKYO).process(&news, too_soon).await.is_some(), "the change comes again");
    assert_eq!(world.shop(TOKYO).status(&ann, &id).await, OrderStatus::PendingPayment);
    world.advance(CLAIM_LIFETIME);
    assert_eq!(world.shop(TOKYO).pay(&ann, "p", &id, "tok_ok").await.unwrap().status, 201);
    assert_eq!(world.reconciler(TOKYO).process(&news, soon()).await, None);
    world.meet_and_reconcile().await;
    assert_eq!(world.check(&ann, "tea", &id, "met").await.status, OrderStatus::Paid);
}

#[tokio::test]
async fn a_payment_in_progress_is_waited_for() {
    let (mut world, ann) = World::with("tea").await;
    let id = order_id(&world.shop(TOKYO).place(&ann, "k", &[("tea", ORDERED)]).await.unwrap());
    die_after_the_charge(&world, &ann, &id).await;
    let almost = CLAIM_LIFETIME + ABANDONED_AFTER.checked_sub(Duration::from_millis(1)).unwrap();
    world.advance(almost);
    let news = world.news(TOKYO);
    assert_eq!(world.reconciler(TOKYO).process(&news, soon()).await, None);
    assert_eq!(world.shop(TOKYO).status(&ann, &id).await, OrderStatus::Paid);
}

#[tokio::test]
async fn a_payment_that_never_reached_the_provider_stays_unpaid_when_the_region_is_back() {
    let (mut world, ann) = World::with("tea").await;
    world.regions.cut();
    let id = order_id(&world.shop(TOKYO).place(&ann, "k", &[("tea", ORDERED)]).await.unwrap());
    assert!(world.shop(TOKYO).pay(&ann, "p", &id, "tok_unavailable").await.is_err());
    world.meet_and_reconcile().await;
    assert_eq!(world.check(&ann, "tea", &id, "met").await.status, OrderStatus::PendingPayment);
}

#[tokio::test]
async fn a_payment_or_cancellation_that_came_before_its_order_is_tried_again_with_the_same_key() {
    let (world, ann) = World::with("tea").await;
    world.regions.cut();
    let tokyo = world.shop(TOKYO);
    let paid = order_id(&tokyo.place(&ann, "k", &[("tea", ORDERED)]).await.unwrap());
    let cancelled = order_id(&tokyo.place(&ann, "l", &[("tea", ORDERED)]).await.unwrap());
    let taiwan = world.shop(TAIWAN);
    assert_eq!(kind(taiwan.pay(&ann, "p", &paid, "tok_ok").await), ProblemType::NotFound);
    assert_eq!(kind(taiwan.cancel(&ann, "c", &cancelled).await), ProblemType::NotFound);
    world.meet().await;
    assert_eq!(taiwan.pay(&ann, "p", &paid, "tok_ok").await.unwrap().status, 201);
    assert_eq!(taiwan.cancel(&ann, "c", &cancelled).await.unwrap().status, 200);
}

#[tokio::test]
async fn units_are_taken_again_when_a_third_region_brings_the_first_order_back() {
    let (mut world, ann) = World::with("tea").await;
    world.regions.cut();
    let id = order_id(&world.shop(TOKYO).place(&ann, "k", &[("tea", ORDERED)]).await.unwrap());
    // Singapore knows Tokyo's order, and not the one that replaces it in Tokyo.
    world.connect_only(TOKYO, SINGAPORE);
    world.until_order_is_of(TOKYO, SINGAPORE, &ann, &id).await;
    world.regions.cut();
    world.shop(TAIWAN).place(&ann, "k", &[("tea", ORDERED)]).await.unwrap();
    world.connect_only(TOKYO, TAIWAN);
    world.until_order_is_of(TAIWAN, TOKYO, &ann, &id).await;
    world.reconcile(TOKYO).await;
    assert_eq!(world.available(TOKYO, "tea").await, UNITS, "Tokyo has given its units back");
    assert!(world.shop(SINGAPORE).pay(&ann, "p", &id, "tok_unavailable").await.is_err());
    world.meet_and_reconcile().await;
    let order = world.check(&ann, "tea", &id, "met").await;
    assert_eq!((order.region.as_str(), order.status), (TOKYO, OrderStatus::PendingPayment));
}

#[tokio::test]
async fn a_clean_up_leaves_orders_of_other_regions_alone() {
    let (world, ann) = World::with("tea").await;
    let id = order_id(&world.shop(TOKYO).place(&ann, "k", &[("tea", ORDERED)]).await.unwrap());
    world.meet().await;
    world.advance(Duration::from_secs(1));
    assert_eq!(world.clean_up(TAIWAN).await, []);
    let asked = world.shop(TAIWAN).cancellations().expire(&id, TAIWAN, None, soon()).await.unwrap();
    assert_eq!(asked, Expiration::AlreadyEnded);
    assert_eq!(world.shop(TAIWAN).status(&ann, &id).await, OrderStatus::PendingPayment);
    assert_eq!(world.clean_up(TOKYO).await, [Expiration::Expired]);
}

#[tokio::test]
async fn a_successor_cancels_expired_orders_of_a_region_and_leaves_their_units_to_it() {
    let (mut world, ann) = World::with("tea").await;
    let place = async |world: &World, key: &str| {
        order_id(&world.shop(TOKYO).place(&ann, key, &[("tea", ORDERED)]).await.unwrap())
    };
    let (expired, paid) = (place(&world, "k").await, place(&world, "l").await);
    world.meet().await;
    world.regions.cut();
    world.shop(TOKYO).pay(&ann, "p", &paid, "tok_ok").await.unwrap();
    let taiwan = world.shop(TAIWAN);
    let expire = async |id: &OrderId| taiwan.cancellations().expire(id, TOKYO, None, soon()).await.unwrap();
    assert_eq!(expire(&expired).await, Expiration::Expired);
    assert_eq!(expire(&expired).await, Expiration::AlreadyEnded);
    // Taiwan has not seen the payment. The provider has.
    assert_eq!(expire(&paid).await, Expiration::AlreadyEnded);
    assert_eq!(taiwan.status(&ann, &paid).await, OrderStatus::Paid);
    world.meet_and_reconcile().await;
    assert_eq!(world.shop(TOKYO).status(&ann, &expired).await, OrderStatus::Cancelled);
    assert_eq!(world.shop(TOKYO).status(&ann, &paid).await, OrderStatus::Paid);
    assert_eq!(world.available(TOKYO, "tea").await, UNITS - i64::from(ORDERED));
}

/// One schedule's way through the regions.
struct Schedule {
    random: StdRng,
    seed: u64,
    product: String,
    ann: Customer,
    id: Option<OrderId>,
    /// Where in the streams the schedule begins.
    begin: BTreeMap<&'static str, Position>,
    steps: Vec<String>,
}

impl Schedule {
    fn any_region(&mut self) -> &'static str {
        ALL[self.random.random_range(0..ALL.len())]
    }

    fn key(&self) -> String {
        format!("{}-{}", self.seed, self.steps.len())
    }

    /// One step: something that a customer, a network or a job does.
    async fn step(&mut self, world: &mut World) {
        let (region, choice) = (self.any_region(), self.random.random_range(0..14));
        let Some(id) = self.id.clone() else { return self.place(world, region).await };
        let shop = world.shop(region);
        let key = self.key();
        let done = match choice {
            0..=2 => return self.place(world, region).await,
            3..=6 => {
                let tokens =
                    ["tok_ok", "tok_ok", "tok_declined", "tok_timeout_after_charge", "tok_unavailable"];
                let token = tokens[self.random.random_range(0..tokens.len())];
                let answer = shop.pay(&self.ann, &key, &id, token).await;
                format!(
                    "pay by {token}: {:?}",
                    answer.map(|reply| reply.status).map_err(|problem| problem.kind)
                )
            }
            7..=8 => {
                let answer = shop.cancel(&self.ann, &key, &id).await;
                format!("cancel: {:?}", answer.map(|reply| reply.status).map_err(|problem| problem.kind))
            }
            9 => {
                world.advance(Duration::from_hours(25));
                format!("clean up: {:?}", world.clean_up(region).await)
            }
            10 => {
                world.regions.cut();
                "cut".to_owned()
            }
            11 => {
                world.meet().await;
                "meet".to_owned()
            }
            12 => {
                world.reconcile(region).await;
                "reconcile".to_owned()
            }
            _ => {
                world.heard.insert(region, self.begin[region]);
                "hear all again".to_owned()
            }
        };
        self.steps.push(format!("{region}: {done}"));
    }

    async fn place(&mut self, world: &World, region: &'static str) {
        let key = self.seed.to_string();
        let lines = [(self.product.as_str(), ORDERED)];
        let reply = world.shop(region).place(&self.ann, &key, &lines).await.unwrap();
        let id = order_id(&reply);
        assert_eq!(*self.id.get_or_insert(id.clone()), id, "seed {}", self.seed);
        self.steps.push(format!("{region}: place, replay {}", is_replay(&reply)));
    }

    fn hint(&self) -> String {
        format!("seed {}: {:#?}", self.seed, self.steps)
    }
}

/// Goes through the schedules of these seeds, and counts how they end.
async fn run(seeds: Range<u64>) -> BTreeMap<String, u32> {
    let mut world = World::open();
    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    for seed in seeds {
        let product = format!("tea-{seed}");
        world.regions.heal();
        let ann = world.sell(&product).await;
        world.regions.cut();
        let (random, begin) = (StdRng::seed_from_u64(seed), world.heard.clone());
        let mut schedule = Schedule { random, seed, product, ann, id: None, begin, steps: Vec::new() };
        for _ in 0..STEPS {
            schedule.step(&mut world).await;
        }
        let Some(id) = schedule.id.clone() else { panic!("{}: nothing was placed", schedule.hint()) };
        world.meet_and_reconcile().await;
        world.check(&schedule.ann, &schedule.product, &id, &schedule.hint()).await;
        // A day later it is paid, or it has expired.
        world.advance(Duration::from_hours(25));
        for region in ALL {
            world.clean_up(region).await;
        }
        world.meet_and_reconcile().await;
        let order = world.check(&schedule.ann, &schedule.product, &id, &schedule.hint()).await;
        assert_ne!(order.status, OrderStatus::PendingPayment, "{}", schedule.hint());
        *ends.entry(format!("{} {}", order.region, order.status.as_str())).or_default() += 1;
    }
    ends
}

#[tokio::test]
async fn whatever_happens_in_which_order_one_order_stands_and_every_unit_is_accounted_for() {
    let each = SCHEDULES / WORLDS;
    let worlds = stream::iter(0..WORLDS).map(|world| run(world * each..(world + 1) * each));
    let mut worlds = worlds.buffer_unordered(WORLDS_AT_ONCE);
    let mut ends = BTreeMap::new();
    while let Some(of_world) = worlds.next().await {
        ends.extend(of_world);
    }
    // The schedules end in every way: none of the checks was idle.
    assert_eq!(ends.len(), 2 * ALL.len(), "{ends:?}");
}

#[tokio::test]
async fn without_streams_the_clean_up_accounts_for_every_unit() {
    let mut world = World::open();
    for seed in 0..SCHEDULES / 10 {
        let product = format!("tea-{seed}");
        world.regions.heal();
        let ann = world.sell(&product).await;
        world.regions.cut();
        let mut random = StdRng::seed_from_u64(seed);
        let mut id = None;
        for step in 0..STEPS {
            let region = ALL[random.random_range(0..ALL.len())];
            let shop = world.shop(region);
            let placed = shop.place(&ann, "k", &[(product.as_str(), ORDERED)]).await.unwrap();
            let id = id.insert(order_id(&placed));
            let key = step.to_string();
            let answer = match random.random_range(0..5) {
                0 => shop.pay(&ann, &key, id, "tok_ok").await,
                1 => shop.cancel(&ann, &key, id).await,
                _ => Ok(placed),
            };
            tracing::debug!(seed, step, ?answer);
            if random.random_bool(0.2) {
                world.meet().await;
            }
        }
        world.meet().await;
        world.advance(Duration::from_hours(25));
        for region in ALL {
            world.clean_up(region).await;
            world.regions.settle().await;
        }
        world.check(&ann, &product, &id.unwrap(), &format!("seed {seed}")).await;
        for region in ALL {
            world.news(region);
        }
    }
}
