//! A region, put together from the template. [`regions`](crate::regions) starts one or several.
//!
//! 1. A `Site`: bind every port. Mistakes are found first.
//! 2. `Region::start`: start the services with the template's tables, buckets, queues and secrets.
//! 3. `Region::up`: start what has no state (`compute`): the functions' pools (processes start with
//!    the first invocation), the gateways, the schedules, and what hands messages to functions.
//! 4. `Region::down`: as when the region is lost. Its processes are killed, its connections break,
//!    new connections are reset. The data of its services stays, and `Region::up` brings it back at
//!    the same addresses.
//! 5. `Region::stop`: accept no requests, answer the pending ones, end the processes.

mod browser_guard;
mod build;
mod code;
mod compute;
pub mod control;
mod data;
mod environment;
mod error;
mod ports;
mod ready;
mod servers;
mod services;
mod site;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::front_door;
use crate::functions::{FunctionSpec, Settings};
use crate::logs::Logs;
use crate::schedules::Upcoming;
use crate::services::Controls;
use crate::services::access::Access;
use crate::services::secrets::Secrets;
use crate::services::switch::refuse;
use crate::template::model::{Function, Stack, Target};
pub use build::{Build, BuildError};
pub use code::{Code, CodeError};
use compute::Compute;
pub use data::{DataError, DataFolder};
use environment::Endpoints;
pub use error::RegionError;
pub(crate) use ports::Port;
use ports::PortError;
pub(crate) use ready::Published;
pub use ready::{Ready, ReadyError, ReadyFile, Several};
pub(crate) use servers::{Servers, guarded, serve_apis};
use services::Services;
pub use site::Place;
pub(crate) use site::Site;

/// A region, up or down.
pub struct Region {
    /// Its name, if it is one of several.
    pub name: String,
    /// What the template says.
    pub stack: Stack,
    pub ready: Ready,
    pub(crate) services: Services,
    controls: Controls,
    settings: Settings,
    logs: Logs,
    specs: Vec<FunctionSpec>,
    ports: Ports,
    state: Mutex<State>,
    /// Dropped last: the next region may take the folder when nothing writes to it.
    _data: Option<DataFolder>,
}

/// The ports of what ends with an outage.
struct Ports {
    http: Port,
    websocket: Port,
    lambda: Port,
}

enum State {
    Up(Compute),
    /// With the tasks that reset new connections.
    Down(JoinSet<()>),
}

/// The state of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Condition {
    Up { processes: usize },
    Down,
}

impl Region {
    /// Starts the services of `site` with what `stack` says. Nothing is served before
    /// [`Region::up`].
    pub(crate) fn start(
        site: Site,
        stack: Stack,
        (code, beside): (&Code, &Path),
        settings: &Settings,
        logs: &Logs,
    ) -> Result<Self, RegionError> {
        let controls = Controls::new(Access::new(&stack));
        let folder = site.place.data.as_ref().map(DataFolder::path);
        let services = Services::start(&stack, folder, &controls, &site.sqs)?;
        let Site { place, http, websocket, lambda, .. } = site;
        let endpoints = services.endpoints(&lambda);
        let specs = stack
            .functions
            .iter()
            .map(|function| {
                let binary = code.executable(function, beside)?;
                Ok(spec(function, binary, &controls, &endpoints))
            })
            .collect::<Result<_, CodeError>>()?;
        let ready = ready(&stack, endpoints, &controls, [&http, &websocket]);
        let logs = if place.name.is_empty() { logs.clone() } else { logs.of_region(&place.name) };
        Ok(Self {
            name: place.name,
            stack,
            ready,
            services,
            controls,
            settings: settings.clone(),
            logs,
            specs,
            ports: Ports { http, websocket, lambda },
            state: Mutex::new(State::Down(JoinSet::new())),
            _data: place.data,
        })
    }

    /// Serves, unless it is up.
    pub(crate) async fn up(&self, routes: &Router) -> Result<(), RegionError> {
        let mut state = self.state.lock().await;
        let State::Down(refusing) = &mut *state else { return Ok(()) };
        refusing.shutdown().await;
        self.controls.switch.turn_on();
        match Compute::start(self, routes) {
            Ok(compute) => {
                *state = State::Up(compute);
                Ok(())
            }
            Err(error) => {
                self.controls.switch.turn_off();
                *state = State::Down(self.refuse()?);
                Err(error)
            }
        }
    }

    /// Stops at once, unless it is down. The data of its services stays.
    pub(crate) async fn down(&self) -> Result<(), RegionError> {
        let mut state = self.state.lock().await;
        if matches!(&*state, State::Down(_)) {
            return Ok(());
        }
        let refusing = self.refuse()?;
        self.controls.switch.turn_off();
        if let State::Up(compute) = std::mem::replace(&mut *state, State::Down(refusing)) {
            compute.die().await;
        }
        Ok(())
    }

