//! The messages, in `SQLite`: in memory, or in a file of the data folder.
//!
//! A write-ahead log (WAL) is written before a call returns, so that acknowledged messages survive
//! the end of the process. It is not synced with every message: a power failure loses the last
//! ones.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params};
use uuid::Uuid;

use super::message::{Message, MessageAttributes};
use super::receipt::Receipt;
use crate::services::sqlite;
use crate::template::arn::Arns;
use crate::template::model::Queue;

/// How long a message may be hidden after a receive, however often its timeout is changed.
const MAX_HIDDEN: Duration = Duration::from_hours(12);

/// `receipt` is that of the latest receive, and absent before the first one in this queue.
/// `receives` counts those in all queues, as `ApproximateReceiveCount` does; `receives_here` those
/// that count towards `maxReceiveCount`.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS messages (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        message_id TEXT NOT NULL UNIQUE,
        queue TEXT NOT NULL,
        source TEXT,
        sender TEXT NOT NULL,
        body TEXT NOT NULL,
        attributes TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        sent_ms INTEGER NOT NULL,
        visible_ms INTEGER NOT NULL,
        first_received_ms INTEGER,
        receives INTEGER NOT NULL DEFAULT 0,
        receives_here INTEGER NOT NULL DEFAULT 0,
        receipt TEXT
    ) STRICT;
    CREATE INDEX IF NOT EXISTS by_visibility ON messages (queue, visible_ms, sequence);
    CREATE INDEX IF NOT EXISTS by_receives ON messages (queue, receives_here);
    CREATE INDEX IF NOT EXISTS by_age ON messages (queue, sent_ms);";

const INSERT: &str = "
    INSERT INTO messages (message_id, queue, sender, body, attributes, size_bytes, sent_ms, visible_ms)
    VALUES (:message_id, :queue, :sender, :body, :attributes, :size_bytes, :sent_ms, :visible_ms)";

/// Who became visible first comes first: in the order of sending, as long as nothing fails.
const DUE: &str = "
    SELECT sequence, message_id, source, sender, body, attributes, size_bytes, sent_ms, first_received_ms, receives
    FROM messages WHERE queue = :queue AND visible_ms <= :now
    ORDER BY visible_ms, sequence LIMIT :limit";

const HIDE: &str = "
    UPDATE messages
    SET visible_ms = :visible_ms, first_received_ms = :first_received_ms, receives = receives + 1,
        receives_here = receives_here + 1, receipt = :receipt
    WHERE sequence = :sequence";

/// The age stays that of the first sending, as in the cloud.
const BURY: &str = "
    UPDATE messages
    SET queue = :dead_letter_queue, source = queue, visible_ms = :now, receives_here = 0, receipt = NULL
    WHERE queue = :queue AND receives_here >= :maximum_receives AND visible_ms <= :now";

/// A receipt of an earlier receive is no longer that of the row.
const DELETE: &str =
    "DELETE FROM messages WHERE queue = :queue AND message_id = :message_id AND receipt = :receipt";

/// Also tells whether the message is in flight.
const VISIBLE_AT: &str = "SELECT visible_ms FROM messages WHERE queue = :queue AND message_id = :message_id AND receipt = :receipt";

const CHANGE: &str =
    "UPDATE messages SET visible_ms = :visible_ms WHERE queue = :queue AND receipt = :receipt";

const PURGE: &str = "DELETE FROM messages WHERE queue = :queue";

const EXPIRE: &str = "DELETE FROM messages WHERE queue = :queue AND sent_ms <= :oldest";

const COUNT: &str = "
    SELECT COALESCE(SUM(visible_ms <= :now), 0),
           COALESCE(SUM(visible_ms > :now AND receipt IS NOT NULL), 0),
           COALESCE(SUM(visible_ms > :now AND receipt IS NULL), 0)
    FROM messages WHERE queue = :queue AND sent_ms > :oldest";

const REDELIVER: &str = "
    UPDATE messages SET visible_ms = :now WHERE queue = :queue AND visible_ms > :now AND receipt IS NOT NULL";

const IN_FLIGHT: &str = "
    SELECT COUNT(*) FROM messages WHERE queue = :queue AND visible_ms > :now AND receipt IS NOT NULL";

/// Also one that is visible already: it may have become so since somebody looked.
const NEXT: &str = "SELECT MIN(visible_ms) FROM messages WHERE queue = :queue";

/// A message as one receiver has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The same at every receive.
    pub message_id: String,
    /// Deletes the message, until somebody else has received it.
    pub receipt_handle: String,
    pub body: String,
    /// What is said about it.
    pub attributes: MessageAttributes,
    /// Body and attributes, as the limits count them.
    pub size_bytes: usize,
    pub sender: String,
    /// When, in milliseconds since 1970.
    pub sent_ms: i64,
    /// When it was received for the first time, in milliseconds since 1970.
    pub first_received_ms: i64,
    /// How often it was received, in all queues.
    pub receives: u32,
    /// Name of the queue that gave it up; only in a dead-letter queue.
    pub source: Option<String>,
}

