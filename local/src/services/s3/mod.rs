//! S3 on this machine: the template's buckets, one folder each.
//!
//! 1. Signatures are verified for real, also those of presigned URLs: headers that were signed
//!    (length, type, checksum) must come as they were signed, no `x-amz-*` header may come
//!    unsigned, and an expired URL is refused (see `signed`).
//! 2. The policy of the signing function is checked; a presigned URL has the rights of its signer.
//! 3. A body that isn't what its checksum says is refused with `BadDigest` and replaces nothing. Of
//!    two conditional writes at once, one succeeds.
//! 4. Objects may come in parts, from several callers; a copy has the checksum of all of its bytes
//!    (see `store`).
//! 5. A missing object is 404 only for a caller that may list the bucket, and 403 for everybody
//!    else, as in the cloud.
//! 6. A bucket may keep versions of its objects, and copy them to buckets of other regions (see
//!    `store::versions`, [`replication`]).
//! 7. A request that is signed for another region's S3 goes there, if that has joined (see
//!    `services::cross_region`).
//! 8. Pages of the origins in a bucket's `CorsConfiguration` may use presigned URLs (see `cors`).
//!
//! Limits: no tagging, lifecycle or encryption; bucket names follow AWS's rules; path-style
//! addressing only (`force_path_style(true)` in clients, or `AWS_ENDPOINT_URL_S3` with an IP
//! address).

mod cors;
mod endpoint;
mod gate;
mod permissions;
pub mod replication;
mod signed;
mod store;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;

use super::Controls;
use super::cross_region::{CrossRegion, Other, OtherRegions, Router};
use super::network::Network;
use super::server::{Server, StartError};
use crate::template::model::Bucket;
use cors::Cors;
use endpoint::Endpoint;
use gate::Gate;
use replication::RegionBuckets;
use signed::Signed;
use store::{OpenError, Served, Store};

/// A running S3. Stops when dropped.
pub struct S3 {
    server: Server,
    store: Arc<Store>,
    cors: Arc<Cors>,
    controls: Controls,
    others: OtherRegions<Endpoint>,
    #[expect(dead_code, reason = "removes the folder when dropped, after the server")]
    temporary: Option<TempDir>,
}

impl fmt::Debug for S3 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("S3").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Why S3 did not start.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// The objects' folder can't be used.
    #[error("the S3 data in {path} can't be used")]
    Folder { path: PathBuf, source: OpenError },
    /// The endpoint can't be served.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl S3 {
    /// Makes `buckets` exist and serves them on `address` (port 0 picks a free one). Without
    /// `folder`, objects are gone when the service stops.
    pub fn start(
        address: SocketAddr,
        folder: Option<&Path>,
        buckets: &[Bucket],
        controls: Controls,
    ) -> Result<Self, S3Error> {
        let (root, temporary) = if let Some(folder) = folder {
            (folder.to_owned(), None)
        } else {
            let path = std::env::temp_dir();
            let temporary = tempfile::Builder::new()
                .prefix("local-region-s3-")
                .tempdir()
                .map_err(|source| S3Error::Folder { path, source: source.into() })?;
            (temporary.path().to_owned(), Some(temporary))
        };
        let store = Store::open(&root, buckets).map_err(|source| S3Error::Folder { path: root, source })?;
        let (store, cors) = (Arc::new(store), Arc::new(Cors::new(buckets)));
        let (own, others) = (endpoint(&store, &cors, controls.clone()), OtherRegions::default());
        let here = controls.access.arns.region().to_owned();
        let meant = |request: &Request<Incoming>| {
            Signed::of(request.uri(), request.headers()).map(|signed| signed.region().to_owned())
        };
        let router = Router { here, own, others: Arc::clone(&others), meant };
        let server = Server::start("S3", address, router, controls.switch.clone())?;
        Ok(Self { server, store, cors, controls, others, temporary })
    }

    /// Answers for `others` from now on, each request after `round_trip`, as far as `network` lets
    /// regions reach each other. Only the first call counts.
    pub(crate) fn reach<'a>(
        &self,
        others: impl Iterator<Item = &'a Self>,
        network: Arc<Network>,
        round_trip: Duration,
    ) {
        let callers = &self.controls.access;
        let others = others.map(|other| {
            let there = &other.controls;
            let access = Arc::new(callers.in_region(there.access.arns.clone()));
            let controls = Controls { access, ..there.clone() };
            let service = endpoint(&other.store, &other.cors, controls);
            Other { region: there.access.arns.region().to_owned(), service }
        });
        let way = CrossRegion { network, round_trip, others: others.collect() };
        if self.others.set(way).is_err() {
            tracing::warn!("a region's S3 has joined others before");
        }
    }

    /// The buckets, for a [`Replication`](replication::Replication).
    pub fn region_buckets(&self) -> RegionBuckets {
        RegionBuckets(Arc::clone(&self.store))
    }

    /// Accepts parts of any size from now on, for tests of many parts. AWS accepts only the last
    /// part below 5 MB.
    pub fn accept_small_parts(&self) {
        self.store.min_part_bytes.store(0, Ordering::Relaxed);
    }

    /// What `AWS_ENDPOINT_URL_S3` is set to.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.server.address())
    }
}

/// A region's S3 under these controls.
fn endpoint(store: &Arc<Store>, cors: &Arc<Cors>, controls: Controls) -> Endpoint {
    let mut service = S3ServiceBuilder::new(Served(Arc::clone(store)));
    service.set_auth(Gate::new(controls.clone()));
    service.set_access(Gate::new(controls.clone()));
    Endpoint { service: service.build(), cors: Arc::clone(cors), controls }
}
