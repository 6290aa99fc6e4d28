//! The streams of the template's tables: what changed, in order, for 24 hours.
//!
//! 1. The engine writes a record in the transaction of the change itself. So a change and its record exist together or not
//!    at all, also after the process was killed.
//! 2. The engine keeps both images of every record. A reader gets what the table's `StreamViewType` says.
//! 3. A stream has [`SHARDS`] shards. The partition key of the item decides on the shard. Readers see an order within a
//!    shard, and no order between shards, as in AWS.
//! 4. A write that changes nothing leaves no record (developer guide, "Change data capture for DynamoDB Streams"). The
//!    engine writes one; readers never see it.
//! 5. Records that are older than [`RETENTION`] are never read. They are deleted from the file at the next start.
//!
//! Limits: streams of tables that are created at run time can't be read. Shards are never split or closed. In memory,
//! records are kept until the region stops.

pub(super) mod api;
mod iterator;
mod record;

use std::collections::BTreeMap;
use std::time::Duration;

use dynoxide::actions::get_records::GetRecordsRequest;
use dynoxide::actions::get_shard_iterator::encode_shard_iterator;
use dynoxide::{Database, DynoxideError};
use serde_json::Value;
use tokio::sync::watch;

pub use record::Record;

use crate::clock;
use crate::template::model::Table;

/// Shards of a stream. AWS has one for each partition of the table, so at least one; a reader that depends on a single
/// shard is found out with any number above one.
pub const SHARDS: usize = 4;

/// How long a record can be read (developer guide, "Change data capture for DynamoDB Streams": 24 hours).
pub const RETENTION: Duration = Duration::from_hours(24);

/// Records that are read from the engine at a time. It serves nobody else meanwhile.
const PAGE: usize = 1_000;

/// What the engine adds to a stored number to make the public one of 21 digits.
const PUBLIC_OFFSET: u128 = 100_000_000_000_000_000_000;

/// Why a stream can't be read.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The template has no such table, or the table has no stream.
    #[error("the table {table} has no stream")]
    NoStream {
        /// The table.
        table: String,
    },
    /// The engine.
    #[error("the stream of {table} can't be read: {reason}")]
    Engine {
        /// The table.
        table: String,
        /// The engine's words.
        reason: String,
    },
}

/// A place in a stream: behind the record with this number. 0 is the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub i64);

impl Position {
    /// The oldest record comes next.
    pub const TRIM_HORIZON: Self = Self(0);

    /// The place behind the record with the sequence number `public`.
    fn behind(public: &str) -> Option<Self> {
        let stored = public.parse::<u128>().ok()?.checked_sub(PUBLIC_OFFSET)?;
        i64::try_from(stored).ok().map(Self)
    }

    /// The sequence number of the record before this place.
    fn public(self) -> String {
        PUBLIC_OFFSET.saturating_add(u128::try_from(self.0).unwrap_or(0)).to_string()
    }
}

/// Records of a shard, or of a part of one.
#[derive(Debug)]
pub struct Page {
    /// In order.
    pub records: Vec<Record>,
    /// Where the next page begins, also if there are no records.
    pub end: Position,
    /// Whether `end` was the end of the stream.
    pub exhausted: bool,
}

/// The streams of the tables of one region.
pub struct Streams {
    database: Database,
    streams: BTreeMap<String, Stream>,
}

/// What the template says of a stream.
struct Stream {
    view: View,
    partition_key: String,
    key_schema: Value,
    /// Changes whenever somebody may have written to the table.
    news: watch::Sender<()>,
}

/// `StreamViewType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum View {
    KeysOnly,
    NewImage,
    OldImage,
    NewAndOldImages,
}

impl View {
    fn has_new_image(self) -> bool {
        matches!(self, Self::NewImage | Self::NewAndOldImages)
    }

    fn has_old_image(self) -> bool {
        matches!(self, Self::OldImage | Self::NewAndOldImages)
    }
}

impl Streams {
    pub(super) fn new(database: Database, tables: &[Table]) -> Self {
        let streams = tables.iter().filter_map(|table| Some((table.name.clone(), stream(table)?)));
        Self { database, streams: streams.collect() }
    }

    /// Up to `limit` records of `table` behind `after` that are `wanted`. Reads one page of the engine, so that there may be
    /// fewer although the stream has more.
    pub fn read(
        &self,
        table: &str,
        after: Position,
        limit: usize,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Page, StreamError> {
        let stream = self.stream(table)?;
        let answer = self
            .database
            .get_records(GetRecordsRequest {
                shard_iterator: encode_shard_iterator(table, &dynoxide::streams::shard_id(table), after.0),
                limit: Some(PAGE),
            })
            .map_err(|error| engine(table, &error))?;
        let exhausted = answer.records.len() < PAGE;
        let oldest = clock::now().as_second().saturating_sub_unsigned(RETENTION.as_secs());
        let mut page = Page { records: Vec::new(), end: after, exhausted };
        for stored in answer.records {
            if page.records.len() >= limit {
                page.exhausted = false;
                break;
            }
            let record = Record::read(stored, stream, table)
                .map_err(|reason| StreamError::Engine { table: table.to_owned(), reason })?;
            page.end = record.position;
            if record.changes_something() && record.created_seconds >= oldest && wanted(&record) {
                page.records.push(record);
            }
        }
        Ok(page)
    }

    /// Behind all that has been written.
    pub fn latest(&self, table: &str) -> Result<Position, StreamError> {
        self.stream(table)?;
        let described = self
            .database
            .describe_stream(dynoxide::actions::describe_stream::DescribeStreamRequest {
                stream_arn: dynoxide::streams::stream_arn(table, ""),
                ..Default::default()
            })
            .map_err(|error| engine(table, &error))?;
        let shard = described.stream_description.shards.into_iter().next();
        let last = shard.and_then(|shard| shard.sequence_number_range.ending_sequence_number);
        Ok(last.and_then(|last| Position::behind(&last)).unwrap_or(Position::TRIM_HORIZON))
    }

    /// Changes whenever there may be new records of `table`.
    pub fn watch(&self, table: &str) -> Result<watch::Receiver<()>, StreamError> {
        Ok(self.stream(table)?.news.subscribe())
    }

    /// Somebody may have written to `tables`, or to any table if there are none: a statement does not name its table here.
    pub(super) fn written(&self, tables: &[String]) {
        for (table, stream) in &self.streams {
            if tables.is_empty() || tables.contains(table) {
                stream.news.send_replace(());
            }
        }
    }

    fn stream(&self, table: &str) -> Result<&Stream, StreamError> {
        self.streams.get(table).ok_or_else(|| StreamError::NoStream { table: table.to_owned() })
    }
}

fn engine(table: &str, error: &DynoxideError) -> StreamError {
    StreamError::Engine { table: table.to_owned(), reason: error.to_string() }
}

fn stream(table: &Table) -> Option<Stream> {
    let view = table.create.get("StreamSpecification")?.get("StreamViewType")?;
    let key_schema = table.create.get("KeySchema")?;
    let partition_key = key_schema.as_array()?.iter().find(|key| key["KeyType"] == "HASH")?;
    Some(Stream {
        view: serde_json::from_value(view.clone()).ok()?,
        partition_key: partition_key["AttributeName"].as_str()?.to_owned(),
        key_schema: key_schema.clone(),
        news: watch::Sender::new(()),
    })
}

/// The id of a shard: at least 28 characters, as in AWS.
pub fn shard_id(shard: usize) -> String {
    format!("shardId-{shard:020}-{SHARDS:08x}")
}
