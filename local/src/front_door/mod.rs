//! The front door of several regions: what custom domain names, Route 53's latency records and
//! health checks are in AWS.
//!
//! A client connects to one address for HTTP and one for sockets, and is served by a region's
//! gateways as if DNS had sent it there:
//! 1. `near`, `places`: where the client says that it is, and which regions are near;
//! 2. `health`: which regions are healthy, by their `GET /health` and by nothing else;
//! 3. `resolver`: the nearest healthy region, and how long clients keep an answer;
//! 4. `door`, `answer`, `continuation`, `upstream`: a request on its way there and back;
//! 5. `tunnel`: a socket;
//! 6. `counts`: how many requests went to each region.
//!
//! Deliberately absent: retries. Clients see the failure of a region until the resolver names
//! another one.

mod answer;
mod continuation;
mod counts;
mod door;
mod failover;
mod health;
mod near;
mod places;
mod resolver;
mod tunnel;
mod upstream;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::answer::{REGION, REGION_UNREACHABLE, TOO_MANY_SOCKETS, UNKNOWN_PLACE};
use self::counts::Counts;
pub use self::counts::RegionCounts;
use self::door::{Client, Door};
pub use self::failover::{Failover, ROUTE_53};
pub use self::health::{Health, HealthChange, RegionHealth};
pub use self::near::NEAR;
use self::places::Places;
use self::resolver::Resolver;
use self::tunnel::Sockets;
use crate::gateway::listener;

/// Open client connections of one listener that are not sockets. Each costs two file descriptors
/// and some 40 KB.
const MAX_CONNECTIONS: usize = 4_096;

/// A region, and where its gateways answer.
#[derive(Debug, Clone)]
pub struct Region {
    /// Its name, which is also the place where it is.
    pub name: String,
    /// Of the HTTP API.
    pub http: SocketAddr,
    /// Of the WebSocket API.
    pub websocket: SocketAddr,
    /// The WebSocket API's stage: `local`.
    pub stage: String,
}

/// Where the front door listens. Port 0 picks a free one.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub http: SocketAddr,
    pub websocket: SocketAddr,
}

/// Why the front door does not open.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A pause of nothing, or a threshold that Route 53 does not take.
    #[error("health checks need an interval and a timeout above zero, and a threshold from 1 to 10")]
    Settings,
    /// There is nothing to lead to.
    #[error("a front door needs a region")]
    NoRegion,
    /// A name that is there twice, or cannot stand in a header.
    #[error("{0:?} cannot be a region's name here: it is there twice, or cannot stand in a header")]
    Name(String),
    /// One name cannot lead to several stages.
    #[error("the WebSocket APIs of the regions have different stages")]
    Stages,
    /// A port is taken, or may not be used.
    #[error("the front door can't listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
}

/// A front door that is open. It closes when it is dropped; [`stop`](Self::stop) lets requests end
/// first.
pub struct FrontDoor {
    http_url: String,
    websocket_url: String,
    regions: Vec<(String, Arc<Counts>)>,
    health: Arc<Health>,
    sockets: Arc<Sockets>,
    checks: JoinSet<()>,
    servers: JoinSet<()>,
    shutdown: watch::Sender<()>,
}

