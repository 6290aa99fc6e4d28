//! Sums over orders in bounded memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::{Failures, OrderCounts, ProductUnits, Revenue};
use crate::commerce::orders::{CancelReason, OrderOfDay, OrderStatus};
use crate::core::ids::ProductId;
use crate::core::money::Currency;

/// Sums over the orders seen so far.
#[derive(Debug, Default)]
pub struct Tally {
    orders: OrderCounts,
    revenue: BTreeMap<Currency, u128>,
    units: HashMap<ProductId, u64>,
    /// How many units a product may have had when it was dropped from `units`, summed over all
    /// drops.
    error_units: u64,
    failures: Failures,
}

/// The best-selling products, and the error bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopProducts {
    /// Most units first; equal ones by name.
    pub products: Vec<ProductUnits>,
    /// By how many units a figure can at most be too low.
    pub error_units: u64,
}

impl Tally {
    /// Products that are counted at the same time: some 2 MB. With more, the less sold half is
    /// dropped, and the possible error is recorded.
    pub const MAX_PRODUCTS: usize = 20_000;

    /// Products in the report.
    pub const TOP: usize = 10;

    /// Adds an order.
    pub fn add(&mut self, order: &OrderOfDay) {
        self.orders.total += 1;
        *self.orders.by_status.entry(order.status.as_str()).or_default() += 1;
        self.failures.declined_payments += u64::from(order.payment_generation);
        match order.status {
            OrderStatus::Paid => self.add_sale(order),
            OrderStatus::Cancelled => match order.cancel_reason {
                Some(CancelReason::Unpaid) => self.failures.expired += 1,
                Some(CancelReason::Customer) | None => self.failures.cancelled += 1,
            },
            OrderStatus::PendingPayment => {}
        }
    }

    fn add_sale(&mut self, order: &OrderOfDay) {
        *self.revenue.entry(order.total.currency).or_default() += u128::from(order.total.amount);
        for line in &order.lines {
            if self.units.len() >= Self::MAX_PRODUCTS && !self.units.contains_key(&line.product_id) {
                self.drop_less_sold_half();
            }
            *self.units.entry(line.product_id.clone()).or_default() += u64::from(line.quantity.get());
        }
    }

    /// Counts an order that could not be read.
    pub fn add_unreadable(&mut self) {
        self.failures.unreadable_orders += 1;
    }

    /// A dropped product that appears again starts from zero, so its figure is too low by at most
    /// what it had. The sum of the largest dropped figures of all drops bounds that.
    fn drop_less_sold_half(&mut self) {
        let mut units: Vec<u64> = self.units.values().copied().collect();
        let (_, median, _) = units.select_nth_unstable(Self::MAX_PRODUCTS / 2);
        let limit = *median;
        // All figures equal to the limit are dropped: at least half of all.
        self.units.retain(|_, units| *units > limit);
        self.error_units += limit;
    }

    /// The counts of orders.
    pub fn orders(&self) -> OrderCounts {
        self.orders.clone()
    }

    /// The revenue by currency.
    pub fn revenue(&self) -> Vec<Revenue> {
        self.revenue.iter().map(|(&currency, &amount)| Revenue { amount, currency }).collect()
    }

    /// The failures.
    pub fn failures(&self) -> Failures {
        self.failures
    }

    /// The best sold products.
    pub fn top_products(&self) -> TopProducts {
        let mut sold: Vec<_> = self.units.iter().collect();
        sold.sort_unstable_by_key(|&(product_id, &units)| (Reverse(units), product_id));
        let products = sold
            .into_iter()
            .take(Self::TOP)
            .map(|(product_id, &units)| ProductUnits { product_id: product_id.clone(), units })
            .collect();
        TopProducts { products, error_units: self.error_units }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paid(product: &str, quantity: u32) -> OrderOfDay {
        serde_json::from_value(json!({
            "status": "PAID",
            "lines": [{"productId": product, "quantity": quantity, "unitPrice": {"amount": 1, "currency": "TWD"}}],
            "total": {"amount": quantity, "currency": "TWD"},
        }))
        .unwrap()
    }

    #[test]
    fn revenue_goes_on_beyond_what_one_amount_can_hold() {
        let mut tally = Tally::default();
        let mut order = paid("tea", 1);
        order.total.amount = crate::core::money::Money::MAX_AMOUNT;
        for _ in 0..3_000 {
            tally.add(&order);
        }
        let expected = 3_000 * u128::from(crate::core::money::Money::MAX_AMOUNT);
        assert!(expected > u128::from(u64::MAX), "the sum is beyond 64 bits");
        assert_eq!(tally.revenue()[0].amount, expected);
    }

    #[test]
    fn equals_are_told_apart_by_name_and_the_rest_is_left_out() {
        let mut tally = Tally::default();
        for n in 0..12 {
            tally.add(&paid(&format!("p{n:02}"), if n == 11 { 2 } else { 1 }));
        }
        let TopProducts { products, error_units } = tally.top_products();
        assert_eq!((products.len(), error_units), (Tally::TOP, 0));
        assert_eq!((products[0].product_id.as_str(), products[0].units), ("p11", 2));
        assert_eq!(products[1].product_id.as_str(), "p00");
    }

    #[test]
    fn memory_stays_bounded_and_the_error_is_told_when_products_abound() {
        let mut tally = Tally::default();
        for n in 0..3 * Tally::MAX_PRODUCTS {
            tally.add(&paid(&format!("rare-{n}"), 1));
            if n % 100 == 0 {
                tally.add(&paid("bestseller", 5));
            }
        }
        assert!(tally.units.len() <= Tally::MAX_PRODUCTS);
        let TopProducts { products, error_units } = tally.top_products();
        let truth = 5 * 3 * Tally::MAX_PRODUCTS as u64 / 100;
        assert_eq!(products[0].product_id.as_str(), "bestseller");
        assert!(error_units > 0 && products[0].units + error_units >= truth && products[0].units <= truth);
    }
}
