//! A cache in two tiers: one in the process for a second, and one in Redis that all processes
//! share.
//!
//! Promise: a failing cache is a miss, never an error. A value written before an invalidation is
//! served for at most [`PROCESS_LIFETIME`] after it. A load that began before an invalidation never
//! fills the cache after it.
//!
//! Names are `{service}:{entity}:{id}`. In Redis each name is one hash: value, version, freshness,
//! duration of its load, lease, and the [`Incarnation`](crate::platform::redis::Incarnation) of the
//! server. Only small scripts (`shared.rs`) change it. So value and lease disappear together,
//! whether by invalidation, by eviction or by `FLUSHALL`.
//!
//! # Read-through ([`Cache::read_through`])
//! 1. The process tier is asked first. It keeps a value for [`PROCESS_LIFETIME`], counted from
//!    before its lookup.
//! 2. One script looks the name up in Redis. If there is no value, the same script takes the
//!    *lease*, a random token: its holder loads, and everybody else waits (single-flight; leases
//!    are from "Scaling Memcache at Facebook", NSDI 2013).
//! 3. The holder loads from DynamoDB, consistently. It fills only if its token is still there and
//!    there is no newer version.
//! 4. Waiting readers look again, with jitter, for [`PATIENCE`]. A lease lapses after [`LEASE`],
//!    which is shorter: then one of them takes it over. So a loader that died costs one more load.
//!    A reader that has waited in vain loads without filling.
//! 5. A value near the end of its freshness is refreshed early by one reader (`XFetch`; Vattani,
//!    Chierichetti, Lowenstein: "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015): each
//!    reader decides by `now - delta * beta * ln(random) >= fresh until`, where `delta` is how long
//!    the load took, and tries to take the lease. Everybody else is served the current value.
//! 6. A value past its freshness is served for [`CachePolicy::stale`] more while one reader loads,
//!    and if that load fails.
//!
//! # Write-through ([`Cache::write_through`])
//! 1. The writer takes the lease by force, which also drops the value.
//! 2. It writes to DynamoDB.
//! 3. It fills if its token is still there. If not, it drops value and lease: another writer took
//!    over, and it is unknown which of the two writes is newer.
//!
//! # Invalidation ([`Cache::invalidate`])
//! One `DEL` of value and lease. Entries may depend on a *group* ([`CachePolicy::group`]): a random
//! generation in Redis that each entry records when its lease is taken. Deleting the generation
//! invalidates every entry of the group: the next lookup creates another one. The generation is
//! random and not a counter, so that an eviction cannot restore an old one.
//!
//! # Why a stale value does not come back
//! Let a write `W` commit, and its invalidation `I` happen after that. A fill after `I` needs a
//! token that exists after `I`. `I` deletes the existing token, so the filler's lease was taken
//! after `I`, and its load began after that. Loads are consistent: it sees `W`. The same holds for
//! a group: an entry keeps the generation of the time its lease was taken, and is valid only while
//! the group has that generation.
//! - *A paused loader* has lost its token, or there is a newer version: its fill is refused.
//! - *Eviction or `FLUSHALL`* removes the token along with the value.
//! - *A restart from a snapshot* restores old tokens, values and generations. Each names the
//!   incarnation that it was written under. A process knows the incarnation of its connection, and
//!   ignores data of another one.
//! - *A writer that dies* between DynamoDB and Redis never invalidates. Its lease has dropped the
//!   value; a load that overlapped its write may fill the old one after the lease has lapsed.
//!   `cache-invalidator` reads the table's stream and invalidates; without it,
//!   [`CachePolicy::fresh`] is the bound.
//!
//! Leases are timed by Redis's clock, freshness by the processes' clocks: skew makes values a
//! little older or younger, and breaks nothing above.
//!
//! # Limits
//! - A process has one invocation at a time, so loads are not shared inside it.
//! - Values are not encrypted. Write access to Redis allows changing what the catalogue shows, but
//!   not what an order costs. A value that belongs to a user names its owner, and
//!   [`Entry::belongs_to`] is checked before it is served.
//! - Write-through entries are in no group.
//! - No cluster mode: a script reads an entry and its group.

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::core::clock::SharedClock;
use crate::core::env::{ConfigError, Env};
use crate::platform::redis::{RedisClient, RedisError};
use crate::platform::telemetry::{self, Metric, chain};

