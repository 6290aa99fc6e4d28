//! Streams of tables as event sources, by the developer guide: "Using AWS Lambda with Amazon
//! DynamoDB", "Configuring partial batch response with DynamoDB and Lambda", "Retain discarded
//! records for a DynamoDB event source in Lambda".
//!
//! Every shard has as many readers as `ParallelizationFactor` says. All records of one item come to
//! one reader: beyond a factor of one, Lambda promises an order for the records of an item and no
//! more. A reader works alone:
//!
//! 1. Collect a batch: as many records as the mapping says and as fit into an event. A batch that
//!    is not full waits for more as long as the batching window says, from its first record on.
//!    Records that match no filter are passed over ([`collect`]).
//! 2. Invoke the function, and do it again until the batch is done with: handled, or given up
//!    ([`delivery`]). Nothing behind the batch is read meanwhile. Other readers are not affected.
//! 3. Save the place behind the batch ([`checkpoints`]). A reader also saves its place when it has
//!    passed over what others read, so that it does not read that again after a restart.
//!
//! A reader continues at its own position and reads nothing twice. A write to its table wakes it.
//! It also looks every [`LOOK_AGAIN`], in case it was not woken.
//!
//! When a mapping is made, the role of the function must be allowed what Lambda's poller does
//! ([`create`]).

mod checkpoints;
mod collect;
mod delivery;
mod failure;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

pub use checkpoints::{CheckpointError, Checkpoints};

use crate::clock::Clock;
use crate::functions::events::{Destinations, SEND};
use crate::functions::outcome::Invoke;
use crate::services::access::{Caller, Denied};
use crate::services::dynamodb::streams::{Position, Record, SHARDS, StreamError, Streams};
use crate::template::model::{GrantedBy, StartingPosition, StreamSource};

/// A reader looks at its stream again after this long, whatever it was told. Nothing is known that
/// would need it.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// A reader that finds nothing of its own saves its place this often at most.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// Pause after a stream could not be read: a disk that is full is not empty a moment later.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What Lambda's poller does to a stream with the function's role.
const READS: [&str; 4] =
    ["dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:DescribeStream", "dynamodb:ListStreams"];

/// What readers of streams need of the region.
#[derive(Clone)]
pub struct StreamParts {
    /// The streams of the tables.
    pub streams: Arc<Streams>,
    /// The positions of readers after a restart.
    pub checkpoints: Arc<Checkpoints>,
    /// Where reports of batches go that are given up, and what roles may do.
    pub destinations: Destinations,
    /// Records grow old by this clock.
    pub clock: Arc<dyn Clock>,
}

/// Why a mapping can't be made.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    #[error(
        "Cannot access stream {stream}. Please ensure the role can perform the GetRecords, GetShardIterator, \
         DescribeStream, and ListStreams Actions on your stream in IAM. ({denied})"
    )]
    Stream { stream: String, denied: Denied },
    #[error("The provided execution role does not have permissions to call {} on SQS ({denied})", action.trim_start_matches("sqs:"))]
    Queue {
        /// What the poller does.
        action: &'static str,
        denied: Denied,
    },
    /// The report of a batch that is given up could never be sent.
    #[error(
        "The function execution role does not have permissions to call SendMessage on {queue} ({denied})"
    )]
    Destination { queue: String, denied: Denied },
    /// The stack has no such function.
    #[error("the function {0} reads a queue or a stream and has no role")]
    NoRole(String),
    #[error(transparent)]
    Read(#[from] StreamError),
    /// The places of its readers.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// A mapping whose readers have their places.
pub(super) struct Mapping {
    source: Arc<StreamSource>,
    parts: StreamParts,
    /// In the order of the lanes.
    positions: Vec<Position>,
}

/// One of the readers of a mapping.
struct Reader<I> {
    source: Arc<StreamSource>,
    parts: StreamParts,
    functions: Arc<I>,
    lane: usize,
}

/// Makes the mappings, as `CreateEventSourceMapping` does: the role is checked, and each new reader
/// gets its first place. A mapping that is disabled is made and not served.
pub(super) fn create(sources: &[StreamSource], parts: &StreamParts) -> Result<Vec<Mapping>, MappingError> {
    let names: Vec<_> = sources.iter().map(name).collect();
    parts.checkpoints.retain(&names)?;
    sources.iter().map(|source| Mapping::create(source, parts.clone())).collect()
}

/// The name of a mapping in the checkpoints.
fn name(source: &StreamSource) -> String {
    format!("{} {}", source.function, source.table)
}

impl Mapping {
    fn create(source: &StreamSource, parts: StreamParts) -> Result<Self, MappingError> {
        check_role(source, &parts.destinations)?;
        // Also for the other starting position: a table without a stream is found out here.
        let latest = parts.streams.latest(&source.table)?;
        let start = match source.starting_position {
            StartingPosition::TrimHorizon => Position::TRIM_HORIZON,
            StartingPosition::Latest => latest,
        };
        let positions =
            parts.checkpoints.begin(&name(source), SHARDS * source.parallelization_factor, start)?;
        Ok(Self { source: Arc::new(source.clone()), parts, positions })
    }

    /// Reads the stream for as long as it is polled.
    pub(super) async fn serve<I: Invoke>(&self, functions: Arc<I>) {
        if !self.source.enabled {
            return;
        }
        let mut readers = JoinSet::new();
        for (lane, position) in self.positions.iter().enumerate() {
            let reader = Reader {
                source: Arc::clone(&self.source),
                parts: self.parts.clone(),
                functions: Arc::clone(&functions),
                lane,
            };
            readers.spawn(reader.run(*position));
        }
        let StreamSource { table, function, .. } = &*self.source;
        while let Some(ended) = readers.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(table, function, %error, "a reader of a stream has ended");
                }
                Err(error) => tracing::error!(table, function, %error, "the task of a reader failed"),
            }
        }
    }
}

fn check_role(source: &StreamSource, destinations: &Destinations) -> Result<(), MappingError> {
    let access = &destinations.access;
    let no_role = || MappingError::NoRole(source.function.clone());
    let caller = Caller::Function(access.role(&source.function).ok_or_else(no_role)?);
    if source.granted_by == GrantedBy::Policies {
        let stream = access.arns.stream(&source.table);
        for action in READS {
            access
                .check(&caller, action, &stream)
                .map_err(|denied| MappingError::Stream { stream: stream.clone(), denied })?;
        }
    }
    if let Some(queue) = &source.on_failure {
        let queue = access.arns.queue(queue);
        access
            .check(&caller, SEND, &queue)
            .map_err(|denied| MappingError::Destination { queue: queue.clone(), denied })?;
    }
    Ok(())
}

impl<I: Invoke> Reader<I> {
    async fn run(self, mut position: Position) -> Result<(), StreamError> {
        let mut news = self.parts.streams.watch(&self.source.table)?;
        loop {
            let batch = self.collect(&mut position, &mut news).await;
            self.deliver(&batch).await;
        }
    }

    /// Whether a record is one of this reader's. All records of an item are of one shard and one
    /// reader.
    fn is_mine(&self, record: &Record) -> bool {
        let readers = self.source.parallelization_factor;
        record.shard * readers + record.bucket(readers) == self.lane
    }

    fn shard(&self) -> usize {
        self.lane / self.source.parallelization_factor
    }

    /// Everything up to `position` is done with.
    fn save(&self, position: Position) {
        // If it is not saved, the records are handled once more after a restart.
        if let Err(error) = self.parts.checkpoints.save(&name(&self.source), self.lane, position) {
            tracing::error!(table = self.source.table, %error, "a checkpoint can't be saved");
        }
    }
}
