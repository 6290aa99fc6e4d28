//! The addresses of the regions, and an operator's calls to them.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials};
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use sojourn::platform::tables::Table;

/// Several regions and their front door, from the ready file.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct World {
    /// The front door's HTTP URL.
    pub front: String,
    pub front_ws: String,
    /// The control API of all regions.
    pub control: String,
    /// The regions by name.
    pub regions: BTreeMap<String, Region>,
    /// For an operator's requests.
    #[serde(skip)]
    pub http: reqwest::Client,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Region {
    /// Its own HTTP URL.
    pub http: String,
    pub lambda: String,
    pub dynamodb: String,
    pub region: String,
    /// The tables' names by their logical ids.
    pub tables: BTreeMap<String, String>,
    pub access_key_id: String,
    pub secret_access_key: String,
    #[serde(skip)]
    client: reqwest::Client,
}

/// `Debug` does not show the operator's secret.
impl std::fmt::Debug for Region {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Region").field("http", &self.http).finish_non_exhaustive()
    }
}

/// The state of all regions, from the control API.
#[derive(Debug, Clone, Deserialize)]
pub struct Overview {
    pub regions: Vec<RegionHealth>,
    /// Replication from each region to each other one.
    pub links: Vec<Link>,
    /// Versions of objects that have not been replicated.
    pub copies: u64,
    /// How long clients are sent to a lost region at most.
    pub failover: FailoverShare,
}

/// A region's health at the front door.
#[derive(Debug, Clone, Deserialize)]
pub struct RegionHealth {
    pub name: String,
    /// Whether clients are sent there.
    pub healthy: bool,
    pub since: Timestamp,
}

/// The replication from one region to another.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Where changes are made.
    pub from: String,
    pub to: String,
    /// Changes that have not arrived.
    pub pending: u64,
    /// The age of the oldest of them.
    pub oldest_ms: Option<u64>,
}

/// The longest time that health checks and DNS lead a client to a lost region.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailoverShare {
    /// At the local front door.
    pub here_ms: u64,
    /// On AWS, by Route 53.
    pub in_the_cloud_ms: u64,
}

/// Why an operator's call failed.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A region or the control API gave no answer, or refused.
    #[error("{what}: {reason}")]
    Call { what: String, reason: String },
    /// A table can't be read.
    #[error("{table} of {region} can't be read: {reason}")]
    Table { table: &'static str, region: String, reason: String },
}

impl World {
    /// The state of all regions.
    pub async fn overview(&self) -> Result<Overview, WorldError> {
        let told = self.control(Method::GET, "").await?;
        serde_json::from_value(told).map_err(|error| WorldError::Call {
            what: "reading the regions' state".to_owned(),
            reason: error.to_string(),
        })
    }

    /// Kills a region.
    pub async fn down(&self, name: &str) -> Result<(), WorldError> {
        self.control(Method::POST, &format!("/{name}/down")).await.map(drop)
    }

    /// Brings a region back.
    pub async fn up(&self, name: &str) -> Result<(), WorldError> {
        self.control(Method::POST, &format!("/{name}/up")).await.map(drop)
    }

    /// Disconnects a region from all others.
    pub async fn cut_off(&self, name: &str) -> Result<(), WorldError> {
        for other in self.regions.keys().filter(|other| *other != name) {
            let url = format!("{}/_local-region/regions/partition", self.control);
            let cut = serde_json::json!({"between": [name, other]});
            call(self.http.post(url).json(&cut), format!("cutting {name} off from {other}")).await?;
        }
        Ok(())
    }

    /// Reconnects all regions.
    pub async fn heal(&self) -> Result<(), WorldError> {
        self.control(Method::POST, "/heal").await.map(drop)
    }

    async fn control(&self, method: Method, path: &str) -> Result<Value, WorldError> {
        let url = format!("{}/_local-region/regions{path}", self.control);
        let what = format!("{method} /_local-region/regions{path}");
        call(self.http.request(method, url), what).await
    }
}

impl Region {
    /// Invokes a function, and returns its answer.
    pub async fn invoke(&self, function: &str, event: &Value) -> Result<Value, WorldError> {
        let url = format!("{}/2015-03-31/functions/{function}/invocations", self.lambda);
        call(self.client.post(url).json(event), format!("invoking {function}")).await
    }

    /// Fires a schedule for a slot, and returns the function's answer.
    pub async fn fire(&self, schedule: &str, at: &str) -> Result<Value, WorldError> {
        let body = serde_json::json!({"schedule": schedule, "at": at});
        let url = format!("{}/_local-region/fire", self.lambda);
        call(self.client.post(url).json(&body), format!("firing {schedule}")).await
    }

    /// All rows of a table in this region, as plain JSON.
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
        let name = self.tables.get(table.logical_id).ok_or_else(|| failed("there is none".to_owned()))?;
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
