//! The queues of the region: the store, its clock, and the receivers that wait for messages.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

use super::message::{Message, MessageAttributes, MessageError};
use super::receipt::{Malformed, Receipt};
use super::store::{Change, Counts, Received, Store, Take};
use crate::clock::{self, Clock};
use crate::template::arn::{self, Arns};
use crate::template::model::Queue;

/// Messages of one queue that may be in flight, by the developer guide, "Amazon SQS message
/// quotas".
pub const MAX_IN_FLIGHT: usize = 120_000;

/// A queue can be purged once in this time.
const PURGE_PAUSE: Duration = Duration::from_mins(1);

/// Why a call to a queue failed.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The template has none of that name.
    #[error("there is no queue {name}; there are: {known}")]
    Unknown {
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A message that the queue does not accept.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A receipt handle that was never given out.
    #[error("the receipt handle is not one of this queue's")]
    Receipt,
    /// The message of the receipt is deleted, or was received again.
    #[error(
        "Value {0} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for visibility timeout change."
    )]
    Stale(String),
    /// The message of the receipt is visible again.
    #[error("the message is not in flight")]
    NotInFlight,
    /// The message would be hidden for more than 12 hours after its receive.
    #[error("Total VisibilityTimeout for the message is beyond the limit [43200 seconds]")]
    HiddenTooLong,
    /// Too many messages are in flight.
    #[error("{MAX_IN_FLIGHT} messages are in flight")]
    OverLimit,
    /// The queue was purged less than a minute ago.
    #[error("Only one PurgeQueue operation on {0} is allowed every 60 seconds.")]
    Purging(String),
    #[error("the queues can't be read or written")]
    Store(#[from] rusqlite::Error),
}

/// A queue and its messages, as the control API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    pub name: String,
    /// Messages to be received.
    pub visible: u64,
    /// Messages that were received, and are neither deleted nor visible again.
    pub in_flight: u64,
    /// Messages that are not to be received yet.
    pub delayed: u64,
}

/// A message to be sent, and when it may be received.
#[derive(Debug)]
pub struct Outgoing<'a> {
    pub message: &'a Message,
    /// How long it is hidden at first; as the queue says if absent.
    pub delay: Option<Duration>,
}

struct Entry {
    queue: Queue,
    /// Told whenever a message may have become visible.
    news: watch::Sender<()>,
    /// In milliseconds since 1970.
    purged_ms: AtomicI64,
}

/// Every queue of the stack. Calls block while the store works, which takes well under a
/// millisecond.
pub struct Queues {
    arns: Arns,
    entries: BTreeMap<String, Entry>,
    store: Mutex<Store>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Queues {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Queues").field("names", &self.entries.keys()).finish_non_exhaustive()
    }
}

impl Queues {
    /// Opens the queues, in memory or with what `file` holds.
    pub fn open(file: Option<&Path>, queues: &[Queue], clock: impl Clock) -> Result<Self, QueueError> {
        let entry = |queue: &Queue| {
            let news = watch::Sender::new(());
            (queue.name.clone(), Entry { queue: queue.clone(), news, purged_ms: AtomicI64::new(i64::MIN) })
        };
        Ok(Self {
            arns: arn::local(),
            entries: queues.iter().map(entry).collect(),
            store: Mutex::new(Store::open(file)?),
            clock: Arc::new(clock),
        })
    }

    /// The same queues in the region that `arns` name.
    #[must_use]
    pub fn named_by(self, arns: Arns) -> Self {
        Self { arns, ..self }
    }

    /// Names the queues.
    pub fn arns(&self) -> &Arns {
        &self.arns
    }

    /// What the template says of a queue.
    pub fn queue(&self, name: &str) -> Result<&Queue, QueueError> {
        self.entry(name).map(|entry| &entry.queue)
    }

