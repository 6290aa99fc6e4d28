//! What a customer asks for, and what it costs.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Deserializer, Serialize};

use super::{OrderLine, Refusal};
use crate::ids::ProductId;
use crate::money::Money;

/// Most lines of an order. A DynamoDB transaction takes 100 actions: 96 stock rows, the order, its idempotency record,
/// its event, and one in reserve.
pub const MAX_LINES: usize = 96;
/// Most units of a line.
pub const MAX_QUANTITY: u32 = 999;

/// 1 to [`MAX_QUANTITY`] units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(u32);

impl Quantity {
    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            units @ 1..=MAX_QUANTITY => Ok(Self(units)),
            _ => Err(serde::de::Error::custom(format_args!("a quantity is from 1 to {MAX_QUANTITY}"))),
        }
    }
}

/// A line as the client sends it: no price.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestedLine {
    /// What.
    pub product_id: ProductId,
    /// How many.
    pub quantity: Quantity,
}

/// The body of `POST /orders`: 1 to [`MAX_LINES`] lines, one line a product.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Body")]
pub struct OrderRequest {
    lines: Vec<RequestedLine>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    lines: Vec<RequestedLine>,
}

/// Lines that make no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnfitLines {
    /// None, or too many.
    #[error("an order has 1 to {MAX_LINES} lines, not {0}")]
    Count(usize),
    /// Two lines of one product.
    #[error("the product {0} is on two lines")]
    Repeated(ProductId),
}

impl OrderRequest {
    /// The lines.
    pub fn lines(&self) -> &[RequestedLine] {
        &self.lines
    }
}

impl TryFrom<Body> for OrderRequest {
    type Error = UnfitLines;

    fn try_from(Body { lines }: Body) -> Result<Self, UnfitLines> {
        if !(1..=MAX_LINES).contains(&lines.len()) {
            return Err(UnfitLines::Count(lines.len()));
        }
        let mut seen = HashSet::new();
        if let Some(line) = lines.iter().find(|line| !seen.insert(&line.product_id)) {
            return Err(UnfitLines::Repeated(line.product_id.clone()));
        }
        Ok(Self { lines })
    }
}

/// The lines with the prices of the moment, and their sum.
pub fn price(
    lines: &[RequestedLine],
    prices: &BTreeMap<ProductId, Money>,
) -> Result<(Vec<OrderLine>, Money), Refusal> {
    let mut found = Vec::with_capacity(lines.len());
    let mut unknown = Vec::new();
    for RequestedLine { product_id, quantity } in lines {
        match prices.get(product_id) {
            Some(&unit_price) => {
                found.push(OrderLine { product_id: product_id.clone(), quantity: *quantity, unit_price });
            }
            None => unknown.push(product_id.clone()),
        }
    }
    let sums = found.iter().map(|line| line.unit_price.times(line.quantity.get()));
    match sums.reduce(|total, sum| total?.plus(sum?)) {
        Some(total) if unknown.is_empty() => Ok((found, total.map_err(Refusal::NoTotal)?)),
        _ => Err(Refusal::UnknownProducts(unknown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::MoneyError;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(body: Value) -> Result<OrderRequest, String> {
        serde_json::from_value(body).map_err(|error| error.to_string())
    }

    fn request(lines: &[(&str, u32)]) -> OrderRequest {
        let lines: Vec<_> = lines.iter().map(|(id, n)| json!({"productId": id, "quantity": n})).collect();
        read(json!({"lines": lines})).unwrap()
    }

    fn prices(list: &[(&str, u64, &str)]) -> BTreeMap<ProductId, Money> {
        let money = |amount, currency: &str| Money { amount, currency: currency.parse().unwrap() };
        list.iter().map(|(id, amount, currency)| (id.parse().unwrap(), money(*amount, currency))).collect()
    }

    #[test]
    fn a_body_with_anything_unexpected_is_refused() {
        let line = json!({"productId": "tea", "quantity": 1});
        for (body, why) in [
            (json!({}), "missing field"),
            (json!({"lines": []}), "1 to 96 lines"),
            (json!({"lines": vec![line.clone(); 97]}), "1 to 96 lines"),
            (json!({"lines": [line, line]}), "on two lines"),
            (json!({"lines": [line], "total": 1}), "unknown field"),
            (json!({"lines": [{"productId": "tea", "quantity": 0}]}), "from 1 to 999"),
            (json!({"lines": [{"productId": "tea", "quantity": 1_000}]}), "from 1 to 999"),
            (json!({"lines": [{"productId": "tea", "quantity": 1.5}]}), "invalid type"),
            (json!({"lines": [{"productId": "tea", "quantity": 1, "unitPrice": 1}]}), "unknown field"),
            (json!({"lines": [{"productId": "Tea", "quantity": 1}]}), "product id"),
        ] {
            let error = read(body.clone()).expect_err("must be refused");
            assert!(error.contains(why), "{body}: {error}");
        }
    }

    #[test]
    fn the_server_knows_the_prices() {
        let (lines, total) = price(
            request(&[("tea", 3), ("pot", 1)]).lines(),
            &prices(&[("pot", 900, "TWD"), ("tea", 50, "TWD")]),
        )
        .unwrap();
        assert_eq!(total.amount, 3 * 50 + 900);
        assert_eq!(lines.iter().map(|line| line.unit_price.amount).collect::<Vec<_>>(), [50, 900]);
    }

    #[test]
    fn what_has_no_price_is_named() {
        let refusal = price(request(&[("tea", 1), ("elixir", 1)]).lines(), &prices(&[("tea", 50, "TWD")]));
        assert_eq!(refusal, Err(Refusal::UnknownProducts(vec!["elixir".parse().unwrap()])));
    }

    #[test]
    fn two_currencies_make_no_order() {
        let prices = prices(&[("tea", 50, "TWD"), ("pot", 9, "JPY")]);
        let refusal = price(request(&[("tea", 1), ("pot", 1)]).lines(), &prices);
        assert!(matches!(refusal, Err(Refusal::NoTotal(MoneyError::MixedCurrencies(..)))));
    }

    proptest! {
        #[test]
        fn a_total_is_exact_or_refused(lines in prop::collection::btree_map("[a-z]{1,8}", (1..=999_u32, 0..=Money::MAX_AMOUNT), 1..20)) {
            let list: Vec<_> = lines.iter().map(|(id, (_, amount))| (id.as_str(), *amount, "TWD")).collect();
            let asked: Vec<_> = lines.iter().map(|(id, (quantity, _))| (id.as_str(), *quantity)).collect();
            let exact: u128 = lines.values().map(|(q, a)| u128::from(*q) * u128::from(*a)).sum();
            let total = price(request(&asked).lines(), &prices(&list)).map(|(_, total)| u128::from(total.amount));
            prop_assert_eq!(total.ok(), (exact <= u128::from(Money::MAX_AMOUNT)).then_some(exact));
        }

        #[test]
        fn no_json_makes_the_body_parser_panic(text in "\\PC{0,200}") {
            prop_assert!(serde_json::from_str::<OrderRequest>(&text).is_err());
        }
    }
}
