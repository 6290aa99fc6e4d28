//! The addresses of a region. All are bound first, so that a taken port is found before the
//! functions are built. They stay bound while the region is down, so that it comes back at the same
//! addresses.

use std::io;
use std::net::{SocketAddr, TcpListener};

/// An address that can't be bound.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Another process has it.
    #[error(
        "{address} is taken, perhaps by a region that still runs; stop it, or choose another address with {option} (port 0 picks a free one)"
    )]
    Taken {
        address: SocketAddr,
        /// The option that chooses it.
        option: &'static str,
    },
    #[error("{address} can't be used: {source}; choose another address with {option}")]
    Refused {
        address: SocketAddr,
        /// The option that chooses it.
        option: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// A port that this process has bound.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    option: &'static str,
    listener: TcpListener,
}

impl Port {
    /// Binds `address`, which `option` chooses.
    pub(crate) fn bind(address: SocketAddr, option: &'static str) -> Result<Self, PortError> {
        let refused = |source| PortError::Refused { address, option, source };
        match TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true).map_err(refused)?;
                let address = listener.local_addr().map_err(refused)?;
                Ok(Self { address, option, listener })
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(PortError::Taken { address, option })
            }
            Err(source) => Err(refused(source)),
        }
    }

    /// Any free one.
    pub(crate) fn any() -> Result<Self, PortError> {
        Self::bind(SocketAddr::from(([127, 0, 0, 1], 0)), "another one")
    }

    /// A listener for a server. The port stays bound when the server drops it.
    pub(crate) fn listener(&self) -> Result<tokio::net::TcpListener, PortError> {
        self.duplicate().and_then(tokio::net::TcpListener::from_std).map_err(|source| self.refused(source))
    }

    /// The same for a server with a runtime of its own.
    pub(crate) fn std_listener(&self) -> Result<TcpListener, PortError> {
        self.duplicate().map_err(|source| self.refused(source))
    }

    fn duplicate(&self) -> io::Result<TcpListener> {
        self.listener.try_clone()
    }

    fn refused(&self, source: io::Error) -> PortError {
        PortError::Refused { address: self.address, option: self.option, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_named_with_the_option_that_changes_it() {
        let port = Port::bind(SocketAddr::from(([127, 0, 0, 1], 0)), "--http").unwrap();
        let Err(error) = Port::bind(port.address, "--http") else { panic!("bound twice") };
        assert!(error.to_string().starts_with(&format!("{} is taken", port.address)), "{error}");
        assert!(error.to_string().contains("--http"));
    }
}
