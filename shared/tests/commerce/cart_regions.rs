//! Carts that several regions write at the same time: nothing that was added is lost, and nothing
//! that was ordered comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use local_region::services::Service;
use local_region::services::faults::{Effect, Rule};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use sojourn::commerce::carts::{Cart, CartError};
use sojourn::core::precondition::EntityTag;
use sojourn::core::problem::ProblemType;
use sojourn::platform::dynamo::{Item, text};
use sojourn_testing::Regions;

use crate::shop::{Answer, Customer, Shop, kind, lines_of, member};

const TAIWAN: &str = "taiwan";
const TOKYO: &str = "tokyo";
const ALL: [&str; 3] = ["singapore", TAIWAN, TOKYO];

/// What is for sale.
const PRODUCTS: [&str; 4] = ["cup", "pot", "tea", "tray"];

/// Units of each product in each region: more than all customers order.
const UNITS: i64 = 1_000_000;

/// Worlds of the random test, each with its seed.
const WORLDS: u64 = 6;

/// Worlds at the same time. Each waits for its replication now and then.
const WORLDS_AT_ONCE: usize = 4;

/// Customers of each world. Each has a cart, and a schedule of its own.
const CUSTOMERS: usize = 20;

/// Steps of each schedule.
const STEPS: usize = 10;

/// Three regions of one shop.
struct World {
    regions: Regions,
    shops: BTreeMap<&'static str, Shop>,
}

impl World {
    fn open() -> Self {
        let regions = Regions::start(ALL);
        let shops = Shop::in_each(&regions);
        Self { regions, shops }
    }

    /// With products for sale in every region, and a customer.
    async fn with_ann() -> (Self, Customer) {
        let world = Self::open();
        world.sell(&PRODUCTS).await;
        let ann = world.shop(TOKYO).customer().await;
        world.regions.settle().await;
        (world, ann)
    }

    async fn sell(&self, products: &[&str]) {
        for product in products {
            self.shop(TOKYO).sell(product, 50, UNITS).await;
        }
        let operator = self.shop(TOKYO).customer().await;
        self.regions.settle().await;
        for region in ALL.into_iter().filter(|region| *region != TOKYO) {
            for product in products {
                self.shop(region)
                    .adjust(&operator, &format!("{region}-{product}"), product, UNITS)
                    .await
                    .unwrap();
            }
        }
    }

    fn shop(&self, region: &str) -> &Shop {
        &self.shops[region]
    }

    async fn put(&self, region: &str, ann: &Customer, lines: &[(&str, u32)]) -> Cart {
        self.shop(region).put_cart(ann, lines, None).await.unwrap()
    }

    async fn meet(&self) {
        self.regions.heal();
        self.regions.settle().await;
    }

    /// The cart, which is the same in every region.
    async fn cart(&self, ann: &Customer) -> Cart {
        let cart = self.shop(TOKYO).cart(ann).await;
        for region in ALL {
            let other = self.shop(region).cart(ann).await;
            assert_eq!((other.document(), other.tag()), (cart.document(), cart.tag()), "{region}");
        }
        cart
    }

    /// The row of a region, as that region has it.
    async fn row(&self, region: &str, ann: &Customer) -> Item {
        let get = self.shop(region).store.client.get_item().table_name("CartsTable").consistent_read(true);
        let get = get.key("customerId", text(format!("{}#{region}", ann.user_id())));
        get.send().await.unwrap().item.unwrap()
    }
}

fn shown(cart: &Cart) -> BTreeMap<String, u32> {
    cart.lines().map(|line| (line.product_id.to_string(), line.quantity.get())).collect()
}

fn lines(list: &[(&str, u32)]) -> BTreeMap<String, u32> {
    list.iter().map(|(product, quantity)| ((*product).to_owned(), *quantity)).collect()
}

fn ordered(answer: &Answer) -> BTreeMap<String, u32> {
    let lines = member(answer.as_ref().unwrap(), "lines").as_array().unwrap();
    let line = |line: &Value| {
        let quantity = line["quantity"].as_u64().unwrap().try_into().unwrap();
        (line["productId"].as_str().unwrap().to_owned(), quantity)
    };
    lines.iter().map(line).collect()
}