impl Received {
    /// What SQS itself says of the message, as `ReceiveMessage` and Lambda's events write it.
    pub fn system_attributes(&self, arns: &Arns) -> Vec<(&'static str, String)> {
        let mut attributes = vec![
            ("ApproximateReceiveCount", self.receives.to_string()),
            ("SentTimestamp", self.sent_ms.to_string()),
            ("SenderId", self.sender.clone()),
            ("ApproximateFirstReceiveTimestamp", self.first_received_ms.to_string()),
        ];
        attributes
            .extend(self.source.as_deref().map(|queue| ("DeadLetterQueueSourceArn", arns.queue(queue))));
        attributes
    }
}

/// How many messages a queue has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub visible: u64,
    /// Received, and neither deleted nor visible again.
    pub in_flight: u64,
    /// Not to be received yet.
    pub delayed: u64,
}

/// How much a receive may take.
#[derive(Debug, Clone, Copy)]
pub struct Take {
    pub messages: usize,
    /// Bodies and attributes together; one message is taken however large it is.
    pub bytes: usize,
    /// What every message counts in addition.
    pub overhead_bytes: usize,
    /// How long the messages are hidden from others; as the queue says if absent.
    pub visibility_timeout: Option<Duration>,
}

/// What became of a visibility timeout that was to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Done,
    /// The message is deleted, or somebody else has received it since.
    Stale,
    /// Its visibility timeout has passed.
    NotInFlight,
    /// It would be hidden for longer than a message may be.
    TooLong,
}

/// What a receive did.
pub(super) struct Taken {
    pub(super) messages: Vec<Received>,
    /// Messages that went to the dead-letter queue.
    pub(super) buried: usize,
}

pub(super) struct Store(Connection);

impl Store {
    pub(super) fn open(file: Option<&Path>) -> rusqlite::Result<Self> {
        sqlite::open(file, SCHEMA).map(Self)
    }

    /// All of them or none; their ids.
    pub(super) fn send<'a>(
        &mut self,
        queue: &Queue,
        sender: &str,
        messages: impl Iterator<Item = (&'a Message, Duration)>,
        now: i64,
    ) -> rusqlite::Result<Vec<String>> {
        let transaction = self.0.transaction()?;
        let mut ids = Vec::new();
        for (message, delay) in messages {
            let message_id = Uuid::new_v4().to_string();
            transaction.prepare_cached(INSERT)?.execute(named_params! {
                ":message_id": message_id,
                ":queue": queue.name,
                ":sender": sender,
                ":body": message.body(),
                ":attributes": serde_json::to_string(message.attributes()).map_err(unwritable)?,
                ":size_bytes": integer(message.size_bytes()),
                ":sent_ms": now,
                ":visible_ms": now.saturating_add(millis(delay)),
            })?;
            ids.push(message_id);
        }
        transaction.commit()?;
        Ok(ids)
    }

    /// Hides what it takes, and gives up on what was taken too often.
    pub(super) fn receive(&mut self, queue: &Queue, take: Take, now: i64) -> rusqlite::Result<Taken> {
        let transaction = self.0.transaction()?;
        expire(&transaction, queue, now)?;
        let visible_ms =
            now.saturating_add(millis(take.visibility_timeout.unwrap_or(queue.visibility_timeout)));
        let mut taken = Taken { messages: Vec::new(), buried: bury(&transaction, queue, now)? };
        let mut bytes = 0;
        for row in due(&transaction, queue, take.messages, now)? {
            bytes += row.size_bytes + take.overhead_bytes;
            if bytes > take.bytes && !taken.messages.is_empty() {
                break;
            }
            let sequence = row.sequence;
            let message = row.received(now);
            transaction.prepare_cached(HIDE)?.execute(named_params! {
                ":visible_ms": visible_ms,
                ":first_received_ms": message.first_received_ms,
                ":receipt": message.receipt_handle,
                ":sequence": sequence,
            })?;
            taken.messages.push(message);
        }
        transaction.commit()?;
        Ok(taken)
    }

    /// Whether the receipt was still good.
    pub(super) fn delete(&self, queue: &Queue, receipt: &Receipt<'_>) -> rusqlite::Result<bool> {
        let deleted = self.0.prepare_cached(DELETE)?.execute(named_params! {
            ":queue": queue.name, ":message_id": receipt.message_id, ":receipt": receipt.handle,
        })?;
        Ok(deleted > 0)
    }

