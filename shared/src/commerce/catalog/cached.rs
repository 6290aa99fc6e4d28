//! The catalogue as the public reads it: through the cache, and written through it.
//!
//! | entity | what | how |
//! |---|---|---|
//! | `product` | a product without its units | read-through, write-through |
//! | `page` | a page of products without their units | read-through, in the group `products` |
//! | `stock`, `page-stock` | units, of a product or of a page's products | read-through for five seconds, without invalidation |
//!
//! 1. A write of a product fills `product`, and then starts a new generation of `products`, since
//!    the write may change which products are on a page and what it shows. `cache-invalidator` does
//!    both again for changes by other writers, other regions and a writer that died.
//! 2. Loads of products and pages are consistent reads, as the cache's protocol requires. Those of
//!    units are not: they may be seconds old in any case.
//! 3. `available` is for display only: an order takes units from their row on the condition that
//!    enough are left.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::dynamo::{DynamoCatalog, Stored};
use super::row::ProductRow;
use super::{CatalogError, Product, ProductDraft};
use crate::core::clock::SharedClock;
use crate::core::cursor::{self, Page};
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::ProductId;
use crate::platform::cache::{Cache, CachePolicy, Entry, Loaded, Name, Tiers};
use crate::platform::dynamo::DynamoError;

/// The group of all pages.
const PAGES: &str = "products";

/// A change invalidates; the term is for changes that no invalidation reports.
const PRODUCT_FRESH: Duration = Duration::from_mins(30);
/// Likewise.
const PAGE_FRESH: Duration = Duration::from_mins(30);
/// Units may be a few seconds old.
const STOCK_FRESH: Duration = Duration::from_secs(5);
/// Repeated requests for an absent product cost two reads a minute.
const ABSENT: Duration = Duration::from_secs(30);

const PRODUCT: CachePolicy = CachePolicy {
    entity: "product",
    fresh: PRODUCT_FRESH,
    absent: ABSENT,
    stale: Duration::from_mins(5),
    tiers: Tiers::Both,
    group: None,
};
const PAGE: CachePolicy = CachePolicy { entity: "page", fresh: PAGE_FRESH, group: Some(PAGES), ..PRODUCT };
const STOCK: CachePolicy =
    CachePolicy { entity: "stock", fresh: STOCK_FRESH, absent: STOCK_FRESH, stale: STOCK_FRESH, ..PRODUCT };
const PAGE_STOCK: CachePolicy = CachePolicy { entity: "page-stock", group: Some(PAGES), ..STOCK };

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct CachedProduct(ProductRow);

impl Entry for CachedProduct {
    const POLICY: CachePolicy = PRODUCT;

    fn belongs_to(&self, id: &str) -> bool {
        self.0.product_id.as_str() == id
    }
}

#[derive(Serialize, Deserialize)]
struct CachedPage {
    id: String,
    products: Vec<ProductRow>,
    next_cursor: Option<String>,
}

impl Entry for CachedPage {
    const POLICY: CachePolicy = PAGE;

    fn belongs_to(&self, id: &str) -> bool {
        self.id == id
    }
}

#[derive(Serialize, Deserialize)]
struct CachedStock {
    product_id: ProductId,
    available: u64,
}

impl Entry for CachedStock {
    const POLICY: CachePolicy = STOCK;

    fn belongs_to(&self, id: &str) -> bool {
        self.product_id.as_str() == id
    }
}

#[derive(Serialize, Deserialize)]
struct CachedPageStock {
    id: String,
    available: Vec<(ProductId, u64)>,
}

impl Entry for CachedPageStock {
    const POLICY: CachePolicy = PAGE_STOCK;

    fn belongs_to(&self, id: &str) -> bool {
        self.id == id
    }
}

/// The cache names of a changed product: its entry, and the pages.
pub fn names_of(product_id: &str) -> [Name; 2] {
    [Name::of::<CachedProduct>(product_id), Name::Group(PAGES)]
}

/// The catalogue in DynamoDB, cached.
#[derive(Debug, Clone)]
pub struct Catalog {
    rows: DynamoCatalog,
    cache: Cache,
}

impl Catalog {
    /// [`DynamoCatalog::from_env`] with [`Cache::from_env`].
    pub fn from_env(client: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        Ok(Self::new(DynamoCatalog::from_env(client, env)?, Cache::from_env(env, clock)?))
    }

    /// These rows with this cache.
    pub fn new(rows: DynamoCatalog, cache: Cache) -> Self {
        Self { rows, cache }
    }

