//! Whose an order is, read from the orders table: one attribute, since a message needs to know no more of it.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;

use super::OrderOwners;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{OrderId, UserId};
use crate::platform::dynamo::{DynamoError, text};
use crate::platform::tables;

/// The attribute that the index of a customer's orders is keyed by.
const OWNER: &str = "customerId";

/// The orders table, for reading owners.
#[derive(Debug, Clone)]
pub struct DynamoOrderOwners {
    client: Client,
    table: String,
}

impl DynamoOrderOwners {
    /// Owners in the table that `ORDERS_TABLE` names.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { client, table: tables::ORDERS.name(env)? })
    }
}

impl OrderOwners for DynamoOrderOwners {
    async fn owner(&self, order_id: &OrderId) -> Result<Option<UserId>, DynamoError> {
        let target = || format!("{} {order_id}", self.table);
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(tables::ORDERS.key.hash, text(order_id.as_str()))
            .projection_expression(OWNER)
            // An order is talked about from the moment it was placed.
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| DynamoError::new("GetItem", target(), error))?;
        let Some(item) = answer.item else { return Ok(None) };
        match item.get(OWNER) {
            Some(AttributeValue::S(owner)) => {
                owner.parse().map(Some).map_err(|error| DynamoError::unreadable("GetItem", target(), error))
            }
            _ => Err(DynamoError::unreadable("GetItem", target(), "an order without a customer")),
        }
    }
}
