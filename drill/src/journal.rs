//! The drill's own record of requests and answers, which is compared with the regions' data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::world::Link;

/// The result of one attempt of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AttemptOutcome {
    /// Answered, possibly with a refusal that is the client's mistake.
    Answered,
    /// 5xx, or 429: retry.
    Refused,
    NoAnswer,
}

/// One attempt of a request.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// When it was answered, or given up, in milliseconds since the drill began.
    pub at_ms: u64,
    /// Which region answered, if any.
    pub region: Option<String>,
    pub outcome: AttemptOutcome,
}

/// An order that was acknowledged.
#[derive(Debug, Clone)]
pub struct AcknowledgedOrder {
    pub order_id: String,
    pub customer_id: String,
    pub key: String,
}

/// A revoked session, with one of its tokens.
#[derive(Debug, Clone)]
pub struct Revocation {
    pub session_id: String,
    /// An access token of the session that is valid for minutes.
    pub access_token: String,
    pub refresh_token: String,
}

/// A message that was sent.
#[derive(Debug, Clone)]
pub struct SentMessage {
    pub to: String,
    pub acknowledged: bool,
}

/// A file that was uploaded and verified.
#[derive(Debug, Clone)]
pub struct UploadedFile {
    pub upload_id: String,
    /// The customer's index.
    pub customer: usize,
    /// The checksum of its bytes, lower-case hex.
    pub sha256: String,
}

/// The state of replication at one moment, from the control API.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When, in milliseconds since the drill began.
    pub at_ms: u64,
    pub links: Vec<Link>,
}

/// A change of a region's health at the front door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthChange {
    /// When, in milliseconds since the drill began.
    pub at_ms: u64,
    pub region: String,
    /// Whether clients are sent there from then on.
    pub healthy: bool,
}

/// The recorded entries.
#[derive(Debug, Default)]
pub struct Entries {
    /// Every attempt of every request.
    pub attempts: Vec<Attempt>,
    /// Attempts without an answer, after which the client repeats the request.
    pub unanswered: usize,
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
    /// How often each message was shown to its receiver, who drops known ids.
    pub shown: BTreeMap<u64, u64>,
    pub files: Vec<UploadedFile>,
    /// How often a customer was asked to sign in again.
    pub sign_ins_asked: u64,
    /// The longest time that each customer waited for a request that was not answered at once, in
    /// milliseconds.
    pub longest_waits_ms: BTreeMap<usize, u64>,
    /// Requests that were given up.
    pub given_up: Vec<String>,
    /// Answers that a correct client does not expect.
    pub unexpected: Vec<String>,
    /// What happened to regions, by milliseconds.
    pub events: Vec<(u64, String)>,
    /// Changes of the regions' health at the front door during the load.
    pub health: Vec<HealthChange>,
    /// Replication, sampled while the load runs.
    pub samples: Vec<Sample>,
}

