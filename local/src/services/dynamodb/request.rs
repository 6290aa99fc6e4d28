//! The outline of a request, read from its body without building the request: tables, index,
//! transaction entries, and the permissions that it needs.
//!
//! - An operation on an item or a table needs the action of its own name on the table.
//! - Query and Scan on an index need it on the index and not on the table.
//! - `TransactWriteItems` and `TransactGetItems` have no action of their own: every entry needs the
//!   action of its kind (`PutItem`, `UpdateItem`, `DeleteItem`, `ConditionCheckItem`, `GetItem`) on
//!   its table.
//! - `BatchGetItem` and `BatchWriteItem` are actions of their own, needed on every table they name.
//! - Actions without a resource (`ListTables`, `ListStreams`) are needed on `*`.
//! - An update, alone or as an entry, shows which attributes its key, expressions and older
//!   parameters name and what it is asked to return, so that a policy may allow some updates of a
//!   table and not others. What the request does not say is absent.
//!
//! - `GetRecords` needs the action on the stream that its shard iterator says.
//!
//! Limits: `PartiQL` statements aren't taken apart, so functions may not use them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::attributes;
use super::streams::api::ShardIterator;
use crate::services::access::{Details, Permission};
use crate::template::arn::Arns;

/// The action whose requests are shown to conditions.
const UPDATE: &str = "UpdateItem";

/// The parts of any request body that say what it is about, and of an entry of a transaction.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Outline {
    table_name: Option<String>,
    index_name: Option<String>,
    transact_items: Option<Vec<TransactItem>>,
    #[serde(deserialize_with = "member_names")]
    request_items: Option<BTreeSet<String>>,
    resource_arn: Option<String>,
    stream_arn: Option<String>,
    shard_iterator: Option<String>,
    #[serde(deserialize_with = "member_names")]
    key: Option<BTreeSet<String>>,
    update_expression: Option<String>,
    condition_expression: Option<String>,
    expression_attribute_names: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "member_names")]
    attribute_updates: Option<BTreeSet<String>>,
    #[serde(deserialize_with = "member_names")]
    expected: Option<BTreeSet<String>>,
    return_values: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TransactItem {
    put: Option<Outline>,
    update: Option<Outline>,
    delete: Option<Outline>,
    condition_check: Option<Outline>,
    get: Option<Outline>,
}

impl TransactItem {
    fn parts(&self) -> impl Iterator<Item = (&'static str, &Outline)> {
        let parts = [
            ("PutItem", &self.put),
            (UPDATE, &self.update),
            ("DeleteItem", &self.delete),
            ("ConditionCheckItem", &self.condition_check),
            ("GetItem", &self.get),
        ];
        parts.into_iter().filter_map(|(action, entry)| Some((action, entry.as_ref()?)))
    }
}

/// The names in a JSON object, its values skipped unread.
fn member_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeSet<String>>, D::Error> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Option<BTreeSet<String>>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
            let mut names = BTreeSet::new();
            while let Some((name, IgnoredAny)) = members.next_entry()? {
                names.insert(name);
            }
            Ok(Some(names))
        }
    }
    deserializer.deserialize_map(Names)
}

/// The name in a table's ARN, or the name itself: the API takes both.
pub(super) fn table_name(name_or_arn: &str) -> &str {
    match name_or_arn.split_once(":table/") {
        Some((_, rest)) => rest.split_once('/').map_or(rest, |(name, _)| name),
        None => name_or_arn,
    }
}

/// An ARN of the engine, which has a region name of its own, as this region writes it.
fn local_arn(engine_arn: &str, arns: &Arns) -> String {
    match engine_arn.split_once(":table/") {
        Some((_, rest)) => arns.table(rest),
        None => engine_arn.to_owned(),
    }
}

impl Outline {
    /// The tables, each once, in the order of their names.
    pub(super) fn tables(&self) -> Vec<String> {
        let mut tables = BTreeSet::new();
        tables.extend(self.table_name.as_deref().map(table_name));
        tables.extend(self.request_items.iter().flatten().map(|name| table_name(name)));
        let entries = self.transact_items.iter().flatten().flat_map(TransactItem::parts);
        tables.extend(entries.filter_map(|(_, entry)| entry.table_name.as_deref().map(table_name)));
        for arn in [&self.resource_arn, &self.stream_arn].into_iter().flatten() {
            tables.insert(table_name(arn));
        }
        let mut tables: BTreeSet<String> = tables.into_iter().map(str::to_owned).collect();
        tables.extend(self.iterator().map(|iterator| iterator.table));
        tables.into_iter().collect()
    }

    /// The stream that is read.
    fn iterator(&self) -> Option<ShardIterator> {
        ShardIterator::decode(self.shard_iterator.as_deref()?)
    }

    /// How many entries the transaction has.
    pub(super) fn transaction_len(&self) -> usize {
        self.transact_items.as_ref().map_or(0, Vec::len)
    }

    /// Everything that a caller must be allowed to do, each once.
    pub(super) fn permissions(&self, operation: &str, arns: &Arns) -> BTreeSet<Permission> {
        if let Some(items) = &self.transact_items {
            let parts = items.iter().flat_map(TransactItem::parts);
            return parts.map(|(action, entry)| entry.permission(action, arns)).collect();
        }
        if let Some(items) = &self.request_items {
            let tables = items.iter().map(|name| arns.table(table_name(name)));
            return tables.map(|resource| permission(operation, resource, None)).collect();
        }
        BTreeSet::from([self.permission(operation, arns)])
    }

    fn permission(&self, operation: &str, arns: &Arns) -> Permission {
        let resource = match (&self.table_name, &self.index_name) {
            (Some(table), Some(index)) => arns.index(table_name(table), index),
            (Some(table), None) => arns.table(table_name(table)),
            (None, _) => match self.stream_arn.as_ref().or(self.resource_arn.as_ref()) {
                Some(arn) => local_arn(arn, arns),
                None => self.iterator().map_or("*".to_owned(), |iterator| arns.stream(&iterator.table)),
            },
        };
        permission(operation, resource, (operation == UPDATE).then(|| self.details()))
    }

    fn details(&self) -> Details {
        let aliases = self.expression_attribute_names.as_ref();
        let attribute = |word| aliases.and_then(|aliases| aliases.get(word)).map_or(word, String::as_str);
        let expressions = [&self.update_expression, &self.condition_expression].into_iter().flatten();
        let by_name = [&self.key, &self.attribute_updates, &self.expected].into_iter().flatten().flatten();
        Details {
            attributes: expressions
                .flat_map(|expression| attributes::top_level(expression))
                .map(|word| attribute(word).to_owned())
                .chain(by_name.cloned())
                .collect(),
            return_values: self.return_values.clone(),
        }
    }
}

fn permission(action: &str, resource: String, details: Option<Details>) -> Permission {
    Permission { action: format!("dynamodb:{action}"), resource, details }
}

#[cfg(test)]
mod tests;
