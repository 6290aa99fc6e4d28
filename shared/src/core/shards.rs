//! Sharding of an index whose natural partition key has one value ("unpaid", "to be swept").

use sha2::{Digest, Sha256};

/// The shard of the row with this id, by a hash: ULIDs of the same time share their first
/// characters.
pub fn spread(id: &str, shards: u8) -> u8 {
    Sha256::digest(id.as_bytes()).first().map_or(0, |byte| byte % shards)
}

/// Some entries of a shard, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardPage<E> {
    pub entries: Vec<E>,
    /// The entry after which the next page starts; `None` on the last page.
    pub next: Option<E>,
}
