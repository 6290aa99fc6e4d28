//! A shard iterator: the stream, the shard, the position and the time of issue. All of it is in the
//! text of the iterator, so that there is no state, and so that the endpoint knows the stream of a
//! `GetRecords`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Position;

/// An iterator is good for this long (API reference, "GetShardIterator": 5 minutes).
pub(super) const LIFETIME_SECONDS: i64 = 5 * 60;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::services::dynamodb) struct ShardIterator {
    pub(in crate::services::dynamodb) table: String,
    pub(super) shard: usize,
    pub(super) after: i64,
    pub(super) issued_seconds: i64,
}

impl ShardIterator {
    pub(super) fn position(&self) -> Position {
        Position(self.after)
    }

    pub(super) fn encode(&self) -> serde_json::Result<String> {
        Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(self)?))
    }

    pub(in crate::services::dynamodb) fn decode(text: &str) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }
}
