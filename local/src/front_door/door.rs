//! One name of the front door, and a client's connection to it.
//!
//! 1. The client's place is taken out of the request (see `near`). An unknown one: 400.
//! 2. The resolver chooses the region (see `resolver`).
//! 3. The request is forwarded unchanged: target, `Host`, cookies and signatures are the client's;
//!    hop-by-hop headers are removed (RFC 9110, section 7.6.1). Behind a custom domain name API
//!    Gateway sees the client's `Host` as well.
//! 4. It uses the previous connection, if that one is open and leads to the same region; otherwise
//!    a new one.
//! 5. The answer is passed back, with `x-local-region`. Bodies stream in both directions, no faster
//!    than the slower side.
//!
//! **A request is sent once.** The front door never repeats it, not even in another region: the
//! request could have two effects, and the retries of clients are what a test measures. One case is
//! not a repetition: a kept connection had ended and returned the request unsent, and a new
//! connection to the same region sends it.
//!
//! What a client sees of a region that is down is in `answer`. If the region's connection breaks
//! after the request was sent, the client's connection is closed without an answer, as it would be
//! through DNS: the outcome is unknown.
//!
//! Limits: no `Via` is added, since DNS adds none. Trailers and 1xx answers other than 100 are not
//! passed on. The front door has no timeout: the gateway of a region ends requests after 30 s, and
//! a client that disconnects ends its request at once.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode, Version};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::upgrade::OnUpgrade;

use super::answer::{
    AnswerBody, REGION, REGION_UNREACHABLE, Relayed, TOO_MANY_SOCKETS, UNKNOWN_PLACE, problem,
};
use super::continuation::{Answering, Forwarded, forwarded};
use super::counts::{Counts, OpenSocket};
use super::near;
use super::places::{Place, Places};
use super::resolver::{self, Resolver};
use super::tunnel::{Slot, Sockets};
use super::upstream::{ConnectError, Source, connect};
use crate::gateway::hop_by_hop;
use crate::services::Hangup;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const UPGRADED: HeaderValue = HeaderValue::from_static("Upgrade");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// One name: of the HTTP APIs, or of the WebSocket APIs.
pub(super) struct Door {
    pub(super) regions: Vec<Region>,
    pub(super) places: Arc<Places>,
    pub(super) resolver: Resolver,
    /// `None`: handshakes are requests like others.
    pub(super) sockets: Option<Arc<Sockets>>,
}

/// A region behind the name.
pub(super) struct Region {
    pub(super) name: HeaderValue,
    pub(super) address: SocketAddr,
    pub(super) counts: Arc<Counts>,
}

/// A client's connection.
pub(super) struct Client {
    door: Arc<Door>,
    address: IpAddr,
    /// HTTP/1.1: one request at a time.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where a client goes that names no place.
    answer: Option<resolver::Answer>,
    /// The connection to a region, as it was after the last answer.
    connection: Option<(usize, SendRequest<Forwarded>)>,
}

/// A handshake that may become a socket.
struct Handshake {
    sockets: Arc<Sockets>,
    slot: Slot,
    client: OnUpgrade,
}

/// Why a region gave no answer.
enum Unanswered {
    Refused(ConnectError),
    /// The request was sent, all of it or a part.
    Lost(hyper::Error),
}

impl Client {
    pub(super) fn new(door: Arc<Door>, address: SocketAddr) -> Self {
        Self { door, address: address.ip().to_canonical(), state: Mutex::default() }
    }

