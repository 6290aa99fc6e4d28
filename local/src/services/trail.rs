//! Events and messages of event buses and topics, for the command `events`: a ring of the last
//! [`TRAIL_LIMIT`] events and messages, and a feed for followers.
//!
//! An entry has the outcome of each delivery's first attempt. Outcomes of retries are in the
//! region's log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// Entries kept.
pub const TRAIL_LIMIT: usize = 1_000;

/// The limit of the bodies of all entries together. The newest entry is kept in any case.
const TRAIL_BYTES: usize = 16 * 1024 * 1024;

/// Entries on their way to each follower. A slower one misses some, and gets a note.
const FOLLOW_LIMIT: usize = 1_024;

/// One event or message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Passed {
    /// When it was published.
    pub at: jiff::Timestamp,
    /// ARN of the bus or the topic.
    pub through: String,
    /// The id that the publisher was told.
    pub id: String,
    /// An event's source and detail type; a message's subject or nothing.
    pub title: String,
    /// An event's detail, or the message.
    pub body: String,
    pub deliveries: Vec<Delivered>,
}

/// One delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivered {
    /// The name of the rule or the subscription.
    pub by: String,
    /// The name of the queue or the function.
    pub to: String,
    /// What became of it.
    pub outcome: String,
}

/// The entries.
#[derive(Debug)]
pub struct Trail {
    ring: Mutex<VecDeque<Arc<Passed>>>,
    followers: broadcast::Sender<Arc<Passed>>,
}

impl Default for Trail {
    fn default() -> Self {
        Self { ring: Mutex::default(), followers: broadcast::Sender::new(FOLLOW_LIMIT) }
    }
}

impl Trail {
    pub(super) fn push(&self, passed: Passed) {
        let passed = Arc::new(passed);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.push_back(Arc::clone(&passed));
        let mut bytes: usize = ring.iter().map(|kept| kept.body.len()).sum();
        while ring.len() > TRAIL_LIMIT || (bytes > TRAIL_BYTES && ring.len() > 1) {
            bytes -= ring.pop_front().map_or(0, |oldest| oldest.body.len());
        }
        // Inside the lock, so that a new follower sees every entry exactly once: in the ring or
        // live.
        if self.followers.receiver_count() > 0 && self.followers.send(passed).is_err() {
            tracing::debug!("the last follower left");
        }
    }

    /// The entries in the ring, oldest first, and everything after them.
    pub fn follow(&self) -> (Vec<Arc<Passed>>, broadcast::Receiver<Arc<Passed>>) {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        (ring.iter().cloned().collect(), self.followers.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(number: usize) -> Passed {
        Passed {
            at: jiff::Timestamp::UNIX_EPOCH,
            through: String::new(),
            id: number.to_string(),
            title: String::new(),
            body: String::new(),
            deliveries: Vec::new(),
        }
    }

    #[tokio::test]
    async fn the_ring_keeps_the_newest_and_a_follower_sees_what_comes_once() {
        let trail = Trail::default();
        (0..TRAIL_LIMIT + 2).for_each(|number| trail.push(passed(number)));
        let (old, mut live) = trail.follow();
        assert_eq!((old.len(), old[0].id.as_str()), (TRAIL_LIMIT, "2"));
        trail.push(passed(7));
        assert_eq!(live.recv().await.unwrap().id, "7");
        assert!(live.try_recv().is_err());
    }
}
