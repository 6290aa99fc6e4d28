//! Checks every promise by comparing every region's tables with the answers that clients got.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};
use sojourn::platform::tables;

use crate::client::Request;
use crate::customer::hex;
use crate::journal::{Entries, Revocation, UploadedFile};
use crate::shop::{Customer, UNITS};
use crate::world::{World, WorldError};

/// Examples of a broken promise that are kept.
const EXAMPLES: usize = 5;

/// The result of checking a promise.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Promise {
    /// What must not happen.
    pub name: &'static str,
    /// How many cases were checked.
    pub examined: usize,
    pub broken: usize,
    pub examples: Vec<String>,
}

impl Promise {
    pub(crate) fn new(name: &'static str, examined: usize, broken: impl IntoIterator<Item = String>) -> Self {
        let broken: Vec<String> = broken.into_iter().collect();
        let number = broken.len();
        Self { name, examined, broken: number, examples: broken.into_iter().take(EXAMPLES).collect() }
    }

    /// Whether nothing broke it.
    pub fn is_kept(&self) -> bool {
        self.broken == 0
    }
}

/// The rows of the tables that the checks need, by region.
pub struct Rows {
    orders: BTreeMap<String, Vec<Value>>,
    /// The payment provider's ledger, which the regions share.
    ledger: Vec<Value>,
    /// Stock rows, each from its own region.
    stock: Vec<Value>,
}

/// Reads them.
pub async fn read(world: &World) -> Result<Rows, WorldError> {
    let mut rows = Rows { orders: BTreeMap::new(), ledger: Vec::new(), stock: Vec::new() };
    for (name, region) in &world.regions {
        // The table also has the counters of unpaid orders and the reservations.
        let orders = region.rows(&tables::ORDERS).await?.into_iter().filter(|row| row["status"].is_string());
        rows.orders.insert(name.clone(), orders.collect());
        if rows.ledger.is_empty() && region.tables.contains_key(tables::PAYMENT_LEDGER.logical_id) {
            rows.ledger = region.rows(&tables::PAYMENT_LEDGER).await?;
        }
        let own = |row: &Value| row["region"] == region.region;
        rows.stock.extend(region.rows(&tables::STOCK).await?.into_iter().filter(own));
    }
    Ok(rows)
}

/// Each order, from the region with its latest version.
fn latest(rows: &Rows) -> BTreeMap<String, Value> {
    let mut latest: BTreeMap<String, Value> = BTreeMap::new();
    for order in rows.orders.values().flatten() {
        let known = latest.entry(text(order, "orderId")).or_insert_with(|| order.clone());
        if order["version"].as_u64() > known["version"].as_u64() {
            *known = order.clone();
        }
    }
    latest
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}

/// Checks of the tables.
pub fn tables(rows: &Rows, entries: &Entries) -> Vec<Promise> {
    let orders = latest(rows);
    let mut promises = orders_of_clients(rows, &orders, entries);
    promises.extend(charges(rows, &orders, entries));
    promises.push(stock(rows, &orders));
    promises
}

fn orders_of_clients(rows: &Rows, orders: &BTreeMap<String, Value>, entries: &Entries) -> Vec<Promise> {
    let acknowledged = &entries.orders;
    let missing = acknowledged.iter().filter(|order| !orders.contains_key(&order.order_id));
    let missing = missing.map(|order| format!("{} of {}", order.order_id, order.customer_id));

    let ids = |rows: &Vec<Value>| rows.iter().map(|row| text(row, "orderId")).collect::<BTreeSet<_>>();
    let by_region: BTreeMap<&String, BTreeSet<String>> =
        rows.orders.iter().map(|(region, rows)| (region, ids(rows))).collect();
    let absent = by_region.iter().flat_map(|(region, there)| {
        let absent = orders.keys().filter(|id| !there.contains(*id));
        absent.map(move |id| format!("{id} is not in {region}"))
    });
    let absent: Vec<String> = absent.collect();

    let mut ids_by_key: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
    for order in acknowledged {
        ids_by_key.entry(&order.key).or_default().insert(&order.order_id);
    }
    let mut twice: Vec<String> = ids_by_key
        .iter()
        .filter(|(_, ids)| ids.len() > 1)
        .map(|(key, ids)| format!("{key} was answered with {ids:?}"))
        .collect();
    for (customer, keys) in &entries.order_keys {
        let placed = orders.values().filter(|order| order["customerId"] == **customer).count();
        let surplus = placed.saturating_sub(keys.len());
        twice.extend(
            (0..surplus).map(|_| format!("{customer} sent {} keys and has {placed} orders", keys.len())),
        );
    }
    let keys = entries.order_keys.values().map(BTreeSet::len).sum();
    vec![
        Promise::new("orders acknowledged and missing", acknowledged.len(), missing),
        Promise::new("orders missing in a region", orders.len() * rows.orders.len(), absent),
        Promise::new("orders twice for one key", keys, twice),
    ]
}

