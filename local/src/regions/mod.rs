//! One region, or several in one process, from one template.
//!
//! 1. Bind every region's ports, then read the template as each region has it: mistakes are found
//!    first.
//! 2. Run the build command, if there is one.
//! 3. Start every region's services, join the regions (`links`), and call
//!    [`Options::before_serving`]. Then all of them serve.
//! 4. Several regions have a front door, which leads clients to one of them, and an API that
//!    controls them ([`control`]).
//! 5. Write the ready file.
//! 6. To stop: remove the ready file, close the front door, stop the regions.
//!
//! Limits: the regions share a process and a clock; if the process is killed, all of them end.

pub mod control;
mod links;
mod members;
pub mod places;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;

use crate::front_door::{Addresses, Failover, FrontDoor};
use crate::functions::{Settings, resident_bytes};
use crate::logs::Logs;
use crate::region::{
    Build, Code, Place, Port, Published, ReadyFile, Region, RegionError, Servers, Several, Site, guarded,
    serve_apis,
};
use crate::template::GlobalTemplate;
use crate::template::global::{Consistency, GlobalStack};
use crate::template::model::Stack;
use control::Control;
use members::Members;

/// What to run, and where.
pub struct Options {
    /// The SAM template.
    pub template: PathBuf,
    /// A template of the tables that regions share, if they share some.
    pub global: Option<GlobalTemplate>,
    /// One without a name, or several with names, which share the same global tables.
    pub places: Vec<Place>,
    /// Where the front door of several regions listens.
    pub front: Addresses,
    /// How it finds out that a region is lost.
    pub failover: Failover,
    /// Written when all is up.
    pub ready_file: Option<PathBuf>,
    /// Builds the functions, unless they are built.
    pub build: Option<Build>,
    /// Where the functions' executables are.
    pub code: Code,
    /// Bounds of the pools, in each region.
    pub settings: Settings,
    /// What the caller does before the regions serve.
    pub before_serving: Option<BeforeServing>,
}

/// Called once, with the regions in the order of [`Options::places`], when their services run and
/// no function has started. May put values into secrets. The routes are added to the control API of
/// every region, under [`PREFIX`](crate::region::control::PREFIX).
pub type BeforeServing = Box<dyn FnOnce(&[Region]) -> Result<Router, Box<dyn Error + Send + Sync>> + Send>;

/// Is told the progress of a start.
pub trait Progress {
    /// A phase begins.
    fn begin(&mut self, phase: &str);
    /// Within the phase.
    fn step(&mut self, what: &str);
    /// The phase is over.
    fn done(&mut self, result: &str);
}

/// Everything that runs.
pub struct Regions {
    members: Arc<Members>,
    /// Leads clients to one of several regions.
    pub front: Option<FrontDoor>,
    /// How long the start took, without the build.
    pub started_in: Duration,
    servers: Servers,
    /// The entry in the list of what runs, and the ready file.
    published: Vec<Published>,
}

