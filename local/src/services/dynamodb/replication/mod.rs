//! Global tables: the tables of several regions in one process, joined as AWS joins them (developer
//! guide, "Global tables core concepts", version 2019.11.21).
//!
//! Eventually consistent tables (MREC), by `replica` and `link`:
//!
//! 1. Every region accepts reads and writes. Conditions and `ConsistentRead` see the local copy.
//! 2. Each change of an item goes to every other region separately, with a lag. A transaction
//!    arrives item by item.
//! 3. Of several writes of an item the last one wins, by the time at which each was made. Deletions
//!    are writes. Items that TTL deletes are deleted everywhere.
//! 4. A change that arrives is a record in the region's own stream. Nothing marks it: version
//!    2019.11.21 adds no attributes, and `userIdentity` says that TTL deleted an item only in the
//!    region where TTL did.
//! 5. Changes that can't be sent wait until the partition is healed.
//!
//! Strongly consistent tables (MRSC), by `strong` and `journal`.
//!
//! One thread does all of it. No request waits for another region, but those of strongly consistent
//! tables.
//!
//! Limits: regions join once, when they start. The rest is in the modules.

mod change;
mod journal;
mod kept;
mod link;
mod replica;
mod strong;
mod worker;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use dynoxide::Database;

pub use link::Pending;
pub(super) use strong::Refused;

use super::streams::Streams;
use crate::clock;
use crate::services::network::{Lag, Network};
use kept::Kept;
use link::Link;
use replica::{Replica, ReplicaError};
use strong::Strong;
use worker::Worker;

/// What is replicated, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Eventually consistent tables. Every region has them.
    pub tables: Vec<String>,
    pub strong: Option<StrongTables>,
    /// Of every link, until it is changed.
    pub lag: Lag,
    /// What a write of a strongly consistent table takes, and a strongly consistent read.
    pub round_trip: Duration,
}

impl Default for Settings {
    /// No tables; AWS's usual lag; 30 ms, about half of what Tokyo and Singapore need.
    fn default() -> Self {
        Self { tables: vec![], strong: None, lag: Lag::default(), round_trip: Duration::from_millis(30) }
    }
}

/// Strongly consistent tables and the three regions that agree on them.
#[derive(Debug, Clone)]
pub struct StrongTables {
    pub tables: Vec<String>,
    /// Two regions and a witness, or three regions.
    pub replicas: Vec<String>,
    /// A region without tables. Its name is for [`Replication::partition`].
    pub witness: Option<String>,
}

/// Why regions can't be joined, or the state of their links not be told.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// A region or a table is not as it must be.
    #[error("{subject} can't be replicated: {reason}")]
    Invalid {
        /// The region or the table.
        subject: String,
        reason: String,
    },
    /// There is no such region.
    #[error("there is no region {0}")]
    UnknownRegion(String),
    #[error("what was written can't be read: {0}")]
    Read(String),
    #[error("the thread of the replication can't start")]
    Thread(#[source] io::Error),
}

impl From<ReplicaError> for ReplicationError {
    fn from(error: ReplicaError) -> Self {
        Self::Read(error.to_string())
    }
}

/// The tables of one region, for a [`Replication`].
#[derive(Clone)]
pub struct RegionTables {
    pub(super) database: Database,
    pub(super) streams: Arc<Streams>,
    pub(super) membership: Arc<OnceLock<Membership>>,
    /// Of the data, if it is in a file.
    pub(super) folder: Option<PathBuf>,
}

impl fmt::Debug for RegionTables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RegionTables").finish_non_exhaustive()
    }
}

/// A region that is about to join others.
struct Joining<'a> {
    name: Arc<str>,
    tables: &'a RegionTables,
    kept: Option<Arc<Kept>>,
}

impl<'a> Joining<'a> {
    fn new((name, tables): &'a (String, RegionTables)) -> Result<Self, ReplicaError> {
        let kept = tables.folder.as_deref().map(Kept::open).transpose()?.map(Arc::new);
        Ok(Self { name: Arc::from(name.as_str()), tables, kept })
    }
}

/// What a region that has joined must heed.
pub(super) struct Membership {
    region: Arc<str>,
    turn: Arc<RwLock<()>>,
    strong: Option<Arc<Strong>>,
}

impl Membership {
    /// Held by a local write, until readers of streams know of it.
    pub(super) fn write(&self) -> RwLockReadGuard<'_, ()> {
        self.turn.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request needs the agreement of other regions, by its operation, its tables or its
    /// body.
    pub(super) fn must_agree(&self, operation: &str, tables: &[String], body: &str) -> bool {
        self.strong.as_ref().is_some_and(|strong| strong.concerns(&self.region, operation, tables, body))
    }

    /// Does `work`, a request to the engine, when the other regions agree.
    pub(super) async fn agree<T>(
        &self,
        operation: &str,
        body: &str,
        work: impl FnOnce() -> T,
    ) -> Result<T, Refused> {
        match &self.strong {
            Some(strong) => strong.perform(&self.region, operation, body, work).await,
            None => Ok(work()),
        }
    }
}

/// Regions that replicate to each other until this is dropped, which is to be before the regions
/// are.
pub struct Replication {
    // Dropped first: nothing is sent any more.
    worker: Worker,
    shared: Arc<Shared>,
}

impl fmt::Debug for Replication {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Replication").field("worker", &self.worker).finish_non_exhaustive()
    }
}

/// What the thread and the callers of [`Replication`] both use.
struct Shared {
    regions: BTreeSet<String>,
    network: Arc<Network>,
    links: Vec<Link>,
    strong: Option<Arc<Strong>>,
}

