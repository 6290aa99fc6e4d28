//! Merging the carts of several regions: an observed-remove set without tombstones (ORSWOT,
//! <https://arxiv.org/abs/1210.3368>).
//!
//! A [`Dot`] names the write that added a line. [`Contents`] has lines with their dots, and a
//! [`VersionVector`] of the known writes. [`Contents::merge`] keeps a line if each side has it, or
//! if the side without it does not know its dot. So a removal removes the lines that it has seen,
//! and no line that another region added concurrently. The merge is commutative, associative and
//! idempotent.
//!
//! If there are two lines of one product, the greater quantity wins, and of equal ones the greater
//! dot. The order is total, so that two regions do not remove each other's line.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Line, Quantity};
use crate::core::ids::ProductId;
use crate::core::precondition::EntityTag;

/// The id of a write of a cart: a region, and the version that the write gave to the region's row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Dot {
    pub(super) version: u64,
    pub(super) region: String,
}

/// A line, and the write that added it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DottedLine {
    pub(super) product_id: ProductId,
    pub(super) quantity: Quantity,
    pub(super) dot: Dot,
}

impl DottedLine {
    pub(super) fn new(line: &Line, dot: &Dot) -> Self {
        let Line { product_id, quantity } = line.clone();
        Self { product_id, quantity, dot: dot.clone() }
    }

    /// Whether a customer sees it as this line.
    pub(super) fn is(&self, line: &Line) -> bool {
        self.product_id == line.product_id && self.quantity == line.quantity
    }

    /// The line without its dot.
    pub(super) fn line(&self) -> Line {
        Line { product_id: self.product_id.clone(), quantity: self.quantity }
    }
}

/// For each region, the version of its row that is known. A missing region has version 0: no row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct VersionVector(BTreeMap<String, u64>);

impl VersionVector {
    /// The version of a region's row.
    pub(super) fn of(&self, region: &str) -> u64 {
        self.0.get(region).copied().unwrap_or_default()
    }

    /// Raises the version of a region's row. It never falls.
    pub(super) fn raise(&mut self, region: &str, version: u64) {
        if version > self.of(region) {
            self.0.insert(region.to_owned(), version);
        }
    }

    fn knows(&self, dot: &Dot) -> bool {
        dot.version <= self.of(&dot.region)
    }

    fn merge(&self, other: &Self) -> Self {
        let mut merged = self.clone();
        for (region, version) in &other.0 {
            merged.raise(region, *version);
        }
        merged
    }

    /// The tag of a cart with these writes. In a region that never had peers, it is the version of
    /// the region's row.
    pub(super) fn tag(&self, peers: &[String]) -> EntityTag {
        let mut versions = self.0.values();
        match (versions.next(), versions.next()) {
            (None, _) => EntityTag::Version(0),
            (Some(version), None) if peers.is_empty() => EntityTag::Version(*version),
            _ => EntityTag::Versions(self.0.clone().into_iter().collect()),
        }
    }
}

/// Lines, and the writes that are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Contents {
    lines: BTreeSet<DottedLine>,
    pub(super) seen: VersionVector,
}

impl Contents {
    /// The lines of a row, and the writes that the row has seen.
    pub(super) fn new(lines: &[DottedLine], seen: &VersionVector) -> Self {
        Self { lines: lines.iter().cloned().collect(), seen: seen.clone() }
    }

    /// The merge of both.
    pub(super) fn merge(&self, other: &Self) -> Self {
        let lines = self.not_removed_in(other).chain(other.not_removed_in(self)).cloned().collect();
        Self { lines, seen: self.seen.merge(&other.seen) }
    }

    fn not_removed_in<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a DottedLine> {
        self.lines.iter().filter(|line| other.lines.contains(line) || !other.seen.knows(&line.dot))
    }

