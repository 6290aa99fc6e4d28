//! Slots: how many exports a customer may have open at a time.
//!
//! A customer has [`MAX_OPEN`] slots in a region, a row each. An export takes a free one in the transaction that writes it, and
//! gives it back in the transaction that ends it. A slot expires when its export does, so an export that nobody ever worked on
//! holds its slot no longer than it is kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Most exports that a customer has open in a region. Each may read all of the customer's orders.
pub const MAX_OPEN: u8 = 5;

/// When a customer whose slots are all taken may ask again. Most exports take seconds.
pub const SLOT_RETRY: Duration = Duration::from_secs(10);

/// One of a customer's slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(String);

impl Slot {
    /// A customer's slots in `region`.
    pub fn all(region: &str) -> impl Iterator<Item = Self> {
        (0..MAX_OPEN).map(move |number| Self(format!("slot#{region}#{number}")))
    }

    /// The slot as text: the sort key of its row.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// All of a customer's slots are taken. 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_OPEN} exports are open already; ask again when one of them has ended")]
pub struct TooManyOpen;
