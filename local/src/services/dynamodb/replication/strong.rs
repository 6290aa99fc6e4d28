//! Strongly consistent tables (MRSC): every region reads what any region wrote.
//!
//! Three members, of which one may be a witness, agree on every write (developer guide, "Global
//! tables core concepts", consistency modes):
//!
//! 1. A write, or a strongly consistent read, of a region that does not reach a majority of the
//!    members is refused.
//! 2. It takes a round trip. While a write does, another region's write of the same item is refused
//!    with a `ReplicatedWriteConflictException`. Writes of one region wait for each other.
//! 3. Then the journal, which a majority has, is locked. The region's copy takes over what it
//!    lacks. The request is performed on it, and what it changed is added to the journal. So all of
//!    these requests have one order.
//! 4. The other replica takes the change over a round trip later, or before it answers a request of
//!    step 3. Until then its eventually consistent reads, which see the local copy and ask nobody,
//!    are stale.
//!
//! A majority is enough for step 3: a change is known to two members, and of those every majority
//! has one.
//!
//! There are no transactions, no TTL and no local secondary indexes; a region that is no replica
//! has no such table.
//!
//! Limits: which error an isolated region answers, and in which words the rest is refused, is not
//! documented: it is a 500, `InternalServerError`, which SDKs retry, and a `ValidationException`.
//! `PartiQL` statements that write are refused.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dynoxide::{Database, DynoxideError, Item, TableMetadata};
use http::StatusCode;
use serde_json::Value;

use super::change::{self, Change, ItemKey};
use super::journal::{Copy, Journal, level};
use super::{Joining, ReplicationError, StrongTables, unfit};
use crate::services::dynamodb::request::table_name;
use crate::services::network::Network;

/// How many agree on a write.
const MEMBERS: usize = 3;

/// `PartiQL`. What its requests are about is only in their statements.
const STATEMENTS: [&str; 3] = ["ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"];

/// A refusal, as it goes over the wire.
#[derive(Debug)]
pub(in crate::services::dynamodb) struct Refused {
    pub(in crate::services::dynamodb) status: StatusCode,
    pub(in crate::services::dynamodb) kind: &'static str,
    pub(in crate::services::dynamodb) message: String,
}

pub(super) struct Strong {
    /// The names of the attributes of their keys.
    tables: BTreeMap<Arc<str>, Vec<String>>,
    members: Vec<String>,
    copies: BTreeMap<String, Copy>,
    network: Arc<Network>,
    round_trip: Mutex<Duration>,
    journal: Mutex<Journal>,
    /// The items that are being written, by which region, and by how many of its requests.
    writing: Mutex<HashMap<ItemKey, (String, usize)>>,
}

/// What a request asks of the members.
enum Demand {
    Local,
    Read,
    /// These items to be written.
    Write(Vec<Target>),
}

#[derive(Clone)]
struct Target {
    item: ItemKey,
    key: Item,
}

/// Items that a request writes. No longer when dropped.
struct Marks<'a> {
    strong: &'a Strong,
    targets: &'a [Target],
}

impl Drop for Marks<'_> {
    fn drop(&mut self) {
        let mut writing = lock(&self.strong.writing);
        for target in self.targets {
            if let Some((_, requests)) = writing.get_mut(&target.item) {
                *requests -= 1;
                if *requests == 0 {
                    writing.remove(&target.item);
                }
            }
        }
    }
}

