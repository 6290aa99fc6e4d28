//! Catalogue and stock in DynamoDB.
//!
//! A product is `productId`, `name`, `price`, `attributes` (JSON text), `updatedAt` and `version`.
//! Its units are in rows of `productId`, `region`, `available` and `updatedAt`.

use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;
use serde::Deserialize;
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::Product;
use super::row::ProductRow;
use crate::core::date_time::rfc3339;
use crate::core::ids::ProductId;
use crate::platform::dynamo::{DynamoError, Item, RowUpdate, number, text};

mod products;
mod stock;

pub use products::{DynamoCatalog, Stored};
pub use stock::{AdjustStock, StockAction, StockTables};

/// Takes units, if enough are left. No row means none.
const TAKE: RowUpdate = RowUpdate {
    update: "SET available = available - :units, updatedAt = :now",
    condition: Some("available >= :units"),
    names: &[],
};

/// Returns units. Always possible: they were taken from this row.
const GIVE_BACK: RowUpdate =
    RowUpdate { update: "SET updatedAt = :now ADD available :units", condition: None, names: &[] };

/// Takes `units` of a product from a region's stock.
pub fn take(
    table: &str,
    product_id: &ProductId,
    region: &str,
    units: u32,
    now: Timestamp,
) -> Result<TransactWriteItem, DynamoError> {
    let values = [(":units", number(units)), (":now", text(rfc3339(now)))];
    TAKE.action(table, stock_key(product_id, region), values)
}

/// Returns `units` of a product to a region's stock.
pub fn release_stock(
    table: &str,
    product_id: &ProductId,
    region: &str,
    units: u32,
    now: Timestamp,
) -> Result<TransactWriteItem, DynamoError> {
    let values = [(":units", number(units)), (":now", text(rfc3339(now)))];
    GIVE_BACK.action(table, stock_key(product_id, region), values)
}

/// The key of a product.
pub fn product_key(product_id: &ProductId) -> Item {
    Item::from([("productId".to_owned(), text(product_id.as_str()))])
}

/// The key of a region's stock of a product.
pub fn stock_key(product_id: &ProductId, region: &str) -> Item {
    let mut key = product_key(product_id);
    key.insert("region".to_owned(), text(region));
    key
}

/// The part of a stock row that is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StockRow {
    product_id: ProductId,
    available: u64,
}

/// Reads a product.
pub fn parse_product(item: Item) -> Result<Product, DynamoError> {
    let row: ProductRow = from_item(item).map_err(|e| DynamoError::unreadable("read", "a product", e))?;
    let product_id = row.product_id.clone();
    row.product().map_err(|error| DynamoError::unreadable("read", product_id.as_str(), error))
}

fn write_product(product: &Product) -> Result<Item, DynamoError> {
    let unwritable = |error: Box<dyn std::error::Error + Send + Sync>| {
        DynamoError::unreadable("write", product.product_id.as_str(), error)
    };
    let row = ProductRow::of(product).map_err(|error| unwritable(error.into()))?;
    to_item(row).map_err(|error| unwritable(error.into()))
}

fn parse_stock(item: Item) -> Result<StockRow, DynamoError> {
    from_item(item).map_err(|error| DynamoError::unreadable("read", "a stock row", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commerce::catalog::ProductDraft;
    use crate::core::money::Money;

    #[test]
    fn a_stored_price_is_read_also_when_its_currency_is_listed_no_longer() {
        let product = Product {
            product_id: "tea".parse().unwrap(),
            draft: ProductDraft {
                name: "Tea".to_owned(),
                price: Money { amount: 1, currency: "XYZ".parse().unwrap() },
                attributes: serde_json::Map::new(),
            },
            updated_at: Timestamp::UNIX_EPOCH,
            version: 3,
        };
        assert_eq!(parse_product(write_product(&product).unwrap()).unwrap(), product);
    }
}
