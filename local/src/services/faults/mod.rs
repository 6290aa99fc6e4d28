//! Injected faults: rules that fail, delay, hold or cut off requests to the region's services.
//!
//! 1. A rule matches requests by service, operation, resource and caller. It lets the first `skip`
//!    of them pass, then applies its effect to the next `times` of them (with `probability`), and
//!    counts both.
//! 2. Before a request has its effect, all rules are asked in the order in which they were added.
//!    Delays and holds add up; the first error or reset ends the request.
//! 3. `failEntries` fails single entries of a batch, in an answer with status 200. `forget` and
//!    `repeat` change what a request to DynamoDB does, as if the function were wrong.
//! 4. After the effect, `commitThenReset` drops the answer, and `hold` with `"when": "after"`
//!    delays it.
//! 5. A held request waits until its rule is released or removed, or until its client is gone: a
//!    request held *before* its effect whose client was killed never has one.
//!
//! So a test stops a process between two steps without depending on time: hold the second step,
//! wait for [`Faults::until_held`], kill the process, release.

mod rule;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

pub(crate) use rule::{Alteration, Rewrite};
pub use rule::{Effect, EntryFault, Failure, Matcher, Rule, When, WriteKind};

use super::call::{Call, Hangup};

/// Names a rule that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RuleId(pub u64);

/// What a rule has done so far.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub id: RuleId,
    pub rule: Rule,
    /// Requests that matched, skipped ones included.
    pub matched: u64,
    /// Requests that the effect was applied to.
    pub applied: u64,
    /// Requests that it holds right now.
    pub held: usize,
}

/// What is to become of an answer.
#[derive(Debug, Default)]
#[must_use = "the answer must wait for it"]
pub struct Aftermath {
    holds: Vec<Arc<Active>>,
    reset: bool,
    /// What is to fail of a batch.
    pub(super) entries: Vec<EntryFault>,
    /// How the request is altered.
    pub(super) alterations: Vec<Alteration>,
}

impl Aftermath {
    /// Waits as long as the answer is held. `Err` when it is to be lost with its connection.
    pub async fn settle(self) -> Result<(), Hangup> {
        for rule in self.holds {
            rule.hold().await;
        }
        if self.reset { Err(Hangup) } else { Ok(()) }
    }
}

/// The rules in force.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<Arc<Active>>>,
    next: AtomicU64,
    /// Whether there is any rule: what every request pays when there is none.
    any: AtomicBool,
}

#[derive(Debug)]
struct Active {
    id: RuleId,
    rule: Rule,
    counts: Mutex<Counts>,
    released: watch::Sender<bool>,
    held: watch::Sender<usize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    matched: u64,
    applied: u64,
}

impl Active {
    /// Counts a matching request; whether it gets the effect.
    fn strikes(&self) -> bool {
        let mut counts = lock(&self.counts);
        counts.matched += 1;
        let due = counts.matched > self.rule.skip
            && self.rule.times.is_none_or(|times| counts.applied < times)
            && (self.rule.probability >= 1.0 || rand::random::<f64>() < self.rule.probability);
        counts.applied += u64::from(due);
        due
    }

    async fn hold(&self) {
        struct Held<'a>(&'a watch::Sender<usize>);
        impl Drop for Held<'_> {
            // Also when the client is gone and the request is dropped while it waits.
            fn drop(&mut self) {
                self.0.send_modify(|held| *held -= 1);
            }
        }
        let mut released = self.released.subscribe();
        self.held.send_modify(|held| *held += 1);
        let _held = Held(&self.held);
        // The sender lives in `self`, so waiting ends by a release only.
        if released.wait_for(|&released| released).await.is_err() {
            tracing::debug!("a fault rule vanished while it held a request");
        }
    }

    fn alteration(&self, rewrite: Rewrite) -> Alteration {
        Alteration { rewrite, matches: self.rule.matches.clone() }
    }

    fn status(&self) -> Status {
        let Counts { matched, applied } = *lock(&self.counts);
        Status { id: self.id, rule: self.rule.clone(), matched, applied, held: *self.held.borrow() }
    }
}

