//! Random schedules of regions that write one cart and receive each other's writes late. The
//! expected cart follows from a log of the writes, without dots. `tests/commerce/cart_regions.rs`
//! does the same on replicating tables.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::core::ids::ProductId;

const REGIONS: [&str; 3] = ["singapore", "taiwan", "tokyo"];
const PRODUCTS: [&str; 3] = ["cup", "pot", "tea"];

/// A step of a schedule. Numbers are indexes, modulo the number of choices.
#[derive(Debug, Clone)]
enum Step {
    /// A region keeps some of the lines that it sees, and adds one. `None` adds nothing.
    Replace { region: usize, kept: [bool; 3], added: Option<usize>, clock: i64 },
    /// A region takes all lines.
    Empty { region: usize, clock: i64 },
    /// A later version of a region's row arrives in another region.
    Arrive { from: usize, to: usize, skipped: usize },
}

fn any_step() -> impl Strategy<Value = Step> {
    let added = prop::option::weighted(0.8, 0..3_usize);
    // Clocks of regions differ by more than writes are apart.
    let clock = || 0..4_i64;
    prop_oneof![
        4 => (0..3_usize, prop::array::uniform3(prop::bool::weighted(0.8)), added, clock())
            .prop_map(|(region, kept, added, clock)| Step::Replace { region, kept, added, clock }),
        1 => (0..3_usize, clock()).prop_map(|(region, clock)| Step::Empty { region, clock }),
        5 => (0..3_usize, 0..3_usize, 0..3_usize)
            .prop_map(|(from, to, skipped)| Step::Arrive { from, to, skipped }),
    ]
}

/// A product, and a quantity that no other addition has.
type Addition = (ProductId, u32);

/// A write in the log.
struct Write {
    row: Row,
    knew: VersionVector,
    left: BTreeSet<Addition>,
}

#[derive(Default)]
struct World {
    /// All versions of each region's row.
    written: BTreeMap<&'static str, Vec<Row>>,
    /// For each region, how many versions of which row have arrived.
    arrived: BTreeMap<(&'static str, &'static str), usize>,
    log: Vec<Write>,
    added: BTreeMap<Addition, (&'static str, u64)>,
    /// The cart of each tag that was read.
    tagged: BTreeMap<String, Value>,
}

impl World {
    /// Reads the cart in a region, and compares it with the log.
    fn read(&mut self, region: &'static str) -> Cart {
        let arrived = self.arrived.iter().filter(|((_, to), count)| *to == region && **count > 0);
        let rows: Vec<Row> =
            arrived.map(|((from, _), count)| self.written[from][count - 1].clone()).collect();
        let cart = Cart::merged(&rows, &["elsewhere".to_owned()]);
        let read: BTreeMap<ProductId, u32> =
            cart.lines().map(|line| (line.product_id, line.quantity.get())).collect();
        assert_eq!(read, self.expected(&cart.seen), "in {region}");
        let document = cart.document();
        assert_eq!(self.tagged.entry(cart.tag().to_string()).or_insert(document.clone()), &document);
        cart
    }

    /// Each known addition, except those that a known write has seen and removed.
    fn expected(&self, known: &VersionVector) -> BTreeMap<ProductId, u32> {
        let mut cart = BTreeMap::new();
        for (addition, (region, version)) in &self.added {
            let is_known = known.of(region) >= *version;
            let takes = |write: &Write| write.knew.of(region) >= *version && !write.left.contains(addition);
            let mut writes =
                self.log.iter().filter(|write| known.of(&write.row.region) >= write.row.version());
            if is_known && !writes.any(takes) {
                let quantity = cart.entry(addition.0.clone()).or_insert(addition.1);
                *quantity = addition.1.max(*quantity);
            }
        }
        cart
    }

