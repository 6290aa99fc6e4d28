//! Whether a region answers: a switch, which the command `region down` turns off.
//!
//! 1. While the switch is off, new connections are reset at once, and open ones are closed. The
//!    data of the services stays.
//! 2. The port stays bound, so that no other process takes it and the region comes back at the same
//!    addresses.
//!
//! Limit: a connection is accepted before it is reset, so a client sees a reset where a host
//! without a listener would refuse.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Pause after a failed accept: the usual cause, no file descriptors left, doesn't pass at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Switch(watch::Sender<State>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    On,
    Off,
}

/// On at first.
impl Default for Switch {
    fn default() -> Self {
        Self(watch::Sender::new(State::On))
    }
}

impl Switch {
    /// Everything is answered from now on.
    pub fn turn_on(&self) {
        self.0.send_replace(State::On);
    }

    /// Nothing is answered from now on.
    pub fn turn_off(&self) {
        self.0.send_replace(State::Off);
    }

    /// Waits until the switch is on.
    pub async fn on(&self) {
        self.reached(State::On).await;
    }

    /// Waits until the switch is off.
    pub async fn off(&self) {
        self.reached(State::Off).await;
    }

    async fn reached(&self, wanted: State) {
        // It fails only without a sender, and this is one.
        if self.0.subscribe().wait_for(|state| *state == wanted).await.is_err() {
            tracing::debug!("a switch has gone");
        }
    }
}

/// Resets new connections, until `until` is ready.
pub(crate) async fn refuse(listener: &TcpListener, until: impl Future<Output = ()>) {
    let mut until = pin!(until);
    loop {
        let accepted = tokio::select! {
            () = &mut until => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => reset(&stream),
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted, and not reset");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Has the connection reset when it is dropped, instead of closed.
pub(crate) fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a connection is closed instead of reset");
    }
}