impl Strong {
    /// Checks that the regions' tables are as they must be.
    pub(super) fn new(
        group: &StrongTables,
        regions: &[Joining<'_>],
        network: Arc<Network>,
        round_trip: Duration,
    ) -> Result<Self, ReplicationError> {
        let members: Vec<String> = group.replicas.iter().chain(&group.witness).cloned().collect();
        if members.len() != MEMBERS || group.replicas.len() < 2 {
            return Err(unfit(
                &members.join(", "),
                "strong consistency needs three replicas, or two and a witness",
            ));
        }
        let mut tables = BTreeMap::new();
        let mut copies = BTreeMap::new();
        for Joining { name, tables: region, kept } in regions {
            let name = name.to_string();
            for table in &group.tables {
                let found = metadata(&region.database, table)?;
                match (group.replicas.contains(&name), found) {
                    (true, Some(found)) => {
                        tables.insert(Arc::from(table.as_str()), key_names(table, &found)?);
                    }
                    (true, None) => return Err(unfit(table, &format!("{name} has no such table"))),
                    (false, Some(_)) => {
                        return Err(unfit(table, &format!("{name} has it and is no replica")));
                    }
                    (false, None) => {}
                }
            }
            if group.replicas.contains(&name) {
                let (database, streams) = (region.database.clone(), Arc::clone(&region.streams));
                copies.insert(name, Copy { database, streams, kept: kept.clone() });
            }
        }
        for lost in group.replicas.iter().filter(|replica| !copies.contains_key(*replica)) {
            network.stop(lost);
        }
        level(&copies)?;
        let journal = Mutex::new(Journal::new(copies.keys().cloned()));
        let (round_trip, writing) = (Mutex::new(round_trip), Mutex::default());
        Ok(Self { tables, members, copies, network, round_trip, journal, writing })
    }

    pub(super) fn members(&self) -> &[String] {
        &self.members
    }

    pub(super) fn set_round_trip(&self, round_trip: Duration) {
        *lock(&self.round_trip) = round_trip;
    }

    /// Whether a request of `region` is about a strongly consistent table.
    pub(super) fn concerns(&self, region: &str, operation: &str, tables: &[String], body: &str) -> bool {
        self.copies.contains_key(region)
            && if STATEMENTS.contains(&operation) {
                self.tables.keys().any(|table| body.contains(&**table))
            } else {
                tables.iter().any(|table| self.tables.contains_key(table.as_str()))
            }
    }

    /// Performs `work`, a request of `region` to its engine, when the members agree.
    pub(super) async fn perform<T>(
        &self,
        region: &str,
        operation: &str,
        body: &str,
        work: impl FnOnce() -> T,
    ) -> Result<T, Refused> {
        let targets = match self.demand(operation, body)? {
            Demand::Local => return Ok(work()),
            Demand::Read => Vec::new(),
            Demand::Write(targets) => targets,
        };
        let copy = self.copies.get(region).ok_or_else(isolated)?;
        let has_majority = || self.network.holding(|map| map.has_majority(region, &self.members));
        if !has_majority() {
            return Err(isolated());
        }
        let _marks = self.mark(region, &targets)?;
        let round_trip = *lock(&self.round_trip);
        tokio::time::sleep(round_trip).await;
        let mut journal = lock(&self.journal);
        self.network.holding(|map| {
            if !map.has_majority(region, &self.members) {
                return Err(isolated());
            }
            journal.take_over(region, copy, None).map_err(|error| failed(&error))?;
            let read = |target: &Target| change::read(&copy.database, &target.item.table, &target.key);
            let before: Vec<_> = targets.iter().map(read).collect();
            for target in &targets {
                journal.keep(copy, &target.item).map_err(|error| internal(error.to_string()))?;
            }
            let answer = work();
            for (target, before) in targets.iter().zip(before) {
                // A key that can't be read is one that the engine has refused.
                if let (Ok(before), Ok(image)) = (before, read(target))
                    && before != image
                {
                    let Target { item, key } = target.clone();
                    journal.add(region, Change { item, key, image }, Instant::now() + round_trip);
                }
            }
            Ok(answer)
        })
    }

    /// Has every replica that reaches a majority take over what has arrived there.
    pub(super) fn spread(&self) {
        let mut journal = lock(&self.journal);
        let now = Instant::now();
        for (region, copy) in &self.copies {
            let taken = self.network.holding(|map| {
                let reaches = map.has_majority(region, &self.members);
                reaches.then(|| journal.take_over(region, copy, Some(now)))
            });
            if let Some(Err(error)) = taken {
                tracing::warn!(region, %error, "a replica can't take a change over");
            }
        }
        journal.trim();
        if let Err(error) = journal.forget(&self.copies) {
            tracing::warn!(%error, "the file of the replication can't be written");
        }
    }

    /// Marks the items as being written by `region`.
    fn mark<'a>(&'a self, region: &str, targets: &'a [Target]) -> Result<Marks<'a>, Refused> {
        let mut writing = lock(&self.writing);
        let elsewhere = |target: &Target| writing.get(&target.item).is_some_and(|(by, _)| by != region);
        if targets.iter().any(elsewhere) {
            return Err(Refused {
                status: StatusCode::BAD_REQUEST,
                kind: "com.amazonaws.dynamodb.v20120810#ReplicatedWriteConflictException",
                message:
                    "One or more items in this request are being modified by a request in another Region."
                        .to_owned(),
            });
        }
        for target in targets {
            writing.entry(target.item.clone()).or_insert_with(|| (region.to_owned(), 0)).1 += 1;
        }
        Ok(Marks { strong: self, targets })
    }

    /// A body that can't be read demands nothing: the engine refuses it.
    fn demand(&self, operation: &str, body: &str) -> Result<Demand, Refused> {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let named = |name: &Value| table_name(name.as_str().unwrap_or_default()).to_owned();
        let batch = || body["RequestItems"].as_object().into_iter().flatten();
        let strongly = |request: &Value| request["ConsistentRead"] == Value::Bool(true);
        let read = |strongly: bool| if strongly { Demand::Read } else { Demand::Local };
        let write =
            |key: &Value| Demand::Write(self.target(&named(&body["TableName"]), key).into_iter().collect());
        Ok(match operation {
            "GetItem" | "Query" | "Scan" => read(strongly(&body)),
            "BatchGetItem" => {
                let ours = |table: &str| self.tables.contains_key(table_name(table));
                read(batch().any(|(table, request)| ours(table) && strongly(request)))
            }
            "PutItem" => write(&body["Item"]),
            "UpdateItem" | "DeleteItem" => write(&body["Key"]),
            "BatchWriteItem" => {
                let requests = batch().flat_map(|(table, requests)| {
                    requests.as_array().into_iter().flatten().map(move |request| (table_name(table), request))
                });
                let target = |(table, request): (&str, &Value)| {
                    let put = self.target(table, &request["PutRequest"]["Item"]);
                    put.or_else(|| self.target(table, &request["DeleteRequest"]["Key"]))
                };
                Demand::Write(requests.filter_map(target).collect())
            }
            "TransactWriteItems" | "TransactGetItems" => {
                return Err(unsupported("transactions"));
            }
            "UpdateTimeToLive" => return Err(unsupported("Time to Live")),
            "ExecuteStatement" if is_select(&body["Statement"]) => Demand::Local,
            _ if STATEMENTS.contains(&operation) => return Err(unsupported("PartiQL writes")),
            _ => Demand::Local,
        })
    }

    /// The item with the key among `attributes`, unless the table is another one or the key is not
    /// whole.
    fn target(&self, table: &str, attributes: &Value) -> Option<Target> {
        let (table, names) = self.tables.get_key_value(table)?;
        let part = |name: &String| {
            let value = serde_json::from_value(attributes.get(name)?.clone()).ok()?;
            Some((name.clone(), value))
        };
        let key: Item = names.iter().map(part).collect::<Option<_>>()?;
        Some(Target { item: ItemKey::new(table, &key).ok()?, key })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn metadata(database: &Database, table: &str) -> Result<Option<TableMetadata>, ReplicationError> {
    database.get_table_metadata(table).map_err(|error| ReplicationError::Read(error.to_string()))
}

/// The names of a table's key attributes, if it is a table as MRSC allows it.
fn key_names(table: &str, found: &TableMetadata) -> Result<Vec<String>, ReplicationError> {
    if found.ttl_enabled {
        return Err(unfit(table, "strongly consistent tables have no Time to Live"));
    }
    if found.lsi_definitions.as_deref().is_some_and(|indexes| indexes != "[]") {
        return Err(unfit(table, "strongly consistent tables have no local secondary indexes"));
    }
    let schema: Vec<Value> = serde_json::from_str(&found.key_schema).unwrap_or_default();
    Ok(schema.iter().filter_map(|key| key["AttributeName"].as_str().map(str::to_owned)).collect())
}

fn is_select(statement: &Value) -> bool {
    let word = statement.as_str().and_then(|text| text.split_whitespace().next());
    word.is_some_and(|word| word.eq_ignore_ascii_case("select"))
}

fn isolated() -> Refused {
    internal("The Region does not reach a majority of the Regions of this table.".to_owned())
}

fn failed(error: &DynoxideError) -> Refused {
    internal(error.to_string())
}

fn internal(message: String) -> Refused {
    let kind = "com.amazonaws.dynamodb.v20120810#InternalServerError";
    Refused { status: StatusCode::INTERNAL_SERVER_ERROR, kind, message }
}

fn unsupported(what: &str) -> Refused {
    Refused {
        status: StatusCode::BAD_REQUEST,
        kind: "com.amazon.coral.validate#ValidationException",
        message: format!("Global tables with multi-Region strong consistency do not support {what}."),
    }
}
