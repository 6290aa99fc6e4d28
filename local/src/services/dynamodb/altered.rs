//! Requests of a function that is broken on purpose: fault rules forget or repeat its writes.
//!
//! - *Forget*: the write has no effect, and is answered as if it had. In a transaction its
//!   condition still counts, so that a cancellation has a reason for each entry.
//! - *Repeat*: an update is done a second time without its condition, in a request of its own, if
//!   the first time succeeded.
//!
//! Only writes to tables that the rule names are altered.
//!
//! Limits: `BatchWriteItem` passes unaltered. Alone, a forgotten write ignores its condition and
//! returns no values.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::request::table_name;
use crate::services::faults::{Alteration, Rewrite, WriteKind};

/// The altered request.
#[derive(Debug, PartialEq)]
pub(super) struct Altered {
    /// The request; `None` if all of it is forgotten.
    pub(super) body: Option<String>,
    /// Bodies of `UpdateItem` requests that follow it.
    pub(super) again: Vec<String>,
}

/// Alters a request. `key_names` tells the key attributes of a table.
pub(super) fn alter(
    operation: &str,
    body: &str,
    alteration: &Alteration,
    key_names: impl Fn(&str) -> Vec<String>,
) -> Altered {
    let mut altered = Altered { body: Some(body.to_owned()), again: Vec::new() };
    // A body that is no object is refused by the engine.
    let Ok(mut request) = serde_json::from_str::<Value>(body) else { return altered };
    let is_meant = |write: &Value| {
        write["TableName"].as_str().is_some_and(|name| alteration.matches.names(table_name(name)))
    };
    let is_forgotten = |kind: WriteKind| match alteration.rewrite {
        Rewrite::Forget { only } => only.is_none_or(|only| only == kind),
        Rewrite::Repeat => false,
    };
    let is_repeated = |kind| kind == WriteKind::Update && alteration.rewrite == Rewrite::Repeat;
    if let Some(entries) = request["TransactItems"].as_array_mut() {
        for entry in entries {
            let Some((member, write)) = entry.as_object().and_then(|entry| entry.iter().next()) else {
                continue;
            };
            let Some(kind) = kind(member).filter(|_| is_meant(write)) else { continue };
            if is_repeated(kind) {
                altered.again.push(unconditional(write));
            } else if is_forgotten(kind) {
                let names = key_names(table_name(write["TableName"].as_str().unwrap_or_default()));
                *entry = json!({ "ConditionCheck": only_its_condition(write, &names) });
            }
        }
        altered.body = Some(request.to_string());
    } else if let Some(kind) = operation.strip_suffix("Item").and_then(kind) {
        if is_repeated(kind) {
            altered.again.push(unconditional(&request));
        } else if is_forgotten(kind) {
            altered.body = None;
        }
    }
    altered
}

fn kind(name: &str) -> Option<WriteKind> {
    match name {
        "Put" => Some(WriteKind::Put),
        "Update" => Some(WriteKind::Update),
        "Delete" => Some(WriteKind::Delete),
        _ => None,
    }
}

/// An update without its condition, as a request.
fn unconditional(update: &Value) -> String {
    let expression = update["UpdateExpression"].as_str().unwrap_or_default();
    let mut request = members(update, &["TableName", "Key", "UpdateExpression"]);
    request.extend(placeholders(update, expression));
    Value::Object(request).to_string()
}

/// A check in place of a write: of the write's condition, or of one that always holds.
fn only_its_condition(write: &Value, key_names: &[String]) -> Value {
    let mut check =
        members(write, &["TableName", "Key", "ConditionExpression", "ReturnValuesOnConditionCheckFailure"]);
    let key = || members(&write["Item"], &key_names.iter().map(String::as_str).collect::<Vec<_>>());
    check.entry("Key").or_insert_with(|| Value::Object(key()));
    if let Some(condition) = write["ConditionExpression"].as_str() {
        check.extend(placeholders(write, condition));
    } else {
        let always = "attribute_exists(#key) OR attribute_not_exists(#key)";
        check.insert("ConditionExpression".to_owned(), always.into());
        check.insert("ExpressionAttributeNames".to_owned(), json!({ "#key": key_names.first() }));
    }
    Value::Object(check)
}

/// Those of the members that are there.
fn members(object: &Value, names: &[&str]) -> Map<String, Value> {
    names.iter().filter_map(|name| Some(((*name).to_owned(), object.get(name)?.clone()))).collect()
}

