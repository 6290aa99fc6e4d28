//! The streams of the template's tables: what changed, in order, for 24 hours.
//!
//! 1. The engine writes a record in the transaction of the change itself. So a change and its
//!    record exist together or not at all, also after the process was killed.
//! 2. The engine keeps both images of every record. A reader gets what the table's `StreamViewType`
//!    says.
//! 3. A stream has [`SHARDS`] shards. The partition key of the item decides on the shard. Readers
//!    see an order within a shard, and no order between shards, as in AWS.
//! 4. A write that changes nothing leaves no record (developer guide, "Change data capture for
//!    DynamoDB Streams"). The engine writes one; readers never see it.
//! 5. Records that are older than [`RETENTION`] are never read. They are deleted from the file at
//!    the next start.
//! 6. However many readers a stream has, its newest records are read from the engine once
//!    (`recent`).
//!
//! Limits: streams of tables that are created at run time can't be read. Shards are never split or
//! closed. In memory, records are kept until the region stops.

pub(super) mod api;
mod iterator;
mod recent;
mod record;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dynoxide::actions::get_records::{self, GetRecordsRequest};
use dynoxide::actions::get_shard_iterator::encode_shard_iterator;
use dynoxide::{Database, DynoxideError};
use serde_json::Value;
use tokio::sync::watch;

pub use record::Record;

use crate::clock;
use crate::template::arn::Arns;
use crate::template::model::Table;
use recent::Recent;

/// Shards of a stream. AWS has one for each partition of the table, so at least one; a reader that
/// depends on a single shard is found out with any number above one.
pub const SHARDS: usize = 4;

/// How long a record can be read (developer guide, "Change data capture for DynamoDB Streams": 24
/// hours).
pub const RETENTION: Duration = Duration::from_hours(24);

/// Records that are read from the engine at a time. Other requests wait meanwhile.
const PAGE: usize = 1_000;

/// The same for a reader that wants few: one shard has a quarter of them, and a reader may share
/// its shard with nine others.
const SMALL_PAGE: usize = 100;

/// Records that are read for each one that is wanted.
const READ_AHEAD: usize = 4 * SHARDS;

/// What the engine adds to a stored number to make the public one of 21 digits.
const PUBLIC_OFFSET: u128 = 100_000_000_000_000_000_000;

/// Why a stream can't be read.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The template has no such table, or the table has no stream.
    #[error("the table {table} has no stream")]
    NoStream { table: String },
    #[error("the stream of {table} can't be read: {reason}")]
    Engine { table: String, reason: String },
}

/// A place in a stream: behind the record with this number. 0 is the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    pub records: Vec<Arc<Record>>,
    /// Where the next page begins, also if there are no records.
    pub end: Position,
    /// Whether `end` was the end of the stream.
    pub exhausted: bool,
}

/// The streams of the tables of one region.
pub struct Streams {
    arns: Arns,
    database: Database,
    by_table: BTreeMap<String, Stream>,
}

/// What the template says of a stream.
struct Stream {
    arns: Arns,
    view: View,
    partition_key: String,
    key_schema: Value,
    /// Changes whenever somebody may have written to the table.
    news: watch::Sender<()>,
    /// How often somebody may have.
    writes: AtomicU64,
    /// `None` until the first reader comes.
    recent: Mutex<Option<Recent>>,
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
    pub(super) fn new(database: Database, tables: &[Table], arns: Arns) -> Self {
        let named = |table: &Table| Some((table.name.clone(), stream(table, &arns)?));
        let by_table = tables.iter().filter_map(named).collect();
        Self { arns, database, by_table }
    }

    /// Names the tables.
    pub(super) fn arns(&self) -> &Arns {
        &self.arns
    }