fn charges(rows: &Rows, orders: &BTreeMap<String, Value>, entries: &Entries) -> Vec<Promise> {
    let mut charges: BTreeMap<String, u64> = BTreeMap::new();
    for row in rows.ledger.iter().filter(|row| row["state"] == "captured") {
        *charges.entry(text(row, "orderId")).or_default() += row["charges"].as_u64().unwrap_or(1);
    }
    let twice = charges.iter().filter(|(_, times)| **times > 1);
    let twice = twice.map(|(id, times)| format!("{id}: {times} times"));
    let status = |id: &str| orders.get(id).map(|order| text(order, "status")).unwrap_or_default();
    let unpaid = charges.keys().filter(|id| status(id) != "PAID");
    let unpaid = unpaid.map(|id| format!("{id} is charged and {:?}", status(id)));
    let undone = |ids: &BTreeSet<String>, wanted: &'static str| {
        let undone = ids.iter().filter(move |id| status(id) != wanted);
        undone.map(|id| format!("{id} was told {wanted} and is {:?}", status(id))).collect::<Vec<_>>()
    };
    let mut forgotten = undone(&entries.paid, "PAID");
    forgotten.extend(undone(&entries.cancelled, "CANCELLED"));
    vec![
        Promise::new("orders charged twice", charges.len(), twice),
        Promise::new("charges without a paid order", charges.len(), unpaid),
        Promise::new(
            "payments and cancellations forgotten",
            entries.paid.len() + entries.cancelled.len(),
            forgotten,
        ),
    ]
}

fn stock(rows: &Rows, orders: &BTreeMap<String, Value>) -> Promise {
    let mut sold: BTreeMap<(String, String), i64> = BTreeMap::new();
    for order in orders.values().filter(|order| order["status"] != "CANCELLED") {
        for line in order["lines"].as_array().into_iter().flatten() {
            *sold.entry((text(line, "productId"), text(order, "region"))).or_default() +=
                line["quantity"].as_i64().unwrap_or_default();
        }
    }
    let wrong = rows.stock.iter().filter_map(|row| {
        let (product, region) = (text(row, "productId"), text(row, "region"));
        let available = row["available"].as_i64().unwrap_or_default();
        let sold = sold.get(&(product.clone(), region.clone())).copied().unwrap_or_default();
        (available + sold != UNITS)
            .then(|| format!("{product} in {region}: {available} left and {sold} sold of {UNITS}"))
    });
    let wrong: Vec<String> = wrong.collect();
    Promise::new("stock that does not add up", rows.stock.len(), wrong)
}

/// Checks of the messages shown to clients, and of how often they were asked to sign in.
pub fn messages_and_sessions(entries: &Entries, customers: usize) -> Vec<Promise> {
    let acknowledged = entries.messages.values().filter(|sent| sent.acknowledged).count();
    let lost = entries.lost_messages().map(|(number, sent)| format!("message {number} to {}", sent.to));
    let twice = entries.shown.iter().filter(|(_, times)| **times > 1);
    let twice = twice.map(|(number, times)| format!("message {number}: {times} times"));
    let asked = (0..entries.sign_ins_asked).map(|_| "a refresh token was refused".to_owned());
    vec![
        Promise::new("sessions lost", customers * 2, asked),
        Promise::new("messages acknowledged and lost", acknowledged, lost),
        Promise::new("messages shown twice", entries.shown.len(), twice),
        Promise::new("requests given up", entries.attempts.len(), entries.given_up.iter().cloned()),
        Promise::new("unexpected answers", entries.attempts.len(), entries.unexpected.iter().cloned()),
    ]
}

