//! The catalogue: products, prices, and the units that each region has.
//!
//! A product is one row, written as a whole by operators: the last writer wins. Its units are
//! separate rows, one per region, written only by that region ([`dynamo`]); `available` is what the
//! answering region can sell.
//!
//! 1. Reads are public and may be slightly old: they go through a cache ([`cached`]). The price and
//!    availability of an order are decided when it is placed, by consistent reads and conditional
//!    writes.
//! 2. Orders take and return units by conditional arithmetic on the row ([`dynamo::take`],
//!    [`dynamo::release_stock`]).
//! 3. Operators change the units by a delta ([`dynamo::AdjustStock`]), idempotent by key: change,
//!    record and event are one transaction.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::core::cursor::InvalidCursor;
use crate::core::date_time::rfc3339;
use crate::core::ids::ProductId;
use crate::core::json;
use crate::core::money::{Currency, Money, MoneyError};
use crate::platform::dynamo::DynamoError;

pub mod cached;
pub mod dynamo;
mod row;

/// Longest name, in characters.
pub const MAX_NAME_CHARS: usize = 200;
/// Largest attributes, in bytes of JSON.
pub const MAX_ATTRIBUTES_BYTES: usize = 16 * 1024;
/// Most units that one change adds or takes.
pub const MAX_DELTA: i64 = 1_000_000;
/// Most units of a product in a region, so that no sum overflows.
pub const MAX_UNITS: u64 = 1_000_000_000;

/// A product.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// The id, chosen by the shop.
    pub product_id: ProductId,
    /// Name, price and attributes.
    pub draft: ProductDraft,
    /// When it was last written.
    pub updated_at: Timestamp,
    pub version: u64,
}

impl Product {
    /// The product as clients see it, with the units that this region can sell.
    pub fn document(&self, available: u64) -> Value {
        json!({
            "productId": self.product_id,
            "name": self.draft.name,
            "price": self.draft.price,
            "available": available,
            "attributes": self.draft.attributes,
            "updatedAt": rfc3339(self.updated_at),
        })
    }
}

/// The body of `PUT /products/{productId}`: everything that the operator sets.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Body")]
pub struct ProductDraft {
    /// 1 to [`MAX_NAME_CHARS`] characters.
    pub name: String,
    pub price: Money,
    /// Further attributes of the shop, up to [`MAX_ATTRIBUTES_BYTES`].
    pub attributes: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    name: String,
    price: Money,
    #[serde(default)]
    attributes: Map<String, Value>,
}

/// Why a body is not a product.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProduct {
    #[error("a name has 1 to {MAX_NAME_CHARS} characters, not only blanks and no control characters")]
    Name,
    #[error("price: {0}")]
    Price(MoneyError),
    #[error("price: {} is not an ISO 4217 currency with minor units", .0.as_str())]
    Currency(Currency),
    #[error("attributes are at most {MAX_ATTRIBUTES_BYTES} bytes of JSON, not {0}")]
    Attributes(usize),
}

impl TryFrom<Body> for ProductDraft {
    type Error = InvalidProduct;

    fn try_from(Body { name, price, attributes }: Body) -> Result<Self, InvalidProduct> {
        let length = name.chars().count();
        if name.trim().is_empty() || length > MAX_NAME_CHARS || name.chars().any(char::is_control) {
            return Err(InvalidProduct::Name);
        }
        let price = price.bounded().map_err(InvalidProduct::Price)?;
        if !price.currency.is_listed() {
            return Err(InvalidProduct::Currency(price.currency));
        }
        let attributes = Value::Object(attributes);
        let size_bytes = attributes.to_string().len();
        match attributes {
            Value::Object(attributes) if size_bytes <= MAX_ATTRIBUTES_BYTES => {
                Ok(Self { name, price, attributes })
            }
            _ => Err(InvalidProduct::Attributes(size_bytes)),
        }
    }
}

/// The body of `POST /products/{productId}/stock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StockChange {
    /// Units to add, or to remove if negative.
    pub delta: Delta,
}

/// A number of units to add or take: -[`MAX_DELTA`] to [`MAX_DELTA`], not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Delta(i64);

/// A number that is not a [`Delta`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a delta is from -{MAX_DELTA} to {MAX_DELTA}, and not 0")]
pub struct InvalidDelta;

impl<'de> Deserialize<'de> for Delta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::integer::<_, i64>(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}

