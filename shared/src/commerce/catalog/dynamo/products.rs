//! Reading and writing products.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ReturnValue;
use jiff::Timestamp;
use serde::Deserialize;
use serde_dynamo::aws_sdk_dynamodb_1::from_item;

use super::{parse_product, parse_stock, product_key, stock_key, write_product};
use crate::commerce::catalog::{Product, ProductDraft};
use crate::core::cursor::{self, Page};
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::ProductId;
use crate::platform::aws;
use crate::platform::dynamo::{AttributeValue, DynamoError, Item, RowKey, RowUpdate, number, read_rows};
use crate::platform::tables;

/// Writes all attributes that the operator sets. Not a put: the version continues to rise.
const WRITE: RowUpdate = RowUpdate {
    update: "SET #name = :name, price = :price, #attributes = :attributes, updatedAt = :now, \
             version = if_not_exists(version, :zero) + :one",
    condition: None,
    names: &[("#name", "name"), ("#attributes", "attributes")],
};

/// The catalogue.
///
/// Calls `GetItem`, `UpdateItem` and `Scan` on products; `GetItem` and `BatchGetItem` on stock.
#[derive(Debug, Clone)]
pub struct DynamoCatalog {
    client: Client,
    products: String,
    stock: String,
    region: String,
}

/// Whether a product existed before it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    Created,
    Replaced,
}

impl DynamoCatalog {
    /// Name of the listing in its cursors.
    pub(in crate::commerce::catalog) const LISTING: &str = "products";

    /// The catalogue in `PRODUCTS_TABLE` and `STOCK_TABLE`, with the stock of the region
    /// `AWS_REGION`.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        let (products, stock) = (tables::PRODUCTS.name(env)?, tables::STOCK.name(env)?);
        Ok(Self { client, products, stock, region: aws::region(env)? })
    }

    /// A product. Consistent.
    pub(in crate::commerce::catalog) async fn product(
        &self,
        product_id: &ProductId,
    ) -> Result<Option<Product>, DynamoError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.products)
            .set_key(Some(product_key(product_id)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| DynamoError::new("GetItem", product_id.as_str(), error))?;
        answer.item.map(parse_product).transpose()
    }

    /// The units that this region can sell. No row means none.
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

    /// A page of products in a stable order, after a product. Consistent.
    pub(in crate::commerce::catalog) async fn page(
        &self,
        behind: Option<&ProductId>,
        limit: u32,
    ) -> Result<Page<Product>, DynamoError> {
        let answer = self
            .client
            .scan()
            .table_name(&self.products)
            .set_exclusive_start_key(behind.map(product_key))
            .consistent_read(true)
            .limit(cursor::rows_to_read(limit))
            .send()
            .await
            .map_err(|error| DynamoError::new("Scan", &self.products, error))?;
        let mut products: Vec<Product> =
            answer.items.unwrap_or_default().into_iter().map(parse_product).collect::<Result<_, _>>()?;
        let last = match cursor::cut(&mut products, limit) {
            // Fewer rows were read than requested: DynamoDB's limit of a megabyte.
            None if answer.last_evaluated_key.is_some() => products.last(),
            last => last,
        };
        let next_cursor = last.map(|last| cursor::encode(Self::LISTING, &last.product_id)).transpose();
        let next_cursor =
            next_cursor.map_err(|error| DynamoError::unreadable("Scan", &self.products, error))?;
        Ok(Page { items: products, next_cursor })
    }

    /// The units of these products that this region can sell. A product without a row is left out:
    /// it has none.
    pub(in crate::commerce::catalog) async fn available_of(
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

    /// Writes a whole product, and returns the result. Its version rises by one.
    pub(in crate::commerce::catalog) async fn put(
        &self,
        product_id: &ProductId,
        draft: &ProductDraft,
        now: Timestamp,
    ) -> Result<(Stored, Product), DynamoError> {
        let mut product =
            Product { product_id: product_id.clone(), draft: draft.clone(), updated_at: now, version: 0 };
        let mut row = write_product(&product)?;
        let mut attribute = |name: &str| row.remove(name).unwrap_or(AttributeValue::Null(true));
        let values = [
            (":name", attribute("name")),
            (":price", attribute("price")),
            (":attributes", attribute("attributes")),
            (":now", attribute("updatedAt")),
            (":zero", number(0)),
            (":one", number(1)),
        ];
        let answer = WRITE
            .request(&self.client, &self.products, product_key(product_id), values)
            .return_values(ReturnValue::UpdatedOld)
            .send()
            .await
            .map_err(|error| DynamoError::new("UpdateItem", product_id.as_str(), error))?;
        // Every product has this attribute. A new product has no old values.
        let before = answer.attributes.filter(|before| before.contains_key("updatedAt"));
        let stored = if before.is_some() { Stored::Replaced } else { Stored::Created };
        product.version = version_of(before.unwrap_or_default(), product_id)? + 1;
        Ok((stored, product))
    }
}

/// The version of a row. Rows from before versions existed have none.
fn version_of(row: Item, product_id: &ProductId) -> Result<u64, DynamoError> {
    #[derive(Deserialize)]
    struct Versioned {
        #[serde(default)]
        version: u64,
    }
    let row: Versioned =
        from_item(row).map_err(|error| DynamoError::unreadable("read", product_id.as_str(), error))?;
    Ok(row.version)
}