    /// Up to `limit` records of `table` behind `after` that are `wanted`. Reads one page of the
    /// engine at most, so that there may be fewer although the stream has more.
    pub fn read(
        &self,
        table: &str,
        after: Position,
        limit: usize,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Page, StreamError> {
        let stream = self.stream(table)?;
        let oldest = clock::now().as_second().saturating_sub_unsigned(RETENTION.as_secs());
        let wanted = |record: &Record| record.created_seconds >= oldest && wanted(record);
        {
            // A panic elsewhere leaves no half-written state.
            let mut recent = stream.recent.lock().unwrap_or_else(PoisonError::into_inner);
            let recent = match &mut *recent {
                Some(recent) => recent,
                none => none.insert(Recent::from(self.latest(table)?)),
            };
            if recent.reaches(after) {
                // Before the engine is asked: what is written meanwhile may be missed and is
                // counted later.
                let writes = stream.writes.load(Ordering::SeqCst);
                let complete = recent.is_complete(writes);
                let exhausted = if complete {
                    true
                } else {
                    let page = self.page(stream, table, recent.end(), PAGE, |_| true)?;
                    let exhausted = page.exhausted;
                    recent.add(page, writes);
                    exhausted
                };
                // Records that `after` needs may just have made room for newer ones.
                if recent.reaches(after) {
                    return Ok(recent.page(after, limit, exhausted, wanted));
                }
            }
        }
        self.page(stream, table, after, limit, wanted)
    }

    /// The same from the engine.
    fn page(
        &self,
        stream: &Stream,
        table: &str,
        after: Position,
        limit: usize,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Page, StreamError> {
        let size = limit.saturating_mul(READ_AHEAD).clamp(SMALL_PAGE, PAGE);
        let records = self.engine_records(table, after, size)?;
        let exhausted = records.len() < size;
        let mut page = Page { records: Vec::new(), end: after, exhausted };
        for stored in records {
            if page.records.len() >= limit {
                page.exhausted = false;
                break;
            }
            let record = Record::read(stored, stream, table)
                .map_err(|reason| StreamError::Engine { table: table.to_owned(), reason })?;
            page.end = record.position;
            if record.changes_something() && wanted(&record) {
                page.records.push(Arc::new(record));
            }
        }
        Ok(page)
    }

    /// Up to `limit` records behind `after` as the engine keeps them: also old ones, and those of
    /// writes that changed nothing.
    pub(super) fn stored(
        &self,
        table: &str,
        after: Position,
        limit: usize,
    ) -> Result<Vec<(Position, get_records::Record)>, StreamError> {
        let numbered = |record: get_records::Record| {
            let number = &record.dynamodb.sequence_number;
            let reason = format!("{number} is no sequence number");
            match Position::behind(number) {
                Some(position) => Ok((position, record)),
                None => Err(StreamError::Engine { table: table.to_owned(), reason }),
            }
        };
        self.engine_records(table, after, limit)?.into_iter().map(numbered).collect()
    }

    fn engine_records(
        &self,
        table: &str,
        after: Position,
        limit: usize,
    ) -> Result<Vec<get_records::Record>, StreamError> {
        let shard_iterator = encode_shard_iterator(table, &dynoxide::streams::shard_id(table), after.0);
        let request = GetRecordsRequest { shard_iterator, limit: Some(limit) };
        let answer = self.database.get_records(request).map_err(|error| engine(table, &error))?;
        Ok(answer.records)
    }

    /// How often somebody may have written to `table`.
    pub(super) fn writes(&self, table: &str) -> Result<u64, StreamError> {
        Ok(self.stream(table)?.writes.load(Ordering::SeqCst))
    }

    /// Whether readers of the stream of `table` see both images. `None` if the table has no stream.
    pub(super) fn shows_both_images(&self, table: &str) -> Option<bool> {
        self.by_table.get(table).map(|stream| stream.view == View::NewAndOldImages)
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

    /// Somebody may have written to `tables`, or to any table if there are none: a statement does
    /// not name its table here.
    pub(super) fn written(&self, tables: &[String]) {
        for (table, stream) in &self.by_table {
            if tables.is_empty() || tables.contains(table) {
                stream.writes.fetch_add(1, Ordering::SeqCst);
                stream.news.send_replace(());
            }
        }
    }

    fn stream(&self, table: &str) -> Result<&Stream, StreamError> {
        self.by_table.get(table).ok_or_else(|| StreamError::NoStream { table: table.to_owned() })
    }
}

fn engine(table: &str, error: &DynoxideError) -> StreamError {
    StreamError::Engine { table: table.to_owned(), reason: error.to_string() }
}

fn stream(table: &Table, arns: &Arns) -> Option<Stream> {
    let view = table.create.get("StreamSpecification")?.get("StreamViewType")?;
    let key_schema = table.create.get("KeySchema")?;
    let partition_key = key_schema.as_array()?.iter().find(|key| key["KeyType"] == "HASH")?;
    Some(Stream {
        arns: arns.clone(),
        view: serde_json::from_value(view.clone()).ok()?,
        partition_key: partition_key["AttributeName"].as_str()?.to_owned(),
        key_schema: key_schema.clone(),
        news: watch::Sender::new(()),
        writes: AtomicU64::new(0),
        recent: Mutex::new(None),
    })
}

/// The id of a shard: at least 28 characters, as in AWS.
pub fn shard_id(shard: usize) -> String {
    format!("shardId-{shard:020}-{SHARDS:08x}")
}