mod process;
mod shared;
mod value;

use process::{ProcessCache, ProcessTier};
use shared::{CacheKey, Fill, Found, IfLost, SharedTier};
pub use value::MAX_VALUE_BYTES;
use value::{Content, Reading};

/// Which tiers a deployment has: `memory`, `redis` or `none`.
const VARIABLE: &str = "CACHE";
/// The first part of every name: stacks may share a Redis.
const SERVICE_VARIABLE: &str = "CACHE_SERVICE";

/// How long a process serves a value without asking Redis. It bounds the staleness after an
/// invalidation, which other processes do not see. In a second, a hot entry answers hundreds of
/// requests.
pub const PROCESS_LIFETIME: Duration = Duration::from_secs(1);

/// How long a lease keeps others from loading. A load takes 5 to 50 ms; after ten times that, the
/// loader counts as dead.
pub const LEASE: Duration = Duration::from_millis(500);

/// How long a reader waits for another reader's load: a lease, and twice as long for the load of
/// its successor.
pub const PATIENCE: Duration = Duration::from_millis(1_500);

/// Random variation of the freshness, so that entries that were filled together do not expire
/// together.
const JITTER: f64 = 0.1;

/// How a kind of value is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachePolicy {
    /// The second part of the name.
    pub entity: &'static str,
    /// How long a value is fresh without an invalidation.
    pub fresh: Duration,
    /// How long an absence is cached.
    pub absent: Duration,
    /// How long after that a value may be served while it is loaded, or if the load fails.
    pub stale: Duration,
    pub tiers: Tiers,
    /// The group, if there is one.
    pub group: Option<&'static str>,
}

/// The tiers of a kind of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiers {
    /// In processes and in Redis. Users may see a change [`PROCESS_LIFETIME`] late.
    Both,
    /// In Redis only: an invalidation holds for every process at once.
    Shared,
}

/// A kind of value that is cached.
pub trait Entry: Serialize + DeserializeOwned + Send + Sync {
    const POLICY: CachePolicy;

    /// Whether the value belongs to `id`. Checked before each value is served.
    fn belongs_to(&self, id: &str) -> bool;
}

/// The result of a load or a write in DynamoDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<T> {
    /// The value, if there is one.
    pub value: Option<T>,
    /// Rises with each write of the value. 0 for a value without versions.
    pub version: u64,
    /// A shorter freshness than [`CachePolicy::fresh`], if that is known to be too long.
    pub at_most: Option<Duration>,
}

impl<T> Loaded<T> {
    /// A value of this version.
    pub fn version(value: T, version: u64) -> Self {
        Self { value: Some(value), version, at_most: None }
    }

    /// A value without versions.
    pub fn value(value: T) -> Self {
        Self::version(value, 0)
    }

    /// There is none.
    pub fn absent() -> Self {
        Self { value: None, version: 0, at_most: None }
    }
}

/// What can be invalidated: an entry, or all of a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// One entry, present or not.
    Entry(String),
    /// Every entry of a group.
    Group(&'static str),
}

impl Name {
    /// The entry of kind `T` with this id.
    pub fn of<T: Entry>(id: &str) -> Self {
        Self::Entry(format!("{}:{id}", T::POLICY.entity))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(name) => f.write_str(name),
            Self::Group(group) => write!(f, "group:{group}"),
        }
    }
}

/// How a read was answered: the metric's dimension.
#[derive(Debug, Clone, Copy)]
enum ReadOutcome {
    Process,
    Shared,
    /// From Redis, past its freshness.
    Stale,
    /// Loaded although there was a value that had expired or was about to.
    Refreshed,
    /// Loaded, since there was no value.
    Missed,
    /// Loaded without filling: Redis did not answer or is full, or another load took too long.
    Direct,
}

impl ReadOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Shared => "shared",
            Self::Stale => "stale",
            Self::Refreshed => "refreshed",
            Self::Missed => "missed",
            Self::Direct => "direct",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    #[default]
    Memory,
    Redis,
    None,
}

#[derive(Debug, thiserror::Error)]
#[error("it is memory, redis or none")]
struct UnknownKind;

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        match text {
            "memory" => Ok(Self::Memory),
            "redis" => Ok(Self::Redis),
            "none" => Ok(Self::None),
            _ => Err(UnknownKind),
        }
    }
}

