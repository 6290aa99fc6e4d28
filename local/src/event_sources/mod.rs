//! Event source mappings: what Lambda's pollers do between a queue, a stream or a topic of Kafka
//! and a function.
//!
//! `queue` reads queues, `stream` reads streams of tables, `kafka` reads topics. The first two read
//! the answer of a function in the same way (`answer`), and pass on only what matches the mapping's
//! filters (`filter`). All handle everything at least once.
//!
//! The poller of a queue works with the function's role, as in the cloud ([`check_queues`]). With
//! an `SQS` event SAM gives the role what that takes.

mod answer;
mod filter;
mod kafka;
mod queue;
mod stream;

use std::future::Future;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

pub use queue::DEFAULT_CONCURRENCY;
pub use stream::{CheckpointError, Checkpoints, MappingError, StreamParts};

use crate::functions::outcome::Invoke;
use crate::services::access::{Access, Caller};
use crate::services::sqs::Queues;
use crate::template::model::{EventSource, GrantedBy, KafkaSource, StreamSource};
use stream::Mapping;

/// What Lambda's poller does to a queue with the function's role.
const QUEUE_READS: [&str; 3] = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"];

/// Whether the roles of the functions may read the queues, as Lambda asks when a mapping is made.
pub fn check_queues(sources: &[EventSource], access: &Access) -> Result<(), MappingError> {
    for source in sources.iter().filter(|source| source.granted_by == GrantedBy::Policies) {
        let role = access.role(&source.function);
        let caller = Caller::Function(role.ok_or_else(|| MappingError::NoRole(source.function.clone()))?);
        for action in QUEUE_READS {
            access
                .check(&caller, action, &access.arns.queue(&source.queue))
                .map_err(|denied| MappingError::Queue { action, denied })?;
        }
    }
    Ok(())
}

/// The stack's event sources.
pub struct EventSources<I> {
    queue_sources: Vec<Arc<EventSource>>,
    queues: Arc<Queues>,
    stream_mappings: Vec<Mapping>,
    kafka_sources: Vec<KafkaSource>,
    functions: Arc<I>,
}

impl<I: Invoke> EventSources<I> {
    /// Nothing is received before [`run`](Self::run).
    pub fn new(sources: &[EventSource], queues: Arc<Queues>, functions: Arc<I>) -> Self {
        let queue_sources = sources.iter().cloned().map(Arc::new).collect();
        Self { queue_sources, queues, stream_mappings: Vec::new(), kafka_sources: Vec::new(), functions }
    }

    /// The same with sources that are topics of Kafka.
    #[must_use]
    pub fn with_topics(mut self, sources: &[KafkaSource]) -> Self {
        self.kafka_sources = sources.to_vec();
        self
    }

    /// The same with sources that are streams. Their readers have their places when this returns,
    /// so that nothing is missed that is written afterwards.
    pub fn with_streams(
        mut self,
        sources: &[StreamSource],
        parts: &StreamParts,
    ) -> Result<Self, MappingError> {
        self.stream_mappings = stream::create(sources, parts)?;
        Ok(self)
    }

    /// Hands messages and records to functions until `shutdown` is ready. Batches that are being
    /// handled then are given up: their messages become visible again in time, and their records
    /// are read again at the next start.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let queues = self.queue_sources.iter().filter(|source| source.enabled).map(|source| {
            let poller =
                queue::Poller { queues: Arc::clone(&self.queues), functions: Arc::clone(&self.functions) };
            Box::pin(async move { poller.serve(source).await }) as BoxFuture<'_, ()>
        });
        let streams = self
            .stream_mappings
            .iter()
            .map(|mapping| Box::pin(mapping.serve(Arc::clone(&self.functions))) as BoxFuture<'_, ()>);
        let topics = self.kafka_sources.iter().filter(|source| source.enabled);
        let topics = topics
            .map(|source| Box::pin(kafka::serve(source, Arc::clone(&self.functions))) as BoxFuture<'_, ()>);
        // As many as the template has.
        let all = queues.chain(streams).chain(topics).collect::<FuturesUnordered<_>>().collect::<()>();
        tokio::select! {
            () = shutdown => {}
            () = async { all.await; std::future::pending::<()>().await } => {}
        }
    }
}
