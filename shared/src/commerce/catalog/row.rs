//! A product as it is stored, in its row and in the cache.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Product, ProductDraft};
use crate::core::date_time::as_rfc3339;
use crate::core::ids::ProductId;
use crate::core::money::Money;

/// The whole row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProductRow {
    pub(super) product_id: ProductId,
    name: String,
    price: Money,
    /// JSON text: DynamoDB allows only 32 levels of nesting, and has another number format.
    attributes: String,
    #[serde(with = "as_rfc3339")]
    updated_at: Timestamp,
    /// Absent in rows from before versions existed.
    #[serde(default)]
    version: u64,
}

impl ProductRow {
    pub(super) fn of(product: &Product) -> Result<Self, serde_json::Error> {
        let ProductDraft { name, price, attributes } = &product.draft;
        Ok(Self {
            product_id: product.product_id.clone(),
            name: name.clone(),
            price: *price,
            attributes: serde_json::to_string(attributes)?,
            updated_at: product.updated_at,
            version: product.version,
        })
    }

    pub(super) fn product(self) -> Result<Product, serde_json::Error> {
        let Self { product_id, name, price, attributes, updated_at, version } = self;
        let draft = ProductDraft { name, price, attributes: serde_json::from_str(&attributes)? };
        Ok(Product { product_id, draft, updated_at, version })
    }
}
