//! Lambda: the functions of the stack as processes, one pool each, behind the real Runtime API.
//!
//! [`Functions`] is what everything else invokes through, by the trait [`Invoke`]. What it
//! promises:
//!
//! 1. One invocation at a time per process; more processes under load, up to a limit; idle ones are
//!    stopped.
//! 2. Timeouts, payload limits and crashes end as in Lambda, and are told apart by [`Outcome`].
//! 3. After [`Functions::shut_down`] and [`Functions::die`] no process is left.

mod dispatch;
pub mod events;
mod function;
mod job;
pub mod lambda_api;
mod life;
pub mod limits;
pub mod outcome;
mod output;
mod pool;
mod process;
mod runtime_api;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use events::{Destinations, Events};
pub use function::FunctionSpec;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use job::Tail;
pub use limits::Settings;
use outcome::{HandOver, HandedOver, Invoke, Outcome};
use pool::Pool;
pub use process::ProcessStatus;
use process::Stop;
pub(crate) use process::resident_bytes;
use uuid::Uuid;

use crate::logs::Logs;
use crate::template::model::ACCOUNT;

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

    /// The short name for a short name, a physical name, an ARN or a partial ARN, without a
    /// qualifier.
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
        self.pool(function).map_or("", |pool| &pool.function.spec.arn)
    }

    /// `Timeout` of a function.
    pub fn timeout(&self, function: &str) -> Option<Duration> {
        Some(self.pool(function)?.function.spec.timeout)
    }

    /// Every process, function by function.
    pub fn ps(&self) -> Vec<ProcessStatus> {
        self.pools.values().flat_map(|pool| pool.ps()).collect()
    }

    /// Kills (SIGKILL) all processes of `function` and waits until they are gone; their pids, or
    /// nothing when there is no such function.
    pub async fn kill(&self, function: &str) -> Option<Vec<u32>> {
        Some(self.pool(function)?.kill().await)
    }

    /// Ends every process: SIGTERM, then SIGKILL. No invocation succeeds afterwards.
    pub async fn shut_down(&self) {
        self.end(Stop::Shutdown).await;
    }

    /// Ends every process at once (SIGKILL), as when their machine dies. No invocation succeeds
    /// afterwards.
    pub async fn die(&self) {
        self.end(Stop::Kill).await;
    }

    async fn end(&self, how: Stop) {
        self.events.shut_down().await;
        self.pools.values().map(|pool| pool.end(how)).collect::<FuturesUnordered<_>>().collect::<()>().await;
    }

    fn pool(&self, name: &str) -> Option<&Arc<Pool>> {
        self.pools.get(self.resolve(name)?)
    }
}

impl Invoke for Functions {
    async fn invoke(&self, function: &str, payload: Bytes) -> Outcome {
        self.invoke_as(Uuid::new_v4().to_string(), function, payload, None).await
    }
}

impl HandOver for Functions {
    fn hand_over(&self, function: &str, payload: Bytes) -> HandedOver {
        self.hand_over_as(Uuid::new_v4().to_string(), function, payload)
    }
}