    /// Sends messages, all of them or none; their ids. A message that was sent is kept when this
    /// returns.
    pub fn send(
        &self,
        name: &str,
        sender: &str,
        messages: &[Outgoing<'_>],
    ) -> Result<Vec<String>, QueueError> {
        let Entry { queue, news, .. } = self.entry(name)?;
        let outgoing = messages.iter().map(|one| (one.message, one.delay.unwrap_or(queue.delay)));
        let ids = self.store().send(queue, sender, outgoing, self.now())?;
        news.send_replace(());
        Ok(ids)
    }

    /// Sends one message without attributes; its id.
    pub fn send_text(&self, name: &str, sender: &str, body: String) -> Result<String, QueueError> {
        let limit = self.queue(name)?.maximum_message_bytes;
        let message = Message::new(body, MessageAttributes::new(), limit)?;
        let mut ids = self.send(name, sender, &[Outgoing { message: &message, delay: None }])?;
        Ok(ids.pop().unwrap_or_default())
    }

    /// Receives messages that are visible, none if there are none: each is hidden from others for
    /// the visibility timeout. A message that was received too often before goes to the dead-letter
    /// queue instead.
    pub fn receive(&self, name: &str, take: Take) -> Result<Vec<Received>, QueueError> {
        let Entry { queue, .. } = self.entry(name)?;
        let taken = {
            let (mut store, now) = (self.store(), self.now());
            let room = MAX_IN_FLIGHT.saturating_sub(store.in_flight(queue, now)?);
            if room == 0 {
                return Err(QueueError::OverLimit);
            }
            store.receive(queue, Take { messages: take.messages.min(room), ..take }, now)?
        };
        if taken.buried > 0
            && let Some(redrive) = &queue.redrive
        {
            tracing::warn!(queue = name, messages = taken.buried, to = redrive.dead_letter_queue, "given up");
            self.entry(&redrive.dead_letter_queue)?.news.send_replace(());
        }
        Ok(taken.messages)
    }

    /// Deletes a received message; false when its receipt is out of date, which changes nothing.
    pub fn delete(&self, name: &str, receipt_handle: &str) -> Result<bool, QueueError> {
        let Entry { queue, .. } = self.entry(name)?;
        let receipt = Receipt::parse(receipt_handle).map_err(|Malformed| QueueError::Receipt)?;
        Ok(self.store().delete(queue, &receipt)?)
    }

    /// Hides a received message from others for `timeout` from now on.
    pub fn change_visibility(
        &self,
        name: &str,
        receipt_handle: &str,
        timeout: Duration,
    ) -> Result<(), QueueError> {
        let Entry { queue, news, .. } = self.entry(name)?;
        let receipt = Receipt::parse(receipt_handle).map_err(|Malformed| QueueError::Receipt)?;
        match self.store().change(queue, &receipt, timeout, self.now())? {
            Change::Done => {
                news.send_replace(());
                Ok(())
            }
            Change::Stale => Err(QueueError::Stale(receipt_handle.to_owned())),
            Change::NotInFlight => Err(QueueError::NotInFlight),
            Change::TooLong => Err(QueueError::HiddenTooLong),
        }
    }

    /// Deletes all messages of a queue, those in flight too.
    pub fn purge(&self, name: &str) -> Result<(), QueueError> {
        let Entry { queue, purged_ms, .. } = self.entry(name)?;
        let (store, now) = (self.store(), self.now());
        let pause_ms = i64::try_from(PURGE_PAUSE.as_millis()).unwrap_or(i64::MAX);
        // The store's lock is held: one purge at a time.
        if now < purged_ms.load(Ordering::Relaxed).saturating_add(pause_ms) {
            return Err(QueueError::Purging(name.to_owned()));
        }
        store.purge(queue)?;
        purged_ms.store(now, Ordering::Relaxed);
        Ok(())
    }

    /// How many messages a queue has.
    pub fn count(&self, name: &str) -> Result<Counts, QueueError> {
        let Entry { queue, .. } = self.entry(name)?;
        Ok(self.store().count(queue, self.now())?)
    }

    /// Every queue, in the order of their names.
    pub fn overview(&self) -> Result<Vec<Overview>, QueueError> {
        let overview = |name: &String| {
            let Counts { visible, in_flight, delayed } = self.count(name)?;
            Ok(Overview { name: name.clone(), visible, in_flight, delayed })
        };
        self.entries.keys().map(overview).collect()
    }

    /// Makes everything visible that is in flight, as if its visibility timeout had passed; how
    /// many messages.
    pub fn redeliver(&self, name: &str) -> Result<usize, QueueError> {
        let Entry { queue, news, .. } = self.entry(name)?;
        let messages = self.store().redeliver(queue, self.now())?;
        news.send_replace(());
        Ok(messages)
    }

    /// Waits for messages of a queue from now on.
    pub fn watch(self: &Arc<Self>, name: &str) -> Result<Watch, QueueError> {
        let news = self.entry(name)?.news.subscribe();
        Ok(Watch { queues: Arc::clone(self), name: name.to_owned(), news })
    }

    fn entry(&self, name: &str) -> Result<&Entry, QueueError> {
        self.entries.get(name).ok_or_else(|| QueueError::Unknown {
            name: name.to_owned(),
            known: self.entries.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    fn next_visible(&self, name: &str) -> Result<Option<Timestamp>, QueueError> {
        let Entry { queue, .. } = self.entry(name)?;
        let next = self.store().next(queue)?;
        Ok(next.map(|millis| Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)))
    }

    fn now(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // A panic leaves no transaction open: it is rolled back when it is dropped.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the receivers that wait for messages of one queue.
pub struct Watch {
    queues: Arc<Queues>,
    name: String,
    news: watch::Receiver<()>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Watch").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Watch {
    /// For a receiver that has received all messages: waits until a message is or may be visible,
    /// because one was sent, or because the delay or the visibility timeout of one has passed.
    /// There may be nothing after all.
    pub async fn wait(&mut self) -> Result<(), QueueError> {
        let next = self.queues.next_visible(&self.name)?;
        let due = async {
            match next {
                Some(next) => clock::until(&*self.queues.clock, next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.news.changed() => if changed.is_err() {
                // The queues hold the sender, and this holds the queues.
                tracing::debug!(queue = self.name, "the queues are gone");
            },
            () = due => {}
        }
        Ok(())
    }
}
