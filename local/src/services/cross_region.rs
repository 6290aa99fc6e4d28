//! Requests to the DynamoDB or the S3 of another region.
//!
//! On AWS a client for another region calls that region's endpoint. Here a function knows one
//! address, its own region's endpoint, and signs for the region that it means. A presigned URL of
//! another region has that address, too:
//!
//! 1. The region in the signature's scope is the one that answers.
//! 2. The caller's policy is checked against ARNs of that region.
//! 3. Fault rules, counters, tables and buckets are those of that region.
//! 4. The request takes a round trip between the two regions.
//! 5. If the two are partitioned, there is no answer, as when packets are dropped. Either the
//!    request is lost and has no effect, or its answer is lost after the effect.
//!
//! Limits: DynamoDB and S3 only. Every pair of regions has the same round trip. A client that
//! follows a link to another region's bucket goes through the region that signed the link.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;

use super::call::Hangup;
use super::network::Network;
use super::server::{Body, Handler};

/// How long a connection stays open on which nothing comes back. Clients give up much earlier.
const SILENCE: Duration = Duration::from_mins(1);

/// The other regions, once there are some.
pub(super) type OtherRegions<H> = Arc<OnceLock<CrossRegion<H>>>;

/// One region's way to the others.
pub(super) struct CrossRegion<H> {
    pub(super) network: Arc<Network>,
    pub(super) round_trip: Duration,
    pub(super) others: Vec<Other<H>>,
}

/// Another region, as it is asked from here.
pub(super) struct Other<H> {
    pub(super) region: String,
    /// Answers with that region's faults and counters, and with the policies of those who ask.
    pub(super) service: H,
}

/// Answers requests for this region, and forwards the others.
pub(super) struct Router<O, H> {
    pub(super) here: String,
    pub(super) own: O,
    pub(super) others: OtherRegions<H>,
    /// The region that a request is signed for.
    pub(super) meant: fn(&Request<Incoming>) -> Option<String>,
}

impl<O: Handler, H: Handler> Handler for Router<O, H> {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Hangup> {
        let meant = (self.meant)(&request);
        let found = self.others.get().and_then(|way| {
            let other = way.others.iter().find(|other| Some(&other.region) == meant.as_ref())?;
            Some((way, other))
        });
        match found {
            Some((way, other)) => way.ask(&self.here, other, request).await,
            // An unknown region is refused like a wrong signature.
            None => self.own.answer(request).await,
        }
    }
}

impl<H: Handler> CrossRegion<H> {
    async fn ask(
        &self,
        here: &str,
        other: &Other<H>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Hangup> {
        tokio::time::sleep(self.round_trip / 2).await;
        self.arrive(here, &other.region).await?;
        let answer = other.service.answer(request).await;
        tokio::time::sleep(self.round_trip / 2).await;
        self.arrive(here, &other.region).await?;
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
