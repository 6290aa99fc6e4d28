//! The library's list of tables is template.yaml's.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sojourn::platform::tables::{self, Key, Projection};
use sojourn_local::template::{self, Context, model::Table};
use sojourn_tests::workspace;

fn of_template() -> BTreeMap<String, Table> {
    let context = Context {
        parameters: BTreeMap::from([("TokenJwks".to_owned(), "{}".to_owned())]),
        http_url: "http://127.0.0.1:1".to_owned(),
        websocket_url: "ws://127.0.0.1:2".to_owned(),
        sqs_url: "http://127.0.0.1:3".to_owned(),
    };
    let stack = template::load(&workspace().join("template.yaml"), &context).unwrap();
    stack.tables.into_iter().map(|table| (table.logical_id.clone(), table)).collect()
}

fn key_of(schema: &Value) -> (Option<&str>, Option<&str>) {
    let of_type = |kind| {
        let mut attributes = schema.as_array().into_iter().flatten();
        attributes.find(|attribute| attribute["KeyType"] == kind).and_then(|it| it["AttributeName"].as_str())
    };
    (of_type("HASH"), of_type("RANGE"))
}

fn as_pair(key: Key) -> (Option<&'static str>, Option<&'static str>) {
    (Some(key.hash), key.range)
}

/// The attributes of an index that are no keys.
fn attributes(projection: Projection) -> BTreeSet<&'static str> {
    match projection {
        Projection::KeysOnly => BTreeSet::new(),
        Projection::Include(attributes) => attributes.iter().copied().collect(),
    }
}

/// The same, as the template has them.
fn projected(projection: &Value) -> BTreeSet<&str> {
    match projection["ProjectionType"].as_str() {
        Some("KEYS_ONLY") => BTreeSet::new(),
        Some("INCLUDE") => projection["NonKeyAttributes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect(),
        other => panic!("an index with the projection {other:?} is larger than its readers need"),
    }
}

#[test]
fn the_library_and_the_template_have_the_same_tables() {
    let in_template = of_template();
    let in_code: Vec<_> = tables::ALL.iter().map(|table| table.logical_id).collect();
    let mut sorted = in_code.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, in_template.keys().collect::<Vec<_>>());

    for table in tables::ALL {
        let name = table.logical_id;
        let actual = &in_template[name];
        assert_eq!(key_of(&actual.create["KeySchema"]), as_pair(table.key), "{name}");
        let indexes: BTreeMap<_, _> = table
            .indexes
            .iter()
            .map(|index| (index.name, (as_pair(index.key), attributes(index.projection))))
            .collect();
        let listed = actual.create["GlobalSecondaryIndexes"].as_array().cloned().unwrap_or_default();
        let actual_indexes: BTreeMap<_, _> = listed
            .iter()
            .map(|index| {
                let projected = projected(&index["Projection"]);
                (index["IndexName"].as_str().unwrap(), (key_of(&index["KeySchema"]), projected))
            })
            .collect();
        assert_eq!(actual_indexes, indexes, "{name}");
        let ttl = table.expires.then_some(tables::EXPIRES_AT);
        assert_eq!(actual.ttl_attribute.as_deref(), ttl, "{name}");
        let streamed = actual.create["StreamSpecification"].is_object();
        assert_eq!(streamed, table.streamed, "{name}");
        for attribute in actual.create["AttributeDefinitions"].as_array().unwrap() {
            assert_eq!(attribute["AttributeType"], "S", "keys are text: {name}");
        }
    }
}
