//! What a region has before its template is read: its ports, its data folder, its token keys.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::data::DataFolder;
use super::error::RegionError;
use super::ports::Port;
use crate::keys::KeyRing;
use crate::template::arn::Arns;
use crate::template::global::GlobalStack;
use crate::template::model::Stack;
use crate::template::{self, Context, TemplateError};

/// The template's parameter that takes the public keys.
pub(crate) const JWKS_PARAMETER: &str = "TokenJwks";

/// Where a region runs, and what its stack is given.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its name, if it is one of several: `taiwan`.
    pub name: String,
    /// Names its resources: `AWS::Region`.
    pub arns: Arns,
    /// Values of the template's parameters.
    pub parameters: BTreeMap<String, String>,
    /// The HTTP API's address.
    pub http: SocketAddr,
    /// The WebSocket API's address.
    pub websocket: SocketAddr,
    /// Where everything is kept; in memory if nowhere.
    pub data: Option<PathBuf>,
}

/// What one region alone has.
pub(crate) struct Site {
    pub(super) place: Place,
    pub(super) http: Port,
    pub(super) websocket: Port,
    pub(super) lambda: Port,
    pub(super) sqs: Port,
    pub(super) data: Option<DataFolder>,
    keys: KeyRing,
}

impl Site {
    /// Binds every port, takes the folder, and reads the keys or makes them.
    pub(crate) fn open(place: Place) -> Result<Self, RegionError> {
        let http = Port::bind(place.http, "--http")?;
        let websocket = Port::bind(place.websocket, "--ws")?;
        let (lambda, sqs) = (Port::any()?, Port::any()?);
        let data = place.data.as_deref().map(DataFolder::open).transpose()?;
        let keys = match &data {
            Some(folder) => KeyRing::load_or_generate(folder.path())?,
            None => KeyRing::generate()?,
        };
        Ok(Self { place, http, websocket, lambda, sqs, data, keys })
    }

    /// What its tokens are signed with.
    pub(crate) fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// The template as this region has it, with the public keys of all regions and its replicas of the tables that they share.
    pub(crate) fn stack(
        &self,
        template: &Path,
        jwks: &str,
        shared: &GlobalStack,
    ) -> Result<Stack, TemplateError> {
        let mut parameters = self.place.parameters.clone();
        parameters.insert(JWKS_PARAMETER.to_owned(), jwks.to_owned());
        let arns = self.place.arns.clone();
        let context = Context {
            global_tables: if self.place.name.is_empty() {
                shared.of_one_region()
            } else {
                shared.replicas_in(arns.region())
            },
            arns,
            parameters,
            http_url: format!("http://{}", self.http.address),
            websocket_url: format!("ws://{}", self.websocket.address),
            sqs_url: format!("http://{}", self.sqs.address),
        };
        template::load(template, &context)
    }
}
