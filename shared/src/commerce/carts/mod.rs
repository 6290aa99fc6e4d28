//! Carts: what a customer intends to buy, the same on every device, until an order takes it.
//!
//! There is one cart per customer, shared by all sessions, which it outlives. It holds no prices
//! and reserves nothing; the order does both.
//!
//! A cart is stored as a row per region, keyed by customer and region. A region writes its own row
//! only, reads all of them, and merges them (`merge.rs`). A row has a version (the number of its
//! writes), and the versions of other regions' rows that are part of it.
//!
//! 1. *Read*: all rows by key, consistently, in one call. No row means an empty cart.
//! 2. *Replace* ([`Carts::replace`](dynamo::Carts::replace)): the region's own row is put as a
//!    whole, by compare-and-swap on its version, which rises by exactly one. It has the new lines
//!    and knows every write that was read. An unchanged line keeps its dot. A line that is missing
//!    among the new ones is removed, whichever region added it. Preconditions are evaluated on the
//!    cart as it was read and, if the swap was overtaken, on the cart with the row that DynamoDB
//!    returned: then the precondition fails, or the swap is retried. Without preconditions the last
//!    write in a region wins.
//! 3. *Delete* replaces the cart by no lines. The row stays, since its version must not start
//!    again: an old entity tag would become valid again.
//! 4. *Order* ([`crate::commerce::orders::dynamo::PlaceOrder`]): the order's transaction empties
//!    the region's row ([`CartRows::emptied`](dynamo::CartRows::emptied)), on the condition of its
//!    version. So the lines are either in the cart or in one order.
//!
//! Each replacement stores its id in the row. If the answer to its first try was lost, it finds its
//! own id and knows that it has succeeded.
//!
//! # Regions
//! Two regions may write a cart at the same time, before the writes are replicated.
//! - Lines that either added are in the cart. Lines that either removed or ordered are not, and do
//!   not come back.
//! - Of two quantities of one product the greater one wins. A line that one region changes and the
//!   other removes or orders stays, with the new quantity.
//! - The entity tag has the versions of all rows, so that it means the same cart in each region. In
//!   a single region it is the version of its row. A precondition is evaluated on the writes that
//!   the region knows; a write that has not arrived is merged later.
//!
//! Limits: [`MAX_LINES`] lines. Regions that add lines concurrently may exceed it: such a cart is
//! readable, and cannot be ordered until lines are removed. Two regions may order one line, with
//! two keys, before the orders are replicated. With one key they make one order, which has the
//! lines of the region whose order wins; lines that only the other one took are gone. If a region
//! adds a line again that another has ordered, with the same quantity and before it knows of the
//! order, nothing changes: the order removes the line. Products are not looked up before the order:
//! a cart may contain products that do not exist.

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

/// A customer's cart, as a region knows it. The default is the cart of a customer who never had
/// one.
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
    /// The writes that are part of it. For its own region, its version.
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
    /// The merge of the rows, in a region with these peers.
    fn merged(rows: &[Row], peers: &[String]) -> Self {
        // Rows that are part of other rows come last. So order and time follow from the known
        // writes, as the lines and the tag do.
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

    /// The cart after `row` has replaced the one of its region.
    fn with(mut self, row: Row, peers: &[String]) -> Self {
        self.rows.retain(|other| other.region != row.region);
        self.rows.push(row);
        Self::merged(&self.rows, peers)
    }

    fn row_of(&self, region: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.region == region)
    }

    /// The row with which `region` sets the lines of the cart. An unchanged line keeps its dot.
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

    /// The lines, one per product. Possibly more than [`MAX_LINES`].
    pub fn lines(&self) -> impl Iterator<Item = Line> {
        self.lines.iter().map(DottedLine::line)
    }

    /// Whether it has no lines.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The entity tag.
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

    /// The state for preconditions. For `*`, an empty cart does not exist.
    pub fn current(&self) -> Current {
        Current { tag: self.tag.clone(), exists: !self.is_empty() }
    }
}

/// The body of `PUT /cart`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CartDraft {
    pub lines: Lines,
}

/// A requested new state of a cart.
#[derive(Debug, Clone)]
pub struct Replacement {
    pub lines: Lines,
    pub preconditions: Preconditions,
}

/// Why a cart was not written.
#[derive(Debug, thiserror::Error)]
pub enum CartError {
    /// The client's version is not the current one.
    #[error("the cart is at {0}")]
    Stale(EntityTag),
    /// Other writes were faster until the deadline.
    #[error("others wrote the cart until the deadline")]
    Contended,
    #[error(transparent)]
    Store(#[from] DynamoError),
}
