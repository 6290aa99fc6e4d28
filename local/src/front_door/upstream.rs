//! A connection to a region.
//!
//! Through DNS a client connects to the region itself, and the region's gateway takes `sourceIp`
//! from the connection. So a client's requests go over a connection of its own, and that connection
//! has the client's address as its source: any address of 127.0.0.0/8 can be the source of a
//! connection on this machine.
//!
//! Limits: an address of another machine cannot be the source. The region then sees the front
//! door's address, and the front door names the client in `X-Forwarded-For`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hyper::body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;
use tokio::time::timeout;

/// As long as Route 53's checkers wait for a connection. Regions are on this machine: they take one
/// at once, or refuse.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The system's error; mostly there is no listener.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No answer in time.
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
    /// The connection broke at once.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// Opens a connection to `region`, for requests with bodies of type `B`.
pub(super) async fn connect<B>(region: SocketAddr, source: Source) -> Result<SendRequest<B>, ConnectError>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let socket = if region.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_nodelay(true)?;
    if let Source::Client(client) = source {
        socket.bind(SocketAddr::new(client, 0))?;
    }
    let connected = timeout(CONNECT_TIMEOUT, socket.connect(region));
    let stream = connected.await.map_err(|_| ConnectError::TimedOut)??;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            // The sender of a request gets the error, too.
            tracing::debug!(%region, %error, "a region's connection broke");
        }
    });
    Ok(sender)
}

/// Which address a connection to a region comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The one that the system chooses is right: the client has the same.
    System,
    Client(IpAddr),
    /// The front door's, since the client's cannot be had.
    FrontDoor,
}

impl Source {
    /// Of a connection for `client` to `region`.
    pub(super) fn of(client: IpAddr, region: IpAddr) -> Self {
        let client = client.to_canonical();
        if client == region {
            Self::System
        } else if client.is_loopback() && region.is_loopback() && client.is_ipv4() == region.is_ipv4() {
            Self::Client(client)
        } else {
            Self::FrontDoor
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_this_machine_keeps_its_address() {
        let source =
            |client: &str| Source::of(client.parse().unwrap(), IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
        assert_eq!(source("127.0.0.1"), Source::System);
        assert_eq!(source("127.0.0.7"), Source::Client([127, 0, 0, 7].into()));
        assert_eq!(source("::ffff:127.0.0.7"), Source::Client([127, 0, 0, 7].into()));
        assert_eq!(source("::1"), Source::FrontDoor);
        assert_eq!(source("192.0.2.1"), Source::FrontDoor);
    }
}
