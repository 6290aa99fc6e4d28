//! The library's list of tables is that of template.yaml and global.yaml.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::{BTreeMap, BTreeSet};

use local_region::template::arn;
use local_region::template::global::{Consistency, GlobalTable};
use local_region::template::{self, Context, model::Table};
use serde_json::Value;
use sojourn::platform::tables::{self, Key, Projection, TableScope};
use sojourn_tests::workspace;

fn of_template() -> BTreeMap<String, Table> {
    let context = Context {
        arns: arn::local(),
        parameters: BTreeMap::from([("TokenJwks".to_owned(), "{}".to_owned())]),
        http_url: "http://127.0.0.1:1".to_owned(),
        websocket_url: "ws://127.0.0.1:2".to_owned(),
        sqs_url: "http://127.0.0.1:3".to_owned(),
        ..Context::default()
    };
    let stack = template::load(&workspace().join("template.yaml"), &context).unwrap();
    stack.tables.into_iter().map(|table| (table.logical_id.clone(), table)).collect()
}

fn of_global_template() -> BTreeMap<String, GlobalTable> {
    let stack = template::load_global(&workspace().join("global.yaml"), &Context::default()).unwrap();
    stack.tables.into_iter().map(|table| (table.table.logical_id.clone(), table)).collect()
}

fn of_code(scopes: &[TableScope]) -> BTreeSet<&'static str> {
    let tables = tables::ALL.iter().filter(|table| scopes.contains(&table.scope));
    tables.map(|table| table.logical_id).collect()
}

/// What a table is to its readers and writers.
fn definition(table: &Table) -> [&Value; 3] {
    ["AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes"].map(|property| &table.create[property])
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
    let mut templates = of_template();
    let in_template: BTreeSet<&str> = templates.keys().map(String::as_str).collect();
    let mut of_one_region = of_code(&[TableScope::Regional, TableScope::Global, TableScope::Agreed]);
    assert!(of_one_region.remove(tables::AGREEMENT.logical_id), "a region alone agrees with nobody");
    assert_eq!(in_template, of_one_region);
    let agreed = of_global_template().into_iter().filter(|(name, _)| !in_template.contains(name.as_str()));
    let agreed: Vec<_> = agreed.map(|(name, table)| (name, table.table)).collect();
    templates.extend(agreed);

    for table in tables::ALL {
        let name = table.logical_id;
        let actual = &templates[name];
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

#[test]
fn the_tables_that_regions_share_are_those_that_the_library_says() {
    let shared = of_global_template();
    let with = |is_meant: fn(&Consistency) -> bool| -> BTreeSet<&str> {
        let tables = shared.iter().filter(|(_, table)| is_meant(&table.consistency));
        tables.map(|(name, _)| name.as_str()).collect()
    };
    assert_eq!(with(|consistency| *consistency == Consistency::Eventual), of_code(&[TableScope::Global]));
    let strong = with(|consistency| matches!(consistency, Consistency::Strong { witness: Some(_) }));
    assert_eq!(strong, of_code(&[TableScope::Agreed]));
}

#[test]
fn a_shared_table_is_defined_as_a_region_of_its_own_defines_it() {
    let own = of_template();
    for (name, shared) in of_global_template() {
        let Some(own) = own.get(&name) else { continue };
        assert_eq!(definition(&shared.table), definition(own), "{name}");
        assert_eq!(shared.table.ttl_attribute, own.ttl_attribute, "{name}");
        let members = shared.replicas.len() + usize::from(shared.consistency != Consistency::Eventual);
        assert_eq!(members, 3, "three replicas, or two and a witness: {name}");
    }
}

#[test]
fn every_replica_is_encrypted_can_be_restored_and_is_not_deleted_by_mistake() {
    for (name, table) in of_global_template() {
        assert_eq!(table.table.create["SSESpecification"]["SSEEnabled"], true, "{name}");
        for replica in table.table.create["Replicas"].as_array().unwrap() {
            assert_eq!(replica["DeletionProtectionEnabled"], true, "{name}");
            let recovery = &replica["PointInTimeRecoverySpecification"];
            assert_eq!(recovery["PointInTimeRecoveryEnabled"], true, "{name}");
        }
    }
}
