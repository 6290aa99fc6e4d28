//! The phases of a drill.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use serde_json::Value;
use sojourn::core::clock::{Clock, SystemClock};
use sojourn::core::date_time::rfc3339;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::check::{self, Promise};
use crate::client::NoAnswer;
use crate::customer::Shopper;
use crate::journal::{Entries, Journal};
use crate::outage::{self, without_service};
use crate::report::Report;
use crate::sampling::sample;
use crate::shop::{self, Customer};
use crate::socket::{Socket, show};
use crate::world::{World, WorldError};

/// How long sockets stay open after the load at most, until all messages are acknowledged.
const LAST_LETTERS: Duration = Duration::from_secs(20);
/// Longest wait for replication to complete.
const SETTLE_LIMIT: Duration = Duration::from_mins(1);
/// Longest wait, after that, for a message to be in its receiver's inbox.
const LAST_MESSAGES: Duration = Duration::from_secs(30);
/// How often the progress of the load is reported.
const TELL: Duration = Duration::from_secs(1);

/// The settings of a drill.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long the load lasts.
    pub duration: Duration,
    pub customers: usize,
    /// What happens to a region; `None` for nothing.
    pub outage: Option<Outage>,
}

/// What happens to a region, by its name.
#[derive(Debug, Clone)]
pub enum Outage {
    /// It dies, and comes back with its data.
    Kill(String),
    /// It and the others cannot reach each other. Customers reach all of them.
    CutOff(String),
}

impl Outage {
    pub fn region(&self) -> &str {
        let (Self::Kill(region) | Self::CutOff(region)) = self;
        region
    }

    /// The region, if customers cannot reach it.
    pub fn killed(&self) -> Option<&str> {
        match self {
            Self::Kill(region) => Some(region),
            Self::CutOff(_) => None,
        }
    }
}

/// For people.
impl fmt::Display for Outage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(region) => write!(formatter, "{region} died"),
            Self::CutOff(region) => write!(formatter, "{region} was cut off from the others"),
        }
    }
}

