//! Lambda: the functions of the stack as processes, one pool each, behind the real Runtime API.
//!
//! [`Functions`] is what everything else invokes through, by the trait [`Invoke`]. What it
//! promises:
//!
//! 1. One invocation at a time per process; more processes under load, up to a limit; idle ones are stopped.
//! 2. Timeouts, payload limits and crashes end as in Lambda, and are told apart by [`Outcome`].
//! 3. After [`Functions::shut_down`] no process is left.

pub mod events;
mod failure;
pub mod lambda_api;
pub mod limits;
pub mod outcome;
mod output;
mod pool;
mod process;
mod runtime_api;
mod tail;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use events::{Destinations, Events};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use outcome::{HandOver, HandedOver, Invoke, Outcome};
use pool::Pool;
pub use process::ProcessStatus;
use tail::Tail;

use crate::logs::Logs;
use crate::template::model::{ACCOUNT, EventInvoke};
use crate::uuid;

/// A function, ready to be started.
#[derive(Debug, Clone)]
pub struct FunctionSpec {
    /// Short name: `api-orders`.
    pub name: String,
    /// Name in the stack: `sojourn-api-orders`.
    pub physical_name: String,
    /// `arn:aws:lambda:…:function:sojourn-api-orders`.
    pub arn: String,
    /// `Timeout`.
    pub timeout: Duration,
    /// `ReservedConcurrentExecutions`: more invocations than these are throttled at once.
    pub reserved_concurrency: Option<usize>,
    /// `EventInvokeConfig`.
    pub event_invoke: EventInvoke,
    /// What to run.
    pub binary: PathBuf,
    /// The whole environment of its processes, but for what differs between processes.
    pub environment: BTreeMap<String, String>,
}

/// Bounds of every pool. [`Settings::default`] is what `cargo dev` runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Processes of one function at once.
    pub concurrency: usize,
    /// See [`limits::INIT_LIMIT`].
    pub init_limit: Duration,
    /// See [`limits::IDLE_LIMIT`].
    pub idle_limit: Duration,
    /// See [`limits::QUEUE_LIMIT`].
    pub queue_limit: usize,
    /// See [`limits::QUEUE_WAIT`].
    pub queue_wait: Duration,
    /// See [`limits::INIT_ATTEMPTS`].
    pub init_attempts: u32,
    /// See [`limits::EVENT_RETRY_DELAYS`].
    pub event_retry_delays: Vec<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: limits::DEFAULT_CONCURRENCY,
            init_limit: limits::INIT_LIMIT,
            idle_limit: limits::IDLE_LIMIT,
            queue_limit: limits::QUEUE_LIMIT,
            queue_wait: limits::QUEUE_WAIT,
            init_attempts: limits::INIT_ATTEMPTS,
            event_retry_delays: limits::EVENT_RETRY_DELAYS.to_vec(),
        }
    }
}

/// Every function of the stack.
pub struct Functions {
    pools: BTreeMap<String, Arc<Pool>>,
    /// Physical names, ARNs and partial ARNs to short names.
    aliases: HashMap<String, String>,
    events: Events,
}

impl Functions {
    /// Nothing is started before the first invocation.
    pub fn new(
        specs: Vec<FunctionSpec>,
        settings: &Settings,
        logs: &Logs,
        destinations: Destinations,
    ) -> Arc<Self> {
        let mut pools = BTreeMap::new();
        let mut aliases = HashMap::new();
        for spec in specs {
            let name = spec.name.clone();
            let partial_arn = format!("{ACCOUNT}:function:{}", spec.physical_name);
            for alias in [spec.physical_name.clone(), partial_arn, spec.arn.clone()] {
                aliases.insert(alias, name.clone());
            }
            pools.insert(name, Pool::new(spec, settings.clone(), logs.clone()));
        }
        Arc::new(Self { pools, aliases, events: Events::new(destinations) })
    }

    /// Short names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pools.keys().map(String::as_str)
    }

    /// The short name for a short name, a physical name, an ARN or a partial ARN, without a qualifier.
    pub fn resolve(&self, name: &str) -> Option<&str> {
        match self.pools.get_key_value(name) {
            Some((name, _)) => Some(name),
            None => self.aliases.get(name).map(String::as_str),
        }
    }

    async fn invoke_as(
        &self,
        request_id: String,
        function: &str,
        payload: Bytes,
        tail: Option<Tail>,
    ) -> Outcome {
        match self.pool(function) {
            Some(pool) => pool.invoke(request_id, payload, tail).await,
            None => Outcome::NotFound,
        }
    }

    fn hand_over_as(&self, request_id: String, function: &str, payload: Bytes) -> HandedOver {
        match self.pool(function) {
            Some(pool) => self.events.accept(Arc::clone(pool), request_id, payload),
            None => HandedOver::NotFound,
        }
    }

    /// The ARN of a function; empty when there is none of that name.
    pub fn arn(&self, function: &str) -> &str {
        self.pool(function).map_or("", |pool| &pool.spec.arn)
    }

    /// `Timeout` of a function.
    pub fn timeout(&self, function: &str) -> Option<Duration> {
        Some(self.pool(function)?.spec.timeout)
    }

    /// Every process, function by function.
    pub fn ps(&self) -> Vec<ProcessStatus> {
        self.pools.values().flat_map(|pool| pool.ps()).collect()
    }

    /// Kills (SIGKILL) all processes of `function` and waits until they are gone; their pids, or nothing when there is
    /// no such function.
    pub async fn kill(&self, function: &str) -> Option<Vec<u32>> {
        Some(self.pool(function)?.kill().await)
    }

    /// Ends every process: SIGTERM, then SIGKILL. No invocation succeeds afterwards.
    pub async fn shut_down(&self) {
        self.events.shut_down().await;
        self.pools
            .values()
            .map(|pool| pool.shut_down())
            .collect::<FuturesUnordered<_>>()
            .collect::<()>()
            .await;
    }

    fn pool(&self, name: &str) -> Option<&Arc<Pool>> {
        self.pools.get(self.resolve(name)?)
    }
}

impl Invoke for Functions {
    async fn invoke(&self, function: &str, payload: Bytes) -> Outcome {
        self.invoke_as(uuid::v4(), function, payload, None).await
    }
}

impl HandOver for Functions {
    fn hand_over(&self, function: &str, payload: Bytes) -> HandedOver {
        self.hand_over_as(uuid::v4(), function, payload)
    }
}