    fn write(&mut self, region: &'static str, cart: &Cart, lines: &[(ProductId, u32)], clock: i64) {
        let lines: Vec<Value> = lines.iter().map(|(id, n)| json!({"productId": id, "quantity": n})).collect();
        let lines: Lines = serde_json::from_value(lines.into()).unwrap();
        let at = Timestamp::from_second(clock).unwrap();
        let row = cart.next_row(region, &lines, at, None);
        assert_eq!(row.version(), cart.seen.of(region) + 1);
        let left: BTreeSet<Addition> =
            lines.as_slice().iter().map(|line| (line.product_id.clone(), line.quantity.get())).collect();
        for addition in &left {
            self.added.entry(addition.clone()).or_insert((region, row.version()));
        }
        self.log.push(Write { row: row.clone(), knew: cart.seen.clone(), left });
        let versions = self.written.entry(region).or_default();
        versions.push(row);
        self.arrived.insert((region, region), versions.len());
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Replace { region, kept, added, clock } => {
                let region = REGIONS[region];
                let cart = self.read(region);
                let kept = cart.lines().zip(kept).filter(|(_, kept)| *kept).map(|(line, _)| line);
                let mut lines: Vec<_> = kept.map(|line| (line.product_id, line.quantity.get())).collect();
                if let Some(product) = added {
                    let product: ProductId = PRODUCTS[product].parse().unwrap();
                    lines.retain(|(id, _)| *id != product);
                    // A new quantity: greater than some and smaller than others.
                    let count = u32::try_from(self.added.len()).unwrap();
                    let quantity = if count.is_multiple_of(2) { 500 + count } else { 500 - count };
                    lines.push((product, quantity));
                }
                self.write(region, &cart, &lines, clock);
            }
            Step::Empty { region, clock } => {
                let cart = self.read(REGIONS[region]);
                self.write(REGIONS[region], &cart, &[], clock);
            }
            Step::Arrive { from, to, skipped } => {
                let (from, to) = (REGIONS[from], REGIONS[to]);
                let written = self.written.get(from).map_or(0, Vec::len);
                let arrived = self.arrived.entry((from, to)).or_default();
                *arrived = written.min(*arrived + 1 + skipped);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn an_addition_is_in_every_cart_of_those_who_know_it_and_of_no_write_that_took_it(
        steps in prop::collection::vec(any_step(), 0..24),
    ) {
        let mut world = World::default();
        for step in &steps {
            world.step(step);
        }
        for from in 0..REGIONS.len() {
            for to in 0..REGIONS.len() {
                world.step(&Step::Arrive { from, to, skipped: steps.len() });
            }
        }
        let [one, two, three] = REGIONS.map(|region| world.read(region));
        prop_assert_eq!(&one, &two);
        prop_assert_eq!(&one, &three);
    }
}

#[test]
fn without_peers_the_tag_is_the_version() {
    let lines: Lines = serde_json::from_value(json!([{"productId": "tea", "quantity": 1}])).unwrap();
    let tag = |rows: &[Row], peers: &[String]| Cart::merged(rows, peers).tag().to_string();
    let peers = ["taiwan".to_owned()];
    assert_eq!((tag(&[], &[]), tag(&[], &peers)), ("\"0\"".to_owned(), "\"0\"".to_owned()));
    let tokyo = Cart::default().next_row("tokyo", &lines, Timestamp::UNIX_EPOCH, None);
    assert_eq!(tag(std::slice::from_ref(&tokyo), &[]), "\"1\"");
    assert_eq!(tag(std::slice::from_ref(&tokyo), &peers), "\"tokyo.1\"");
    // A region that has lost its peers still has their writes.
    let taiwan = Cart::default().next_row("taiwan", &lines, Timestamp::UNIX_EPOCH, None);
    let both = Cart::merged(&[tokyo, taiwan], &peers);
    let alone = both.next_row("tokyo", &lines, Timestamp::UNIX_EPOCH, None);
    assert_eq!(tag(&[alone], &[]), "\"taiwan.1_tokyo.2\"");
}