impl Entries {
    /// Messages that were acknowledged and not shown, by number.
    pub fn lost_messages(&self) -> impl Iterator<Item = (u64, &SentMessage)> {
        let messages = self.messages.iter().map(|(number, sent)| (*number, sent));
        messages.filter(|(number, sent)| sent.acknowledged && !self.shown.contains_key(number))
    }
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
    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Each method below writes one entry.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        millis(self.began.elapsed())
    }

    /// Something happens to a region.
    pub fn event(&self, what: impl Into<String>) {
        let at_ms = self.now_ms();
        self.entries().events.push((at_ms, what.into()));
    }

    /// A region's health at the front door changed some time ago.
    pub fn health_changed(&self, ago: Duration, region: &str, healthy: bool) {
        let at_ms = self.now_ms().saturating_sub(millis(ago));
        self.entries().health.push(HealthChange { at_ms, region: region.to_owned(), healthy });
    }

    /// The state of replication.
    pub fn sample(&self, links: Vec<Link>) {
        let at_ms = self.now_ms();
        self.entries().samples.push(Sample { at_ms, links });
    }

    /// An attempt of a request ended.
    pub fn attempt(&self, region: Option<String>, outcome: AttemptOutcome) {
        let at_ms = self.now_ms();
        let mut entries = self.entries();
        entries.unanswered += usize::from(outcome != AttemptOutcome::Answered);
        entries.attempts.push(Attempt { at_ms, region, outcome });
    }

    /// A customer waited for an answer, over several attempts.
    pub fn waited(&self, customer: usize, wait: Duration) {
        let mut entries = self.entries();
        let longest = entries.longest_waits_ms.entry(customer).or_default();
        *longest = (*longest).max(millis(wait));
    }

    /// A customer gave up a request.
    pub fn given_up(&self, what: String) {
        self.entries().given_up.push(what);
    }

    /// An answer is not one that a correct client expects.
    pub fn unexpected(&self, what: String) {
        self.entries().unexpected.push(what);
    }

    /// A refresh token was refused.
    pub fn asked_to_sign_in(&self) {
        self.entries().sign_ins_asked += 1;
    }

    /// A customer is about to place an order under this key.
    pub fn order_sent(&self, customer_id: &str, key: &str) {
        self.entries().order_keys.entry(customer_id.to_owned()).or_default().insert(key.to_owned());
    }

    /// An order is acknowledged.
    pub fn order_acknowledged(&self, order: AcknowledgedOrder) {
        self.entries().orders.push(order);
    }

    /// The payment of an order is acknowledged.
    pub fn paid(&self, order_id: &str) {
        self.entries().paid.insert(order_id.to_owned());
    }

    /// The cancellation of an order is acknowledged.
    pub fn cancelled(&self, order_id: &str) {
        self.entries().cancelled.insert(order_id.to_owned());
    }

    /// A session is revoked.
    pub fn revoked(&self, revocation: Revocation) {
        self.entries().revocations.push(revocation);
    }

    /// A file is verified.
    pub fn uploaded(&self, file: UploadedFile) {
        self.entries().files.push(file);
    }

    /// A message is about to be sent.
    pub fn message_sent(&self, number: u64, to: &str) {
        let sent = SentMessage { to: to.to_owned(), acknowledged: false };
        self.entries().messages.insert(number, sent);
    }

    /// A message is acknowledged.
    pub fn message_acknowledged(&self, number: u64) {
        if let Some(sent) = self.entries().messages.get_mut(&number) {
            sent.acknowledged = true;
        }
    }

    /// A message is shown to its receiver.
    pub fn message_shown(&self, number: u64) {
        *self.entries().shown.entry(number).or_default() += 1;
    }

    /// Whether an acknowledged message was not shown.
    pub fn lacks_messages(&self) -> bool {
        self.entries().lost_messages().next().is_some()
    }

    /// The progress of the load, in a line.
    pub fn progress(&self) -> String {
        let entries = self.entries();
        format!(
            "{} requests, {} to be repeated, {} orders, {} messages",
            entries.attempts.len(),
            entries.unanswered,
            entries.orders.len(),
            entries.messages.len()
        )
    }

    /// Takes the recorded entries out of the journal.
    pub fn take(&self) -> Entries {
        std::mem::take(&mut *self.entries())
    }
}

/// Whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_customers_waits_the_longest_counts() {
        let journal = Journal::default();
        for seconds in [1, 3, 2] {
            journal.waited(7, Duration::from_secs(seconds));
        }
        assert_eq!(journal.take().longest_waits_ms, BTreeMap::from([(7, 3_000)]));
    }

    #[test]
    fn the_journal_counts_what_is_to_be_repeated() {
        let journal = Journal::default();
        for outcome in [AttemptOutcome::Answered, AttemptOutcome::Refused, AttemptOutcome::NoAnswer] {
            journal.attempt(None, outcome);
        }
        assert_eq!(journal.progress(), "3 requests, 2 to be repeated, 0 orders, 0 messages");
    }
}