impl FrontDoor {
    /// Listens, and begins to check the regions. They need not be up yet.
    pub async fn start(
        addresses: Addresses,
        regions: &[Region],
        settings: Failover,
    ) -> Result<Self, StartError> {
        if !settings.is_valid() {
            return Err(StartError::Settings);
        }
        let names = names(regions)?;
        let stage = stage(regions)?;
        let http: Vec<SocketAddr> = regions.iter().map(|region| region.http).collect();
        let websocket: Vec<SocketAddr> = regions.iter().map(|region| region.websocket).collect();
        let (http_listener, http_address) = listen(addresses.http).await?;
        let (websocket_listener, websocket_address) = listen(addresses.websocket).await?;

        let counts: Vec<Arc<Counts>> = regions.iter().map(|_| Arc::default()).collect();
        let known: Vec<&str> = regions.iter().map(|region| region.name.as_str()).collect();
        let places = Arc::new(Places::new(&known));
        let health = Arc::new(Health::new(regions.iter().map(|region| region.name.clone())));
        let sockets = Arc::new(Sockets::default());
        let door = |targets: &[SocketAddr], sockets| Door {
            regions: (names.iter().zip(targets).zip(&counts))
                .map(|((name, address), counts)| door::Region {
                    name: name.clone(),
                    address: *address,
                    counts: Arc::clone(counts),
                })
                .collect(),
            places: Arc::clone(&places),
            resolver: Resolver::new(Arc::clone(&places), Arc::clone(&health), regions.len(), settings.ttl),
            sockets,
        };

        let mut checks = JoinSet::new();
        for (region, address) in http.iter().copied().enumerate() {
            let health = Arc::clone(&health);
            checks.spawn(async move { health.watch(region, address, settings).await });
        }
        let (shutdown, stopping) = watch::channel(());
        let mut servers = JoinSet::new();
        servers.spawn(serve(door(&http, None), http_listener, stopping.clone()));
        servers.spawn(serve(door(&websocket, Some(Arc::clone(&sockets))), websocket_listener, stopping));
        Ok(Self {
            http_url: format!("http://{http_address}"),
            websocket_url: format!("ws://{websocket_address}/{stage}"),
            regions: regions.iter().map(|region| region.name.clone()).zip(counts).collect(),
            health,
            sockets,
            checks,
            servers,
            shutdown,
        })
    }

    /// Where HTTP clients go: `http://127.0.0.1:3000`.
    pub fn http_url(&self) -> &str {
        &self.http_url
    }

    /// Where sockets are opened, with the stage: `ws://127.0.0.1:3001/local`.
    pub fn websocket_url(&self) -> &str {
        &self.websocket_url
    }

    /// What the front door believes of the regions.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// What went to each region, in the order of the list.
    pub fn counts(&self) -> Vec<RegionCounts> {
        self.regions.iter().map(|(name, counts)| counts.read(name)).collect()
    }

    /// Takes nothing more, lets requests end for two seconds, and cuts sockets off.
    pub async fn stop(mut self) {
        self.checks.shutdown().await;
        self.shutdown.send_replace(());
        while let Some(ended) = self.servers.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a listener of the front door failed");
            }
        }
        self.sockets.close().await;
    }
}

async fn serve(door: Door, listener: TcpListener, mut stopping: watch::Receiver<()>) {
    let door = Arc::new(door);
    let service_for = |peer| {
        let client = Arc::new(Client::new(Arc::clone(&door), peer));
        service_fn(move |request| {
            let client = Arc::clone(&client);
            async move { client.answer(request).await }
        })
    };
    let stopped = async {
        if stopping.changed().await.is_err() {
            tracing::debug!("the front door was dropped");
        }
    };
    listener::serve(listener, MAX_CONNECTIONS, service_for, stopped).await;
}

fn names(regions: &[Region]) -> Result<Vec<HeaderValue>, StartError> {
    if regions.is_empty() {
        return Err(StartError::NoRegion);
    }
    let mut seen = HashSet::new();
    let name = |region: &Region| match HeaderValue::from_str(&region.name) {
        Ok(name) if seen.insert(region.name.clone()) => Ok(name),
        _ => Err(StartError::Name(region.name.clone())),
    };
    regions.iter().map(name).collect()
}

/// The stage of the WebSocket APIs.
fn stage(regions: &[Region]) -> Result<&str, StartError> {
    let mut stages = regions.iter().map(|region| region.stage.as_str());
    let stage = stages.next().unwrap_or_default();
    if stages.all(|other| other == stage) { Ok(stage) } else { Err(StartError::Stages) }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let refused = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}