    pub(super) async fn answer(
        &self,
        mut request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Hangup> {
        let sockets = self.door.sockets.as_ref().filter(|_| is_handshake(request.headers()));
        let handshake = match sockets.map(|sockets| (sockets, sockets.slot())) {
            None => None,
            Some((sockets, Some(slot))) => {
                let client = hyper::upgrade::on(&mut request);
                Some(Handshake { sockets: Arc::clone(sockets), slot, client })
            }
            Some((_, None)) => {
                let title = "The front door holds no more sockets";
                return Ok(problem(
                    TOO_MANY_SOCKETS,
                    StatusCode::SERVICE_UNAVAILABLE,
                    title,
                    "try again later",
                ));
            }
        };
        let (mut head, body) = request.into_parts();
        let place = match near::take(&mut head, handshake.is_some(), &self.door.places) {
            Ok(place) => place,
            Err(unknown) => {
                let title = "There is no such place";
                return Ok(problem(UNKNOWN_PLACE, StatusCode::BAD_REQUEST, title, &unknown.to_string()));
            }
        };
        let index = self.resolve(place);
        let region = &self.door.regions[index];
        region.counts.requests.add();

        let source = Source::of(self.address, region.address.ip());
        self.dress(&mut head.headers, handshake.is_some(), source);
        head.version = Version::HTTP_11;
        head.extensions.clear();
        let (request, answering) = forwarded(Request::from_parts(head, body));
        let sent = self.send(index, source, request).await;
        let mut response = match sent {
            Ok(response) => relay(region, response, answering, handshake)?,
            Err(Unanswered::Refused(error)) => {
                region.counts.refused.add();
                refused(region, &error)
            }
            Err(Unanswered::Lost(error)) => {
                region.counts.lost.add();
                tracing::debug!(region = ?region.name, %error, "a region's connection broke under a request");
                return Err(Hangup);
            }
        };
        response.headers_mut().insert(REGION, region.name.clone());
        Ok(response)
    }

    fn resolve(&self, place: Option<Place>) -> usize {
        match place {
            Some(place) => self.door.resolver.near(self.address, place),
            None => self.door.resolver.anywhere(&mut self.state().answer),
        }
    }

    /// Makes of the client's headers what the region gets.
    fn dress(&self, headers: &mut HeaderMap, is_handshake: bool, source: Source) {
        hop_by_hop::remove(headers);
        if is_handshake {
            headers.extend([(CONNECTION, UPGRADED), (UPGRADE, WEBSOCKET)]);
        }
        if source == Source::FrontDoor {
            name_client(headers, self.address);
        }
    }

    /// Sends a request to a region, once.
    async fn send(
        &self,
        index: usize,
        source: Source,
        mut request: Request<Forwarded>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let kept = self.state().connection.take().filter(|(region, _)| *region == index);
        if let Some((_, mut kept)) = kept
            && kept.ready().await.is_ok()
        {
            match kept.try_send_request(request).await {
                Ok(response) => {
                    self.state().connection = Some((index, kept));
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    // It had ended, and not a byte was written.
                    Some(unsent) => request = unsent,
                    None => return Err(Unanswered::Lost(error.into_error())),
                },
            }
        }
        let connected = connect(self.door.regions[index].address, source).await;
        let mut fresh = connected.map_err(Unanswered::Refused)?;
        let response = fresh.send_request(request).await.map_err(Unanswered::Lost)?;
        self.state().connection = Some((index, fresh));
        Ok(response)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each field is whole by itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes of a region's answer what the client gets.
fn relay(
    region: &Region,
    mut response: Response<Incoming>,
    answering: Answering,
    handshake: Option<Handshake>,
) -> Result<Response<AnswerBody>, Hangup> {
    let is_socket = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if is_socket {
        let Some(Handshake { sockets, slot, client }) = handshake else {
            region.counts.lost.add();
            tracing::warn!(region = ?region.name, "a region switched protocols without being asked");
            return Err(Hangup);
        };
        let socket = OpenSocket::count(Arc::clone(&region.counts));
        sockets.open(slot, socket, client, hyper::upgrade::on(&mut response));
    }
    let (mut head, body) = response.into_parts();
    head.extensions.clear();
    hop_by_hop::remove(&mut head.headers);
    if is_socket {
        head.headers.extend([(CONNECTION, UPGRADED), (UPGRADE, WEBSOCKET)]);
    }
    let body = Relayed::new(body, Arc::clone(&region.counts), answering);
    Ok(Response::from_parts(head, Either::Left(body)))
}

fn refused(region: &Region, error: &ConnectError) -> Response<AnswerBody> {
    let name = String::from_utf8_lossy(region.name.as_bytes());
    let detail = format!(
        "{name} takes no connection ({error}). Through DNS the connection would be refused; nothing was sent"
    );
    problem(REGION_UNREACHABLE, StatusCode::BAD_GATEWAY, "The region cannot be reached", &detail)
}

/// Continues the list of addresses that the request came by.
fn name_client(headers: &mut HeaderMap, client: IpAddr) {
    let earlier = headers.get_all(FORWARDED_FOR).iter().map(|list| String::from_utf8_lossy(list.as_bytes()));
    let mut chain: Vec<_> = earlier.map(std::borrow::Cow::into_owned).collect();
    chain.push(client.to_string());
    // Text that came in as a header, and an address: always a valid value.
    if let Ok(chain) = HeaderValue::from_str(&chain.join(", ")) {
        headers.insert(FORWARDED_FOR, chain);
    }
}

fn is_handshake(headers: &HeaderMap) -> bool {
    let protocols = headers.get_all(UPGRADE).iter().filter_map(|list| list.to_str().ok());
    protocols.flat_map(|list| list.split(',')).any(|name| name.trim().eq_ignore_ascii_case("websocket"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_whose_address_cannot_be_kept_is_added_to_the_chain_of_addresses() {
        let mut headers = HeaderMap::new();
        name_client(&mut headers, [192, 0, 2, 1].into());
        assert_eq!(headers[FORWARDED_FOR], "192.0.2.1");
        name_client(&mut headers, [192, 0, 2, 2].into());
        assert_eq!(headers.get_all(FORWARDED_FOR).iter().collect::<Vec<_>>(), ["192.0.2.1, 192.0.2.2"]);
    }
}