    /// Hides the message for `timeout` from now on, if it is still hidden.
    pub(super) fn change(
        &mut self,
        queue: &Queue,
        receipt: &Receipt<'_>,
        timeout: Duration,
        now: i64,
    ) -> rusqlite::Result<Change> {
        let transaction = self.0.transaction()?;
        let visible_ms = now.saturating_add(millis(timeout));
        let of_receipt = named_params! {
            ":queue": queue.name, ":message_id": receipt.message_id, ":receipt": receipt.handle,
        };
        let hidden_until: Option<i64> =
            transaction.prepare_cached(VISIBLE_AT)?.query_row(of_receipt, |row| row.get(0)).optional()?;
        match hidden_until {
            None => return Ok(Change::Stale),
            Some(until) if until <= now => return Ok(Change::NotInFlight),
            Some(_) if visible_ms - receipt.received_ms > millis(MAX_HIDDEN) => return Ok(Change::TooLong),
            Some(_) => {}
        }
        transaction.prepare_cached(CHANGE)?.execute(named_params! {
            ":visible_ms": visible_ms, ":queue": queue.name, ":receipt": receipt.handle,
        })?;
        transaction.commit()?;
        Ok(Change::Done)
    }

    /// Deletes all messages.
    pub(super) fn purge(&self, queue: &Queue) -> rusqlite::Result<()> {
        self.0.prepare_cached(PURGE)?.execute(named_params! {":queue": queue.name})?;
        Ok(())
    }

    /// Messages that were received, and are neither deleted nor visible again.
    pub(super) fn in_flight(&self, queue: &Queue, now: i64) -> rusqlite::Result<usize> {
        let parameters = named_params! {":queue": queue.name, ":now": now};
        self.0.prepare_cached(IN_FLIGHT)?.query_row(parameters, |row| row.get(0))
    }

    pub(super) fn count(&self, queue: &Queue, now: i64) -> rusqlite::Result<Counts> {
        let parameters = named_params! {":queue": queue.name, ":now": now, ":oldest": oldest(queue, now)};
        self.0.prepare_cached(COUNT)?.query_row(parameters, |row| {
            Ok(Counts { visible: row.get(0)?, in_flight: row.get(1)?, delayed: row.get(2)? })
        })
    }

    /// Ends the visibility timeout of all that is in flight; how many there were.
    pub(super) fn redeliver(&self, queue: &Queue, now: i64) -> rusqlite::Result<usize> {
        self.0.prepare_cached(REDELIVER)?.execute(named_params! {":queue": queue.name, ":now": now})
    }

    /// When the first message becomes visible, or did; nothing for an empty queue.
    pub(super) fn next(&self, queue: &Queue) -> rusqlite::Result<Option<i64>> {
        let parameters = named_params! {":queue": queue.name};
        self.0.prepare_cached(NEXT)?.query_row(parameters, |row| row.get(0))
    }
}

/// A row that is due.
struct Due {
    sequence: i64,
    message_id: String,
    source: Option<String>,
    sender: String,
    body: String,
    attributes: MessageAttributes,
    size_bytes: usize,
    sent_ms: i64,
    first_received_ms: Option<i64>,
    receives: u32,
}

impl Due {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let attributes: String = row.get("attributes")?;
        Ok(Self {
            sequence: row.get("sequence")?,
            message_id: row.get("message_id")?,
            source: row.get("source")?,
            sender: row.get("sender")?,
            body: row.get("body")?,
            attributes: serde_json::from_str(&attributes).map_err(unreadable)?,
            size_bytes: row.get("size_bytes")?,
            sent_ms: row.get("sent_ms")?,
            first_received_ms: row.get("first_received_ms")?,
            receives: row.get("receives")?,
        })
    }

    fn received(self, now: i64) -> Received {
        Received {
            receipt_handle: Receipt::generate(&self.message_id, now),
            message_id: self.message_id,
            body: self.body,
            attributes: self.attributes,
            size_bytes: self.size_bytes,
            sender: self.sender,
            sent_ms: self.sent_ms,
            first_received_ms: self.first_received_ms.unwrap_or(now),
            receives: self.receives.saturating_add(1),
            source: self.source,
        }
    }
}

fn expire(transaction: &Transaction<'_>, queue: &Queue, now: i64) -> rusqlite::Result<()> {
    let parameters = named_params! {":queue": queue.name, ":oldest": oldest(queue, now)};
    transaction.prepare_cached(EXPIRE)?.execute(parameters)?;
    Ok(())
}

fn bury(transaction: &Transaction<'_>, queue: &Queue, now: i64) -> rusqlite::Result<usize> {
    let Some(redrive) = &queue.redrive else { return Ok(0) };
    transaction.prepare_cached(BURY)?.execute(named_params! {
        ":queue": queue.name,
        ":dead_letter_queue": redrive.dead_letter_queue,
        ":maximum_receives": redrive.maximum_receives,
        ":now": now,
    })
}

fn due(transaction: &Transaction<'_>, queue: &Queue, limit: usize, now: i64) -> rusqlite::Result<Vec<Due>> {
    let parameters = named_params! {":queue": queue.name, ":now": now, ":limit": integer(limit)};
    transaction.prepare_cached(DUE)?.query_map(parameters, Due::read)?.collect()
}

/// What was sent then or before is kept no longer.
fn oldest(queue: &Queue, now: i64) -> i64 {
    now.saturating_sub(millis(queue.retention))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn integer(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unwritable(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

fn unreadable(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}