/// Why a drill could not be run to its end. A broken promise is not an error: it is in the report.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    #[error("the regions can't be started: {0}")]
    Start(#[source] std::io::Error),
    /// The regions ended before they were ready.
    #[error("the regions did not start ({status}):\n{said}")]
    NotStarted {
        /// How the process ended.
        status: String,
        said: String,
    },
    /// The ready file is invalid.
    #[error("the ready file is invalid: {0}")]
    ReadyFile(#[source] serde_json::Error),
    /// The report can't be written.
    #[error("the report can't be written: {0}")]
    Report(#[source] std::io::Error),
    /// There is nothing to load.
    #[error("there is no region")]
    NoRegion,
    /// The region to break does not exist.
    #[error("there is no region {0}")]
    UnknownRegion(String),
    /// Before anything was broken, an answer was not as expected.
    #[error("the shop cannot be opened: an answer was {status} {body}")]
    Unready { status: u16, body: String },
    #[error(transparent)]
    GivenUp(#[from] NoAnswer),
    /// The client can't be made.
    #[error("an HTTP client can't be made: {0}")]
    Client(#[from] reqwest::Error),
    /// An operator's call failed.
    #[error(transparent)]
    World(#[from] WorldError),
}

/// Runs a drill. `tell` receives its progress.
pub async fn run(
    world: &World,
    settings: &Settings,
    mut tell: impl FnMut(&str),
) -> Result<Report, DrillError> {
    if let Some(outage) = &settings.outage
        && !world.regions.contains_key(outage.region())
    {
        return Err(DrillError::UnknownRegion(outage.region().to_owned()));
    }
    let journal = Arc::new(Journal::default());
    tell("opening the shop");
    let customers: Vec<Arc<Customer>> =
        shop::open(world, settings.customers, &journal).await?.into_iter().map(Arc::new).collect();
    journal.event("load begins");
    let (over, is_over) = watch::channel(false);
    let (shoppers, sockets) = load(world, &customers, &journal, &is_over);
    let until_settled = async {
        let answers = break_a_region(world, settings, &journal, &mut tell).await?;
        over.send_replace(true);
        journal.event("load ends");
        tell("waiting for the last requests");
        shoppers.join_all().await;
        let known = sockets.join_all().await;
        tell("waiting for replication");
        settle(world, &journal).await?;
        Ok::<_, DrillError>((answers, known))
    };
    let (answers, known) = tokio::select! {
        settled = until_settled => settled?,
        never = sample(world, &journal) => match never {},
    };
    tell("reading every region");
    read_inboxes(&customers, known, &journal).await;
    let failover = world.overview().await?.failover;
    let entries = journal.take();
    let near: Vec<&str> = customers.iter().map(|customer| customer.phone.near()).collect();
    let waits = without_service(
        &entries.longest_waits_ms,
        &near,
        settings.outage.as_ref().and_then(Outage::killed),
        failover,
    );
    let mut promises = check_all(world, &customers, &entries, &answers).await?;
    promises.push(outage::promise(&waits));
    Ok(Report::new(world, settings, entries, promises, waits))
}

type Sockets = JoinSet<(usize, BTreeSet<String>)>;

fn load(
    world: &World,
    customers: &[Arc<Customer>],
    journal: &Arc<Journal>,
    is_over: &watch::Receiver<bool>,
) -> (JoinSet<()>, Sockets) {
    let everybody: Arc<Vec<String>> =
        Arc::new(customers.iter().map(|customer| customer.user_id.clone()).collect());
    let numbers = Arc::new(AtomicU64::new(0));
    let (mut shoppers, mut sockets) = (JoinSet::new(), JoinSet::new());
    for (place, customer) in customers.iter().enumerate() {
        let (socket, letters) =
            Socket::new(&world.front_ws, Arc::clone(&customer.tablet), Arc::clone(journal));
        let over = is_over.clone();
        sockets.spawn(async move { (place, socket.run(over, LAST_LETTERS).await) });
        let shopper = Shopper {
            customer: Arc::clone(customer),
            place,
            everybody: Arc::clone(&everybody),
            letters,
            numbers: Arc::clone(&numbers),
            journal: Arc::clone(journal),
        };
        shoppers.spawn(shopper.run(is_over.clone()));
    }
    (shoppers, sockets)
}

/// Runs the load, breaks the region after a third of the time and repairs it after two. In between,
/// the daily report is fired for one slot in every other region, and at the end in the one that
/// came back. Returns the answers of the functions, by region.
async fn break_a_region(
    world: &World,
    settings: &Settings,
    journal: &Journal,
    tell: &mut impl FnMut(&str),
) -> Result<Vec<(String, Value)>, DrillError> {
    let began = Instant::now();
    let third = settings.duration / 3;
    let mut answers = Vec::new();
    let slot = rfc3339(SystemClock.now());
    let broken = settings.outage.as_ref().map(Outage::region);

    tick(journal, began, third, tell).await;
    match &settings.outage {
        Some(Outage::Kill(region)) => {
            world.down(region).await?;
            journal.event(format!("{region} is down"));
        }
        Some(Outage::CutOff(region)) => {
            world.cut_off(region).await?;
            journal.event(format!("{region} is cut off"));
        }
        None => {}
    }
    for (name, region) in world.regions.iter().filter(|(name, _)| broken != Some(name.as_str())) {
        answers.push((name.clone(), region.fire("daily-report", &slot).await?));
    }
    tick(journal, began, third * 2, tell).await;
    match &settings.outage {
        Some(Outage::Kill(region)) => {
            world.up(region).await?;
            journal.event(format!("{region} is up"));
        }
        Some(Outage::CutOff(region)) => {
            world.heal().await?;
            journal.event(format!("{region} is connected again"));
        }
        None => {}
    }
    if let Some(broken) = broken {
        answers.push((broken.to_owned(), world.regions[broken].fire("daily-report", &slot).await?));
    }
    tick(journal, began, settings.duration, tell).await;
    Ok(answers)
}

/// Waits until so much time has passed since the load began, and reports the progress each second.
async fn tick(journal: &Journal, began: Instant, until: Duration, tell: &mut impl FnMut(&str)) {
    while began.elapsed() < until {
        tokio::time::sleep(TELL.min(until.saturating_sub(began.elapsed()))).await;
        tell(&format!("{} s: {}", began.elapsed().as_secs(), journal.progress()));
    }
}

/// Waits until every region has completed its replication.
async fn settle(world: &World, journal: &Journal) -> Result<(), DrillError> {
    let began = Instant::now();
    loop {
        let overview = world.overview().await?;
        let pending = overview.copies + overview.links.iter().map(|link| link.pending).sum::<u64>();
        if pending == 0 || began.elapsed() > SETTLE_LIMIT {
            journal.event(format!("replication has {pending} changes left to send"));
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Reads every customer's inbox, repeatedly while messages are missing: when the sockets close, a
/// message of another region may still be in a topic or queue.
async fn read_inboxes(
    customers: &[Arc<Customer>],
    mut known: Vec<(usize, BTreeSet<String>)>,
    journal: &Journal,
) {
    let began = Instant::now();
    loop {
        for (place, ids) in &mut known {
            for message in check::read_inbox(&customers[*place]).await {
                show(journal, ids, &message);
            }
        }
        if !journal.lacks_messages() || began.elapsed() > LAST_MESSAGES {
            return;
        }
        tokio::time::sleep(TELL).await;
    }
}

async fn check_all(
    world: &World,
    customers: &[Arc<Customer>],
    entries: &Entries,
    answers: &[(String, Value)],
) -> Result<Vec<Promise>, DrillError> {
    let rows = check::read(world).await?;
    let mut promises = check::messages_and_sessions(entries, customers.len());
    promises.extend(check::tables(&rows, entries));
    promises.push(check::revocations(world, &entries.revocations).await);
    promises.push(check::files(world, &entries.files, customers).await);
    promises.push(check::job(answers));
    Ok(promises)
}