impl Replication {
    /// Joins regions, each with its name.
    pub fn start(regions: &[(String, RegionTables)], settings: &Settings) -> Result<Self, ReplicationError> {
        let network = Arc::new(Network::default());
        let regions: Vec<_> = regions.iter().map(Joining::new).collect::<Result<_, _>>()?;
        let strong = settings
            .strong
            .as_ref()
            .map(|group| Strong::new(group, &regions, Arc::clone(&network), settings.round_trip))
            .transpose()?
            .map(Arc::new);
        let tables: Vec<Arc<str>> = settings.tables.iter().map(|table| Arc::from(table.as_str())).collect();
        regions.iter().try_for_each(|region| fit(region.tables, &tables))?;
        let mut replicas = Vec::new();
        for Joining { name, tables: region, kept } in &regions {
            let names = regions.iter().map(|region| Arc::clone(&region.name));
            let peers: Vec<_> = names.filter(|peer| peer != name).collect();
            let place = (region.database.clone(), Arc::clone(&region.streams), kept.clone());
            let replica = Arc::new(Replica::new(Arc::clone(name), place, &tables, &peers)?);
            let turn = Arc::clone(&replica.turn);
            let membership = Membership { region: Arc::clone(name), turn, strong: strong.clone() };
            region.membership.set(membership).map_err(|_| unfit(name, "it has joined others before"))?;
            replicas.push(replica);
        }
        let pairs = replicas.iter().flat_map(|from| replicas.iter().map(move |to| (from, to)));
        let links = pairs
            .filter(|(from, to)| from.name != to.name)
            .map(|(from, to)| Link::new(Arc::clone(from), Arc::clone(to), settings.lag))
            .collect();
        let mut regions: BTreeSet<String> = regions.iter().map(|region| region.name.to_string()).collect();
        regions.extend(strong.iter().flat_map(|strong| strong.members().iter().cloned()));
        let shared = Arc::new(Shared { regions, network, links, strong });
        let worker = Worker::start(Arc::clone(&shared)).map_err(ReplicationError::Thread)?;
        Ok(Self { worker, shared })
    }

    /// From now on `a` and `b` do not reach each other. One of them may be the witness.
    pub fn partition(&self, a: &str, b: &str) -> Result<(), ReplicationError> {
        self.shared.known(a)?;
        self.shared.known(b)?;
        self.shared.network.cut(a, b);
        Ok(())
    }

    /// From now on all regions that run reach each other.
    pub fn heal(&self) {
        self.shared.network.heal();
    }

    /// `region` neither sends nor receives from now on. Its own endpoint goes on: whoever stops the
    /// region closes it.
    pub fn stop(&self, region: &str) -> Result<(), ReplicationError> {
        self.shared.known(region)?;
        self.shared.network.stop(region);
        Ok(())
    }

    /// `region` sends and receives again.
    pub fn resume(&self, region: &str) -> Result<(), ReplicationError> {
        self.shared.known(region)?;
        self.shared.network.start(region);
        Ok(())
    }

    /// What it stops and cuts.
    pub fn network(&self) -> Arc<Network> {
        Arc::clone(&self.shared.network)
    }

    /// Whether `a` and `b` reach each other.
    pub fn reach(&self, a: &str, b: &str) -> bool {
        self.shared.network.holding(|map| map.reach(a, b))
    }

    /// The lag of every link, also for changes that are on their way.
    pub fn set_lag(&self, lag: Lag) {
        self.shared.links.iter().for_each(|link| link.set_lag(lag));
    }

    /// The lag between two regions, in both directions.
    pub fn set_lag_between(&self, a: &str, b: &str, lag: Lag) -> Result<(), ReplicationError> {
        self.shared.known(a)?;
        self.shared.known(b)?;
        let between = |link: &&Link| {
            let ends = (&*link.from.name, &*link.to.name);
            ends == (a, b) || ends == (b, a)
        };
        self.shared.links.iter().filter(between).for_each(|link| link.set_lag(lag));
        Ok(())
    }

    /// What a write of a strongly consistent table takes from now on, and a strongly consistent
    /// read.
    pub fn set_round_trip(&self, round_trip: Duration) {
        if let Some(strong) = &self.shared.strong {
            strong.set_round_trip(round_trip);
        }
    }

    /// What waits on each link, of all that was written before this call. Without the strongly
    /// consistent tables.
    pub fn pending(&self) -> Result<Vec<Pending>, ReplicationError> {
        let now_us = clock::now().as_microsecond();
        Ok(self.shared.links.iter().map(|link| link.pending(now_us)).collect::<Result<_, _>>()?)
    }
}

impl Shared {
    fn known(&self, region: &str) -> Result<(), ReplicationError> {
        if self.regions.contains(region) {
            return Ok(());
        }
        Err(ReplicationError::UnknownRegion(region.to_owned()))
    }
}

/// Whether a region has the tables as replication needs them.
fn fit(region: &RegionTables, tables: &[Arc<str>]) -> Result<(), ReplicationError> {
    for table in tables {
        match region.streams.shows_both_images(table) {
            Some(true) => {}
            Some(false) => return Err(unfit(table, "its StreamViewType must be NEW_AND_OLD_IMAGES")),
            None => return Err(unfit(table, "it is not in every region, or has no stream")),
        }
    }
    Ok(())
}

fn unfit(subject: &str, reason: &str) -> ReplicationError {
    ReplicationError::Invalid { subject: subject.to_owned(), reason: reason.to_owned() }
}