    /// Resets new connections to the gateways and the control API.
    fn refuse(&self) -> Result<JoinSet<()>, PortError> {
        let Ports { http, websocket, lambda } = &self.ports;
        let mut refusing = JoinSet::new();
        for port in [http, websocket, lambda] {
            let listener = port.listener()?;
            refusing.spawn(async move { refuse(&listener, std::future::pending()).await });
        }
        Ok(refusing)
    }

    /// Whether it is up.
    pub async fn condition(&self) -> Condition {
        match &*self.state.lock().await {
            State::Up(compute) => Condition::Up { processes: compute.functions.ps().len() },
            State::Down(_) => Condition::Down,
        }
    }

    /// When the schedules fire next, as of the moment at which the region came up.
    pub async fn upcoming(&self) -> Vec<Upcoming> {
        match &*self.state.lock().await {
            State::Up(compute) => compute.upcoming.clone(),
            State::Down(_) => Vec::new(),
        }
    }

    /// The addresses of its gateways, for the front door.
    pub(crate) fn gateways(&self) -> front_door::Region {
        front_door::Region {
            name: self.name.clone(),
            http: self.ports.http.address,
            websocket: self.ports.websocket.address,
            stage: stage(&self.stack).to_owned(),
        }
    }

    /// Its Secrets Manager, whose values can be changed also while the region is down.
    pub fn secrets(&self) -> &Arc<Secrets> {
        &self.services.secrets
    }

    /// The secrets of the stack that functions are told of in the environment variable `variable`.
    pub fn secrets_named_by(&self, variable: &str) -> impl Iterator<Item = &str> {
        let stack = &self.stack;
        stack.secrets.iter().map(String::as_str).filter(move |name| {
            let arn = stack.arns.secret(name);
            let values = stack.functions.iter().filter_map(|function| function.environment.get(variable));
            values.into_iter().any(|value| *value == arn || value == name)
        })
    }

    /// Functions that nothing in the template triggers.
    pub fn direct(&self) -> impl Iterator<Item = &str> {
        let stack = &self.stack;
        let http = stack.http_api.iter().flat_map(|api| api.routes.iter().map(|route| &route.function));
        let websocket =
            stack.websocket_api.iter().flat_map(|api| api.routes.values().map(|route| &route.function));
        let schedules = stack.schedules.iter().map(|schedule| &schedule.function);
        let queues = stack.event_sources.iter().map(|source| &source.function);
        let streams = stack.stream_sources.iter().map(|source| &source.function);
        let topics = stack.kafka_sources.iter().map(|source| &source.function);
        let sources = queues.chain(streams).chain(topics);
        let subscribed = stack.subscriptions.iter().map(|subscription| &subscription.target);
        let targets = stack.rules.iter().flat_map(|rule| rule.targets.iter().map(|target| &target.target));
        let delivered_to = subscribed.chain(targets).filter_map(|target| match target {
            Target::Function(name) => Some(name),
            Target::Queue(_) => None,
        });
        let triggered: BTreeSet<&String> =
            http.chain(websocket).chain(schedules).chain(sources).chain(delivered_to).collect();
        let names = stack.functions.iter().map(|function| &function.name);
        names.filter(move |name| !triggered.contains(name)).map(String::as_str)
    }

    /// Stops serving. When it returns, no process of the region is left.
    pub(crate) async fn stop(&self) {
        let mut state = self.state.lock().await;
        if let State::Up(compute) = std::mem::replace(&mut *state, State::Down(JoinSet::new())) {
            compute.stop().await;
        }
    }
}

fn spec(function: &Function, binary: PathBuf, controls: &Controls, endpoints: &Endpoints) -> FunctionSpec {
    let Access { arns, .. } = &*controls.access;
    let key = controls.access.key_of(&function.name);
    FunctionSpec {
        name: function.name.clone(),
        physical_name: function.physical_name.clone(),
        arn: arns.function(&function.physical_name),
        timeout: function.timeout,
        reserved_concurrency: function.reserved_concurrency,
        event_invoke: function.event_invoke.clone(),
        environment: environment::of(function, &binary, key, endpoints, arns),
        binary,
    }
}

/// The WebSocket API's stage.
fn stage(stack: &Stack) -> &str {
    stack.websocket_api.as_ref().map_or("", |api| api.stage.as_str())
}

fn ready(stack: &Stack, endpoints: Endpoints, controls: &Controls, [http, websocket]: [&Port; 2]) -> Ready {
    let operator = controls.access.operator();
    Ready {
        http: format!("http://{}", http.address),
        ws: format!("ws://{}/{}", websocket.address, stage(stack)),
        lambda: endpoints.lambda,
        dynamodb: endpoints.dynamodb,
        s3: endpoints.s3,
        secrets_manager: endpoints.secrets_manager,
        sqs: endpoints.sqs,
        sns: endpoints.sns,
        eventbridge: endpoints.eventbridge,
        region: stack.arns.region().to_owned(),
        tables: stack.tables.iter().map(|table| (table.logical_id.clone(), table.name.clone())).collect(),
        access_key_id: operator.access_key_id.clone(),
        secret_access_key: operator.secret_access_key.clone(),
    }
}
