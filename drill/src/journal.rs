//! What clients did and what they were told: the drill's own record, beside which the regions' data is held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// What came of one attempt of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It was answered, be it with a refusal that names the client's own mistake.
    Answered,
    /// 5xx, or 429: try again.
    Refused,
    /// No answer came.
    NoAnswer,
}

/// One attempt of a request.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// When it was answered, or given up, milliseconds since the drill began.
    pub at_ms: u64,
    /// Which region answered, if any.
    pub region: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
}

/// An order that was acknowledged.
#[derive(Debug, Clone)]
pub struct AcknowledgedOrder {
    /// Its id.
    pub order_id: String,
    /// Whose.
    pub customer_id: String,
    /// The key of the request.
    pub key: String,
}

/// A session that was revoked, and a token of it.
#[derive(Debug, Clone)]
pub struct Revocation {
    /// The session.
    pub session_id: String,
    /// An access token of the session that has minutes to go.
    pub access_token: String,
    /// Its refresh token.
    pub refresh_token: String,
}

/// A message that was acknowledged, or sent in vain.
#[derive(Debug, Clone)]
pub struct SentMessage {
    /// Its receiver.
    pub to: String,
    /// Whether it was acknowledged.
    pub acknowledged: bool,
}

/// A file that was uploaded and verified.
#[derive(Debug, Clone)]
pub struct UploadedFile {
    /// Its id.
    pub upload_id: String,
    /// The customer, by place.
    pub customer: usize,
    /// The checksum of its bytes, lower-case hex.
    pub sha256: String,
}

/// All that was recorded.
#[derive(Debug, Default)]
pub struct Entries {
    /// Every attempt of every request.
    pub attempts: Vec<Attempt>,
    /// Orders that were acknowledged.
    pub orders: Vec<AcknowledgedOrder>,
    /// Keys of orders that were sent, acknowledged or not, by customer.
    pub order_keys: BTreeMap<String, BTreeSet<String>>,
    /// Orders whose payment was acknowledged.
    pub paid: BTreeSet<String>,
    /// Orders whose cancellation was acknowledged.
    pub cancelled: BTreeSet<String>,
    /// Sessions that were revoked.
    pub revocations: Vec<Revocation>,
    /// Messages by the number in their body.
    pub messages: BTreeMap<u64, SentMessage>,
    /// How often each message was shown to its receiver, who drops ids that it knows.
    pub shown: BTreeMap<u64, u64>,
    /// Files.
    pub files: Vec<UploadedFile>,
    /// How often a customer was asked to sign in again.
    pub sign_ins_asked: u64,
    /// How long each customer waited for an answer, one figure for each time that a request was not answered at once, in milliseconds.
    pub waits_ms: BTreeMap<usize, Vec<u64>>,
    /// Requests that were given up.
    pub given_up: Vec<String>,
    /// Answers that a good client does not expect.
    pub unexpected: Vec<String>,
    /// What happened to regions, by milliseconds.
    pub events: Vec<(u64, String)>,
}

/// The journal of one drill.
#[derive(Debug)]
pub struct Journal {
    began: Instant,
    entries: Mutex<Entries>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { began: Instant::now(), entries: Mutex::default() }
    }
}

impl Journal {
    /// The entries, to be read or written.
    pub fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the drill began.
    pub fn now_ms(&self) -> u64 {
        millis(self.began.elapsed())
    }

    /// Records something that happened to a region.
    pub fn event(&self, what: impl Into<String>) {
        let at = self.now_ms();
        self.entries().events.push((at, what.into()));
    }

    /// Records an attempt of a request.
    pub fn attempt(&self, region: Option<String>, outcome: Outcome) {
        let at_ms = self.now_ms();
        self.entries().attempts.push(Attempt { at_ms, region, outcome });
    }
}

/// Whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