#[tokio::test]
async fn what_regions_add_before_they_meet_is_all_there() {
    let (world, ann) = World::with_ann().await;
    world.put(TOKYO, &ann, &[("tea", 1)]).await;
    world.meet().await;
    world.regions.cut();
    world.put(TOKYO, &ann, &[("tea", 1), ("pot", 2)]).await;
    world.put(TAIWAN, &ann, &[("cup", 6), ("tea", 1)]).await;
    world.meet().await;
    assert_eq!(shown(&world.cart(&ann).await), lines(&[("tea", 1), ("pot", 2), ("cup", 6)]));
}

#[tokio::test]
async fn an_order_takes_its_lines_and_no_line_that_another_region_adds_meanwhile() {
    let (world, ann) = World::with_ann().await;
    world.put(TOKYO, &ann, &[("tea", 1)]).await;
    world.meet().await;
    world.regions.cut();
    // Taiwan has no row of its own yet.
    let order = world.shop(TAIWAN).place_cart(&ann, "k").await;
    assert_eq!(ordered(&order), lines(&[("tea", 1)]));
    assert!(world.shop(TAIWAN).cart(&ann).await.is_empty());
    world.put(TOKYO, &ann, &[("tea", 1), ("pot", 2)]).await;
    world.meet().await;
    assert_eq!(shown(&world.cart(&ann).await), lines(&[("pot", 2)]));
    // A later write of Tokyo does not bring them back either.
    world.put(TOKYO, &ann, &[("pot", 2), ("cup", 1)]).await;
    world.meet().await;
    assert_eq!(shown(&world.cart(&ann).await), lines(&[("pot", 2), ("cup", 1)]));
}

#[tokio::test]
async fn a_line_that_one_region_changes_and_another_removes_stays_as_it_was_changed() {
    let (world, ann) = World::with_ann().await;
    world.put(TOKYO, &ann, &[("tea", 1), ("pot", 1)]).await;
    world.meet().await;
    world.regions.cut();
    world.put(TOKYO, &ann, &[("tea", 2), ("pot", 1)]).await;
    world.put(TAIWAN, &ann, &[]).await;
    world.meet().await;
    assert_eq!(shown(&world.cart(&ann).await), lines(&[("tea", 2)]));
}

#[tokio::test]
async fn of_two_quantities_the_greater_counts_and_the_next_write_keeps_one_line() {
    let (world, ann) = World::with_ann().await;
    world.regions.cut();
    world.put(TOKYO, &ann, &[("tea", 5)]).await;
    world.put(TAIWAN, &ann, &[("tea", 3)]).await;
    world.meet().await;
    assert_eq!(shown(&world.cart(&ann).await), lines(&[("tea", 5)]));
    world.regions.cut();
    world.put(TAIWAN, &ann, &[("tea", 5), ("cup", 1)]).await;
    world.put(TOKYO, &ann, &[("tea", 5), ("pot", 1)]).await;
    world.meet().await;
    assert_eq!(shown(&world.cart(&ann).await), lines(&[("tea", 5), ("cup", 1), ("pot", 1)]));
    world.put(TAIWAN, &ann, &[("tea", 2)]).await;
    world.meet().await;
    assert_eq!(shown(&world.cart(&ann).await), lines(&[("tea", 2)]));
}

#[tokio::test]
async fn lines_come_in_the_order_of_the_latest_write_in_every_region() {
    let (world, ann) = World::with_ann().await;
    world.put(TAIWAN, &ann, &[("cup", 1), ("pot", 1), ("tea", 1)]).await;
    world.meet().await;
    let written = world.put(TOKYO, &ann, &[("tea", 1), ("cup", 1), ("pot", 1)]).await;
    let order = lines_of(&[("tea", 1), ("cup", 1), ("pot", 1)]);
    assert_eq!(written.document()["lines"], order);
    world.meet().await;
    assert_eq!(world.cart(&ann).await.document()["lines"], order);
}

