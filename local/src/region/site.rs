//! The ports of a region, bound before its template is read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use super::data::DataFolder;
use super::error::RegionError;
use super::ports::Port;
use crate::template::arn::Arns;
use crate::template::global::GlobalStack;
use crate::template::model::Stack;
use crate::template::{self, Context, TemplateError};

/// Where a region runs, and what its stack is given.
#[derive(Debug)]
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
    /// Where the data is kept; in memory if absent.
    pub data: Option<DataFolder>,
}

/// What one region alone has.
pub(crate) struct Site {
    pub(super) place: Place,
    pub(super) http: Port,
    pub(super) websocket: Port,
    pub(super) lambda: Port,
    pub(super) sqs: Port,
}

impl Site {
    /// Binds every port.
    pub(crate) fn open(place: Place) -> Result<Self, RegionError> {
        let http = Port::bind(place.http, "--http")?;
        let websocket = Port::bind(place.websocket, "--ws")?;
        let (lambda, sqs) = (Port::any()?, Port::any()?);
        Ok(Self { place, http, websocket, lambda, sqs })
    }

    /// The template as this region has it, with its replicas of the tables that all regions share.
    pub(crate) fn stack(&self, template: &Path, shared: &GlobalStack) -> Result<Stack, TemplateError> {
        let parameters = self.place.parameters.clone();
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
