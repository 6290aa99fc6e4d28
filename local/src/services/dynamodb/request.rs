//! What a request is about, read from its body without building the request: tables, index, transaction entries. And
//! which permissions it needs.
//!
//! - An operation on an item or a table needs the action of its own name on the table.
//! - Query and Scan on an index need it on the index and not on the table.
//! - `TransactWriteItems` and `TransactGetItems` have no action of their own: every entry needs the action of its kind
//!   (`PutItem`, `UpdateItem`, `DeleteItem`, `ConditionCheckItem`, `GetItem`) on its table.
//! - `BatchGetItem` and `BatchWriteItem` are actions of their own, needed on every table they name.
//! - What has no resource (`ListTables`, `ListStreams`) is needed on `*`.
//!
//! Limits: `PartiQL` statements aren't taken apart, so functions may not use them. A shard iterator doesn't say here whose
//! stream it is, so `GetRecords` needs the action on some wildcard that covers all streams.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::services::access::arn;

/// The parts of any request body that say what it is about.
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
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TransactItem {
    put: Option<Entry>,
    update: Option<Entry>,
    delete: Option<Entry>,
    condition_check: Option<Entry>,
    get: Option<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    table_name: String,
}

impl TransactItem {
    fn parts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let parts = [
            ("PutItem", &self.put),
            ("UpdateItem", &self.update),
            ("DeleteItem", &self.delete),
            ("ConditionCheckItem", &self.condition_check),
            ("GetItem", &self.get),
        ];
        parts
            .into_iter()
            .filter_map(|(action, entry)| Some((action, table_name(&entry.as_ref()?.table_name))))
    }
}

/// The names in a JSON object, its values skipped unread.
fn member_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeSet<String>>, D::Error> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Option<BTreeSet<String>>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object by table name")
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

/// One permission: an action on a resource.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Permission {
    pub(super) action: String,
    pub(super) resource: String,
}

/// The name in a table's ARN, or the name itself: the API takes both.
fn table_name(name_or_arn: &str) -> &str {
    match name_or_arn.split_once(":table/") {
        Some((_, rest)) => rest.split_once('/').map_or(rest, |(name, _)| name),
        None => name_or_arn,
    }
}

/// An ARN of the engine, which has a region name of its own, as this region writes it.
fn local_arn(engine_arn: &str) -> String {
    match engine_arn.split_once(":table/") {
        Some((_, rest)) => arn::table(rest),
        None => engine_arn.to_owned(),
    }
}

impl Outline {
    /// The tables, each once, in the order of their names.
    pub(super) fn tables(&self) -> Vec<String> {
        let mut tables = BTreeSet::new();
        tables.extend(self.table_name.as_deref().map(table_name));
        tables.extend(self.request_items.iter().flatten().map(|name| table_name(name)));
        tables.extend(
            self.transact_items.iter().flatten().flat_map(TransactItem::parts).map(|(_, table)| table),
        );
        for arn in [&self.resource_arn, &self.stream_arn].into_iter().flatten() {
            tables.insert(table_name(arn));
        }
        tables.into_iter().map(str::to_owned).collect()
    }

    /// How many entries the transaction has.
    pub(super) fn transaction_len(&self) -> usize {
        self.transact_items.as_ref().map_or(0, Vec::len)
    }

    /// Everything that a caller must be allowed to do, each once.
    pub(super) fn permissions(&self, operation: &str) -> BTreeSet<Permission> {
        let permission =
            |action: &str, resource| Permission { action: format!("dynamodb:{action}"), resource };
        if let Some(items) = &self.transact_items {
            let parts = items.iter().flat_map(TransactItem::parts);
            return parts.map(|(action, table)| permission(action, arn::table(table))).collect();
        }
        if let Some(items) = &self.request_items {
            return items.iter().map(|name| permission(operation, arn::table(table_name(name)))).collect();
        }
        let resource = match (&self.table_name, &self.index_name) {
            (Some(table), Some(index)) => arn::index(table_name(table), index),
            (Some(table), None) => arn::table(table_name(table)),
            (None, _) => match self.stream_arn.as_ref().or(self.resource_arn.as_ref()) {
                Some(arn) => local_arn(arn),
                None => "*".to_owned(),
            },
        };
        BTreeSet::from([permission(operation, resource)])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn needs(operation: &str, body: Value) -> Vec<String> {
        let outline: Outline = serde_json::from_value(body).unwrap();
        let permissions = outline.permissions(operation).into_iter();
        permissions.map(|needed| format!("{} {}", needed.action, needed.resource)).collect()
    }

    #[test]
    fn a_transaction_needs_the_action_of_each_entry() {
        let entry = |table: &str| json!({"TableName": table});
        let body = json!({"TransactItems": [
            {"Put": entry("Orders")},
            {"Update": entry("Stock")},
            {"Update": entry("Stock")},
            {"ConditionCheck": entry("Locks")},
            {"Delete": entry("Carts")},
        ]});
        assert_eq!(
            needs("TransactWriteItems", body),
            [
                "dynamodb:ConditionCheckItem arn:aws:dynamodb:local:000000000000:table/Locks",
                "dynamodb:DeleteItem arn:aws:dynamodb:local:000000000000:table/Carts",
                "dynamodb:PutItem arn:aws:dynamodb:local:000000000000:table/Orders",
                "dynamodb:UpdateItem arn:aws:dynamodb:local:000000000000:table/Stock",
            ]
        );
    }

    #[test]
    fn a_query_on_an_index_needs_the_index_and_not_the_table() {
        assert_eq!(
            needs("Query", json!({"TableName": "Connections", "IndexName": "byUser"})),
            ["dynamodb:Query arn:aws:dynamodb:local:000000000000:table/Connections/index/byUser"]
        );
    }

    #[test]
    fn a_batch_read_is_an_action_of_its_own_on_every_table() {
        let body = json!({"RequestItems": {"Products": {"Keys": []}, "Sessions": {"Keys": []}}});
        assert_eq!(
            needs("BatchGetItem", body),
            [
                "dynamodb:BatchGetItem arn:aws:dynamodb:local:000000000000:table/Products",
                "dynamodb:BatchGetItem arn:aws:dynamodb:local:000000000000:table/Sessions",
            ]
        );
    }

    #[test]
    fn a_table_named_by_its_arn_is_the_same_table() {
        let by_arn = json!({"TableName": "arn:aws:dynamodb:local:000000000000:table/Orders"});
        assert_eq!(needs("GetItem", by_arn), needs("GetItem", json!({"TableName": "Orders"})));
    }

    #[test]
    fn what_names_no_table_is_needed_on_everything() {
        assert_eq!(needs("ListTables", json!({})), ["dynamodb:ListTables *"]);
    }
}
