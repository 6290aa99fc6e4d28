//! Events to calls of the library.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sojourn::commerce::activity::writer::{ActivityWriter, DrainError, Drained};
use sojourn::core::clock::SharedClock;
use sojourn::core::deadline::Deadline;
use sojourn::edge::consumer::Consumer;
use sojourn::platform::buffer::{BufferKind, WriteBehindBuffer};
use sojourn::platform::queue::SqsQueue;

/// What the function works with.
pub(crate) struct App {
    pub(crate) writer: ActivityWriter<SqsQueue>,
    pub(crate) buffer: WriteBehindBuffer,
    pub(crate) clock: SharedClock,
}

impl Consumer for App {
    type Error = DrainError;

    async fn write(&self, messages: &[Vec<u8>], deadline: Deadline) -> BTreeSet<usize> {
        // The queue has a metric of its own.
        if self.buffer.kind() == BufferKind::Kafka {
            self.buffer.record_age(messages, self.clock.now());
        }
        self.writer.write(messages, deadline).await
    }

    async fn run_scheduled(&self, deadline: Deadline) -> Result<Value, DrainError> {
        let backlog = self.buffer.size(deadline).await?;
        // The others have event sources; polling as well would compete with them.
        let drained = match self.buffer.kind() {
            BufferKind::Redis => self.writer.drain(&self.buffer, deadline).await?,
            BufferKind::Memory | BufferKind::Sqs | BufferKind::Kafka => Drained::default(),
        };
        let Drained { stored, set_aside, is_empty } = drained;
        let (waiting, oldest_seconds) = (backlog.entries, backlog.oldest.map(|age| age.as_secs()));
        tracing::info!(
            waiting,
            oldest_seconds,
            stored = stored.new,
            known = stored.known,
            set_aside,
            is_empty,
            "turn"
        );
        Ok(json!({
            "waiting": waiting, "oldestSeconds": oldest_seconds,
            "stored": stored.new, "known": stored.known, "setAside": set_aside, "isEmpty": is_empty,
        }))
    }
}