/// The names and values that an expression uses: others would be refused.
fn placeholders(write: &Value, expression: &str) -> Map<String, Value> {
    let is_part = |letter: char| letter.is_alphanumeric() || "_#:".contains(letter);
    let used: BTreeSet<&str> = expression.split(|letter| !is_part(letter)).collect();
    let mut placeholders = members(write, &["ExpressionAttributeNames", "ExpressionAttributeValues"]);
    for map in placeholders.values_mut().filter_map(Value::as_object_mut) {
        map.retain(|name, _| used.contains(name.as_str()));
    }
    placeholders.retain(|_, map| map.as_object().is_some_and(|map| !map.is_empty()));
    placeholders
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::faults::Matcher;

    fn altered(rewrite: Rewrite, operation: &str, request: &Value) -> Altered {
        let matches = Matcher { resource: Some("Stock*".to_owned()), ..Matcher::default() };
        let keys = |_: &str| vec!["id".to_owned(), "region".to_owned()];
        alter(operation, &request.to_string(), &Alteration { rewrite, matches }, keys)
    }

    fn update(table: &str) -> Value {
        json!({
            "TableName": table,
            "Key": {"id": {"S": "lamp"}, "region": {"S": "here"}},
            "UpdateExpression": "SET #left = #left - :n",
            "ConditionExpression": "#left >= :n AND #lef = :x",
            "ExpressionAttributeNames": {"#left": "available", "#lef": "state"},
            "ExpressionAttributeValues": {":n": {"N": "1"}, ":x": {"S": "open"}},
        })
    }

    fn body(altered: &Altered) -> Value {
        serde_json::from_str(altered.body.as_deref().unwrap()).unwrap()
    }

    #[test]
    fn a_forgotten_entry_keeps_its_place_and_its_condition() {
        let put = json!({"TableName": "StockTable", "Item": {
            "id": {"S": "lamp"}, "region": {"S": "here"}, "available": {"N": "3"},
        }});
        let others = [update("OrdersTable"), json!({"TableName": "StockTable", "Key": {}})];
        let request = json!({"TransactItems": [
            {"Update": others[0]}, {"Update": update("arn:aws:dynamodb:r:1:table/StockTable")}, {"Put": put},
            {"ConditionCheck": others[1]},
        ]});
        let altered = altered(Rewrite::Forget { only: None }, "TransactWriteItems", &request);
        let mut condition = update("arn:aws:dynamodb:r:1:table/StockTable");
        condition.as_object_mut().unwrap().remove("UpdateExpression");
        let always = json!({
            "TableName": "StockTable",
            "Key": {"id": {"S": "lamp"}, "region": {"S": "here"}},
            "ConditionExpression": "attribute_exists(#key) OR attribute_not_exists(#key)",
            "ExpressionAttributeNames": {"#key": "id"},
        });
        let wanted = json!({"TransactItems": [
            {"Update": others[0]}, {"ConditionCheck": condition}, {"ConditionCheck": always},
            {"ConditionCheck": others[1]},
        ]});
        assert_eq!(body(&altered), wanted);
        assert!(altered.again.is_empty());
    }

    #[test]
    fn a_repeated_update_has_no_condition_the_second_time() {
        let request =
            json!({"TransactItems": [{"Update": update("StockTable")}, {"Update": update("OrdersTable")}]});
        let altered = altered(Rewrite::Repeat, "TransactWriteItems", &request);
        assert_eq!(body(&altered), request);
        let again: Vec<Value> =
            altered.again.iter().map(|body| serde_json::from_str(body).unwrap()).collect();
        let wanted = json!([{
            "TableName": "StockTable",
            "Key": {"id": {"S": "lamp"}, "region": {"S": "here"}},
            "UpdateExpression": "SET #left = #left - :n",
            "ExpressionAttributeNames": {"#left": "available"},
            "ExpressionAttributeValues": {":n": {"N": "1"}},
        }]);
        assert_eq!(json!(again), wanted);
    }

    #[test]
    fn a_write_alone_is_forgotten_or_repeated_and_a_read_never() {
        let forget = |only| altered(Rewrite::Forget { only }, "UpdateItem", &update("StockTable")).body;
        assert_eq!(forget(None), None);
        assert_eq!(forget(Some(WriteKind::Update)), None);
        assert_eq!(forget(Some(WriteKind::Put)), Some(update("StockTable").to_string()));
        assert_eq!(altered(Rewrite::Repeat, "UpdateItem", &update("StockTable")).again.len(), 1);
        let read = json!({"TableName": "StockTable", "Key": {"id": {"S": "lamp"}}});
        for rewrite in [Rewrite::Forget { only: None }, Rewrite::Repeat] {
            let unaltered = Altered { body: Some(read.to_string()), again: Vec::new() };
            assert_eq!(altered(rewrite, "GetItem", &read), unaltered);
        }
    }
}