    /// A product and its units here, read concurrently.
    pub async fn get(&self, product_id: &ProductId) -> Result<Option<(Product, u64)>, DynamoError> {
        let id = product_id.as_str();
        let product = async {
            let Some(product) = self.rows.product(product_id).await? else { return Ok(Loaded::absent()) };
            let row = ProductRow::of(&product).map_err(|error| unreadable(id, error))?;
            Ok::<_, DynamoError>(Loaded::version(CachedProduct(row), product.version))
        };
        let stock = async {
            let available = self.rows.available(product_id).await?;
            Ok::<_, DynamoError>(Loaded::value(CachedStock { product_id: product_id.clone(), available }))
        };
        let (product, stock) =
            tokio::try_join!(self.cache.read_through(id, product), self.cache.read_through(id, stock))?;
        let Some(CachedProduct(row)) = product else { return Ok(None) };
        let product = row.product().map_err(|error| unreadable(id, error))?;
        Ok(Some((product, stock.map_or(0, |stock| stock.available))))
    }

    /// The units that this region can sell now. No row means none.
    pub async fn available(&self, product_id: &ProductId) -> Result<u64, DynamoError> {
        self.rows.available(product_id).await
    }

    /// A page of products with their units here, in a stable order, after `cursor`.
    pub async fn list(
        &self,
        cursor: Option<&str>,
        limit: u32,
        deadline: Deadline,
    ) -> Result<Page<(Product, u64)>, CatalogError> {
        let behind =
            cursor.map(|cursor| cursor::decode::<ProductId>(DynamoCatalog::LISTING, cursor)).transpose()?;
        // Of the decoded cursor, not of its text: a page has one name.
        let id = format!("{limit}:{}", behind.as_ref().map_or("", ProductId::as_str));
        let load = async {
            let page = self.rows.page(behind.as_ref(), limit).await?;
            let products: Result<_, _> = page.items.iter().map(ProductRow::of).collect();
            let products = products.map_err(|error| unreadable(&id, error))?;
            let page = CachedPage { id: id.clone(), products, next_cursor: page.next_cursor };
            Ok::<_, DynamoError>(Loaded::value(page))
        };
        let Some(page) = self.cache.read_through(&id, load).await? else {
            return Ok(Page { items: Vec::new(), next_cursor: None });
        };
        let products: Result<Vec<Product>, _> = page.products.into_iter().map(ProductRow::product).collect();
        let products = products.map_err(|error| unreadable(&id, error))?;
        let mut available = self.available_on(&id, &products, deadline).await?;
        let with_units = |product: Product| {
            let units = available.remove(&product.product_id).unwrap_or(0);
            (product, units)
        };
        Ok(Page { items: products.into_iter().map(with_units).collect(), next_cursor: page.next_cursor })
    }

    /// The units of the products of the page `id`.
    async fn available_on(
        &self,
        id: &str,
        products: &[Product],
        deadline: Deadline,
    ) -> Result<HashMap<ProductId, u64>, DynamoError> {
        let load = async {
            let mut units = self.rows.available_of(products, deadline).await?;
            // Including those without a row: it is known that there are none.
            let units = products.iter().map(|product| {
                let id = &product.product_id;
                (id.clone(), units.remove(id).unwrap_or(0))
            });
            let available = units.collect();
            Ok::<_, DynamoError>(Loaded::value(CachedPageStock { id: id.to_owned(), available }))
        };
        let cached = self.cache.read_through(id, load).await?;
        let available: HashMap<_, _> = cached.into_iter().flat_map(|stock| stock.available).collect();
        if products.iter().all(|product| available.contains_key(&product.product_id)) {
            return Ok(available);
        }
        // The page is newer than the units.
        self.rows.available_of(products, deadline).await
    }

    /// Writes a whole product, and returns the result.
    pub async fn put(
        &self,
        product_id: &ProductId,
        draft: &ProductDraft,
        now: Timestamp,
    ) -> Result<(Stored, Product), DynamoError> {
        let id = product_id.as_str();
        let write = async {
            let (stored, product) = self.rows.put(product_id, draft, now).await?;
            let row = ProductRow::of(&product).map_err(|error| unreadable(id, error))?;
            Ok::<_, DynamoError>((Loaded::version(CachedProduct(row), product.version), (stored, product)))
        };
        let written = self.cache.write_through::<CachedProduct, _, _>(id, write).await;
        // Also after a failure: the write may have happened.
        self.cache.forget(&[Name::Group(PAGES)]).await;
        written
    }
}

fn unreadable(target: &str, error: serde_json::Error) -> DynamoError {
    DynamoError::unreadable("read", target, error)
}
