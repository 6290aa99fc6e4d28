//! Makes the template's tables exist.
//!
//! 1. A table that isn't there is created from its `CloudFormation` properties, which are
//!    `CreateTable`'s own.
//! 2. A table that is there (kept in a file from an earlier start) is left alone if its keys and
//!    indexes are the template's, and is an error that names the difference if they aren't: data is
//!    never deleted silently.
//! 3. TTL is switched on where the template says so.

use std::collections::BTreeMap;

use dynoxide::{Database, DynoxideError};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::template::model::Table;

/// Properties of `AWS::DynamoDB::Table` that `CreateTable` takes under the same name.
const CREATE_PROPERTIES: [&str; 5] = [
    "AttributeDefinitions",
    "KeySchema",
    "GlobalSecondaryIndexes",
    "LocalSecondaryIndexes",
    "StreamSpecification",
];

/// Why the tables could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The template's properties are not a table.
    #[error("table {table} ({logical_id}) can't be created: {reason}")]
    Refused {
        table: String,
        /// Name in the template.
        logical_id: String,
        reason: String,
    },
    /// The data folder holds a table of that name with another schema.
    #[error(
        "table {table} was kept from an earlier start and differs from the template in {difference}: \
         start with another data folder, or move this one away"
    )]
    Differs { table: String, difference: String },
}

/// Creates missing tables and checks existing ones.
pub(super) fn ensure(database: &Database, tables: &[Table]) -> Result<(), TableError> {
    for table in tables {
        let refused = |reason: String| TableError::Refused {
            table: table.name.clone(),
            logical_id: table.logical_id.clone(),
            reason,
        };
        match describe(database, &table.name) {
            Ok(Some(existing)) => compare(table, &existing)?,
            Ok(None) => create(database, table).map_err(refused)?,
            Err(error) => return Err(refused(error)),
        }
        enable_ttl(database, table).map_err(refused)?;
    }
    Ok(())
}

fn call<T: serde::de::DeserializeOwned>(request: Value) -> Result<T, String> {
    serde_json::from_value(request)
        .map_err(|error| error.to_string().trim_start_matches("VALIDATION:").to_owned())
}

fn describe(database: &Database, table: &str) -> Result<Option<Value>, String> {
    match database.describe_table(call(json!({"TableName": table}))?) {
        Ok(answer) => {
            let mut answer = serde_json::to_value(&answer).map_err(|error| error.to_string())?;
            Ok(Some(answer["Table"].take()))
        }
        Err(DynoxideError::ResourceNotFoundException(_)) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn create(database: &Database, table: &Table) -> Result<(), String> {
    let mut request = create_request(table);
    if let Some(stream) = request.get_mut("StreamSpecification") {
        // The streams take out again what the template does not ask for.
        stream["StreamViewType"] = "NEW_AND_OLD_IMAGES".into();
    }
    database.create_table(call(request)?).map(drop).map_err(|error| error.to_string())
}

/// The body of `CreateTable` for a table of the template.
pub(super) fn create_request(table: &Table) -> Value {
    let mut request = json!({"TableName": table.name, "BillingMode": "PAY_PER_REQUEST"});
    for property in CREATE_PROPERTIES {
        if let Some(value) = table.create.get(property) {
            request[property] = value.clone();
        }
    }
    // CloudFormation leaves out what the API asks for: a stream of a template is enabled by being
    // there.
    if let Some(stream) = request.get_mut("StreamSpecification").and_then(Value::as_object_mut) {
        stream.insert("StreamEnabled".to_owned(), Value::Bool(true));
    }
    for indexes in ["GlobalSecondaryIndexes", "LocalSecondaryIndexes"] {
        for index in request.get_mut(indexes).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(index) = index.as_object_mut() {
                // On-demand tables have none, and the API refuses an index that does.
                index.remove("ProvisionedThroughput");
            }
        }
    }
    request
}

fn enable_ttl(database: &Database, table: &Table) -> Result<(), String> {
    let Some(attribute) = &table.ttl_attribute else { return Ok(()) };
    let answer = database
        .describe_time_to_live(call(json!({"TableName": table.name}))?)
        .map_err(|error| error.to_string())?;
    let described = serde_json::to_value(&answer).map_err(|error| error.to_string())?;
    if described["TimeToLiveDescription"]["TimeToLiveStatus"] == "ENABLED" {
        return Ok(());
    }
    let specification = json!({"Enabled": true, "AttributeName": attribute});
    database
        .update_time_to_live(call(
            json!({"TableName": table.name, "TimeToLiveSpecification": specification}),
        )?)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// What makes a stored table usable by the template's functions, in an order that doesn't matter.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Shape {
    key_schema: Vec<Key>,
    attribute_definitions: Vec<Attribute>,
    #[serde(default)]
    global_secondary_indexes: Vec<SecondaryIndex>,
    #[serde(default)]
    local_secondary_indexes: Vec<SecondaryIndex>,
    /// Only whether there is one: records are kept with both images, so what readers see may
    /// change.
    stream_specification: Option<Stream>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    attribute_name: String,
    key_type: String,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attribute {
    attribute_name: String,
    attribute_type: String,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SecondaryIndex {
    index_name: String,
    key_schema: Vec<Key>,
    projection: Projection,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Projection {
    projection_type: String,
    #[serde(default)]
    non_key_attributes: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Stream {}

fn compare(table: &Table, existing: &Value) -> Result<(), TableError> {
    let differs = |difference: &str| TableError::Differs {
        table: table.name.clone(),
        difference: difference.to_owned(),
    };
    let schema = |value: &Value| Shape::deserialize(value).map(sorted);
    let (Ok(wanted), Ok(found)) = (schema(&table.create), schema(existing)) else {
        return Err(differs("a way that can't be read"));
    };
    if wanted.key_schema != found.key_schema {
        return Err(differs("its key"));
    }
    if wanted.attribute_definitions != found.attribute_definitions {
        return Err(differs("the types of its keys"));
    }
    let indexes = |schema: Shape| -> BTreeMap<String, SecondaryIndex> {
        let all = schema.global_secondary_indexes.into_iter().chain(schema.local_secondary_indexes);
        all.map(|index| (index.index_name.clone(), index)).collect()
    };
    if wanted.stream_specification != found.stream_specification {
        return Err(differs("its stream"));
    }
    let (wanted, found) = (indexes(wanted), indexes(found));
    match wanted.iter().find(|(name, index)| found.get(*name) != Some(index)) {
        Some((name, _)) => Err(differs(&format!("its index {name}"))),
        None => match found.keys().find(|name| !wanted.contains_key(*name)) {
            Some(name) => Err(differs(&format!("an index {name} that the template no longer has"))),
            None => Ok(()),
        },
    }
}

fn sorted(mut schema: Shape) -> Shape {
    schema.attribute_definitions.sort();
    for index in schema.global_secondary_indexes.iter_mut().chain(&mut schema.local_secondary_indexes) {
        index.projection.non_key_attributes.sort();
    }
    schema
}