impl Regions {
    /// Starts everything.
    pub async fn start(
        options: Options,
        logs: &Logs,
        progress: &mut impl Progress,
    ) -> Result<Self, RegionError> {
        let began = Instant::now();
        let shared =
            options.global.as_ref().map_or_else(|| Ok(GlobalStack::default()), GlobalTemplate::load)?;
        require_a_replica(&options.places, &shared)?;
        let Options { template, places, build, code, settings, before_serving, .. } = options;
        let sites = places.into_iter().map(Site::open).collect::<Result<Vec<_>, _>>()?;
        let stacks = sites.iter().map(|site| site.stack(&template, &shared));
        let stacks = stacks.collect::<Result<Vec<_>, _>>()?;
        let before_build = began.elapsed();

        if let Some(build) = build {
            progress.begin("building the functions");
            let functions = stacks.first().map_or(0, |stack| stack.functions.len());
            let done = format!("{functions} functions built ({})", build.what);
            build.run(|step| progress.step(step)).await?;
            progress.done(&done);
        }

        let began = Instant::now();
        progress.begin("starting tables, buckets, queues and secrets");
        let counts = stacks.first().map(summary).unwrap_or_default();
        let beside = template.parent().unwrap_or(Path::new(""));
        let regions = sites
            .into_iter()
            .zip(stacks)
            .map(|(site, stack)| Region::start(site, stack, (&code, beside), &settings, logs));
        let regions: Vec<Region> = regions.collect::<Result<_, _>>()?;
        let routes = match before_serving {
            Some(prepare) => prepare(&regions).map_err(RegionError::BeforeServing)?,
            None => Router::new(),
        };
        let members = Arc::new(Members::join(regions, &shared, routes)?);
        for region in members.all() {
            members.up(region).await?;
        }
        progress.done(&match members.all().len() {
            1 => counts,
            number => format!("{number} regions, each with {counts}"),
        });

        let mut servers = Servers::default();
        let (front, ready) = match members.all() {
            [alone] if alone.name.is_empty() => (None, ReadyFile::One(Box::new(alone.ready.clone()))),
            _ => {
                let (front, ready) = lead(&members, (options.front, options.failover), &mut servers).await?;
                (Some(front), ReadyFile::Several(ready))
            }
        };
        let mut published = vec![Published::in_list(&ready)?];
        if let Some(path) = &options.ready_file {
            published.push(Published::at(path, &ready)?);
        }
        Ok(Self { members, front, started_in: before_build + began.elapsed(), servers, published })
    }

    /// The regions, in the order in which they were named.
    pub fn all(&self) -> &[Region] {
        self.members.all()
    }

    /// Resident memory of this process, which does not include that of the functions; `None` where
    /// the system doesn't tell.
    pub fn resident_bytes(&self) -> Option<u64> {
        resident_bytes(std::process::id())
    }

    /// Stops everything. When it returns, no process of a region is left.
    pub async fn stop(self) {
        let Self { members, front, servers, published, .. } = self;
        drop(published);
        if let Some(front) = front {
            front.stop().await;
        }
        servers.stop().await;
        for region in members.all() {
            region.stop().await;
        }
    }
}

/// Refuses regions that share tables and cannot reach a replica of one that is strongly consistent.
fn require_a_replica(places: &[Place], shared: &GlobalStack) -> Result<(), RegionError> {
    let named: Vec<&str> =
        places.iter().filter(|place| !place.name.is_empty()).map(|place| place.arns.region()).collect();
    let is_lost = |replicas: &[String]| !replicas.iter().any(|replica| named.contains(&replica.as_str()));
    for table in &shared.tables {
        if matches!(table.consistency, Consistency::Strong { .. })
            && !named.is_empty()
            && is_lost(&table.replicas)
        {
            let (table, replicas) = (table.table.name.clone(), table.replicas.clone());
            return Err(RegionError::NobodyDecides { table, replicas });
        }
    }
    Ok(())
}

/// Starts the front door of several regions, and the API that controls them.
async fn lead(
    members: &Arc<Members>,
    (addresses, failover): (Addresses, Failover),
    servers: &mut Servers,
) -> Result<(FrontDoor, Several), RegionError> {
    let gateways: Vec<_> = members.all().iter().map(Region::gateways).collect();
    let front = FrontDoor::start(addresses, &gateways, failover).await?;
    let port = Port::any()?;
    let control = Control { members: Arc::clone(members), health: Arc::clone(front.health()), failover };
    let (listener, api) = (port.listener()?, guarded(control::router(control)));
    servers.spawn(|stopped| serve_apis(listener, api, stopped));
    let ready = Several {
        front: front.http_url().to_owned(),
        front_ws: front.websocket_url().to_owned(),
        control: format!("http://{}", port.address),
        regions: members.all().iter().map(|region| (region.name.clone(), region.ready.clone())).collect(),
    };
    Ok((front, ready))
}

/// `1 bucket`, `2 buckets`.
fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// `2 tables, 1 bucket, ...`.
fn summary(stack: &Stack) -> String {
    let counts = [
        count(stack.tables.len(), "table"),
        count(stack.buckets.len(), "bucket"),
        count(stack.queues.len(), "queue"),
        count(stack.topics.len(), "topic"),
        count(stack.rules.len(), "event rule"),
        count(stack.secrets.len(), "secret"),
    ];
    counts.join(", ")
}
