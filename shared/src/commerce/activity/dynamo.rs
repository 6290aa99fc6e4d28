//! Events and counts in DynamoDB: one table.
//!
//! | row | `activityId` | `item` | attributes |
//! |---|---|---|---|
//! | event | `event#` and its id | `event` | `kind`, `productId`, `at`, `expiresAt` (90 days) |
//! | count | `product#` and its id | day, region and shard: `2026-11-20#ap-northeast-1#3` | `views`, `cartAdditions`, `shares`, `expiresAt` (400 days) |
//!
//! To store a batch:
//!
//! 1. Duplicates within the batch count once.
//! 2. The events are sorted by product and day, and split into transactions of `MAX_ACTIONS`
//!    actions: a put of each event on the condition that it is new, and for each product and day an
//!    update that adds the counts of these events.
//! 3. A cancelled transaction names the events that are stored already, and is sent again without
//!    these. After a conflict it is sent again with other shards.
//!
//! So an event and its count are stored together, once, however often and by however many writers
//! the event is delivered. If the answer of a transaction is lost, the next delivery finds its
//! events stored.
//!
//! Counts of a product and day are spread over `SHARDS` rows, since concurrent transactions on one
//! row cancel each other. A writer picks a shard at random. A reader adds all of them up: 30 days
//! are at most 30 x 8 rows of about 130 bytes, 31 KB, and a page of a query has 1 MB. Every region
//! writes its own rows, so that the table can be global.
//!
//! Price: a transaction costs two write units per row. An event costs 2 units and a share of its
//! count: about 1.5 to 2.9 USD for a million events in Tokyo (0.715 USD a million units).
//! `BatchWriteItem` would cost half, but could not count exactly: it cannot tell a repetition from
//! a new event, and the count would be a separate write.

use std::collections::{BTreeMap, HashSet};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use futures::stream::{self, StreamExt};
use jiff::civil::Date;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::{ActivityEvent, ActivityKind, COUNT_RETENTION, Counts, Days, EVENT_RETENTION, ProductActivity};
use crate::core::clock::SharedClock;
use crate::core::date_time::rfc3339;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{ActivityId, ProductId};
use crate::core::retry::Backoff;
use crate::platform::aws;
use crate::platform::dynamo::{Actions, DynamoError, Item, RowUpdate, Transaction, number, text};
use crate::platform::tables;
use crate::platform::telemetry::{Metric, count};

/// The event is new.
const IS_NEW: &str = "attribute_not_exists(activityId)";

/// Adds to the counts of a product and day, or creates them.
const RAISE: RowUpdate = RowUpdate {
    update: "SET #expires = :expires ADD #views :views, #additions :additions, #shares :shares",
    condition: None,
    names: &[
        ("#expires", tables::EXPIRES_AT),
        ("#views", "views"),
        ("#additions", "cartAdditions"),
        ("#shares", "shares"),
    ],
};

/// The counts of a product on a range of days.
const OF_DAYS: &str = "activityId = :product AND #item BETWEEN :from AND :to";

/// Most actions of a transaction: DynamoDB's limit.
const MAX_ACTIONS: usize = 100;

/// Rows for the counts of a product and day. Writers are few (the queue's event source has 10 at
/// most), and a conflict costs only another try.
const SHARDS: u8 = 8;

/// Concurrent transactions of one batch. A batch of 500 events has 5 to 10, and there are other
/// writers.
const CONCURRENT_TRANSACTIONS: usize = 4;

/// Sorts after every item of its day: `~` comes after `#`.
const BEHIND_A_DAY: &str = "~";

/// Activity in the table that `ACTIVITY_TABLE` names. Calls `TransactWriteItems` (`PutItem`,
/// `UpdateItem`) and `Query`.
#[derive(Debug, Clone)]
pub struct DynamoActivity {
    client: Client,
    table: String,
    region: String,
    clock: SharedClock,
}

/// The result of storing a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreOutcome {
    /// Events that were stored and counted now.
    pub new: usize,
    /// Events that were stored before, or are duplicates within the batch.
    pub known: usize,
}

/// The events that may not be stored.
#[derive(Debug, thiserror::Error)]
#[error("{} events were not stored", events.len())]
pub struct NotStored {
    pub events: HashSet<ActivityId>,
    /// The first error.
    pub source: DynamoError,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Event(ActivityId),
    Count,
}

/// The key of a count.
type CountKey = (ProductId, Date);

/// An event's row.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EventRow<'a> {
    activity_id: String,
    item: &'static str,
    kind: ActivityKind,
    product_id: &'a ProductId,
    at: String,
    expires_at: i64,
}

