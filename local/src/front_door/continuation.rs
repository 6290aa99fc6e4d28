//! `Expect: 100-continue`: a client's body waits until its region wants it (RFC 9110, section
//! 10.1.1).
//!
//! 1. The request's head goes to the region, with the expectation. Its body is not read: reading it
//!    would make the client send it.
//! 2. The region's 100 opens the body, and reading it sends the client its own 100.
//! 3. A region that decides by the head answers at once. The client gets that answer and no 100.
//!    Its body is discarded, and both connections are closed after the answer, because the next
//!    bytes on them are not a request.
//! 4. A region that sends nothing for [`PATIENCE`] gets the body, as from a client that stops
//!    waiting.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::{Request, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// How long clients wait for a 100, by curl's example; no RFC says.
const PATIENCE: Duration = Duration::from_secs(1);

/// A request's body on its way to a region.
pub(super) struct Forwarded {
    /// `None` once it is given up.
    body: Option<Incoming>,
    /// Whether the body is wanted, as soon as that is known.
    wanted: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
    answered: oneshot::Receiver<Infallible>,
}

/// Held until the answer is through, or given up.
pub(super) struct Answering {
    _answered: oneshot::Sender<Infallible>,
}

/// The region answered without the body. It ends the connection to the region, nothing else.
#[derive(Debug, thiserror::Error)]
#[error("the region did not want the body")]
struct Unwanted;

/// The request with a body that waits, if the client does.
pub(super) fn forwarded(request: Request<Incoming>) -> (Request<Forwarded>, Answering) {
    let expects = request.headers().get(EXPECT);
    let waits = expects.is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let (answering, answered) = oneshot::channel();
    let mut request = request.map(|body| Forwarded { body: Some(body), wanted: None, answered });
    if waits {
        let (open, opened) = watch::channel(false);
        request.body_mut().wanted = Some(Box::pin(wanted(opened)));
        hyper::ext::on_informational(&mut request, move |answer| {
            if answer.status() == StatusCode::CONTINUE {
                open.send_replace(true);
            }
        });
    }
    (request, Answering { _answered: answering })
}

async fn wanted(mut opened: watch::Receiver<bool>) -> bool {
    match timeout(PATIENCE, opened.wait_for(|open| *open)).await {
        Ok(Ok(_)) | Err(_) => true,
        // The answer has arrived: the body stays closed.
        Ok(Err(_)) => false,
    }
}

impl Body for Forwarded {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(wanted) = &mut self.wanted {
            if !ready!(wanted.as_mut().poll(context)) {
                self.body = None;
            }
            self.wanted = None;
        }
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            None => Pin::new(&mut self.answered).poll(context).map(|_| Some(Err(Unwanted.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
