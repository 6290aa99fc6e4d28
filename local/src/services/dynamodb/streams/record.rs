//! One record of a stream.

use dynoxide::Item;
use dynoxide::actions::get_records;
use dynoxide::types::item_size;
use md5::{Digest, Md5};
use serde_json::{Value, json};

use super::{Position, SHARDS, Stream, View};
use crate::template::arn::Arns;

/// A change of an item.
#[derive(Debug)]
pub struct Record {
    arns: Arns,
    pub position: Position,
    /// When the item was written, in seconds since 1970.
    pub created_seconds: i64,
    /// By the partition key.
    pub shard: usize,
    /// Of the keys and both images.
    pub(super) size_bytes: usize,
    /// The same for all records of one item, and for few others.
    item_digest: u64,
    /// What happened: `INSERT`, `MODIFY` or `REMOVE`.
    pub event_name: String,
    table: String,
    event_id: String,
    keys: Item,
    new_image: Option<Item>,
    old_image: Option<Item>,
    view: View,
    /// By TTL, not by a request.
    expired: bool,
}

impl Record {
    pub(super) fn read(stored: get_records::Record, stream: &Stream, table: &str) -> Result<Self, String> {
        let get_records::Record { event_id, event_name, dynamodb, user_identity, .. } = stored;
        let number = &dynamodb.sequence_number;
        let position = Position::behind(number).ok_or_else(|| format!("{number} is no sequence number"))?;
        let partition = dynamodb.keys.get(&stream.partition_key).ok_or("a record has no partition key")?;
        let unwritable = |error: serde_json::Error| error.to_string();
        let partition = serde_json::to_value(partition).map_err(unwritable)?;
        // A map of JSON is in the order of its names.
        let item = serde_json::to_value(&dynamodb.keys).map_err(unwritable)?;
        #[expect(clippy::cast_possible_truncation, reason = "whole seconds, far from the end of an i64")]
        let created_seconds = dynamodb.approximate_creation_date_time as i64;
        let images = dynamodb.new_image.iter().chain(&dynamodb.old_image);
        Ok(Self {
            arns: stream.arns.clone(),
            position,
            created_seconds,
            size_bytes: item_size(&dynamodb.keys) + images.map(item_size).sum::<usize>(),
            shard: bucket(digest(&partition), SHARDS),
            item_digest: digest(&item),
            event_name,
            table: table.to_owned(),
            event_id,
            keys: dynamodb.keys,
            new_image: dynamodb.new_image,
            old_image: dynamodb.old_image,
            view: stream.view,
            expired: user_identity.is_some(),
        })
    }

    /// One of `buckets`, the same for all records of one item.
    pub fn bucket(&self, buckets: usize) -> usize {
        bucket(self.item_digest, buckets)
    }

    /// False for a write that left the item as it was.
    pub(super) fn changes_something(&self) -> bool {
        self.new_image.is_none() || self.new_image != self.old_image
    }

    /// The number that the API and events show.
    pub fn sequence_number(&self) -> String {
        self.position.public()
    }

    /// The part of the record that the API and events write in the same way.
    fn common(&self) -> serde_json::Result<Value> {
        let new_image = self.new_image.as_ref().filter(|_| self.view.has_new_image());
        let old_image = self.old_image.as_ref().filter(|_| self.view.has_old_image());
        let images = new_image.into_iter().chain(old_image);
        let mut dynamodb = json!({
            "ApproximateCreationDateTime": self.created_seconds,
            "Keys": serde_json::to_value(&self.keys)?,
            "SequenceNumber": self.sequence_number(),
            "SizeBytes": item_size(&self.keys) + images.map(item_size).sum::<usize>(),
            "StreamViewType": serde_json::to_value(self.view)?,
        });
        for (name, image) in [("NewImage", new_image), ("OldImage", old_image)] {
            if let Some(image) = image {
                dynamodb[name] = serde_json::to_value(image)?;
            }
        }
        Ok(json!({
            "eventID": self.event_id,
            "eventName": self.event_name,
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": self.arns.region(),
            "dynamodb": dynamodb,
        }))
    }

    /// As `GetRecords` answers it.
    pub(super) fn in_api(&self) -> serde_json::Result<Value> {
        let mut record = self.common()?;
        if self.expired {
            record["userIdentity"] = json!({"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"});
        }
        Ok(record)
    }

    /// As Lambda's events hold it.
    pub fn in_event(&self) -> serde_json::Result<Value> {
        let mut record = self.common()?;
        record["eventSourceARN"] = self.arns.stream(&self.table).into();
        if self.expired {
            record["userIdentity"] = json!({"type": "Service", "principalId": "dynamodb.amazonaws.com"});
        }
        Ok(record)
    }
}

/// The same in every version of this program, since positions in shards are kept in files.
fn digest(value: &Value) -> u64 {
    let digest = Md5::digest(value.to_string());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// One of `buckets`, evenly.
pub(super) fn bucket(digest: u64, buckets: usize) -> usize {
    let buckets = u64::try_from(buckets).unwrap_or(u64::MAX).max(1);
    usize::try_from(digest % buckets).unwrap_or(0)
}