/// Checks that no region accepts a revoked session.
pub async fn revocations(world: &World, revocations: &[Revocation]) -> Promise {
    let http = &world.http;
    let mut undone = Vec::new();
    for revocation in revocations {
        for (name, region) in &world.regions {
            let read = http.get(format!("{}/orders", region.http)).bearer_auth(&revocation.access_token);
            if read.send().await.is_ok_and(|answer| answer.status().is_success()) {
                undone.push(format!("{name} accepts the access token of {}", revocation.session_id));
            }
            let body = json!({"refreshToken": revocation.refresh_token});
            let refresh = http.post(format!("{}/sessions/refresh", region.http)).json(&body);
            if refresh.send().await.is_ok_and(|answer| answer.status().is_success()) {
                undone.push(format!("{name} refreshes {}", revocation.session_id));
            }
        }
    }
    Promise::new("revocations undone", revocations.len() * world.regions.len(), undone)
}

/// Checks that every verified file can be read in every region.
pub async fn files(world: &World, files: &[UploadedFile], customers: &[Arc<Customer>]) -> Promise {
    let http = &world.http;
    let mut unreadable = Vec::new();
    for file in files {
        let Some(customer) = customers.iter().find(|customer| customer.phone.customer == file.customer)
        else {
            continue;
        };
        let token = customer.phone.tokens().await.access;
        for (name, region) in &world.regions {
            let read = http.get(format!("{}/uploads/{}", region.http, file.upload_id)).bearer_auth(&token);
            let answer = match read.send().await {
                Ok(answer) => answer.json::<Value>().await.unwrap_or_default(),
                Err(error) => json!({"detail": error.to_string()}),
            };
            let bytes = match answer["downloadUrl"].as_str() {
                Some(url) => customer.phone.get_file(url).await,
                None => None,
            };
            let is_same = bytes.is_some_and(|bytes| {
                hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes).as_ref()) == file.sha256
            });
            if !is_same {
                unreadable.push(format!("{} in {name}: {}", file.upload_id, answer["detail"]));
            }
        }
    }
    Promise::new("files unreadable", files.len() * world.regions.len(), unreadable)
}

/// The customer's inbox, read as a client does.
pub async fn read_inbox(customer: &Customer) -> Vec<Value> {
    let mut messages = Vec::new();
    let mut path = "/inbox".to_owned();
    // A page has 20 messages at least, and an inbox 1,000 at most.
    for _ in 0..100 {
        let Ok(answer) = customer.phone.send(&Request::new(Method::GET, path.clone())).await else { break };
        let items = answer.body["items"].as_array().cloned().unwrap_or_default();
        let is_empty = items.is_empty();
        messages.extend(items);
        match answer.body["nextCursor"].as_str() {
            Some(cursor) if !is_empty => path = format!("/inbox?after={cursor}"),
            _ => break,
        }
    }
    messages
}

