//! Replication of buckets between the regions of one process, by the rules of each bucket (user
//! guide, "Replicating objects within and across Regions").
//!
//! 1. Every version that a rule fits is copied, and so is a delete marker if the rule says so: by
//!    itself, with a lag that it draws for itself. The copy has the id and the time of its source,
//!    so that the regions agree on the current version in any order of arrival.
//! 2. `x-amz-replication-status` is PENDING until every destination has it, then COMPLETED; of a
//!    copy it is REPLICA. It is FAILED if the destination is no versioned bucket of any region, or
//!    the role of the rules may not do what it takes. A failed copy is not retried.
//! 3. Copies are not copied further. Deletions of one version are not copied, nor is what was
//!    written before there were rules.
//! 4. What can't be sent waits in the source's index, until the regions reach each other again.
//!
//! One thread does all of it, one copy after the other. No request waits for another region.
//!
//! Limits: the lag is that of tables; S3 itself promises minutes. There are no tags, ACLs and
//! object locks to copy.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use s3s::S3Result;
use tokio::sync::oneshot;

use super::store::{Store, Waiting, Way};
use crate::clock;
use crate::services::access::{Permission, Policy};
use crate::services::network::{Lag, Network};
use crate::template::arn;

/// The pause between two looks at due changes.
const ROUND: Duration = Duration::from_millis(20);

/// How long a region's copies rest after a failure.
const REST: Duration = Duration::from_secs(1);

/// The buckets of one region, for a [`Replication`].
#[derive(Clone)]
pub struct RegionBuckets(pub(super) Arc<Store>);

impl fmt::Debug for RegionBuckets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RegionBuckets").finish_non_exhaustive()
    }
}

/// Why it can't be told what waits.
#[derive(Debug, thiserror::Error)]
#[error("what is to be copied can't be read: {0}")]
pub struct Unreadable(String);

/// Regions whose buckets replicate until this is dropped, which is to be before the regions are.
#[derive(Debug)]
pub struct Replication {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    regions: Vec<Member>,
    network: Arc<Network>,
    lag: Mutex<Lag>,
}

#[derive(Debug)]
struct Member {
    name: String,
    store: Arc<Store>,
    rests_until: Mutex<Option<Instant>>,
}

/// What becomes of a copy.
enum Outcome {
    Copied,
    Failed(String),
    /// The regions do not reach each other.
    Waits,
}

impl Replication {
    /// Joins regions, each with its name in `network`.
    pub fn start(regions: &[(String, RegionBuckets)], network: Arc<Network>, lag: Lag) -> io::Result<Self> {
        let member = |(name, RegionBuckets(store)): &(String, RegionBuckets)| Member {
            name: name.clone(),
            store: Arc::clone(store),
            rests_until: Mutex::default(),
        };
        let regions = regions.iter().map(member).collect();
        let shared = Arc::new(Shared { regions, network, lag: Mutex::new(lag) });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, mut stopped) = oneshot::channel();
        let delivering = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("buckets".to_owned()).spawn(move || {
            runtime.block_on(async {
                // Nothing is ever sent: the wait ends when the sender is dropped.
                while tokio::time::timeout(ROUND, &mut stopped).await.is_err() {
                    delivering.deliver().await;
                }
            });
        })?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// From now on, also for what is on its way.
    pub fn set_lag(&self, lag: Lag) {
        *self.shared.lag.lock().unwrap_or_else(PoisonError::into_inner) = lag;
    }

    /// How many copies are still to be made.
    pub fn pending(&self) -> Result<usize, Unreadable> {
        let counts = self.shared.regions.iter().map(|region| region.store.count_waiting());
        counts.sum::<S3Result<usize>>().map_err(|error| Unreadable(error.to_string()))
    }
}

impl Drop for Replication {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the buckets panicked");
        }
    }
}

impl Shared {
    /// Makes every copy that is due.
    async fn deliver(&self) {
        for from in &self.regions {
            let runs = self.network.holding(|map| map.reach(&from.name, &from.name));
            if !runs || from.rests() {
                continue;
            }
            if let Err(error) = self.deliver_from(from).await {
                tracing::warn!(from = from.name, %error, "replication of buckets rests");
                from.rest();
            }
        }
    }

    async fn deliver_from(&self, from: &Member) -> S3Result<()> {
        let lag = *self.lag.lock().unwrap_or_else(PoisonError::into_inner);
        let now_us = clock::now().as_microsecond();
        let waiting = from.store.waiting()?;
        let is_due = |copy: &Waiting| lag.due_us(copy.version.written_us, copy.luck) <= now_us;
        for copy in waiting.into_iter().filter(is_due) {
            match self.copy(from, &copy).await? {
                Outcome::Copied => from.store.copied(&copy)?,
                Outcome::Failed(reason) => {
                    let (key, destination) = (&copy.version.key, &copy.destination);
                    tracing::warn!(from = from.name, key, destination, reason, "an object is not replicated");
                    from.store.failed(&copy)?;
                }
                Outcome::Waits => {}
            }
        }
        Ok(())
    }

    async fn copy(&self, from: &Member, copy: &Waiting) -> S3Result<Outcome> {
        if let Some(permission) = lacking(from, copy) {
            let Permission { action, resource, .. } = permission;
            return Ok(Outcome::Failed(format!("the role may not {action} on {resource}")));
        }
        let Some(to) = self.regions.iter().find(|region| region.store.takes_copies(&copy.destination)) else {
            return Ok(Outcome::Failed("there is no versioned bucket of that name".to_owned()));
        };
        if !self.network.holding(|map| map.reach(&from.name, &to.name)) {
            return Ok(Outcome::Waits);
        }
        let way = Way { network: &self.network, from: &from.name, to: &to.name };
        Ok(match to.store.take(&from.store, copy, &way).await? {
            Ok(true) => Outcome::Copied,
            Ok(false) => Outcome::Waits,
            Err(refused) => Outcome::Failed(refused.to_string()),
        })
    }
}

impl Member {
    fn rests(&self) -> bool {
        let until = *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn rest(&self) {
        *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + REST);
    }
}

/// What the role of the bucket's rules would need to make a copy and may not do (user guide,
/// "Setting up permissions for live replication").
fn lacking(from: &Member, copy: &Waiting) -> Option<Permission> {
    let Waiting { version, destination, .. } = copy;
    let policy = from.store.replication(&version.bucket).map_or(&[][..], |replication| &replication.policy);
    let policy = Policy::new(policy);
    let (bucket, object) = (arn::bucket(&version.bucket), arn::object(&version.bucket, &version.key));
    let write = if version.content.is_some() { "s3:ReplicateObject" } else { "s3:ReplicateDelete" };
    let needed = [
        Permission::new("s3:GetReplicationConfiguration", &*bucket),
        Permission::new("s3:ListBucket", &*bucket),
        Permission::new("s3:GetObjectVersionForReplication", &*object),
        Permission::new("s3:GetObjectVersionAcl", &*object),
        Permission::new(write, arn::object(destination, &version.key)),
    ];
    needed.into_iter().find(|permission| !policy.allows(permission))
}