/// The cache of a deployment.
#[derive(Debug, Clone)]
pub struct Cache {
    service: Arc<str>,
    process: Option<Arc<ProcessTier>>,
    shared: Option<Arc<SharedTier>>,
    clock: SharedClock,
    /// Uniform from 0 to below 1.
    random: fn() -> f64,
}

impl Cache {
    /// The cache that `CACHE` names: `memory` (in the process only; the default), `redis` (also in
    /// the Redis of `REDIS_URL`, under the prefix `CACHE_SERVICE`) or `none`. Does not connect yet.
    pub fn from_env(env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        let kind = env.optional(VARIABLE).map(|_| env.parse(VARIABLE)).transpose()?.unwrap_or_default();
        Ok(match kind {
            Kind::None => Self::none(clock),
            Kind::Memory => Self::memory(clock),
            Kind::Redis => Self::redis(RedisClient::from_env(env)?, env.required(SERVICE_VARIABLE)?, clock),
        })
    }

    /// No cache: every read is a load.
    pub fn none(clock: SharedClock) -> Self {
        Self { service: Arc::from(""), process: None, shared: None, clock, random: rand::random }
    }

    /// A cache in the process alone.
    pub fn memory(clock: SharedClock) -> Self {
        Self { process: Some(Arc::new(ProcessTier::new(clock.clone()))), ..Self::none(clock) }
    }

    /// A cache in the process, and behind that in `redis`, under names that begin with `service`.
    pub fn redis(redis: RedisClient, service: &str, clock: SharedClock) -> Self {
        let shared = Some(Arc::new(SharedTier::new(redis, clock.clone())));
        Self { service: Arc::from(service), shared, ..Self::memory(clock) }
    }

    /// The same without the process tier, for tests with several processes in one, and for callers
    /// that must see each invalidation.
    #[must_use]
    pub fn without_process_tier(self) -> Self {
        Self { process: None, ..self }
    }

    /// With another source of random numbers, from 0 to below 1.
    #[must_use]
    pub fn with_random(self, random: fn() -> f64) -> Self {
        Self { random, ..self }
    }

    /// The value of `id`, from the cache or by `load`, which runs at most once. `None`: there is no
    /// such value.
    ///
    /// # Errors
    /// Those of `load`, if the cache has nothing to serve instead.
    pub fn read_through<T: Entry, E>(
        &self,
        id: &str,
        load: impl Future<Output = Result<Loaded<T>, E>>,
    ) -> impl Future<Output = Result<Option<T>, E>> {
        // SDK calls are futures of many kilobytes, which every layer around them would contain.
        let load = Box::pin(load);
        self.read_or_load(id, load)
    }

    async fn read_or_load<T: Entry, E>(
        &self,
        id: &str,
        load: impl Future<Output = Result<Loaded<T>, E>>,
    ) -> Result<Option<T>, E> {
        let name = Name::of::<T>(id);
        let began = self.clock.now();
        if let Some(kept) = self.process_tier::<T>().and_then(|tier| tier.get(&name))
            && let Reading::Value(value) = kept.read::<T>(id)
        {
            count::<T>(ReadOutcome::Process);
            return Ok(value);
        }
        let Some(shared) = &self.shared else { return self.load_unshared(&name, began, load).await };
        let place = self.place::<T>(&name);
        match shared.find(&place, self.random).await {
            Found::Fresh { content, version } => match content.read(id) {
                Reading::Value(value) => {
                    count::<T>(ReadOutcome::Shared);
                    self.keep::<T>(&name, version, began, content);
                    Ok(value)
                }
                Reading::TooLarge => self.load_direct(load).await,
                Reading::Invalid => {
                    tracing::error!(%name, "Redis has a value of another id or type");
                    self.forget(&[name]).await;
                    self.load_direct(load).await
                }
            },
            Found::Stale(content) => match content.read(id) {
                Reading::Value(value) => {
                    count::<T>(ReadOutcome::Stale);
                    Ok(value)
                }
                Reading::TooLarge | Reading::Invalid => self.load_direct(load).await,
            },
            Found::Leased { lease, stale } => {
                count::<T>(if stale.is_some() { ReadOutcome::Refreshed } else { ReadOutcome::Missed });
                let timed = Instant::now();
                let loaded = match load.await {
                    Ok(loaded) => loaded,
                    // The lease lapses by itself: another load at once would fail as well.
                    Err(error) => match stale.map(|content| content.read(id)) {
                        Some(Reading::Value(value)) => {
                            count::<T>(ReadOutcome::Stale);
                            return Ok(value);
                        }
                        _ => return Err(error),
                    },
                };
                if let Some((content, fill)) = self.fill_of(&loaded, began, timed.elapsed()) {
                    shared.fill(&place, lease, fill, IfLost::Leave).await;
                    self.keep::<T>(&name, loaded.version, began, content);
                }
                Ok(loaded.value)
            }
            Found::Nothing => {
                count::<T>(ReadOutcome::Direct);
                self.load_unshared_uncounted(&name, began, load).await
            }
        }
    }

