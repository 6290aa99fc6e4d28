//! What a client gets: a region's answer, or an error of the front door.
//!
//! Through DNS a client of a region that is down sees that its connection is refused. The front
//! door has accepted the connection already. It answers 502 with the problem type
//! [`REGION_UNREACHABLE`], which no region sends, and with `x-local-region`. The request has not
//! left the front door and had no effect.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::continuation::Answering;
use super::counts::Counts;

/// On every answer: the region that was asked.
pub const REGION: HeaderName = HeaderName::from_static("x-local-region");

/// `type` of the 502: the region took no connection, and got nothing of the request.
pub const REGION_UNREACHABLE: &str = "urn:local-region:front-door:region-unreachable";

/// `type` of the 400: there is no such place.
pub const UNKNOWN_PLACE: &str = "urn:local-region:front-door:unknown-place";

/// `type` of the 503: as many sockets are open as the front door holds.
pub const TOO_MANY_SOCKETS: &str = "urn:local-region:front-door:too-many-sockets";

/// The body of an answer.
pub(super) type AnswerBody = Either<Relayed, Full<Bytes>>;

/// A problem document (RFC 9457).
pub(super) fn problem(kind: &str, status: StatusCode, title: &str, detail: &str) -> Response<AnswerBody> {
    let document =
        serde_json::json!({ "type": kind, "title": title, "status": status.as_u16(), "detail": detail });
    let mut response = Response::new(Either::Right(Full::new(Bytes::from(document.to_string()))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

/// A region's body. If it breaks off, the client's connection is closed, so that the answer does
/// not look complete.
pub(super) struct Relayed {
    body: Incoming,
    counts: Arc<Counts>,
    _answering: Answering,
}

impl Relayed {
    pub(super) fn new(body: Incoming, counts: Arc<Counts>, answering: Answering) -> Self {
        Self { body, counts, _answering: answering }
    }
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Err(error))) = &polled {
            self.counts.lost.add();
            tracing::debug!(%error, "a region's answer broke off");
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
