//! A change of one item, as regions send it to each other.

use std::sync::Arc;

use dynoxide::actions::delete_item::DeleteItemRequest;
use dynoxide::actions::get_item::GetItemRequest;
use dynoxide::actions::put_item::PutItemRequest;
use dynoxide::types::item_size;
use dynoxide::{Database, DynoxideError, Item};

/// Bytes of a write unit (developer guide, "Capacity unit consumption for write operations").
const WRITE_UNIT_BYTES: usize = 1024;

/// Which write an item is from. The greater one wins: the later one, or of two at the same time the
/// one from the region with the greater name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Version {
    /// When it was written, in microseconds since 1970. Two writes of one table in one region never
    /// have the same.
    pub(super) written_us: i64,
    /// Where it was written.
    pub(super) region: Arc<str>,
}

/// An item of a table, whether it exists or not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ItemKey {
    pub(super) table: Arc<str>,
    /// The key's attributes as JSON, in the order of their names.
    pub(super) attributes: String,
}

impl ItemKey {
    pub(super) fn new(table: &Arc<str>, key: &Item) -> serde_json::Result<Self> {
        // A map of JSON is in the order of its names.
        Ok(Self { table: Arc::clone(table), attributes: serde_json::to_value(key)?.to_string() })
    }
}

/// A change.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) item: ItemKey,
    pub(super) key: Item,
    /// What the item is from then on; `None` if it is deleted.
    pub(super) image: Option<Item>,
}

impl Change {
    /// Writes the item with the engine's own API: no permission is asked for, and no fault rule
    /// hits it.
    pub(super) fn write_to(&self, database: &Database) -> Result<(), DynoxideError> {
        let table_name = self.item.table.to_string();
        if let Some(item) = self.image.clone() {
            database.put_item(PutItemRequest { table_name, item, ..Default::default() }).map(drop)
        } else {
            let key = self.key.clone();
            database.delete_item(DeleteItemRequest { table_name, key, ..Default::default() }).map(drop)
        }
    }

    /// Write units that it costs where it arrives.
    pub(super) fn write_units(&self) -> usize {
        item_size(self.image.as_ref().unwrap_or(&self.key)).div_ceil(WRITE_UNIT_BYTES).max(1)
    }
}

/// The item as it is in `database`.
pub(super) fn read(database: &Database, table: &str, key: &Item) -> Result<Option<Item>, DynoxideError> {
    let request = GetItemRequest {
        table_name: table.to_owned(),
        key: key.clone(),
        consistent_read: Some(true),
        ..Default::default()
    };
    database.get_item(request).map(|answer| answer.item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(written_us: i64, region: &str) -> Version {
        Version { written_us, region: region.into() }
    }

    #[test]
    fn the_later_write_wins_and_of_two_at_once_the_greater_region() {
        assert!(version(2, "a") > version(1, "b"));
        assert!(version(2, "b") > version(2, "a"));
        assert_eq!(version(2, "a"), version(2, "a"));
    }

    #[test]
    fn a_change_costs_a_unit_for_each_kilobyte_that_it_begins() {
        let table: Arc<str> = "Orders".into();
        let key: Item = serde_json::from_value(serde_json::json!({"id": {"S": "1"}})).unwrap();
        let item = ItemKey::new(&table, &key).unwrap();
        let change = |image| Change { item: item.clone(), key: key.clone(), image };
        assert_eq!(change(None).write_units(), 1);
        let large = serde_json::json!({"id": {"S": "1"}, "text": {"S": "x".repeat(2_000)}});
        assert_eq!(change(Some(serde_json::from_value(large).unwrap())).write_units(), 2);
    }
}
