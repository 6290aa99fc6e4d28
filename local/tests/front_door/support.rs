//! Waiting, raw clients, and front doors for the tests.

use std::net::SocketAddr;
use std::time::Duration;

use local_region::front_door::{Addresses, Failover, FrontDoor, Region, RegionCounts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Nothing here takes this long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Checks come often, and answers are kept for so long that only a test of the TTL sees them end.
pub(crate) const QUICK: Failover = Failover {
    interval: Duration::from_millis(20),
    threshold: 2,
    timeout: Duration::from_millis(500),
    ttl: Duration::from_millis(300),
};

/// Answers are not kept, so that the next request shows what the resolver would say.
pub(crate) const FORGETFUL: Failover = Failover { ttl: Duration::ZERO, ..QUICK };

/// Answers are kept for longer than any test takes.
pub(crate) const LASTING: Failover = Failover { ttl: Duration::from_hours(1), ..QUICK };

/// Opens a front door on free ports.
pub(crate) async fn open(regions: &[Region], settings: Failover) -> FrontDoor {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    FrontDoor::start(Addresses { http: any, websocket: any }, regions, settings).await.unwrap()
}

/// A region at two addresses.
pub(crate) fn region(name: &str, http: SocketAddr, websocket: SocketAddr) -> Region {
    Region { name: name.to_owned(), http, websocket, stage: "local".to_owned() }
}

/// Waits until `condition` holds.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, holds).await.expect("it did not come to that in time");
}

/// Waits until the region's health is `healthy`.
pub(crate) async fn until_healthy(door: &FrontDoor, region: &str, healthy: bool) {
    until(|| door.health().read().iter().any(|known| known.region == region && known.healthy == healthy))
        .await;
}

pub(crate) fn counts(door: &FrontDoor, region: &str) -> RegionCounts {
    door.counts().into_iter().find(|counts| counts.region == region).unwrap()
}

/// A connection on which HTTP is written by hand.
pub(crate) struct Raw(TcpStream);

impl Raw {
    pub(crate) async fn connect(url: &str) -> Self {
        Self(TcpStream::connect(authority(url)).await.unwrap())
    }

    /// From an address of its own.
    pub(crate) async fn connect_from(client: &str, url: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(client.parse().unwrap(), 0)).unwrap();
        Self(socket.connect(authority(url).parse().unwrap()).await.unwrap())
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until the text ends with `end`.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        let whole = async {
            while !read.ends_with(end.as_bytes()) {
                let byte = self.0.read_u8().await.unwrap_or_else(|error| {
                    panic!("{error} after {:?}", String::from_utf8_lossy(&read));
                });
                read.push(byte);
            }
        };
        let ended = tokio::time::timeout(PATIENCE, whole).await;
        let text = String::from_utf8_lossy(&read).to_ascii_lowercase();
        assert!(ended.is_ok(), "nothing after {text:?}");
        text
    }

    /// The head of the next answer, in lower case.
    pub(crate) async fn head(&mut self) -> String {
        self.read_until("\r\n\r\n").await
    }

    /// Everything until the other side closes, and whether it closed in order.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let ended = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        drop(ended.expect("the connection stayed open"));
        String::from_utf8_lossy(&rest).into_owned()
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.0
    }
}

fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split_once('/').map_or(rest, |(authority, _)| authority)
}
