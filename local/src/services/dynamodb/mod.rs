//! DynamoDB in the process: the template's tables over an embedded SQLite-backed engine, behind an
//! endpoint of this crate.
//!
//! The tables of several regions can be joined to global tables ([`replication`]).
//!
//! Limits of the engine: reads are always consistent, nothing is ever throttled and no transaction
//! conflicts by itself.

mod altered;
mod attributes;
mod embedded;
mod endpoint;
mod engine;
mod operations;
mod remote;
pub mod replication;
mod request;
pub mod streams;
mod sweeper;
mod tables;
mod tokens;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;

pub use embedded::Embedded;
pub use tables::TableError;

use super::access::credential;
use super::call::Hangup;
use super::cross_region::{CrossRegion, Other, OtherRegions, Router};
use super::json::{Endpoint, Protocol};
use super::network::Network;
use super::pipeline::Controls;
use super::server::{Body, Handler, Server, StartError};
use crate::template::arn::Arns;
use crate::template::model::Table;
use endpoint::{DynamoDbApi, MAX_BODY_BYTES};
use engine::Engine;
use remote::Remote;
use replication::RegionTables;
use streams::Streams;
use sweeper::Sweeper;
use tokens::Tokens;

/// Where the rows live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage<'a> {
    /// Deleted when the service stops.
    Memory,
    /// In `dynamodb.sqlite3` in this folder, which must exist.
    Folder(&'a Path),
    /// In another DynamoDB, at this URL: a database of its own, if that is AWS's DynamoDB Local.
    Remote(&'a str),
}

/// The file name of the database in the data folder.
const FILE_NAME: &str = "dynamodb.sqlite3";

/// Why DynamoDB did not start.
#[derive(Debug, thiserror::Error)]
pub enum DynamoDbError {
    /// The database can't be opened.
    #[error("the DynamoDB data in {path} can't be opened: {reason}")]
    Open {
        /// The file, or `memory`.
        path: PathBuf,
        reason: String,
    },
    /// Expired items can't be deleted.
    #[error("expired items can't be deleted: {reason}")]
    Sweep { reason: String },
    /// A table can't be made.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The endpoint can't be served.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A region's DynamoDB, for the callers of one region.
struct Visited {
    endpoint: Arc<Endpoint<DynamoDbApi>>,
    controls: Controls,
}

impl Handler for Visited {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Hangup> {
        self.endpoint.answer_with(&self.controls, request).await
    }
}

/// A running DynamoDB. Stops when dropped.
pub struct DynamoDb {
    // Dropped in this order: no request and no sweep outlives the database's last handle.
    server: Server,
    sweeper: Option<Sweeper>,
    engine: Arc<Engine>,
    endpoint: Arc<Endpoint<DynamoDbApi>>,
    others: OtherRegions<Visited>,
    folder: Option<PathBuf>,
}

impl fmt::Debug for DynamoDb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DynamoDb").field("server", &self.server).finish_non_exhaustive()
    }
}

impl DynamoDb {
    /// Opens the database, makes `tables` exist and serves them on `address` (port 0 picks a free
    /// one).
    pub fn start(
        address: SocketAddr,
        storage: Storage<'_>,
        tables: &[Table],
        controls: Controls,
    ) -> Result<Self, DynamoDbError> {
        let arns = &controls.access.arns;
        let engine = Arc::new(open(storage, tables, arns)?);
        let usage = Arc::clone(&controls.usage);
        let api = DynamoDbApi { engine: Arc::clone(&engine), arns: arns.clone(), usage };
        let switch = controls.switch.clone();
        let endpoint = Endpoint { api, protocol: Protocol::Json10, max_body_bytes: MAX_BODY_BYTES, controls };
        let here = endpoint.controls.access.arns.region().to_owned();
        let (endpoint, others) = (Arc::new(endpoint), OtherRegions::default());
        let own = Visited { controls: endpoint.controls.clone(), endpoint: Arc::clone(&endpoint) };
        let meant = |request: &Request<Incoming>| {
            credential(request.headers()).ok().map(|credential| credential.region.to_owned())
        };
        let router = Router { here, own, others: Arc::clone(&others), meant };
        let server = Server::start("DynamoDB", address, router, switch)?;
        let folder = match storage {
            Storage::Folder(folder) => Some(folder.to_owned()),
            Storage::Memory | Storage::Remote(_) => None,
        };
        Ok(Self { server, sweeper: None, engine, endpoint, others, folder })
    }

    /// Answers for `others` from now on, each request after `round_trip`, as far as `network` lets
    /// regions reach each other. Only the first call counts.
    pub(crate) fn reach<'a>(
        &self,
        others: impl Iterator<Item = &'a Self>,
        network: Arc<Network>,
        round_trip: Duration,
    ) {
        let callers = &self.endpoint.controls.access;
        let others = others.map(|other| {
            let there = &other.endpoint.controls;
            let access = Arc::new(callers.in_region(there.access.arns.clone()));
            let controls = Controls { access, ..there.clone() };
            let service = Visited { endpoint: Arc::clone(&other.endpoint), controls };
            Other { region: there.access.arns.region().to_owned(), service }
        });
        let way = CrossRegion { network, round_trip, others: others.collect() };
        if self.others.set(way).is_err() {
            tracing::warn!("a region's DynamoDB has joined others before");
        }
    }

    /// Deletes expired items every so often from now on.
    pub fn sweep_every(mut self, interval: Duration) -> Result<Self, DynamoDbError> {
        let sweeper = Sweeper::start(Arc::clone(&self.engine), interval)
            .map_err(|source| StartError::Thread { service: "DynamoDB TTL", source })?;
        self.sweeper = Some(sweeper);
        Ok(self)
    }

    /// Deletes expired items now; how many there were.
    pub fn sweep_ttl(&self) -> Result<usize, DynamoDbError> {
        self.engine.sweep_ttl().map_err(|reason| DynamoDbError::Sweep { reason })
    }

    /// The streams of the tables; `None` if they are in another DynamoDB.
    pub fn streams(&self) -> Option<Arc<Streams>> {
        match &*self.engine {
            Engine::Embedded { streams, .. } => Some(Arc::clone(streams)),
            Engine::Remote(_) => None,
        }
    }

    /// The tables, for a [`Replication`](replication::Replication); `None` if they are in another
    /// DynamoDB.
    pub fn region_tables(&self) -> Option<RegionTables> {
        match &*self.engine {
            Engine::Embedded { database, streams, membership, .. } => Some(RegionTables {
                database: database.clone(),
                streams: Arc::clone(streams),
                membership: Arc::clone(membership),
                folder: self.folder.clone(),
            }),
            Engine::Remote(_) => None,
        }
    }

    /// What `AWS_ENDPOINT_URL_DYNAMODB` is set to.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.server.address())
    }
}

fn open(storage: Storage<'_>, tables: &[Table], arns: &Arns) -> Result<Engine, DynamoDbError> {
    let (path, opened) = match storage {
        Storage::Memory => (PathBuf::from("memory"), engine::in_memory()),
        Storage::Folder(folder) => {
            let path = folder.join(FILE_NAME);
            let opened = engine::on_file(&path);
            (path, opened)
        }
        Storage::Remote(url) => return Ok(Engine::Remote(Remote::new(url, tables))),
    };
    let database = opened.map_err(|error| DynamoDbError::Open { path, reason: error.to_string() })?;
    tables::ensure(&database, tables)?;
    let streams = Arc::new(Streams::new(database.clone(), tables, arns.clone()));
    let membership = Arc::new(OnceLock::new());
    Ok(Engine::Embedded { database, tokens: Tokens::default(), streams, membership })
}