    /// Runs `write`, which writes the value of `id` and returns its new state, and fills the cache
    /// with that.
    ///
    /// # Errors
    /// Those of `write`. The write may have happened; the cache has no value.
    pub fn write_through<T: Entry, R, E>(
        &self,
        id: &str,
        write: impl Future<Output = Result<(Loaded<T>, R), E>>,
    ) -> impl Future<Output = Result<R, E>> {
        let write = Box::pin(write);
        self.write_and_fill(id, write)
    }

    async fn write_and_fill<T: Entry, R, E>(
        &self,
        id: &str,
        write: impl Future<Output = Result<(Loaded<T>, R), E>>,
    ) -> Result<R, E> {
        let name = Name::of::<T>(id);
        let place = self.place::<T>(&name);
        let lease = match &self.shared {
            Some(shared) => shared.force(&place).await,
            None => None,
        };
        let (began, timed) = (self.clock.now(), Instant::now());
        let written = write.await;
        let took = timed.elapsed();
        if let Some(tier) = self.process_tier::<T>() {
            tier.remove(&name);
        }
        let (loaded, result) = match written {
            Ok(written) => written,
            Err(error) => {
                self.forget(&[name]).await;
                return Err(error);
            }
        };
        match (self.fill_of(&loaded, began, took), &self.shared, lease) {
            (Some((content, fill)), Some(shared), Some(lease)) => {
                shared.fill(&place, lease, fill, IfLost::Forget).await;
                self.keep::<T>(&name, loaded.version, began, content);
            }
            (Some((content, _)), None, _) => self.keep::<T>(&name, loaded.version, began, content),
            _ => self.forget(&[name]).await,
        }
        Ok(result)
    }

    /// Removes the named entries from this process and from Redis. Loads in progress do not fill
    /// them.
    ///
    /// # Errors
    /// Redis did not answer, and may serve the old values until their freshness ends.
    pub async fn invalidate(&self, names: &[Name]) -> Result<(), RedisError> {
        if let Some(tier) = &self.process {
            for name in names {
                tier.remove(name);
            }
        }
        match &self.shared {
            Some(shared) if !names.is_empty() => {
                shared.delete(names.iter().map(|name| self.full(name)).collect()).await
            }
            _ => Ok(()),
        }
    }

    /// The same for a caller that ignores failures: `cache-invalidator` sees the change as well.
    pub async fn forget(&self, names: &[Name]) {
        if let Err(error) = self.invalidate(names).await {
            tracing::warn!(error = chain(&error), "the cache was not invalidated");
        }
    }

    /// A load in a deployment without Redis.
    async fn load_unshared<T: Entry, E>(
        &self,
        name: &Name,
        began: Timestamp,
        load: impl Future<Output = Result<Loaded<T>, E>>,
    ) -> Result<Option<T>, E> {
        if self.process.is_some() {
            count::<T>(ReadOutcome::Missed);
        }
        self.load_unshared_uncounted(name, began, load).await
    }

    async fn load_unshared_uncounted<T: Entry, E>(
        &self,
        name: &Name,
        began: Timestamp,
        load: impl Future<Output = Result<Loaded<T>, E>>,
    ) -> Result<Option<T>, E> {
        let loaded = load.await?;
        if self.process_tier::<T>().is_some()
            && let Some(content) = content_of(&loaded)
        {
            self.keep::<T>(name, loaded.version, began, content);
        }
        Ok(loaded.value)
    }