/// The part of a count's row that is read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CountRow {
    item: String,
    #[serde(default)]
    views: u64,
    #[serde(default)]
    cart_additions: u64,
    #[serde(default)]
    shares: u64,
    expires_at: i64,
}

impl DynamoActivity {
    /// The table that `ACTIVITY_TABLE` names, in the region of this process.
    pub fn from_env(client: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        Ok(Self { client, table: tables::ACTIVITY.name(env)?, region: aws::region(env)?, clock })
    }

    /// Stores and counts those of `events` that are new.
    ///
    /// # Errors
    /// The events that may not be stored; all others are. The same call again stores those, and
    /// counts none twice.
    pub async fn store(
        &self,
        events: Vec<ActivityEvent>,
        deadline: Deadline,
    ) -> Result<StoreOutcome, NotStored> {
        let all = events.len();
        let (mut stored, mut failures) = (StoreOutcome::default(), None::<NotStored>);
        let mut chunks = stream::iter(chunks(events))
            .map(|chunk| {
                let ids: Vec<_> = chunk.iter().map(|event| event.event_id.clone()).collect();
                async move { (ids, self.store_chunk(chunk, deadline).await) }
            })
            .buffer_unordered(CONCURRENT_TRANSACTIONS);
        // A failing part does not keep the others from being stored.
        while let Some((ids, outcome)) = chunks.next().await {
            match outcome {
                Ok(new) => stored.new += new,
                Err(source) => {
                    let failed = failures.get_or_insert(NotStored { events: HashSet::new(), source });
                    failed.events.extend(ids);
                }
            }
        }
        match failures {
            Some(failed) => Err(failed),
            None => Ok(StoreOutcome { known: all - stored.new, ..stored }),
        }
    }

    /// Stores the events of one transaction. Returns how many were new.
    async fn store_chunk(
        &self,
        mut events: Vec<ActivityEvent>,
        deadline: Deadline,
    ) -> Result<usize, DynamoError> {
        let mut backoff = Backoff::within(deadline);
        while !events.is_empty() {
            let actions: Actions<Action> = self.actions(&events)?.into_iter().collect();
            let reasons = match actions.commit(&self.client, TARGET).await? {
                Transaction::Committed => return Ok(events.len()),
                Transaction::Cancelled(reasons) => reasons,
            };
            let known: HashSet<&ActivityId> = reasons
                .refused()
                .filter_map(|(action, _)| match action {
                    Action::Event(id) => Some(id),
                    Action::Count => None,
                })
                .collect();
            if known.is_empty() {
                count(Metric::TransactionConflicts, 1);
                if !backoff.wait().await {
                    return Err(DynamoError::contended("TransactWriteItems", TARGET));
                }
            } else {
                events.retain(|event| !known.contains(&event.event_id));
            }
        }
        Ok(0)
    }

    /// A put for each event, and an update for each product and day.
    fn actions(&self, events: &[ActivityEvent]) -> Result<Vec<(Action, TransactWriteItem)>, DynamoError> {
        let now = self.clock.now().as_second();
        let mut actions = Vec::with_capacity(MAX_ACTIONS);
        let mut counts: BTreeMap<CountKey, Counts> = BTreeMap::new();
        for event in events {
            actions.push((Action::Event(event.event_id.clone()), self.put(event, now)?));
            counts.entry(subject(event)).or_default().add(event.kind, 1);
        }
        for ((product_id, day), counts) in counts {
            let shard = rand::rng().random_range(0..SHARDS);
            let mut key = product_key(&product_id);
            key.insert("item".to_owned(), text(format!("{day}#{}#{shard}", self.region)));
            let values = [
                (":expires", number(now.saturating_add_unsigned(COUNT_RETENTION.as_secs()))),
                (":views", number(counts.views)),
                (":additions", number(counts.cart_additions)),
                (":shares", number(counts.shares)),
            ];
            actions.push((Action::Count, RAISE.action(&self.table, key, values)?));
        }
        Ok(actions)
    }

