//! Carts: what a customer means to buy, on whatever device, until an order takes it.
//!
//! There is one cart per customer, so every session of theirs leads to it, and it outlives them all. It holds no prices and
//! reserves nothing; both are the order's business.
//!
//! A cart is a row per region, keyed by customer and region. A region writes its own row only, and reads all of them. The cart is what
//! they come to (`merge.rs`). A row says how often it was written (its version), and which versions of other regions' rows are part of it.
//!
//! 1. *Read*: all rows by key, consistently, in one call. No row is a cart without lines.
//! 2. *Replace* ([`Carts::replace`](dynamo::Carts::replace)): the region's own row is put whole, by compare-and-swap on its version, which rises by
//!    exactly one. It has the new lines and knows everything that was read. A line that stays as it was remains the same line. A line that
//!    is not among the new ones is removed, wherever it came from. The preconditions are held against the cart as it was read and, when
//!    the swap was overtaken, against the cart with the row that came back with the refusal: then it is either stale, or the swap is tried
//!    again. Without preconditions the last write in a region wins.
//! 3. *Delete* is to replace by no lines. The row stays, since its version must not begin anew: an entity tag of before
//!    would come true again.
//! 4. *Order* ([`crate::commerce::orders::dynamo::PlaceOrder`]): the order's transaction puts the own row without lines
//!    ([`CartRows::emptied`](dynamo::CartRows::emptied)), on the condition of its version. So the lines are in the cart or in one order.
//!
//! Each replacement leaves its id in the row. A replacement that finds its own id there, because the store's answer to its first try
//! got lost, has happened.
//!
//! # Regions
//! Two regions may write a cart at the same time, before they hear of each other.
//! - Lines that either added are in the cart. Lines that either removed or ordered are not, and do not come back.
//! - Of two quantities of one product the greater one counts. A line that one region changes and the other removes or orders stays, with the
//!   new quantity.
//! - The entity tag has the versions of all rows, so that it means the same cart in each region. In a single region it is the version of its
//!   row. A precondition is held against what the region knows: a write that has not arrived is not missed, but merged.
//!
//! Limits: [`MAX_LINES`] lines. Regions that add lines at the same time may exceed it: such a cart is read as it is, and not ordered until
//! lines are removed. Two regions may order one line, by two keys, before they hear of each other. By one key they make one order, which has
//! the lines of the region whose order stands; lines that only the other one took are gone. A region that puts a line again
//! which another has ordered, with the same quantity and before it hears of the order, puts nothing new: the order removes the line. Products
//! are not looked up before the order: a cart may name what is not for sale.

use std::cmp::Reverse;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::date_time::rfc3339;
use crate::core::ids::AttemptId;
use crate::core::precondition::{Current, EntityTag, Preconditions};
use crate::platform::dynamo::DynamoError;

pub mod dynamo;
mod lines;
mod merge;
#[cfg(test)]
mod tests;

use merge::{Contents, Dot, DottedLine, VersionVector};

pub use lines::{InvalidLines, Line, Lines, MAX_LINES, MAX_QUANTITY, Quantity};

/// A customer's cart, as a region knows it. The default is that of a customer who never had one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cart {
    rows: Vec<Row>,
    /// One for each product.
    lines: Vec<DottedLine>,
    seen: VersionVector,
    tag: EntityTag,
}

/// One region's row of a cart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    region: String,
    /// In the customer's order.
    lines: Vec<DottedLine>,
    /// The writes that are part of it. Of its own region that is its version.
    seen: VersionVector,
    updated_at: Timestamp,
    /// The latest replacement, if there was one.
    write_id: Option<AttemptId>,
}

impl Row {
    fn version(&self) -> u64 {
        self.seen.of(&self.region)
    }

    fn is_part_of(&self, other: &Self) -> bool {
        self.region != other.region && self.version() <= other.seen.of(&self.region)
    }
}

impl Default for Cart {
    fn default() -> Self {
        Self::merged(&[], &[])
    }
}

impl Cart {
    /// What the rows come to, in a region with these peers.
    fn merged(rows: &[Row], peers: &[String]) -> Self {
        // Rows that are part of others come last. So order and time follow from what was seen, as the lines do and the tag says.
        let is_part_of_another = |row: &Row| rows.iter().any(|other| row.is_part_of(other));
        let mut sorted = rows.to_vec();
        sorted
            .sort_by_cached_key(|row| (is_part_of_another(row), Reverse(row.updated_at), row.region.clone()));
        let contents = sorted.iter().map(|row| Contents::new(&row.lines, &row.seen));
        let contents = contents.reduce(|all, row| all.merge(&row)).unwrap_or_default();
        let mut left = contents.line_of_each_product();
        let products = sorted.iter().flat_map(|row| &row.lines).map(|line| &line.product_id);
        let lines = products.filter_map(|product| left.remove(product)).cloned().collect();
        let tag = contents.seen.tag(peers);
        Self { lines, tag, seen: contents.seen, rows: sorted }
    }

    /// The cart once `row` has replaced the one of its region.
    fn with(mut self, row: Row, peers: &[String]) -> Self {
        self.rows.retain(|other| other.region != row.region);
        self.rows.push(row);
        Self::merged(&self.rows, peers)
    }

    fn row_of(&self, region: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.region == region)
    }

    /// The row by which `region` makes these the lines of the cart. A line that stays as it is keeps its dot.
    fn next_row(&self, region: &str, lines: &Lines, at: Timestamp, write_id: Option<AttemptId>) -> Row {
        let dot = Dot { version: self.seen.of(region) + 1, region: region.to_owned() };
        let mut seen = self.seen.clone();
        seen.raise(region, dot.version);
        let dotted = |line: &Line| {
            let known = self.lines.iter().find(|known| known.is(line));
            known.cloned().unwrap_or_else(|| DottedLine::new(line, &dot))
        };
        let lines = lines.as_slice().iter().map(dotted).collect();
        Row { region: region.to_owned(), lines, seen, updated_at: at, write_id }
    }

    /// What is in it: one line a product. Perhaps more than [`MAX_LINES`].
    pub fn lines(&self) -> impl Iterator<Item = Line> {
        self.lines.iter().map(DottedLine::line)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Its entity tag.
    pub fn tag(&self) -> &EntityTag {
        &self.tag
    }

    /// The cart as its customer sees it.
    pub fn document(&self) -> Value {
        let mut document = json!({"lines": self.lines().collect::<Vec<_>>()});
        if let Some(latest) = self.rows.first() {
            document["updatedAt"] = rfc3339(latest.updated_at).into();
        }
        document
    }

    /// What preconditions are held against. A cart without lines is as good as none: `*` does not mean it.
    pub fn current(&self) -> Current {
        Current { tag: self.tag.clone(), exists: !self.is_empty() }
    }
}

/// The body of `PUT /cart`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CartDraft {
    /// What shall be in it; perhaps nothing.
    pub lines: Lines,
}

/// What a customer wants a cart to be.
#[derive(Debug, Clone)]
pub struct Replacement {
    /// What shall be in it.
    pub lines: Lines,
    pub preconditions: Preconditions,
}

/// Why a cart was not written.
#[derive(Debug, thiserror::Error)]
pub enum CartError {
    /// It is not the cart that the client knows.
    #[error("the cart is at {0}")]
    Stale(EntityTag),
    /// Others wrote it until the deadline.
    #[error("others wrote the cart until the deadline")]
    Contended,
    #[error(transparent)]
    Store(#[from] DynamoError),
}