/// What the lock guards is whole after every statement, so a panic elsewhere doesn't spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Faults {
    /// Puts a rule in force, after the ones that are.
    pub fn add(&self, rule: Rule) -> RuleId {
        let id = RuleId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let active = Active {
            id,
            rule,
            counts: Mutex::default(),
            released: watch::Sender::new(false),
            held: watch::Sender::new(0),
        };
        lock(&self.rules).push(Arc::new(active));
        self.any.store(true, Ordering::Release);
        id
    }

    /// Takes a rule out of force and releases what it holds. `None` for an unknown rule.
    pub fn remove(&self, id: RuleId) -> Option<Status> {
        let mut rules = lock(&self.rules);
        let position = rules.iter().position(|rule| rule.id == id)?;
        let removed = rules.remove(position);
        self.any.store(!rules.is_empty(), Ordering::Release);
        removed.released.send_replace(true);
        Some(removed.status())
    }

    /// Takes all rules out of force and releases what they hold.
    pub fn clear(&self) {
        for rule in lock(&self.rules).drain(..) {
            rule.released.send_replace(true);
        }
        self.any.store(false, Ordering::Release);
    }

    /// Releases the held requests of a rule, which holds none from then on. False for an unknown
    /// rule.
    pub fn release(&self, id: RuleId) -> bool {
        self.find(id).is_some_and(|rule| {
            rule.released.send_replace(true);
            true
        })
    }

    /// What a rule has done. `None` for an unknown rule.
    pub fn status(&self, id: RuleId) -> Option<Status> {
        self.find(id).map(|rule| rule.status())
    }

    /// What all rules have done, in their order.
    pub fn statuses(&self) -> Vec<Status> {
        lock(&self.rules).iter().map(|rule| rule.status()).collect()
    }

    /// Waits until a rule holds at least `requests` at once. False for an unknown rule.
    pub async fn until_held(&self, id: RuleId, requests: usize) -> bool {
        let Some(rule) = self.find(id) else { return false };
        rule.held.subscribe().wait_for(|&held| held >= requests).await.is_ok()
    }

    /// What is to become of `call`, and of its answer. Waits as long as delays and holds say. A
    /// call that is cut off fails too, and its answer is lost.
    pub async fn before(&self, call: &Call) -> (Aftermath, Result<(), Failure>) {
        let mut aftermath = Aftermath::default();
        if !self.any.load(Ordering::Acquire) {
            return (aftermath, Ok(()));
        }
        let rules = lock(&self.rules).clone();
        for rule in rules.into_iter().filter(|active| active.rule.matches.covers(call)) {
            if !rule.strikes() {
                continue;
            }
            match &rule.rule.effect {
                Effect::Delay { millis } => tokio::time::sleep(Duration::from_millis(*millis)).await,
                Effect::Hold { when: When::Before } => rule.hold().await,
                Effect::Hold { when: When::After } => aftermath.holds.push(rule),
                Effect::CommitThenReset => aftermath.reset = true,
                Effect::FailEntries { fault } => aftermath.entries.push(fault.clone()),
                Effect::Forget { only } => {
                    aftermath.alterations.push(rule.alteration(Rewrite::Forget { only: *only }));
                }
                Effect::Repeat => aftermath.alterations.push(rule.alteration(Rewrite::Repeat)),
                Effect::Error { failure } => return (Aftermath::default(), Err(failure.clone())),
                Effect::Reset => {
                    let lost = Aftermath { reset: true, ..Aftermath::default() };
                    return (lost, Err(Failure::InternalServerError));
                }
            }
        }
        (aftermath, Ok(()))
    }

    fn find(&self, id: RuleId) -> Option<Arc<Active>> {
        lock(&self.rules).iter().find(|rule| rule.id == id).cloned()
    }
}