    fn put(&self, event: &ActivityEvent, now: i64) -> Result<TransactWriteItem, DynamoError> {
        let row = EventRow {
            activity_id: format!("event#{}", event.event_id),
            item: "event",
            kind: event.kind,
            product_id: &event.product_id,
            at: rfc3339(event.at),
            expires_at: now.saturating_add_unsigned(EVENT_RETENTION.as_secs()),
        };
        let unwritable = |error: Box<dyn std::error::Error + Send + Sync>| {
            DynamoError::unreadable("write", event.event_id.as_str(), error)
        };
        let item = to_item(row).map_err(|error| unwritable(error.into()))?;
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(IS_NEW)
            // The existing event is not needed.
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::None)
            .build()
            .map_err(|error| unwritable(error.into()))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// The counts of a product on the last days, today included. Eventually consistent.
    pub async fn of_product(
        &self,
        product_id: &ProductId,
        days: Days,
    ) -> Result<ProductActivity, DynamoError> {
        let now = self.clock.now();
        let mut counts: Vec<(Date, Counts)> = days.until(now).map(|day| (day, Counts::default())).collect();
        let (Some((to, _)), Some((from, _))) = (counts.first(), counts.last()) else {
            return Ok(ProductActivity { product_id: product_id.clone(), days: counts });
        };
        let request = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression(OF_DAYS)
            .expression_attribute_names("#item", "item")
            .expression_attribute_values(":product", text(format!("product#{product_id}")))
            .expression_attribute_values(":from", text(from.to_string()))
            .expression_attribute_values(":to", text(format!("{to}{BEHIND_A_DAY}")));
        let target = || format!("the activity of {product_id}");
        let answer =
            Box::pin(request.send()).await.map_err(|error| DynamoError::new("Query", target(), error))?;
        for item in answer.items.unwrap_or_default() {
            let row: CountRow =
                from_item(item).map_err(|error| DynamoError::unreadable("Query", target(), error))?;
            let day = row.item.split('#').next().and_then(|day| day.parse::<Date>().ok());
            let found = counts.iter_mut().find(|(other, _)| Some(*other) == day);
            if let Some((_, counts)) = found.filter(|_| row.expires_at > now.as_second()) {
                counts.add(ActivityKind::View, row.views);
                counts.add(ActivityKind::AddToCart, row.cart_additions);
                counts.add(ActivityKind::Share, row.shares);
            }
        }
        Ok(ProductActivity { product_id: product_id.clone(), days: counts })
    }
}

const TARGET: &str = "events of activity";

fn subject(event: &ActivityEvent) -> CountKey {
    (event.product_id.clone(), event.day())
}

fn product_key(product_id: &ProductId) -> Item {
    Item::from([("activityId".to_owned(), text(format!("product#{product_id}")))])
}

/// The events without duplicates, in parts that fit into a transaction. Events of a product and day
/// are together: the fewer counts a transaction has, the more events, and the fewer conflicts.
fn chunks(mut events: Vec<ActivityEvent>) -> Vec<Vec<ActivityEvent>> {
    let mut seen = HashSet::new();
    events.retain(|event| seen.insert(event.event_id.clone()));
    events.sort_by_cached_key(subject);
    let mut chunks: Vec<Vec<ActivityEvent>> = Vec::new();
    let (mut actions, mut last) = (MAX_ACTIONS, None);
    for event in events {
        let subject = Some(subject(&event));
        let more = if subject == last { 1 } else { 2 };
        match chunks.last_mut() {
            Some(chunk) if actions + more <= MAX_ACTIONS => {
                chunk.push(event);
                actions += more;
            }
            _ => {
                chunks.push(vec![event]);
                actions = 2;
            }
        }
        last = subject;
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use proptest::prelude::*;
    use ulid::Ulid;

    fn event(number: u64, product: u64, day: i64) -> ActivityEvent {
        ActivityEvent {
            event_id: Ulid::from_parts(number, 7).to_string().parse().unwrap(),
            kind: ActivityKind::View,
            product_id: format!("product-{product}").parse().unwrap(),
            at: Timestamp::from_second(1_795_000_000 + day * 86_400).unwrap(),
        }
    }

    proptest! {
        #[test]
        fn every_event_is_in_one_transaction_and_no_transaction_is_too_large(
            events in prop::collection::vec((0_u64..400, 0_u64..120, 0_i64..3), 0..600),
        ) {
            let events: Vec<_> = events.into_iter().map(|(id, product, day)| event(id, product, day)).collect();
            let ids: HashSet<_> = events.iter().map(|event| event.event_id.clone()).collect();
            let chunks = chunks(events);
            let chunked: Vec<_> = chunks.iter().flatten().map(|event| event.event_id.clone()).collect();
            prop_assert_eq!(chunked.len(), ids.len());
            prop_assert_eq!(chunked.into_iter().collect::<HashSet<_>>(), ids);
            for chunk in chunks {
                let subjects: HashSet<_> = chunk.iter().map(subject).collect();
                prop_assert!(chunk.len() + subjects.len() <= MAX_ACTIONS);
            }
        }
    }
}
