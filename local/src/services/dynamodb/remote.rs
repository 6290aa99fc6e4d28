//! Another DynamoDB behind this endpoint: each request is passed on unchanged.
//!
//! Tests use it to run against AWS's own DynamoDB Local. Fault rules, policies and the log of
//! requests work as with the embedded engine, because they belong to the endpoint. The access key
//! is new for each [`Remote`], and DynamoDB Local keeps one database per access key, so no test
//! sees another test's rows.
//!
//! Limits: capacity units are not counted, and TTL is not enabled: a test with a clock in the past
//! would lose its rows.

use http::{Response, StatusCode};
use reqwest::Client;
use tokio::sync::OnceCell;
use ulid::Ulid;

use super::tables;
use crate::services::json;
use crate::services::server::Body;
use crate::template::model::Table;

/// What `X-Amz-Target` starts with for requests about tables.
pub(super) const TABLE_TARGET: &str = "DynamoDB_20120810.";

/// A DynamoDB at a URL, and the tables that it has to have.
#[derive(Debug)]
pub(super) struct Remote {
    client: Client,
    url: String,
    authorization: String,
    tables: Vec<Table>,
    tables_exist: OnceCell<()>,
}

impl Remote {
    /// Sends nothing yet: the first request creates the tables.
    pub(super) fn new(url: &str, tables: &[Table]) -> Self {
        // DynamoDB Local wants an access key of letters and digits, and verifies no signature.
        let access_key = Ulid::generate();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={access_key}/20260101/local/dynamodb/aws4_request, \
             SignedHeaders=host, Signature=0"
        );
        let (client, url, tables) = (Client::new(), url.to_owned(), tables.to_vec());
        Self { client, url, authorization, tables, tables_exist: OnceCell::new() }
    }

    /// Passes a request on. A DynamoDB that cannot be reached is an internal error.
    pub(super) async fn run(&self, operation: &str, body: &str) -> Response<Body> {
        self.try_run(operation, body).await.unwrap_or_else(|error| {
            let message = format!("the DynamoDB at {} failed: {error}", self.url);
            tracing::error!("{message}");
            json::error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", &message)
        })
    }

    async fn try_run(&self, operation: &str, body: &str) -> Result<Response<Body>, reqwest::Error> {
        self.tables_exist.get_or_try_init(|| self.create_tables()).await?;
        let response = self.post(operation, body.to_owned()).await?;
        Ok(json::answer(response.status(), response.text().await?))
    }

    async fn create_tables(&self) -> Result<(), reqwest::Error> {
        for table in &self.tables {
            let request = tables::create_request(table);
            self.post("CreateTable", request.to_string()).await?.error_for_status()?;
        }
        Ok(())
    }

    async fn post(&self, operation: &str, body: String) -> Result<reqwest::Response, reqwest::Error> {
        self.client
            .post(&self.url)
            .header("x-amz-target", format!("{TABLE_TARGET}{operation}"))
            .header("content-type", "application/x-amz-json-1.0")
            .header("authorization", &self.authorization)
            .body(body)
            .send()
            .await
    }
}