#[tokio::test]
async fn the_tag_of_a_cart_matches_that_cart_in_any_region_and_no_other() {
    let (world, ann) = World::with_ann().await;
    let [tokyo, taiwan] = [TOKYO, TAIWAN].map(|region| world.shop(region));
    assert_eq!(world.cart(&ann).await.tag().to_string(), "\"0\"");
    world.regions.cut();
    // Both regions write for the first time.
    let of_tokyo = tokyo.put_cart(&ann, &[("tea", 1)], Some("\"0\"")).await.unwrap().tag().to_string();
    let of_taiwan = taiwan.put_cart(&ann, &[("pot", 1)], Some("\"0\"")).await.unwrap().tag().to_string();
    assert_eq!((of_tokyo.as_str(), of_taiwan.as_str()), ("\"tokyo.1\"", "\"taiwan.1\""));
    let stale = async |shop: &Shop, tag: &str| {
        let written = shop.put_cart(&ann, &[("cup", 1)], Some(tag)).await;
        let Err(CartError::Stale(stands)) = written else { panic!("not stale: {written:?}") };
        stands.to_string()
    };
    assert_eq!(stale(tokyo, &of_taiwan).await, of_tokyo);
    assert_eq!(stale(taiwan, &of_tokyo).await, of_taiwan);
    world.meet().await;
    let both = "\"taiwan.1_tokyo.1\"";
    for shop in [tokyo, taiwan] {
        for before in ["\"0\"", "\"1\"", &of_tokyo, &of_taiwan] {
            assert_eq!(stale(shop, before).await, both);
        }
    }
    let written = taiwan.put_cart(&ann, &[("cup", 1)], Some(both)).await.unwrap();
    assert_eq!(written.tag().to_string(), "\"taiwan.2_tokyo.1\"");
    world.meet().await;
    assert_eq!(stale(tokyo, both).await, "\"taiwan.2_tokyo.1\"");
}

#[tokio::test]
async fn regions_that_order_one_line_before_they_meet_leave_it_in_no_cart() {
    let (world, ann) = World::with_ann().await;
    world.put(TOKYO, &ann, &[("tea", 1)]).await;
    world.meet().await;
    world.regions.cut();
    for region in [TOKYO, TAIWAN] {
        assert_eq!(ordered(&world.shop(region).place_cart(&ann, region).await), lines(&[("tea", 1)]));
    }
    world.meet().await;
    assert!(world.cart(&ann).await.is_empty());
}

#[tokio::test]
async fn a_cart_of_more_lines_than_an_order_takes_is_read_and_not_ordered_until_lines_are_removed() {
    let (world, ann) = World::with_ann().await;
    let products = |region: &str| (0..60).map(|n| format!("{region}-{n}")).collect::<Vec<_>>();
    world.regions.cut();
    for region in [TOKYO, TAIWAN] {
        let products = products(region);
        let lines: Vec<(&str, u32)> = products.iter().map(|product| (product.as_str(), 1)).collect();
        world.put(region, &ann, &lines).await;
    }
    world.meet().await;
    let cart = world.cart(&ann).await;
    assert_eq!(cart.lines().count(), 120);
    let problem = world.shop(TAIWAN).place_cart(&ann, "k").await.unwrap_err();
    assert_eq!((problem.kind, problem.detail.contains("94 lines")), (ProblemType::Unprocessable, true));
    assert_eq!(world.cart(&ann).await, cart);
    world.put(TAIWAN, &ann, &[("tea", 1)]).await;
    assert_eq!(world.shop(TAIWAN).place_cart(&ann, "l").await.unwrap().status, 201);
    world.meet().await;
    assert!(world.cart(&ann).await.is_empty());
}

#[tokio::test]
async fn a_region_whose_row_is_restored_from_a_backup_loses_no_line_of_the_other() {
    let (world, ann) = World::with_ann().await;
    world.put(TOKYO, &ann, &[("tea", 1)]).await;
    let backup = world.row(TOKYO, &ann).await;
    world.put(TOKYO, &ann, &[("pot", 1)]).await;
    world.meet().await;
    world.put(TAIWAN, &ann, &[("pot", 1), ("cup", 1)]).await;
    world.meet().await;
    let put = world.shop(TOKYO).store.client.put_item().table_name("CartsTable");
    put.set_item(Some(backup)).send().await.unwrap();
    world.meet().await;
    assert_eq!(shown(&world.cart(&ann).await), lines(&[("pot", 1), ("cup", 1)]));
    // Its next version is none that Taiwan knows.
    world.put(TOKYO, &ann, &[("pot", 1), ("cup", 1), ("tray", 1)]).await;
    world.meet().await;
    let cart = world.cart(&ann).await;
    assert_eq!(shown(&cart), lines(&[("pot", 1), ("cup", 1), ("tray", 1)]));
    assert_eq!(cart.tag().to_string(), "\"taiwan.1_tokyo.3\"");
}

/// A version of each region's row: which writes are known.
type Known = BTreeMap<String, u64>;

/// A product, and a quantity that no other addition of the customer has.
type Addition = (String, u32);

/// A write of a cart.
struct Write {
    region: &'static str,
    version: u64,
    known: Known,
    left: BTreeSet<Addition>,
    is_order: bool,
}

