//! A DynamoDB for each test: empty, with every table of the library.
//!
//! It is embedded, unless the variable `SOJOURN_TEST_DYNAMODB` names another one, such as AWS's
//! DynamoDB Local, to compare the behaviour of conditions (`.ci/dynamodb-local` starts it).

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use local_region::services::dynamodb::Embedded;
use local_region::template::model::Table;
use serde_json::{Value, json};
use sojourn::core::env::Env;
use sojourn::platform::tables::{self, Key, Projection};
use sojourn::sockets::connections::Connection;

/// The embedded DynamoDB and a client of it. Gone when its last clone is dropped.
#[derive(Clone)]
pub struct Store {
    pub embedded: Arc<Embedded>,
    /// The real SDK's client.
    pub client: Client,
    /// The table names, the region and the limits of sockets, for adapters that read nothing else.
    pub env: Env,
    region: String,
    peers: Vec<String>,
}

/// The variable with the URL of a DynamoDB to test on.
const REMOTE: &str = "SOJOURN_TEST_DYNAMODB";

impl Store {
    /// Starts an empty store.
    pub fn start() -> Self {
        let tables: Vec<Table> = tables::ALL.iter().map(definition).collect();
        let embedded = match std::env::var(REMOTE) {
            Ok(url) => Embedded::start_over(&url, &tables).unwrap(),
            Err(_) => Embedded::start(&tables).unwrap(),
        };
        Self::of(embedded, "local", &[])
    }

    /// The store of a region that `embedded` serves, and that has these peers.
    pub(crate) fn of(embedded: Embedded, region: &str, peers: &[&str]) -> Self {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            // The server's own region, which signatures contain.
            .region(Region::new("local"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .endpoint_url(embedded.endpoint_url())
            .build();
        Self {
            embedded: Arc::new(embedded),
            client: Client::from_conf(config),
            env: Env::of(variables(region, peers)),
            region: region.to_owned(),
            peers: peers.iter().map(|peer| (*peer).to_owned()).collect(),
        }
    }

    /// The environment with other values of these variables.
    pub fn env_with(&self, variables: &[(&str, &str)]) -> Env {
        let others = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Env::of(self.variables().chain(others))
    }

    /// Writes the row of an open socket, as its handshake stores it, without a limit.
    pub async fn open_socket(&self, connection: &Connection) {
        let row = connection.row("50".parse().unwrap()).unwrap();
        let put = self.client.put_item().table_name(tables::CONNECTIONS.logical_id);
        put.set_item(Some(row)).send().await.unwrap();
    }

    /// The table names, the variables of every function, and the limits of sockets.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (String, String)> + use<> {
        let peers: Vec<&str> = self.peers.iter().map(String::as_str).collect();
        variables(&self.region, &peers)
    }

    /// The region that the store is in.
    pub fn region(&self) -> &str {
        &self.region
    }
}

fn variables(region: &str, peers: &[&str]) -> impl Iterator<Item = (String, String)> + use<> {
    let names = tables::ALL.iter().map(|table| (table.variable, table.logical_id));
    let place = [("STAGE", "local"), ("PAYMENT_PROVIDER", "sandbox")];
    let limits = [
        ("SOCKETS_PER_USER", "20"),
        ("FRAMES_PER_SOCKET", "50"),
        ("MESSAGES_FROM", "everybody"),
        ("RECIPIENTS_PER_MINUTE", "30"),
    ];
    let settings = names.chain(place).chain(limits).map(|(name, value)| (name.to_owned(), value.to_owned()));
    let regions = [("AWS_REGION", region.to_owned()), ("PEER_REGIONS", peers.join(","))];
    settings.chain(regions.map(|(name, value)| (name.to_owned(), value)))
}

pub(crate) fn definition(table: &tables::Table) -> Table {
    let keys = std::iter::once(&table.key).chain(table.indexes.iter().map(|index| &index.key));
    let attributes: BTreeSet<&str> =
        keys.flat_map(|key| std::iter::once(key.hash).chain(key.range)).collect();
    let mut create = json!({
        "TableName": table.logical_id,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": key_schema(table.key),
        "AttributeDefinitions": attributes.iter()
            .map(|name| json!({"AttributeName": name, "AttributeType": "S"})).collect::<Vec<_>>(),
    });
    if !table.indexes.is_empty() {
        create["GlobalSecondaryIndexes"] = table
            .indexes
            .iter()
            .map(|index| {
                // As narrow as in template.yaml, so that an attribute missing in the index cannot
                // be read here either.
                let projection = match index.projection {
                    Projection::KeysOnly => json!({"ProjectionType": "KEYS_ONLY"}),
                    Projection::Include(attributes) => {
                        json!({"ProjectionType": "INCLUDE", "NonKeyAttributes": attributes})
                    }
                };
                json!({
                    "IndexName": index.name,
                    "KeySchema": key_schema(index.key),
                    "Projection": projection,
                })
            })
            .collect();
    }
    Table {
        logical_id: table.logical_id.to_owned(),
        name: table.logical_id.to_owned(),
        create,
        ttl_attribute: table.expires.then(|| tables::EXPIRES_AT.to_owned()),
    }
}

fn key_schema(key: Key) -> Value {
    let mut schema = vec![json!({"AttributeName": key.hash, "KeyType": "HASH"})];
    schema.extend(key.range.map(|range| json!({"AttributeName": range, "KeyType": "RANGE"})));
    schema.into()
}
