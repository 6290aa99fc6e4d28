//! Where the regions are, and what only an operator may do with them.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials};
use serde::Deserialize;
use serde_json::Value;
use sojourn::platform::tables::Table;

/// Several regions and their front door, as the ready file tells.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct World {
    /// The front door's HTTP URL.
    pub front: String,
    /// Its WebSocket URL.
    pub front_ws: String,
    /// The control API of all regions.
    pub control: String,
    /// The regions by name.
    pub regions: BTreeMap<String, Region>,
}

/// A region.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Region {
    /// Its own HTTP URL.
    pub http: String,
    /// Lambda's Invoke API.
    pub lambda: String,
    /// DynamoDB.
    pub dynamodb: String,
    /// The AWS region.
    pub region: String,
    /// The operator's key.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
}

/// The operator's secret is not for logs.
impl std::fmt::Debug for Region {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Region").field("http", &self.http).finish_non_exhaustive()
    }
}

/// Why an operator's call failed.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A region or the control API gave no answer, or a refusal.
    #[error("{what}: {reason}")]
    Call {
        /// What was asked.
        what: String,
        /// Why it failed.
        reason: String,
    },
    /// A table can't be read.
    #[error("{table} of {region} can't be read: {reason}")]
    Table {
        /// Its logical id.
        table: &'static str,
        /// The region.
        region: String,
        /// The error.
        reason: String,
    },
}

impl World {
    /// Calls the control API.
    pub async fn control(&self, method: &str, path: &str) -> Result<Value, WorldError> {
        let url = format!("{}/_sojourn/{path}", self.control);
        call(reqwest::Client::new().request(parse(method), url), format!("{method} {path}")).await
    }
}

impl Region {
    /// Invokes a function, and tells its answer.
    pub async fn invoke(&self, function: &str, event: &Value) -> Result<Value, WorldError> {
        let url = format!("{}/2015-03-31/functions/{function}/invocations", self.lambda);
        call(reqwest::Client::new().post(url).json(event), format!("invoking {function}")).await
    }

    /// Fires a schedule for a slot, and tells the function's answer.
    pub async fn fire(&self, schedule: &str, at: &str) -> Result<Value, WorldError> {
        let body = serde_json::json!({"schedule": schedule, "at": at});
        let url = format!("{}/_sojourn/fire", self.lambda);
        call(reqwest::Client::new().post(url).json(&body), format!("firing {schedule}")).await
    }

    /// All rows of a table as this region has them, as plain JSON.
    pub async fn rows(&self, table: &Table) -> Result<Vec<Value>, WorldError> {
        let failed = |reason: String| WorldError::Table {
            table: table.logical_id,
            region: self.region.clone(),
            reason,
        };
        let credentials = Credentials::new(&self.access_key_id, &self.secret_access_key, None, None, "drill");
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(aws_sdk_dynamodb::config::Region::new(self.region.clone()))
            .credentials_provider(credentials)
            .endpoint_url(&self.dynamodb);
        let client = Client::from_conf(config.build());
        let name = self.table_name(&client, table).await?;
        let mut pages = client.scan().table_name(name).consistent_read(true).into_paginator().items().send();
        let mut rows = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| failed(format!("{error:?}")))?;
            let row = serde_dynamo::aws_sdk_dynamodb_1::from_item(item);
            rows.push(row.map_err(|error| failed(error.to_string()))?);
        }
        Ok(rows)
    }
}

impl Region {
    /// A table's name: its logical id, or that of a global table, which ends in `-payment-ledger` for `PaymentLedgerTable`.
    async fn table_name(&self, client: &Client, table: &Table) -> Result<String, WorldError> {
        let failed = |reason: String| WorldError::Table {
            table: table.logical_id,
            region: self.region.clone(),
            reason,
        };
        let mut end = String::new();
        for letter in table.logical_id.trim_end_matches("Table").chars() {
            if letter.is_ascii_uppercase() {
                end.push('-');
            }
            end.push(letter.to_ascii_lowercase());
        }
        let names = client.list_tables().send().await.map_err(|error| failed(format!("{error:?}")))?;
        let is_it = |name: &&String| **name == table.logical_id || name.ends_with(&end);
        names.table_names().iter().find(is_it).cloned().ok_or_else(|| failed("there is none".to_owned()))
    }
}

fn parse(method: &str) -> reqwest::Method {
    method.parse().unwrap_or(reqwest::Method::GET)
}

async fn call(request: reqwest::RequestBuilder, what: String) -> Result<Value, WorldError> {
    let failed = |reason: String| WorldError::Call { what: what.clone(), reason };
    let response = request.send().await.map_err(|error| failed(error.to_string()))?;
    let status = response.status();
    let text = response.text().await.map_err(|error| failed(error.to_string()))?;
    if !status.is_success() {
        return Err(failed(format!("{status}: {text}")));
    }
    Ok(serde_json::from_str(&text).unwrap_or_default())
}
