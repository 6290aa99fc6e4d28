//! Products and quantities, without prices.

use std::collections::HashSet;

use serde::{Deserialize, Deserializer, Serialize};

use crate::core::ids::ProductId;
use crate::core::json;

/// Most lines of a cart and of an order. A DynamoDB transaction takes 100 actions: 94 stock rows,
/// the order, its reservation, its idempotency record, its event, the count of unpaid orders, and
/// the cart.
pub const MAX_LINES: usize = 94;
/// Most units of a line.
pub const MAX_QUANTITY: u32 = 999;

/// 1 to [`MAX_QUANTITY`] units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Quantity(u32);

impl Quantity {
    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }

    #[cfg(test)]
    pub(super) fn of(units: u32) -> Self {
        Self(units)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match json::integer(deserializer)? {
            units @ 1..=MAX_QUANTITY => Ok(Self(units)),
            _ => Err(serde::de::Error::custom(format_args!("a quantity is from 1 to {MAX_QUANTITY}"))),
        }
    }
}

/// A quantity of one product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Line {
    pub product_id: ProductId,
    pub quantity: Quantity,
}

/// Up to [`MAX_LINES`] lines, one per product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Line>")]
pub struct Lines(Vec<Line>);

/// Why lines are not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLines {
    /// More than [`MAX_LINES`].
    #[error("at most {MAX_LINES} lines are allowed, not {0}")]
    TooMany(usize),
    /// Two lines of one product.
    #[error("the product {0} is on two lines")]
    Repeated(ProductId),
}

impl Lines {
    /// The lines, in the customer's order.
    pub fn as_slice(&self) -> &[Line] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<Line>> for Lines {
    type Error = InvalidLines;

    fn try_from(lines: Vec<Line>) -> Result<Self, InvalidLines> {
        if lines.len() > MAX_LINES {
            return Err(InvalidLines::TooMany(lines.len()));
        }
        let mut seen = HashSet::new();
        if let Some(line) = lines.iter().find(|line| !seen.insert(&line.product_id)) {
            return Err(InvalidLines::Repeated(line.product_id.clone()));
        }
        Ok(Self(lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(lines: Value) -> Result<Lines, String> {
        serde_json::from_value(lines).map_err(|error| error.to_string())
    }

    #[test]
    fn lines_that_do_not_fit_are_told_why() {
        let line = json!({"productId": "tea", "quantity": 1});
        for (lines, why) in [
            (json!(vec![line.clone(); 95]), "at most 94 lines"),
            (json!([line, line]), "on two lines"),
            (json!([{"productId": "tea", "quantity": 0}]), "from 1 to 999"),
            (json!([{"productId": "tea", "quantity": 1_000}]), "from 1 to 999"),
            (json!([{"productId": "tea", "quantity": 1.5}]), "not an integer"),
            (json!([{"productId": "tea", "quantity": "1"}]), "invalid type"),
            (json!([{"productId": "tea", "quantity": 1, "unitPrice": 1}]), "unknown field"),
            (json!([{"productId": "Tea", "quantity": 1}]), "product id"),
        ] {
            let error = read(lines.clone()).expect_err("must be refused");
            assert!(error.contains(why), "{lines}: {error}");
        }
    }

    #[test]
    fn no_lines_and_as_many_as_there_may_be_are_fine() {
        let lines = |count: usize| -> Value {
            (0..count).map(|n| json!({"productId": format!("p{n}"), "quantity": 1})).collect()
        };
        assert!(read(lines(0)).unwrap().is_empty());
        assert_eq!(read(lines(MAX_LINES)).unwrap().as_slice().len(), MAX_LINES);
    }

    proptest! {
        #[test]
        fn lines_are_written_as_they_were_read(quantities in prop::collection::btree_map("[a-z]{1,8}", 1..=999_u32, 0..20)) {
            let lines: Value =
                quantities.iter().map(|(id, n)| json!({"productId": id, "quantity": n})).collect();
            prop_assert_eq!(serde_json::to_value(read(lines.clone()).unwrap()).unwrap(), lines);
        }
    }
}
