//! The newest records of a stream, read from the engine once for all of its readers.
//!
//! 1. A write wakes every reader of the stream at the same time. The first one reads what is new
//!    from the engine; the others find it here.
//! 2. After each write the stream counts up (`Streams::written`). What is here is complete as of
//!    the count that it was read at, and older than [`LOOK_AGAIN`] it is read on in any case.
//! 3. Records that readers never see are not kept: those of writes that changed nothing.
//!
//! Limits: [`CAPACITY`] records and [`CAPACITY_BYTES`]. A reader that is further behind reads from
//! the engine.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Page, Position, Record};

/// Records that are kept. A reader that works a batch off meanwhile is not further behind, unless
/// the function is slow.
const CAPACITY: usize = 1_000;

/// What they may come to.
const CAPACITY_BYTES: usize = 16 * 1024 * 1024;

/// In case a write is not counted. No such write is known.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// All records between two places.
#[derive(Debug)]
pub(super) struct Recent {
    begin: Position,
    end: Position,
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    /// The count of writes, and when it was looked at.
    complete_as_of: Option<(u64, Instant)>,
}

impl Recent {
    /// Nothing yet, between `end` and itself.
    pub(super) fn from(end: Position) -> Self {
        Self { begin: end, end, records: VecDeque::new(), bytes: 0, complete_as_of: None }
    }

    /// Where to read on.
    pub(super) fn end(&self) -> Position {
        self.end
    }

    /// Whether nothing was written since, as far as anybody counts.
    pub(super) fn is_complete(&self, writes: u64) -> bool {
        self.complete_as_of.is_some_and(|(count, at)| count == writes && at.elapsed() < LOOK_AGAIN)
    }

    /// Whether all records behind `after` are here.
    pub(super) fn reaches(&self, after: Position) -> bool {
        after >= self.begin
    }

    /// Adds what the engine had behind [`end`](Self::end). `writes` is the count from before the
    /// engine was asked.
    pub(super) fn add(&mut self, page: Page, writes: u64) {
        self.end = page.end;
        if page.exhausted {
            self.complete_as_of = Some((writes, Instant::now()));
        }
        self.bytes += page.records.iter().map(|record| record.size_bytes).sum::<usize>();
        self.records.extend(page.records);
        while (self.records.len() > CAPACITY || self.bytes > CAPACITY_BYTES)
            && let Some(oldest) = self.records.pop_front()
        {
            self.bytes -= oldest.size_bytes;
            self.begin = oldest.position;
        }
    }

    /// Up to `limit` records behind `after` that are `wanted`.
    pub(super) fn page(
        &self,
        after: Position,
        limit: usize,
        exhausted: bool,
        wanted: impl Fn(&Record) -> bool,
    ) -> Page {
        let first = self.records.partition_point(|record| record.position <= after);
        let mut page = Page { records: Vec::new(), end: after, exhausted };
        for record in self.records.range(first..) {
            if page.records.len() >= limit {
                page.exhausted = false;
                return page;
            }
            page.end = record.position;
            if wanted(record) {
                page.records.push(Arc::clone(record));
            }
        }
        page.end = page.end.max(self.end);
        page
    }
}
