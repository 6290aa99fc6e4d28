//! Carts: what a customer means to buy, on whatever device, until an order takes it.
//!
//! A cart is one row, keyed by its customer: there is one per customer, so every session of theirs leads to it, and it
//! outlives them all. It holds no prices and reserves nothing; both are the order's business.
//!
//! 1. *Read*: by key, consistently. No row is a cart without lines, at version 0.
//! 2. *Replace* ([`Carts::replace`](dynamo::Carts::replace)): the lines are written whole, by compare-and-swap on the version, which rises by
//!    exactly one. The preconditions are held against the cart as it was read and, when the swap was overtaken, against the
//!    cart that came back with the refusal: then it is either stale, or the swap is tried again. Without preconditions the
//!    last write wins.
//! 3. *Delete* is to replace by no lines. The row stays, since its version must not begin anew: an entity tag of before
//!    would come true again.
//! 4. *Order* ([`crate::commerce::orders::dynamo::PlaceOrder`]): the order's transaction empties the cart ([`dynamo::empty`]), on
//!    the condition of the version whose lines it took. So the lines are in the cart or in one order.
//!
//! Each write leaves its id in the row. A write that finds its own id there, because the store's answer to its first try
//! got lost, has happened.
//!
//! Limits: [`MAX_LINES`] lines. Products are not looked up before the order: a cart may name what is not for sale.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::date_time::rfc3339;
use crate::core::ids::AttemptId;
use crate::core::precondition::{Current, EntityTag, Preconditions};
use crate::platform::dynamo::DynamoError;

pub mod dynamo;
mod lines;

pub use lines::{Line, Lines, MAX_LINES, MAX_QUANTITY, Quantity, UnfitLines};

/// A customer's cart. The default is that of a customer who never had one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cart {
    /// What is in it.
    pub lines: Lines,
    /// How often it was written.
    pub version: u64,
    /// How it came to be as it is; `None` if it was never written.
    pub written: Option<Written>,
}

/// The mark of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// When.
    pub at: Timestamp,
    /// By which attempt of [`Carts::replace`](dynamo::Carts::replace).
    pub by: AttemptId,
}

impl Cart {
    /// The cart as its customer sees it.
    pub fn document(&self) -> Value {
        let mut document = json!({"lines": self.lines});
        if let Some(written) = &self.written {
            document["updatedAt"] = rfc3339(written.at).into();
        }
        document
    }

    /// What preconditions are held against. A cart without lines is as good as none: `*` does not mean it.
    pub fn current(&self) -> Current {
        Current { tag: EntityTag::Version(self.version), exists: !self.lines.is_empty() }
    }

    /// Whether `write` is what made it.
    fn is_written_by(&self, write: &AttemptId) -> bool {
        self.written.as_ref().is_some_and(|written| written.by == *write)
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
    /// On which cart.
    pub preconditions: Preconditions,
}

/// Why a cart was not written.
#[derive(Debug, thiserror::Error)]
pub enum CartError {
    /// It is not the cart that the client knows.
    #[error("the cart is at version {version}")]
    Stale {
        /// The version that stands.
        version: u64,
    },
    /// Others wrote it until the deadline.
    #[error("others wrote the cart until the deadline")]
    Contended,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] DynamoError),
}
