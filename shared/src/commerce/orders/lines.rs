//! The request for an order, and its prices.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::{OrderLine, OrderRefusal};
use crate::commerce::carts::{Line, Lines, MAX_LINES};
use crate::core::ids::ProductId;
use crate::core::money::Money;

/// The body of `POST /orders`: either lines, or that the cart is ordered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Body")]
pub enum OrderRequest {
    /// These lines; at least one.
    Lines(Lines),
    /// The lines of the customer's cart, which the order empties.
    Cart,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Body {
    #[serde(default, deserialize_with = "given")]
    lines: Option<Lines>,
    #[serde(default, deserialize_with = "given")]
    from_cart: Option<bool>,
}

/// A member that may be absent, but not null.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Why a body is not an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrder {
    /// Both of the two, or neither.
    #[error("an order has either lines or fromCart: true")]
    Source,
    #[error("an order has 1 to {MAX_LINES} lines")]
    NoLines,
}

impl TryFrom<Body> for OrderRequest {
    type Error = InvalidOrder;

    fn try_from(body: Body) -> Result<Self, InvalidOrder> {
        match (body.lines, body.from_cart) {
            (Some(lines), None) if lines.is_empty() => Err(InvalidOrder::NoLines),
            (Some(lines), None) => Ok(Self::Lines(lines)),
            (None, Some(true)) => Ok(Self::Cart),
            _ => Err(InvalidOrder::Source),
        }
    }
}

/// The lines with their current prices, and their sum.
pub fn price(
    lines: &Lines,
    prices: &BTreeMap<ProductId, Money>,
) -> Result<(Vec<OrderLine>, Money), OrderRefusal> {
    let mut found = Vec::with_capacity(lines.as_slice().len());
    let mut unknown = Vec::new();
    for Line { product_id, quantity } in lines.as_slice() {
        match prices.get(product_id) {
            Some(&unit_price) => {
                found.push(OrderLine { product_id: product_id.clone(), quantity: *quantity, unit_price });
            }
            None => unknown.push(product_id.clone()),
        }
    }
    let sums = found.iter().map(|line| line.unit_price.times(line.quantity.get()));
    match sums.reduce(|total, sum| total?.plus(sum?)) {
        Some(total) if unknown.is_empty() => Ok((found, total.map_err(OrderRefusal::NoTotal)?)),
        _ => Err(OrderRefusal::UnknownProducts(unknown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::money::MoneyError;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(body: Value) -> Result<OrderRequest, String> {
        serde_json::from_value(body).map_err(|error| error.to_string())
    }

    fn lines(list: &[(&str, u32)]) -> Lines {
        let lines: Value = list.iter().map(|(id, n)| json!({"productId": id, "quantity": n})).collect();
        serde_json::from_value(lines).unwrap()
    }

    fn prices(list: &[(&str, u64, &str)]) -> BTreeMap<ProductId, Money> {
        let money = |amount, currency: &str| Money { amount, currency: currency.parse().unwrap() };
        list.iter().map(|(id, amount, currency)| (id.parse().unwrap(), money(*amount, currency))).collect()
    }

    #[test]
    fn an_order_is_of_lines_or_of_the_cart() {
        let tea = json!([{"productId": "tea", "quantity": 1}]);
        assert_eq!(read(json!({"lines": tea})), Ok(OrderRequest::Lines(lines(&[("tea", 1)]))));
        assert_eq!(read(json!({"fromCart": true})), Ok(OrderRequest::Cart));
        for (body, why) in [
            (json!({}), "either lines or fromCart"),
            (json!({"lines": tea, "fromCart": true}), "either lines or fromCart"),
            (json!({"lines": tea, "fromCart": false}), "either lines or fromCart"),
            (json!({"fromCart": false}), "either lines or fromCart"),
            (json!({"lines": null, "fromCart": true}), "invalid type"),
            (json!({"lines": tea, "fromCart": null}), "invalid type"),
            (json!({"lines": []}), "1 to 94 lines"),
            (json!({"lines": tea, "total": 1}), "unknown field"),
        ] {
            let error = read(body.clone()).expect_err("must be refused");
            assert!(error.contains(why), "{body}: {error}");
        }
    }

    #[test]
    fn the_server_knows_the_prices() {
        let prices = prices(&[("pot", 900, "TWD"), ("tea", 50, "TWD")]);
        let (lines, total) = price(&lines(&[("tea", 3), ("pot", 1)]), &prices).unwrap();
        assert_eq!(total.amount, 3 * 50 + 900);
        assert_eq!(lines.iter().map(|line| line.unit_price.amount).collect::<Vec<_>>(), [50, 900]);
    }

    #[test]
    fn what_has_no_price_is_named() {
        let refusal = price(&lines(&[("tea", 1), ("elixir", 1)]), &prices(&[("tea", 50, "TWD")]));
        assert_eq!(refusal, Err(OrderRefusal::UnknownProducts(vec!["elixir".parse().unwrap()])));
    }

    #[test]
    fn two_currencies_make_no_order() {
        let prices = prices(&[("tea", 50, "TWD"), ("pot", 9, "JPY")]);
        let refusal = price(&lines(&[("tea", 1), ("pot", 1)]), &prices);
        assert!(matches!(refusal, Err(OrderRefusal::NoTotal(MoneyError::MixedCurrencies(..)))));
    }

    proptest! {
        #[test]
        fn a_total_is_exact_or_refused(items in prop::collection::btree_map("[a-z]{1,8}", (1..=999_u32, 0..=Money::MAX_AMOUNT), 1..20)) {
            let list: Vec<_> = items.iter().map(|(id, (_, amount))| (id.as_str(), *amount, "TWD")).collect();
            let asked: Vec<_> = items.iter().map(|(id, (quantity, _))| (id.as_str(), *quantity)).collect();
            let exact: u128 = items.values().map(|(q, a)| u128::from(*q) * u128::from(*a)).sum();
            let total = price(&lines(&asked), &prices(&list)).map(|(_, total)| u128::from(total.amount));
            prop_assert_eq!(total.ok(), (exact <= u128::from(Money::MAX_AMOUNT)).then_some(exact));
        }

        #[test]
        fn no_json_makes_the_body_parser_panic(text in "\\PC{0,200}") {
            prop_assert!(serde_json::from_str::<OrderRequest>(&text).is_err());
        }
    }
}