    /// One line for each product.
    pub(super) fn line_of_each_product(&self) -> BTreeMap<&ProductId, &DottedLine> {
        // Lines are sorted: of one product the last one is the greatest, and stays in the map.
        self.lines.iter().map(|line| (&line.product_id, line)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REGIONS: [&str; 3] = ["singapore", "taiwan", "tokyo"];
    const PRODUCTS: [&str; 3] = ["cup", "pot", "tea"];

    fn line(product: &str, quantity: u32, region: &str, version: u64) -> DottedLine {
        let dot = Dot { version, region: region.to_owned() };
        DottedLine { product_id: product.parse().unwrap(), quantity: Quantity::of(quantity), dot }
    }

    fn contents(lines: &[DottedLine], seen: &[(&str, u64)]) -> Contents {
        let mut vector = VersionVector::default();
        for (region, version) in seen {
            vector.raise(region, *version);
        }
        Contents::new(lines, &vector)
    }

    fn shown(contents: &Contents) -> Vec<(&str, u32)> {
        let lines = contents.line_of_each_product().into_values();
        lines.map(|line| (line.product_id.as_str(), line.quantity.get())).collect()
    }

    /// Any contents: few regions, products and versions, and at least the writes that the lines
    /// name.
    fn any_contents() -> impl Strategy<Value = Contents> {
        let line = (0..3_usize, 1..4_u32, 0..3_usize, 1..4_u64)
            .prop_map(|(p, quantity, r, version)| line(PRODUCTS[p], quantity, REGIONS[r], version));
        let lines = prop::collection::vec(line, 0..6);
        (lines, prop::array::uniform3(0..5_u64)).prop_map(|(lines, versions)| {
            let mut contents = contents(&lines, &[]);
            for (region, version) in REGIONS.into_iter().zip(versions) {
                contents.seen.raise(region, version);
            }
            for line in &lines {
                contents.seen.raise(&line.dot.region, line.dot.version);
            }
            contents
        })
    }

    #[test]
    fn what_two_regions_add_at_the_same_time_is_there() {
        let tokyo = contents(&[line("tea", 1, "tokyo", 1)], &[("tokyo", 1)]);
        let taiwan = contents(&[line("pot", 2, "taiwan", 1)], &[("taiwan", 1)]);
        assert_eq!(shown(&tokyo.merge(&taiwan)), [("pot", 2), ("tea", 1)]);
    }

    #[test]
    fn a_removal_removes_what_it_saw_and_nothing_else() {
        let before = contents(&[line("tea", 1, "tokyo", 1)], &[("tokyo", 1)]);
        let removed = contents(&[], &[("tokyo", 1), ("taiwan", 1)]);
        let changed = contents(&[line("tea", 5, "tokyo", 2)], &[("tokyo", 2)]);
        assert_eq!(shown(&before.merge(&removed)), []);
        assert_eq!(shown(&changed.merge(&removed)), [("tea", 5)]);
    }

    #[test]
    fn of_two_lines_of_a_product_the_greater_quantity_counts() {
        let tokyo = contents(&[line("tea", 3, "tokyo", 1)], &[("tokyo", 1)]);
        let taiwan = contents(&[line("tea", 2, "taiwan", 9)], &[("taiwan", 9)]);
        assert_eq!(shown(&tokyo.merge(&taiwan)), [("tea", 3)]);
    }

    proptest! {
        #[test]
        fn merge_is_commutative(a in any_contents(), b in any_contents()) {
            prop_assert_eq!(a.merge(&b), b.merge(&a));
        }

        #[test]
        fn merge_is_associative(a in any_contents(), b in any_contents(), c in any_contents()) {
            prop_assert_eq!(a.merge(&b).merge(&c), a.merge(&b.merge(&c)));
        }

        #[test]
        fn merge_is_idempotent(a in any_contents(), b in any_contents()) {
            prop_assert_eq!(a.merge(&a), a.clone());
            let both = a.merge(&b);
            prop_assert_eq!(both.merge(&b), both.clone());
            prop_assert_eq!(both.merge(&Contents::default()), both);
        }
    }
}
