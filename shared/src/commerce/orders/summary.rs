//! Summaries of customers' orders, cached for two hours (cache-aside).
//!
//! 1. The summary is computed from the index `byCustomer`, newest orders first, [`MAX_PAGES`] pages
//!    at most.
//! 2. It is cached in Redis only, so that the customer's next summary has an answered order,
//!    whichever process answers.
//! 3. It contains its customer's id, and is served to nobody else.
//! 4. A function that changes an order deletes the summary after the commit
//!    ([`OrderSummaries::forget`]). `cache-invalidator` does so for all other changes: clean-ups,
//!    other regions, and processes that died in between.
//! 5. An index usually lags by milliseconds, and cannot be read consistently, so a summary right
//!    after a change may lack the change. The row that counts the customer's unpaid orders is
//!    written with every change, and is read consistently beside the index: for [`INDEX_SETTLES`]
//!    after the last change a summary is cached for [`UNSETTLED_FRESH`] only.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::dynamo::{DynamoOrders, SummarizedOrder};
use super::{OrderCursor, OrderStatus};
use crate::core::clock::SharedClock;
use crate::core::date_time::{as_rfc3339_if_any, rfc3339};
use crate::core::env::{ConfigError, Env};
use crate::core::ids::UserId;
use crate::core::money::{Currency, Money};
use crate::identity::principal::Credential;
use crate::platform::cache::{Cache, CachePolicy, Entry, Loaded, Name, Tiers};
use crate::platform::dynamo::DynamoError;

/// Most pages of the index for one summary. A page is 1 MB of rows: thousands of orders.
pub const MAX_PAGES: usize = 4;

/// Longest expected lag of the index.
pub const INDEX_SETTLES: Duration = Duration::from_secs(10);

/// How long a summary is cached if the index may have lagged.
pub const UNSETTLED_FRESH: Duration = Duration::from_secs(2);

/// Figures of a customer's orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderSummary {
    pub customer_id: UserId,
    /// Orders of any status.
    pub orders: u64,
    /// Orders that await payment.
    pub unpaid: u64,
    /// Sums of paid orders, by currency.
    pub spent: Vec<Money>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "as_rfc3339_if_any")]
    pub last_order_at: Option<Timestamp>,
    /// Whether all orders were counted. If not, the latest were.
    pub complete: bool,
}

impl OrderSummary {
    /// Of no orders yet.
    fn new(customer_id: UserId) -> Self {
        Self { customer_id, orders: 0, unpaid: 0, spent: Vec::new(), last_order_at: None, complete: true }
    }

    /// The summary as its customer sees it.
    pub fn document(&self) -> Value {
        let Self { orders, unpaid, spent, complete, .. } = self;
        let mut document = json!({"orders": orders, "unpaid": unpaid, "spent": spent, "complete": complete});
        if let Some(at) = self.last_order_at {
            document["lastOrderAt"] = rfc3339(at).into();
        }
        document
    }
}

/// Sums in wider integers than [`Money`]: no sum of orders overflows.
#[derive(Default)]
struct Spent(BTreeMap<Currency, u128>);

impl Spent {
    fn add(&mut self, money: Money) {
        *self.0.entry(money.currency).or_default() += u128::from(money.amount);
    }

    /// A sum above JSON's exact range is shown as the largest exact one.
    fn into_money(self) -> Vec<Money> {
        let money = |(currency, amount): (Currency, u128)| Money {
            amount: u64::try_from(amount).unwrap_or(u64::MAX).min(Money::MAX_AMOUNT),
            currency,
        };
        self.0.into_iter().map(money).collect()
    }
}

impl Entry for OrderSummary {
    const POLICY: CachePolicy = CachePolicy {
        entity: "order-summary",
        fresh: Duration::from_hours(2),
        absent: Duration::from_secs(1),
        stale: Duration::ZERO,
        tiers: Tiers::Shared,
        group: None,
    };

    fn belongs_to(&self, id: &str) -> bool {
        self.customer_id.as_str() == id
    }
}