/// Checks that the slot of a scheduled job was completed once.
pub fn job(answers: &[(String, Value)]) -> Promise {
    let completed = answers.iter().filter(|(_, answer)| answer["outcome"] == "completed").count();
    let told = answers.iter().map(|(region, answer)| format!("{region}: {}", answer["outcome"]));
    let told = told.collect::<Vec<_>>().join(", ");
    let broken = (completed != 1).then(|| format!("completed {completed} times ({told})"));
    Promise::new("jobs run twice or never", 1, broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{AcknowledgedOrder, SentMessage};

    /// A shop of two regions that kept every promise: one order, paid, of two units.
    fn kept() -> (Rows, Entries) {
        let order = json!({
            "orderId": "o1", "customerId": "c1", "status": "PAID", "region": "a", "version": 2, "createdAt": "now",
            "lines": [{"productId": "lamp", "quantity": 2}],
        });
        let charge =
            json!({"paymentKey": "k", "orderId": "o1", "paymentId": "p1", "state": "captured", "charges": 1});
        let in_both =
            |row: Value| BTreeMap::from(["a", "b"].map(|region| (region.to_owned(), vec![row.clone()])));
        let stock = |region: &str, sold: i64| json!({"productId": "lamp", "region": region, "available": UNITS - sold});
        let rows =
            Rows { orders: in_both(order), ledger: vec![charge], stock: vec![stock("a", 2), stock("b", 0)] };
        let mut entries = Entries::default();
        let acknowledged = |order_id: &str| AcknowledgedOrder {
            order_id: order_id.to_owned(),
            customer_id: "c1".to_owned(),
            key: "key1".to_owned(),
        };
        entries.orders.push(acknowledged("o1"));
        entries.order_keys.insert("c1".to_owned(), BTreeSet::from(["key1".to_owned()]));
        entries.paid.insert("o1".to_owned());
        entries.messages.insert(1, SentMessage { to: "c1".to_owned(), acknowledged: true });
        entries.shown.insert(1, 1);
        (rows, entries)
    }

    /// The promises that something broke, with how often.
    fn broken(change: impl FnOnce(&mut Rows, &mut Entries)) -> Vec<(&'static str, usize)> {
        let (mut rows, mut entries) = kept();
        change(&mut rows, &mut entries);
        let mut promises = tables(&rows, &entries);
        promises.extend(messages_and_sessions(&entries, 1));
        promises
            .iter()
            .filter(|promise| !promise.is_kept())
            .map(|promise| (promise.name, promise.broken))
            .collect()
    }

    fn orders_of<'a>(rows: &'a mut Rows, region: &str) -> &'a mut Vec<Value> {
        rows.orders.get_mut(region).unwrap()
    }

    #[test]
    fn where_every_promise_was_kept_none_is_reported() {
        assert_eq!(broken(|_, _| {}), []);
    }

    #[test]
    fn an_order_that_is_nowhere_is_missing_and_its_charge_has_no_order() {
        let found = broken(|rows, _| rows.orders.values_mut().for_each(Vec::clear));
        let expected = [
            ("orders acknowledged and missing", 1),
            ("charges without a paid order", 1),
            ("payments and cancellations forgotten", 1),
            ("stock that does not add up", 1),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_order_that_one_region_lacks_is_missing_there() {
        assert_eq!(broken(|rows, _| orders_of(rows, "b").clear()), [("orders missing in a region", 1)]);
    }

    #[test]
    fn an_effect_that_was_applied_twice_is_reported() {
        let twice = |rows: &mut Rows, _: &mut Entries| {
            for region in ["a", "b"] {
                let mut second = orders_of(rows, region)[0].clone();
                (second["orderId"], second["lines"]) = (json!("o2"), json!([]));
                second["status"] = json!("CANCELLED");
                orders_of(rows, region).push(second);
            }
        };
        assert_eq!(broken(twice), [("orders twice for one key", 1)]);
        let two_answers = |_: &mut Rows, entries: &mut Entries| {
            let other = AcknowledgedOrder { order_id: "o1b".to_owned(), ..entries.orders[0].clone() };
            entries.orders.push(other);
        };
        let found = broken(two_answers);
        assert!(found.contains(&("orders twice for one key", 1)), "{found:?}");
        let charged = |rows: &mut Rows, _: &mut Entries| {
            let mut second = rows.ledger[0].clone();
            (second["paymentId"], second["paymentKey"]) = (json!("p2"), json!("k2"));
            rows.ledger.push(second);
        };
        assert_eq!(broken(charged), [("orders charged twice", 1)]);
    }

    #[test]
    fn a_payment_that_was_told_and_undone_is_reported_by_the_latest_version() {
        let undone = |rows: &mut Rows, _: &mut Entries| {
            let order = &mut orders_of(rows, "b")[0];
            (order["status"], order["version"]) = (json!("PENDING_PAYMENT"), json!(3));
        };
        let expected = [("charges without a paid order", 1), ("payments and cancellations forgotten", 1)];
        assert_eq!(broken(undone), expected);
    }

    #[test]
    fn units_that_are_missing_or_too_many_are_reported() {
        for change in [-1, 1] {
            let found = broken(|rows, _| {
                let available = rows.stock[0]["available"].as_i64().unwrap();
                rows.stock[0]["available"] = json!(available + change);
            });
            assert_eq!(found, [("stock that does not add up", 1)]);
        }
    }

    #[test]
    fn messages_that_were_lost_or_shown_twice_are_reported_and_one_that_was_never_acknowledged_is_not() {
        let lost = |_: &mut Rows, entries: &mut Entries| entries.shown.clear();
        assert_eq!(broken(lost), [("messages acknowledged and lost", 1)]);
        assert_eq!(
            broken(|_, entries| *entries.shown.get_mut(&1).unwrap() = 2),
            [("messages shown twice", 1)]
        );
        let unsent = |_: &mut Rows, entries: &mut Entries| {
            entries.messages.insert(2, SentMessage { to: "c1".to_owned(), acknowledged: false });
        };
        assert_eq!(broken(unsent), []);
    }

    #[test]
    fn a_job_is_to_run_once() {
        let answers = |outcomes: &[&str]| {
            let answer = |outcome: &&str| ("a".to_owned(), json!({"outcome": outcome}));
            outcomes.iter().map(answer).collect::<Vec<_>>()
        };
        assert!(job(&answers(&["completed", "alreadyDone"])).is_kept());
        assert!(!job(&answers(&["completed", "completed"])).is_kept());
        assert!(!job(&answers(&["held"])).is_kept());
    }
}
