//! Cache invalidation for every change of products and orders, by whatever writer: this region's
//! functions, other regions, clean-ups, manual changes.
//!
//! 1. The stream of the region's own copy of a table has all changes, including replicated ones. So
//!    an invalidation never comes before its change.
//! 2. A changed product invalidates its entry and all pages. A changed order invalidates its
//!    customer's summary.
//! 3. All names of a batch are deleted by one command. If Redis does not answer, the batch fails,
//!    and Lambda delivers it again. Deleting twice is harmless.
//!
//! Processes keep their copies for [`PROCESS_LIFETIME`](crate::platform::cache::PROCESS_LIFETIME)
//! longer: they receive no invalidation.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_dynamo::{AttributeValue, Item};

use super::catalog::cached;
use super::orders::summary;
use crate::core::deadline::Deadline;
use crate::core::retry::Backoff;
use crate::platform::cache::{Cache, Name};
use crate::platform::stream::Change;
use crate::platform::tables;
use crate::platform::telemetry::chain;

/// Longest time for one batch; then Lambda delivers it again. A new process's connection takes
/// several calls.
const PATIENCE: Duration = Duration::from_secs(2);

/// The attribute with an order's customer. Other rows of the table do not have it.
const CUSTOMER: &str = "customerId";

/// Invalidates cache entries of changed products and orders.
#[derive(Debug)]
pub struct Invalidator {
    cache: Cache,
}

impl Invalidator {
    /// Invalidates in this cache.
    pub fn new(cache: Cache) -> Self {
        Self { cache }
    }

    /// Invalidates for a batch of changes of products, of orders, or of both. Returns the position
    /// of the first change if Redis did not answer.
    pub async fn process(&self, changes: &[Change], deadline: Deadline) -> Option<String> {
        let names: Vec<Name> =
            changes.iter().flat_map(names_of).collect::<BTreeSet<_>>().into_iter().collect();
        let mut backoff = Backoff::within(Deadline::after(PATIENCE).min(deadline));
        while let Err(error) = self.cache.invalidate(&names).await {
            if !backoff.wait().await {
                tracing::error!(
                    error = chain(&error),
                    changes = changes.len(),
                    "the cache was not invalidated"
                );
                return changes.first().map(|change| change.sequence_number.clone());
            }
        }
        None
    }
}

fn names_of(change: &Change) -> Vec<Name> {
    if let Some(product_id) = text_of(&change.keys, tables::PRODUCTS.key.hash) {
        return cached::names_of(product_id).into();
    }
    let customer = change.new_image.as_ref().and_then(|order| text_of(order, CUSTOMER));
    customer.map(summary::name_of).into_iter().collect()
}

fn text_of<'a>(item: &'a Item, attribute: &str) -> Option<&'a str> {
    match item.get(attribute)? {
        AttributeValue::S(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::clock;
    use crate::core::env::Env;
    use crate::platform::redis::RedisClient;
    use crate::platform::stream::ChangeKind;

    fn item(attributes: &[(&str, &str)]) -> Item {
        let attributes = attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), AttributeValue::S((*value).to_owned())));
        Item::from(attributes.collect::<std::collections::HashMap<_, _>>())
    }

    fn change(place: &str, keys: Item, new_image: Option<Item>) -> Change {
        Change {
            sequence_number: place.to_owned(),
            kind: ChangeKind::Modify,
            keys,
            old_image: None,
            new_image,
        }
    }

    fn names(change: &Change) -> Vec<String> {
        names_of(change).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_product_drops_its_entry_and_all_pages_also_when_it_was_deleted() {
        let deleted = change("1", item(&[("productId", "tea")]), None);
        assert_eq!(names(&deleted), ["product:tea", "group:products"]);
    }

    #[test]
    fn an_order_drops_its_customers_summary_and_other_rows_of_its_table_drop_nothing() {
        let order = item(&[("orderId", "ord_1"), ("customerId", "usr_1")]);
        assert_eq!(names(&change("1", item(&[("orderId", "ord_1")]), Some(order))), ["order-summary:usr_1"]);
        let count = item(&[("orderId", "usr_1#unpaid#local")]);
        assert!(names(&change("1", count.clone(), Some(count))).is_empty());
    }

    #[tokio::test]
    async fn a_batch_that_redis_was_not_told_of_is_delivered_again_from_its_first_change() {
        let env = Env::of([("STAGE", "local"), ("REDIS_URL", "redis://127.0.0.1:1")]);
        let cache = Cache::redis(RedisClient::from_env(&env).unwrap(), "test", clock::system());
        let invalidator = Invalidator::new(cache);
        let changes = [
            change("1", item(&[("productId", "tea")]), None),
            change("2", item(&[("productId", "pot")]), None),
        ];
        let soon = Deadline::after(Duration::from_millis(50));
        assert_eq!(invalidator.process(&changes, soon).await, Some("1".to_owned()));
        let nothing = [change("3", item(&[("orderId", "x")]), None)];
        assert_eq!(invalidator.process(&nothing, soon).await, None);
    }
}
