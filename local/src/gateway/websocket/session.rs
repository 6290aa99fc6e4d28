//! An established connection: frames in, messages out, until it ends.
//!
//! One task owns the socket. It waits for whatever comes first: a frame, a message to send, an
//! answer of a function, a call to close, a timer. Writing is bounded by
//! [`Limits::write_stall`](super::Limits::write_stall), so a client that doesn't read holds up only
//! itself; posts to it fill its buffer and then get 429.

use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::WebSocketFront;
use super::connections::Connection;
use crate::functions::outcome::Invoke;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Messages written at once before the socket is flushed.
const WRITE_BATCH: usize = 32;

/// What a connection's task works with.
pub(super) struct Session<I> {
    pub(super) front: Arc<WebSocketFront<I>>,
    pub(super) connection: Arc<Connection>,
    pub(super) outgoing: mpsc::Receiver<Utf8Bytes>,
}

/// Why a connection ended, as `$disconnect` is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) status_code: u16,
    pub(super) reason: String,
    by: EndedBy,
}

#[derive(Debug, PartialEq, Eq)]
enum EndedBy {
    /// The client sent a close frame, or is gone.
    Client,
    /// The gateway has to send a close frame.
    Gateway,
}

/// A connection that ended, its socket still to be closed.
pub(super) struct Ended {
    pub(super) ending: Ending,
    pub(super) socket: Option<Socket>,
}

impl Ending {
    fn by_gateway(code: CloseCode, reason: &str) -> Self {
        Self { status_code: code.into(), reason: reason.to_owned(), by: EndedBy::Gateway }
    }

    fn by_client(frame: Option<&CloseFrame>) -> Self {
        let (status_code, reason) = match frame {
            Some(frame) => (frame.code.into(), frame.reason.to_string()),
            None => (CloseCode::Status.into(), "Client-side close frame status not set".to_owned()),
        };
        Self { status_code, reason, by: EndedBy::Client }
    }

    /// The TCP connection broke without a close frame.
    pub(super) fn vanished() -> Self {
        let status_code = CloseCode::Abnormal.into();
        Self { status_code, reason: "Connection closed abnormally".to_owned(), by: EndedBy::Client }
    }

    fn of_error(error: &Error) -> Self {
        match error {
            Error::Capacity(_) => Self::by_gateway(CloseCode::Size, "Message too big"),
            Error::Utf8(_) => Self::by_gateway(CloseCode::Invalid, "Invalid frame payload data"),
            Error::Protocol(
                tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            ) => Self::vanished(),
            Error::Protocol(_) => Self::by_gateway(CloseCode::Protocol, "Protocol error"),
            _ => Self::vanished(),
        }
    }
}

/// Runs an established connection until it ends.
pub(super) async fn run<I: Invoke>(
    mut session: Session<I>,
    mut socket: Socket,
    mut stopping: watch::Receiver<()>,
) -> Ended {
    let limits = &session.front.limits;
    let lifetime = Instant::now() + limits.lifetime;
    let mut idle = Instant::now() + limits.idle;
    let mut in_flight: JoinSet<Option<Utf8Bytes>> = JoinSet::new();
    let ending = loop {
        let active = tokio::select! {
            // An error means that the gateway was killed. Its connections break with it: no close
            // frame.
            Ok(()) = stopping.changed() => break Ending::by_gateway(CloseCode::Away, "Going away"),
            () = session.connection.closing.notified() => {
                // What was posted before the call to close was accepted: it goes out first.
                let rest = std::iter::from_fn(|| session.outgoing.try_recv().ok());
                match write(&mut socket, rest, limits.write_stall).await {
                    Ok(()) => break Ending::by_gateway(CloseCode::Normal, "Connection closed by the service"),
                    Err(ending) => break ending,
                }
            }
            () = sleep_until(lifetime) => break Ending::by_gateway(CloseCode::Away, "Going away"),
            () = sleep_until(idle) => break Ending::by_gateway(CloseCode::Away, "Going away"),
            Some(message) = session.outgoing.recv() => {
                let batch = std::iter::once(message).chain(std::iter::from_fn(|| session.outgoing.try_recv().ok()));
                write(&mut socket, batch.take(WRITE_BATCH), limits.write_stall).await
            }
            Some(answered) = in_flight.join_next() => match answered {
                Ok(Some(answer)) => write(&mut socket, std::iter::once(answer), limits.write_stall).await,
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!(%error, "the task of a message failed");
                    continue;
                }
            },
            frame = socket.next(), if in_flight.len() < limits.concurrent_messages => {
                read(frame, &session, &mut in_flight)
            }
        };
        match active {
            Ok(()) => {
                session.connection.touch();
                idle = Instant::now() + session.front.limits.idle;
            }
            Err(ending) => break ending,
        }
    };
    // What functions are still working on was accepted: it is carried through, only its answers
    // have nowhere to go.
    in_flight.detach_all();
    Ended { ending, socket: Some(socket) }
}

fn read<I: Invoke>(
    frame: Option<Result<Message, Error>>,
    session: &Session<I>,
    in_flight: &mut JoinSet<Option<Utf8Bytes>>,
) -> Result<(), Ending> {
    match frame {
        Some(Ok(Message::Text(text))) => {
            let front = Arc::clone(&session.front);
            let connection = Arc::clone(&session.connection);
            in_flight.spawn(async move { front.message(&connection, &text).await });
            Ok(())
        }
        Some(Ok(Message::Binary(_))) => {
            Err(Ending::by_gateway(CloseCode::Unsupported, "Binary not supported"))
        }
        // Pings are answered by the protocol's implementation on the next read.
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(()),
        Some(Ok(Message::Close(frame))) => Err(Ending::by_client(frame.as_ref())),
        Some(Err(error)) => Err(Ending::of_error(&error)),
        None => Err(Ending::vanished()),
    }
}

async fn write(
    socket: &mut Socket,
    messages: impl Iterator<Item = Utf8Bytes>,
    stall: Duration,
) -> Result<(), Ending> {
    let written = async {
        for message in messages {
            socket.feed(Message::Text(message)).await?;
        }
        socket.flush().await
    };
    match timeout(stall, written).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Ending::of_error(&error)),
        Err(_) => Err(Ending::vanished()),
    }
}

/// Closes the socket: the close frame, the client's answer to it, then the TCP connection; within
/// `patience`.
pub(super) async fn close(socket: Option<Socket>, ending: &Ending, patience: Duration) {
    let Some(mut socket) = socket else { return };
    let handshake = async {
        if ending.by == EndedBy::Gateway {
            let frame = CloseFrame { code: ending.status_code.into(), reason: ending.reason.clone().into() };
            socket.send(Message::Close(Some(frame))).await?;
        }
        if ending.status_code == u16::from(CloseCode::Size) {
            // The rest of the refused message has no frames to parse. It has to be read all the
            // same: closing with unread data resets the connection, and the client would never see
            // the close frame.
            let mut discarded = [0; 8 * 1024];
            while socket.get_mut().read(&mut discarded).await? > 0 {}
        } else {
            while let Some(frame) = socket.next().await {
                frame?;
            }
        }
        Ok::<_, Error>(())
    };
    match timeout(patience, handshake).await {
        Ok(Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a closing handshake failed"),
        Err(_) => tracing::debug!("a client did not answer the close frame"),
    }
}