/// The cache name of a customer's summary.
pub fn name_of(customer_id: &str) -> Name {
    Name::of::<OrderSummary>(customer_id)
}

/// Summaries of customers' orders.
///
/// Calls `GetItem` on orders, and `Query` on its index `byCustomer`.
#[derive(Debug, Clone)]
pub struct OrderSummaries {
    orders: DynamoOrders,
    region: String,
    cache: Cache,
    clock: SharedClock,
}

impl OrderSummaries {
    /// Summaries of the orders in `ORDERS_TABLE`, with [`Cache::from_env`], in the region
    /// `AWS_REGION`.
    pub fn from_env(client: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        let orders = DynamoOrders::from_env(client, env)?;
        let region = crate::platform::aws::region(env)?;
        Ok(Self { orders, region, cache: Cache::from_env(env, clock.clone())?, clock })
    }

    /// The same with another cache.
    #[must_use]
    pub fn with_cache(self, cache: Cache) -> Self {
        Self { cache, ..self }
    }

    /// The summary of the customer's orders.
    pub async fn of(&self, customer_id: &UserId) -> Result<OrderSummary, DynamoError> {
        let load = async {
            let (changed_at, summary) = tokio::try_join!(
                self.orders.changed_at(customer_id, &self.region),
                self.compute(customer_id)
            )?;
            let settled = changed_at.is_none_or(|at| {
                let age = self.clock.now().duration_since(at);
                !age.is_negative() && age.unsigned_abs() >= INDEX_SETTLES
            });
            let at_most = (!settled).then_some(UNSETTLED_FRESH);
            Ok::<_, DynamoError>(Loaded { at_most, ..Loaded::value(summary) })
        };
        let summary = self.cache.read_through(customer_id.as_str(), load).await?;
        Ok(summary.unwrap_or_else(|| OrderSummary::new(customer_id.clone())))
    }

    /// Deletes the summary of a customer who has changed an order, or may have.
    pub async fn forget(&self, customer: &Credential) {
        self.cache.forget(&[name_of(customer.user_id().as_str())]).await;
    }

    async fn compute(&self, customer_id: &UserId) -> Result<OrderSummary, DynamoError> {
        let mut summary = OrderSummary::new(customer_id.clone());
        let mut spent = Spent::default();
        let mut after: Option<OrderCursor> = None;
        for _ in 0..MAX_PAGES {
            let page = self.orders.summarized(customer_id, after.as_ref()).await?;
            for order in page.orders {
                match order {
                    Ok(SummarizedOrder { status, total, created_at }) => {
                        summary.orders += 1;
                        summary.unpaid += u64::from(status == OrderStatus::PendingPayment);
                        if status == OrderStatus::Paid {
                            spent.add(total);
                        }
                        summary.last_order_at = summary.last_order_at.max(Some(created_at));
                    }
                    Err(unreadable) => {
                        tracing::error!(
                            order_id = unreadable.order_id,
                            "an order is unreadable and not counted"
                        );
                        summary.complete = false;
                    }
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        summary.complete &= after.is_none();
        summary.spent = spent.into_money();
        Ok(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_overflow() {
        let mut spent = Spent::default();
        let most = Money { amount: Money::MAX_AMOUNT, currency: "TWD".parse().unwrap() };
        let one = Money { amount: 1, currency: "JPY".parse().unwrap() };
        (0..3).for_each(|_| spent.add(most));
        spent.add(one);
        assert_eq!(spent.into_money(), [one, most]);
    }

    #[test]
    fn a_summary_survives_the_cache_with_and_without_an_order() {
        let mut summary = OrderSummary::new(crate::core::ids::random().next());
        for at in [None, Some("2026-11-20T09:30:00.123Z".parse().unwrap())] {
            summary.last_order_at = at;
            let json = serde_json::to_string(&summary).unwrap();
            assert_eq!(serde_json::from_str::<OrderSummary>(&json).unwrap(), summary, "{json}");
        }
    }
}