impl TryFrom<i64> for Delta {
    type Error = InvalidDelta;

    fn try_from(units: i64) -> Result<Self, InvalidDelta> {
        if units != 0 && (-MAX_DELTA..=MAX_DELTA).contains(&units) {
            Ok(Self(units))
        } else {
            Err(InvalidDelta)
        }
    }
}

impl Delta {
    /// The units to add; negative ones are taken.
    pub fn units(self) -> i64 {
        self.0
    }

    /// The units after the change.
    pub fn applied_to(self, available: u64) -> Result<u64, StockRefusal> {
        match available.checked_add_signed(self.0) {
            Some(sum) if sum <= MAX_UNITS => Ok(sum),
            Some(_) => Err(StockRefusal::AboveMax),
            None => Err(StockRefusal::BelowZero { available }),
        }
    }
}

/// The units of a product in a region after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StockLevel {
    pub product_id: ProductId,
    pub region: String,
    /// The units that were read just before, plus the change.
    pub available: u64,
}

/// Why the stock was not changed. Final.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StockRefusal {
    /// There is no such product.
    #[error("there is no product {0}")]
    UnknownProduct(ProductId),
    /// The change would remove more units than there are.
    #[error("only {available} units are in stock")]
    BelowZero { available: u64 },
    /// The change would pass [`MAX_UNITS`].
    #[error("a region has at most {MAX_UNITS} units of a product")]
    AboveMax,
}

/// Why a page of products was not read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The cursor is not of this list.
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    #[error(transparent)]
    Store(#[from] DynamoError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn draft(name: &str, attributes: &Value) -> Result<ProductDraft, String> {
        let price = json!({"amount": 100, "currency": "TWD"});
        serde_json::from_value(json!({"name": name, "price": price, "attributes": attributes}))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_product_without_attributes_has_none() {
        let body = json!({"name": "Tea", "price": {"amount": 1, "currency": "TWD"}});
        assert_eq!(serde_json::from_value::<ProductDraft>(body).unwrap().attributes, Map::new());
    }

    #[test]
    fn attributes_are_an_object_of_at_most_16_kilobytes() {
        let of_size = |bytes: usize| json!({"a": "x".repeat(bytes - r#"{"a":""}"#.len())});
        assert!(draft("Tea", &of_size(MAX_ATTRIBUTES_BYTES)).is_ok());
        assert!(draft("Tea", &of_size(MAX_ATTRIBUTES_BYTES + 1)).unwrap_err().contains("not 16385"));
        assert!(draft("Tea", &json!(["a"])).is_err());
    }

    #[test]
    fn a_price_is_a_whole_number_that_json_keeps_exact() {
        for amount in [json!(-1), json!(1.5), json!(Money::MAX_AMOUNT + 1), json!("1")] {
            let body = json!({"name": "Tea", "price": {"amount": amount, "currency": "TWD"}});
            assert!(serde_json::from_value::<ProductDraft>(body).is_err(), "{amount}");
        }
    }

    #[test]
    fn a_price_is_in_a_currency_of_iso_4217() {
        let body = |currency: &str| json!({"name": "Tea", "price": {"amount": 1, "currency": currency}});
        assert!(serde_json::from_value::<ProductDraft>(body("TWD")).is_ok());
        for (currency, why) in [
            ("XYZ", "XYZ is not an ISO 4217 currency"),
            ("XXX", "XXX is not an ISO 4217 currency"),
            ("twd", "capital letters"),
        ] {
            let error = serde_json::from_value::<ProductDraft>(body(currency)).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn names_are_bounded_and_printable(name in "\\PC{0,250}") {
            let fits = name.chars().count() <= 200 && !name.trim().is_empty() && !name.chars().any(char::is_control);
            prop_assert_eq!(draft(&name, &json!({})).is_ok(), fits);
        }

        #[test]
        fn a_delta_never_leaves_the_bounds(available in 0..=MAX_UNITS, units in -MAX_DELTA..=MAX_DELTA) {
            let Ok(delta) = Delta::try_from(units) else { prop_assert_eq!(units, 0); return Ok(()) };
            let exact = i128::from(available) + i128::from(units);
            let fits = (0..=i128::from(MAX_UNITS)).contains(&exact);
            prop_assert_eq!(delta.applied_to(available).ok().map(i128::from), fits.then_some(exact));
        }
    }
}