/// What is expected: a log of writes. It knows nothing of dots.
#[derive(Default)]
struct Log {
    writes: Vec<Write>,
    added: BTreeMap<Addition, (&'static str, u64)>,
}

fn knows(known: &Known, (region, version): (&str, u64)) -> bool {
    known.get(region).is_some_and(|latest| version <= *latest)
}

impl Log {
    /// A write in `region` that knew these, and left these lines.
    fn write(&mut self, region: &'static str, known: Known, left: &BTreeMap<String, u32>, is_order: bool) {
        let version = known.get(region).copied().unwrap_or_default() + 1;
        let left: BTreeSet<Addition> = left.clone().into_iter().collect();
        for addition in &left {
            self.added.entry(addition.clone()).or_insert((region, version));
        }
        assert!(!self.writes.iter().any(|write| (write.region, write.version) == (region, version)));
        self.writes.push(Write { region, version, known, left, is_order });
    }

    /// The cart of whoever knows these writes: each addition but those that one of the writes knew
    /// and did not leave.
    fn cart(&self, known: &Known) -> BTreeMap<String, u32> {
        let writes = || self.writes.iter().filter(|write| knows(known, (write.region, write.version)));
        let mut cart = BTreeMap::new();
        for (addition, by) in self.added.iter().filter(|(_, by)| knows(known, **by)) {
            if writes().any(|write| knows(&write.known, *by) && !write.left.contains(addition)) {
                continue;
            }
            let quantity = cart.entry(addition.0.clone()).or_insert(addition.1);
            *quantity = addition.1.max(*quantity);
        }
        cart
    }

    fn all(&self) -> Known {
        let mut all = Known::new();
        for write in &self.writes {
            let latest = all.entry(write.region.to_owned()).or_default();
            *latest = write.version.max(*latest);
        }
        all
    }
}

/// A customer's way through the regions.
struct Schedule {
    ann: Customer,
    log: Log,
    /// What each region knew when the cart was read there last.
    known: BTreeMap<&'static str, Known>,
    steps: Vec<String>,
}

fn known_of(cart: &Cart) -> Known {
    match cart.tag() {
        EntityTag::Versions(versions) => versions.iter().cloned().collect(),
        EntityTag::Version(0) => Known::new(),
        other => panic!("not the tag of one of several regions: {other}"),
    }
}

impl Schedule {
    /// Reads the cart in a region: it is what the log says of the writes that the tag names, and no
    /// write is forgotten.
    async fn read(&mut self, world: &World, region: &'static str) -> Cart {
        let cart = world.shop(region).cart(&self.ann).await;
        let known = known_of(&cart);
        assert_eq!(shown(&cart), self.log.cart(&known), "{region} at {}: {}", cart.tag(), self.hint());
        let before = self.known.insert(region, known.clone()).unwrap_or_default();
        let forgotten = before.iter().any(|(writer, version)| !knows(&known, (writer, *version)));
        assert!(!forgotten, "{region} knew {before:?}, and now {known:?}: {}", self.hint());
        cart
    }

    /// Other lines: some are kept, one is perhaps changed, one is perhaps new.
    fn next(&self, random: &mut StdRng, cart: &Cart) -> BTreeMap<String, u32> {
        let mut next = shown(cart);
        next.retain(|_, _| random.random_bool(0.8));
        let product = PRODUCTS[random.random_range(0..PRODUCTS.len())];
        if random.random_bool(0.8) {
            let used: BTreeSet<u32> = self.log.added.keys().map(|(_, quantity)| *quantity).collect();
            // Unlike all before, and as likely smaller as greater.
            let mut quantity = random.random_range(1..500);
            while used.contains(&quantity) {
                quantity = random.random_range(1..500);
            }
            next.insert(product.to_owned(), quantity);
        }
        next
    }

    /// One step of the customer.
    async fn step(&mut self, world: &World, random: &mut StdRng) {
        let region = ALL[random.random_range(0..ALL.len())];
        let cart = self.read(world, region).await;
        let is_lost = random.random_bool(0.1);
        match random.random_range(0..10) {
            0..=7 => {
                let next = self.next(random, &cart);
                self.put(world, region, cart, next, is_lost).await;
            }
            8 => self.put(world, region, cart, BTreeMap::new(), is_lost).await,
            _ => self.order(world, region).await,
        }
    }

