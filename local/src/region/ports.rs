//! The addresses that the region answers on. All are bound before anything else happens, so that a port that is taken
//! is found out before the first compilation.

use std::net::SocketAddr;

use tokio::net::TcpListener;

/// An address that can't be bound.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Somebody else has it.
    #[error(
        "{address} is taken, perhaps by a region that still runs; stop it, or choose another address with {option} (port 0 picks a free one)"
    )]
    Taken {
        /// The address.
        address: SocketAddr,
        /// The option that chooses it.
        option: &'static str,
    },
    /// Any other reason.
    #[error("{address} can't be used: {source}; choose another address with {option}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// The option that chooses it.
        option: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
}

/// A listener and where it listens.
pub(super) struct Port {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
}

impl Port {
    /// For a server with a runtime of its own.
    pub(super) fn into_std(self) -> Result<std::net::TcpListener, PortError> {
        let refused = |source| PortError::Refused { address: self.address, option: "another one", source };
        self.listener.into_std().map_err(refused)
    }
}

pub(super) async fn bind(address: SocketAddr, option: &'static str) -> Result<Port, PortError> {
    let refused = |source| PortError::Refused { address, option, source };
    match TcpListener::bind(address).await {
        Ok(listener) => {
            let address = listener.local_addr().map_err(refused)?;
            Ok(Port { listener, address })
        }
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Err(PortError::Taken { address, option })
        }
        Err(source) => Err(refused(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_the_option_that_changes_it() {
        let port = bind(SocketAddr::from(([127, 0, 0, 1], 0)), "--http").await.unwrap();
        let Err(error) = bind(port.address, "--http").await else { panic!("bound twice") };
        assert!(error.to_string().starts_with(&format!("{} is taken", port.address)), "{error}");
        assert!(error.to_string().contains("--http"));
    }
}
