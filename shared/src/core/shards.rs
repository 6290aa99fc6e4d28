//! Spreading the rows of an index whose natural key is one value for everybody ("unpaid", "to be swept") over partitions.

use sha2::{Digest, Sha256};

/// Which of `shards` the thing with this id belongs to. ULIDs share their first characters with their neighbours; a hash
/// does not.
pub fn spread(id: &str, shards: u8) -> u8 {
    Sha256::digest(id.as_bytes()).first().map_or(0, |byte| byte % shards)
}

/// Some entries of a shard, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardPage<E> {
    pub entries: Vec<E>,
    /// The entry behind which the next page starts; `None` on the shard's last one.
    pub next: Option<E>,
}
