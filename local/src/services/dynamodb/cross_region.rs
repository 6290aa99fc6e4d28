//! Requests to the DynamoDB of another region.
//!
//! On AWS a client that is made for another region calls that region's endpoint. Here a function knows one address, that of
//! its own region's endpoint, and signs for the region that it means:
//!
//! 1. The region in the signature's scope is the one that answers.
//! 2. The caller's own policy is held against ARNs of that region.
//! 3. Fault rules, counters and tables are those of that region.
//! 4. The request takes a round trip between the two regions.
//! 5. If the two do not reach each other, nothing comes back, as when packets are dropped. That holds for the request, which
//!    then changes nothing, and for its answer, after which the change is made and nobody is told.
//!
//! Limits: DynamoDB only. Every pair of regions has the same round trip.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;

use super::endpoint::DynamoDbApi;
use crate::services::access::credential;
use crate::services::call::Hangup;
use crate::services::json::Endpoint;
use crate::services::network::Network;
use crate::services::pipeline::Controls;
use crate::services::server::{Body, Handler};

/// How long a connection stays open on which nothing comes back. Clients give up much earlier.
const SILENCE: Duration = Duration::from_mins(1);

/// The other regions, once there are some.
pub(super) type OtherRegions = Arc<OnceLock<CrossRegion>>;

/// One region's way to the others.
pub(super) struct CrossRegion {
    pub(super) network: Arc<Network>,
    pub(super) round_trip: Duration,
    pub(super) others: Vec<Other>,
}

/// Another region, as it is asked from here.
pub(super) struct Other {
    pub(super) endpoint: Arc<Endpoint<DynamoDbApi>>,
    /// Its faults and counters, with the policies of those who ask.
    pub(super) controls: Controls,
}

/// Answers what is asked of this region, and hands on the rest.
pub(super) struct Router {
    pub(super) own: Arc<Endpoint<DynamoDbApi>>,
    pub(super) others: OtherRegions,
}

impl Handler for Router {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Hangup> {
        let meant = credential(request.headers()).ok().map(|credential| credential.region);
        let here = self.own.controls.access.arns.region();
        let found = self.others.get().and_then(|way| {
            let other = way.others.iter().find(|other| Some(other.controls.access.arns.region()) == meant)?;
            Some((way, other))
        });
        match found {
            Some((way, other)) => way.ask(here, other, request).await,
            // A region that nobody has joined is refused with the signature.
            None => self.own.answer(request).await,
        }
    }
}

impl CrossRegion {
    async fn ask(
        &self,
        here: &str,
        other: &Other,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Hangup> {
        let there = other.controls.access.arns.region();
        tokio::time::sleep(self.round_trip / 2).await;
        self.arrive(here, there).await?;
        let answer = other.endpoint.answer_with(&other.controls, request).await;
        tokio::time::sleep(self.round_trip / 2).await;
        self.arrive(here, there).await?;
        answer
    }

    /// Returns only if what is on its way between the two arrives.
    async fn arrive(&self, a: &str, b: &str) -> Result<(), Hangup> {
        if self.network.holding(|map| map.reach(a, b)) {
            return Ok(());
        }
        tokio::time::sleep(SILENCE).await;
        Err(Hangup)
    }
}
