//! Secrets Manager on this machine: `GetSecretValue`, and values that the region puts.
//!
//! 1. A secret exists when the template has it; its value is put by the region (made at the first
//!    start).
//! 2. With a data folder, each value is a file of its own there that only its owner can read.
//! 3. `GetSecretValue` takes the name or the ARN. A secret without a value is not found, as in the
//!    cloud.
//!
//! Limits: text values, one version (`AWSCURRENT`), no rotation; nothing is encrypted, since the
//! key would lie beside it.

mod endpoint;
mod store;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

pub use store::SecretError;

use super::json::{Endpoint, Protocol};
use super::pipeline::Controls;
use super::server::{Server, StartError};
use endpoint::{MAX_BODY_BYTES, SecretsApi};
use store::Store;

/// A running Secrets Manager. Stops when dropped.
#[derive(Debug)]
pub struct Secrets {
    server: Server,
    store: Arc<Store>,
}

impl Secrets {
    /// Serves on `address` (port 0 picks a free one). With `folder`, values are kept in it.
    pub fn start(
        address: SocketAddr,
        folder: Option<&Path>,
        controls: Controls,
    ) -> Result<Self, SecretsError> {
        let store = Arc::new(Store::open(folder)?);
        let api = SecretsApi { arns: controls.access.arns.clone(), store: Arc::clone(&store) };
        let switch = controls.switch.clone();
        let endpoint = Endpoint { api, protocol: Protocol::Json11, max_body_bytes: MAX_BODY_BYTES, controls };
        let server = Server::start("Secrets Manager", address, endpoint, switch)?;
        Ok(Self { server, store })
    }

    /// What `AWS_ENDPOINT_URL_SECRETS_MANAGER` is set to.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Puts a secret's value, the first or a new one.
    pub fn put(&self, name: &str, value: &str) -> Result<(), SecretError> {
        self.store.put(name, value)
    }

    /// A secret's value, if it has one.
    pub fn get(&self, name: &str) -> Option<String> {
        self.store.get(name).map(|secret| secret.value)
    }
}

/// Why Secrets Manager did not start.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// What was kept can't be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The endpoint can't be served.
    #[error(transparent)]
    Start(#[from] StartError),
}