    async fn put(
        &mut self,
        world: &World,
        region: &'static str,
        seen: Cart,
        next: BTreeMap<String, u32>,
        is_lost: bool,
    ) {
        let (shop, tag, known) = (world.shop(region), seen.tag().to_string(), known_of(&seen));
        let list: Vec<(&str, u32)> =
            next.iter().map(|(product, quantity)| (product.as_str(), *quantity)).collect();
        self.steps.push(format!("{region} at {tag}: put {list:?}"));
        let is_written = !(next.is_empty() && seen.is_empty());
        if is_lost && is_written {
            let reset = Rule::new(Effect::CommitThenReset).service(Service::DynamoDb).operation("PutItem");
            shop.store.embedded.faults().add(reset.times(1));
        }
        let written = shop.put_cart_on(seen, &self.ann, &list, Some(&tag)).await.unwrap();
        assert_eq!(shown(&written), next, "{}", self.hint());
        if is_written {
            self.log.write(region, known, &next, false);
        }
    }

    async fn order(&mut self, world: &World, region: &'static str) {
        let key = format!("step-{}", self.steps.len());
        let answer = world.shop(region).place_cart(&self.ann, &key).await;
        if answer.is_err() {
            assert_eq!(kind(answer), ProblemType::Unprocessable);
            return self.steps.push(format!("{region}: the cart is empty"));
        }
        // What the order knew stands in the row that it put.
        let row = world.row(region, &self.ann).await;
        let seen = row["seen"].as_m().unwrap().iter();
        let mut known: Known = seen
            .map(|(region, version)| (region.clone(), version.as_n().unwrap().parse().unwrap()))
            .collect();
        *known.get_mut(region).unwrap() -= 1;
        self.steps.push(format!("{region} at {known:?}: order"));
        assert_eq!(ordered(&answer), self.log.cart(&known), "{}", self.hint());
        self.log.write(region, known, &BTreeMap::new(), true);
    }

    fn hint(&self) -> String {
        format!("{:#?}", self.steps)
    }
}

/// What the schedules came upon, so that none of the checks is idle.
#[derive(Debug, Default)]
struct Found {
    /// Pairs of writes that did not know of each other.
    concurrent: usize,
    orders: usize,
    /// Lines that are in the carts at the end.
    left: usize,
}

impl Found {
    fn add(&mut self, log: &Log, cart: &Cart) {
        for (position, one) in log.writes.iter().enumerate() {
            let later = &log.writes[position + 1..];
            self.concurrent +=
                later.iter().filter(|other| !knows(&other.known, (one.region, one.version))).count();
            self.orders += usize::from(one.is_order);
        }
        self.left += cart.lines().count();
    }
}

/// Goes through the schedules of a world.
async fn run(seed: u64) -> Found {
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::open();
    world.sell(&PRODUCTS).await;
    let mut schedules = Vec::new();
    for _ in 0..CUSTOMERS {
        let ann = world.shop(TOKYO).customer().await;
        let steps = vec![format!("seed {seed}")];
        schedules.push(Schedule { ann, log: Log::default(), known: BTreeMap::new(), steps });
    }
    world.regions.settle().await;
    for _ in 0..STEPS {
        match random.random_range(0..10) {
            0..=4 => world.regions.cut(),
            5 => world.regions.heal(),
            6 => world.meet().await,
            7 => world.regions.lag(Duration::from_millis(random.random_range(0..20))),
            _ => {
                let (one, other) = (random.random_range(0..3), random.random_range(1..3));
                world.regions.heal();
                world.regions.replication.partition(ALL[one], ALL[(one + other) % 3]).unwrap();
            }
        }
        for schedule in &mut schedules {
            schedule.step(&world, &mut random).await;
        }
    }
    world.regions.lag(Duration::ZERO);
    world.meet().await;
    let mut found = Found::default();
    for schedule in &schedules {
        let cart = world.cart(&schedule.ann).await;
        assert_eq!(known_of(&cart), schedule.log.all(), "{}", schedule.hint());
        assert_eq!(shown(&cart), schedule.log.cart(&schedule.log.all()), "{}", schedule.hint());
        found.add(&schedule.log, &cart);
    }
    found
}

#[tokio::test]
async fn whatever_regions_write_in_which_order_an_addition_is_there_unless_somebody_who_saw_it_took_it() {
    let mut worlds = stream::iter(0..WORLDS).map(run).buffer_unordered(WORLDS_AT_ONCE);
    let mut found = Found::default();
    while let Some(of_world) = worlds.next().await {
        found.concurrent += of_world.concurrent;
        found.orders += of_world.orders;
        found.left += of_world.left;
    }
    assert!(found.concurrent > 100 && found.orders > 50 && found.left > 50, "{found:?}");
}
