//! Reading and writing products.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ReturnValue;

use super::{parse_product, parse_stock, product_key, stock_key, write_product};
use crate::commerce::catalog::{CatalogError, Product};
use crate::core::cursor::{self, Page};
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::ProductId;
use crate::platform::aws;
use crate::platform::dynamo::{DynamoError, RowKey, read_rows};
use crate::platform::tables;

/// Name of the listing in its cursors.
const LISTING: &str = "products";

/// The catalogue.
///
/// Calls `GetItem`, `PutItem` and `Scan` on products; `GetItem` and `BatchGetItem` on stock.
#[derive(Debug, Clone)]
pub struct DynamoCatalog {
    client: Client,
    products: String,
    stock: String,
    region: String,
}

/// Whether a product was there before it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It was not.
    Created,
    /// It was, and has been replaced.
    Replaced,
}

impl DynamoCatalog {
    /// The catalogue in `PRODUCTS_TABLE` and `STOCK_TABLE`, with the stock of the region `AWS_REGION`.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        let (products, stock) = (tables::PRODUCTS.name(env)?, tables::STOCK.name(env)?);
        Ok(Self { client, products, stock, region: aws::region(env)? })
    }

    /// A product and its units here, read concurrently.
    pub async fn get(&self, product_id: &ProductId) -> Result<Option<(Product, u64)>, DynamoError> {
        let (product, available) = tokio::try_join!(self.product(product_id), self.available(product_id))?;
        Ok(product.map(|product| (product, available)))
    }

    async fn product(&self, product_id: &ProductId) -> Result<Option<Product>, DynamoError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.products)
            .set_key(Some(product_key(product_id)))
            .send()
            .await
            .map_err(|error| DynamoError::new("GetItem", product_id.as_str(), error))?;
        answer.item.map(parse_product).transpose()
    }

    /// The units that this region can sell. Without a row: none.
    pub async fn available(&self, product_id: &ProductId) -> Result<u64, DynamoError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.stock)
            .set_key(Some(stock_key(product_id, &self.region)))
            .send()
            .await
            .map_err(|error| DynamoError::new("GetItem", format!("stock of {product_id}"), error))?;
        Ok(answer.item.map(parse_stock).transpose()?.map_or(0, |row| row.available))
    }

    /// A page of products with their units here, in no particular but a stable order, behind `cursor`.
    pub async fn list(
        &self,
        cursor: Option<&str>,
        limit: u32,
        deadline: Deadline,
    ) -> Result<Page<(Product, u64)>, CatalogError> {
        let behind = cursor.map(|cursor| cursor::decode::<ProductId>(LISTING, cursor)).transpose()?;
        let answer = self
            .client
            .scan()
            .table_name(&self.products)
            .set_exclusive_start_key(behind.as_ref().map(product_key))
            .limit(cursor::rows_to_read(limit))
            .send()
            .await
            .map_err(|error| DynamoError::new("Scan", &self.products, error))?;
        let mut products: Vec<Product> =
            answer.items.unwrap_or_default().into_iter().map(parse_product).collect::<Result<_, _>>()?;
        let last = match cursor::cut(&mut products, limit) {
            // Less was read than asked for: DynamoDB's megabyte was full.
            None if answer.last_evaluated_key.is_some() => products.last(),
            last => last,
        };
        let next_cursor = last.map(|last| cursor::encode(LISTING, &last.product_id)).transpose();
        let next_cursor =
            next_cursor.map_err(|error| DynamoError::unreadable("Scan", &self.products, error))?;
        let available = self.available_of(&products, deadline).await?;

        let with_units = |product: Product| {
            let units = available.get(&product.product_id).copied().unwrap_or(0);
            (product, units)
        };
        Ok(Page { items: products.into_iter().map(with_units).collect(), next_cursor })
    }

    async fn available_of(
        &self,
        products: &[Product],
        deadline: Deadline,
    ) -> Result<HashMap<ProductId, u64>, DynamoError> {
        if products.is_empty() {
            return Ok(HashMap::new());
        }
        let key = |product: &Product| RowKey {
            table: &self.stock,
            key: stock_key(&product.product_id, &self.region),
        };
        let mut rows = read_rows(&self.client, products.iter().map(key).collect(), deadline).await?;
        let stock = rows.take(&self.stock).into_iter().map(parse_stock);
        stock.map(|row| row.map(|row| (row.product_id, row.available))).collect()
    }

    /// Writes a product whole.
    pub async fn put(&self, product: &Product) -> Result<Stored, DynamoError> {
        let answer = self
            .client
            .put_item()
            .table_name(&self.products)
            .set_item(Some(write_product(product)?))
            .return_values(ReturnValue::AllOld)
            .send()
            .await
            .map_err(|error| DynamoError::new("PutItem", product.product_id.as_str(), error))?;
        Ok(if answer.attributes.is_some() { Stored::Replaced } else { Stored::Created })
    }
}
