//! Changes of a table, from its DynamoDB stream.

use serde::Deserialize;
use serde_dynamo::Item;

/// What was done to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChangeKind {
    /// It was written for the first time.
    Insert,
    /// It was written again.
    Modify,
    /// It was deleted, by a request or by TTL.
    Remove,
}

/// A change of an item. The changes of one partition key arrive in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its position in its shard.
    pub sequence_number: String,
    pub kind: ChangeKind,
    /// The item's primary key.
    pub keys: Item,
    /// The item before the change. `None` if it is new, or if the stream has no old images.
    pub old_image: Option<Item>,
    /// The item after the change. `None` if it was deleted, or if the stream has keys only.
    pub new_image: Option<Item>,
}
