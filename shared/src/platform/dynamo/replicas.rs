//! A table that several regions have, read and written in whichever region answers.
//!
//! The strongly consistent tables ([`TableScope::Agreed`](tables::TableScope::Agreed)) are
//! linearizable: a write accepted by one replica is visible at the others, so a request without an
//! answer can be repeated elsewhere. A request therefore has to be idempotent: it may have
//! happened, and its repetition must recognise its own effect.
//!
//! Only replicas that do not answer, or answer that they failed, are skipped. A failed condition, a
//! conflict and a malformed request are answers.

use std::future::Future;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;

use super::DynamoError;
use crate::core::env::{ConfigError, Env};
use crate::platform::{aws, tables};

/// DynamoDB's code for a replica that failed, or that does not reach the others.
const FAILED: &str = "InternalServerError";

/// Clients of a table's replicas, in the order in which they are asked. Never empty.
#[derive(Debug, Clone)]
pub struct Replicas {
    first: Client,
    others: Vec<Client>,
}

impl Replicas {
    /// `first`, then `others` in their order.
    pub fn new(first: Client, others: Vec<Client>) -> Self {
        Self { first, others }
    }

    /// The regions with strongly consistent tables, this region first (`AGREEMENT_REGIONS`,
    /// separated by commas). `None` in a single region, which does not set the variable.
    pub fn of_agreeing_regions(sdk: &SdkConfig, env: &Env) -> Result<Option<Self>, ConfigError> {
        const REGIONS: &str = "AGREEMENT_REGIONS";
        let Some(names) = env.optional(REGIONS) else { return Ok(None) };
        let own = aws::region(env)?;
        let mut names = aws::region_names(names);
        names.sort_by_key(|name| *name != own);
        let mut clients = names.iter().map(|region| aws::dynamodb_in(sdk, region));
        let Some(first) = clients.next() else {
            let reason = "it names no region".to_owned();
            return Err(ConfigError::Invalid { variable: REGIONS, reason });
        };
        Ok(Some(Self::new(first, clients.collect())))
    }

    /// Asks one replica after another until one answers. Returns the last error if none does.
    pub async fn ask<T, F>(&self, request: impl Fn(Client) -> F) -> Result<T, DynamoError>
    where
        F: Future<Output = Result<T, DynamoError>>,
    {
        let mut answer = request(self.first.clone()).await;
        for replica in &self.others {
            match answer {
                Err(error) if error.code.as_deref().is_none_or(|code| code == FAILED) => {
                    tracing::warn!(%error, "a replica did not answer; the next one is asked");
                }
                answered => return answered,
            }
            answer = request(replica.clone()).await;
        }
        answer
    }

    /// Asks all replicas concurrently. Returns the first answer, or the last error if none answers.
    /// For reads that must not wait for a lost region.
    pub async fn ask_all<T, F>(&self, request: impl Fn(Client) -> F) -> Result<T, DynamoError>
    where
        F: Future<Output = Result<T, DynamoError>> + Send,
    {
        let asked = std::iter::once(&self.first)
            .chain(&self.others)
            .map(|replica| Box::pin(request(replica.clone())));
        Ok(futures::future::select_ok(asked).await?.0)
    }
}

/// One table in one region.
impl From<Client> for Replicas {
    fn from(client: Client) -> Self {
        Self::new(client, Vec::new())
    }
}

/// The agreement table and its replicas.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// The table's name, the same in every region.
    pub table: String,
    /// This region's own replica first, if it has one.
    pub replicas: Replicas,
}

impl Agreement {
    /// The table that `AGREEMENT_TABLE` names. `None` in a single region, which does not set the
    /// variable.
    pub fn from_env(sdk: &SdkConfig, env: &Env) -> Result<Option<Self>, ConfigError> {
        if env.optional(tables::AGREEMENT.variable).is_none() {
            return Ok(None);
        }
        let replicas = Replicas::of_agreeing_regions(sdk, env)?;
        let replicas = replicas.ok_or(ConfigError::Missing("AGREEMENT_REGIONS"))?;
        Ok(Some(Self { table: tables::AGREEMENT.name(env)?, replicas }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn of(variables: &[(&str, &str)]) -> Result<Option<Vec<String>>, ConfigError> {
        let region = ("AWS_REGION", "ap-southeast-1");
        let env = Env::of(std::iter::once(region).chain(variables.iter().copied()));
        let sdk = aws::sdk_config(&env).await?;
        let region = |client: &Client| client.config().region().map(ToString::to_string);
        Ok(Agreement::from_env(&sdk, &env)?.map(|agreement| {
            let Replicas { first, others } = agreement.replicas;
            std::iter::once(&first).chain(&others).filter_map(region).collect()
        }))
    }

    #[tokio::test]
    async fn a_regions_own_replica_is_asked_first() {
        let variables = [("AGREEMENT_TABLE", "a"), ("AGREEMENT_REGIONS", "ap-northeast-1,ap-southeast-1")];
        let asked = of(&variables).await.unwrap().unwrap();
        assert_eq!(asked, ["ap-southeast-1", "ap-northeast-1"]);
        assert!(of(&[]).await.unwrap().is_none(), "a single region has no agreement table");
    }

    #[tokio::test]
    async fn a_table_without_regions_stops_a_function_at_its_start() {
        for regions in [&[][..], &[("AGREEMENT_REGIONS", " , ")]] {
            let variables = [&[("AGREEMENT_TABLE", "a")], regions].concat();
            assert!(of(&variables).await.unwrap_err().to_string().contains("AGREEMENT_REGIONS"));
        }
    }
}