    /// A load whose result is not cached.
    async fn load_direct<T: Entry, E>(
        &self,
        load: impl Future<Output = Result<Loaded<T>, E>>,
    ) -> Result<Option<T>, E> {
        count::<T>(ReadOutcome::Direct);
        Ok(load.await?.value)
    }

    fn process_tier<T: Entry>(&self) -> Option<&ProcessTier> {
        match T::POLICY.tiers {
            Tiers::Both => self.process.as_deref(),
            Tiers::Shared => None,
        }
    }

    fn keep<T: Entry>(&self, name: &Name, version: u64, since: Timestamp, content: Content) {
        if let Some(tier) = self.process_tier::<T>() {
            tier.put(name, ProcessCache { content, version, group: T::POLICY.group, since });
        }
    }

    /// The content to fill. `began` is the time before the load.
    fn fill_of<T: Entry>(
        &self,
        loaded: &Loaded<T>,
        began: Timestamp,
        took: Duration,
    ) -> Option<(Content, Fill)> {
        let content = content_of(loaded)?;
        let CachePolicy { fresh, absent, stale, .. } = T::POLICY;
        let fresh = match content {
            Content::Json(_) => fresh.min(loaded.at_most.unwrap_or(fresh)),
            Content::Absent | Content::TooLarge => absent,
        };
        let fresh = fresh.mul_f64(1.0 - JITTER + 2.0 * JITTER * (self.random)());
        let until = began.saturating_add(SignedDuration::try_from(fresh).ok()?).ok()?;
        let fill = Fill {
            value: content.encode(),
            version: loaded.version,
            fresh_until_ms: until.as_millisecond(),
            took,
            kept: fresh + stale,
        };
        Some((content, fill))
    }

    fn place<T: Entry>(&self, name: &Name) -> CacheKey {
        let group = T::POLICY.group.map(|group| self.full(&Name::Group(group)));
        CacheKey { entry: self.full(name), group }
    }

    /// The name in Redis.
    fn full(&self, name: &Name) -> String {
        format!("{}:{name}", self.service)
    }
}

/// The content of a value. `None`, with a log line, if it cannot be serialised.
fn content_of<T: Entry>(loaded: &Loaded<T>) -> Option<Content> {
    let content = Content::of(loaded.value.as_ref());
    if matches!(content, Ok(Content::TooLarge)) {
        telemetry::count_case(Metric::CacheTooLarge, T::POLICY.entity, 1);
    }
    content
        .inspect_err(|error| {
            tracing::error!(error = chain(error), entity = T::POLICY.entity, "a value is not cached");
        })
        .ok()
}

fn count<T: Entry>(outcome: ReadOutcome) {
    tracing::trace!(entity = T::POLICY.entity, outcome = outcome.as_str(), "a read through the cache");
    telemetry::count_case(Metric::CacheReads, outcome.as_str(), 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::clock;

    fn chosen(variables: &[(&str, &str)]) -> Result<Cache, String> {
        let env = Env::of(variables.iter().map(|(name, value)| (*name, *value)));
        Cache::from_env(&env, clock::system()).map_err(|error| error.to_string())
    }

    fn tiers(cache: &Cache) -> (bool, bool) {
        (cache.process.is_some(), cache.shared.is_some())
    }

    #[test]
    fn memory_is_the_default_and_redis_stands_behind_it() {
        assert_eq!(tiers(&chosen(&[]).unwrap()), (true, false));
        assert_eq!(tiers(&chosen(&[("CACHE", "none")]).unwrap()), (false, false));
        let redis = [
            ("STAGE", "local"),
            ("CACHE", "redis"),
            ("REDIS_URL", "redis://127.0.0.1:1"),
            ("CACHE_SERVICE", "sojourn"),
        ];
        assert_eq!(tiers(&chosen(&redis).unwrap()), (true, true));
        assert!(chosen(&redis[..3]).unwrap_err().contains("CACHE_SERVICE"));
        assert!(chosen(&redis[..2]).unwrap_err().contains("REDIS_URL"));
        assert!(chosen(&[("CACHE", "disk")]).unwrap_err().contains("memory, redis or none"));
    }

    #[test]
    fn whoever_waits_outlasts_a_lease() {
        assert!(PATIENCE > LEASE + LEASE / 2, "time for the second load");
    }
}
