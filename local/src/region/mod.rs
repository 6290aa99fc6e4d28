//! A running region, put together from the template.
//!
//! 1. Bind every port, read the token keys, load the template: what can be wrong is found out first.
//! 2. Build the functions, unless they are built.
//! 3. Start the services with the template's tables, buckets, queues and secrets; then the functions' pools (processes
//!    start with the first invocation), Lambda's API and the region's own, the two gateways, the schedules, and what
//!    hands messages of queues to functions.
//! 4. Only then write the ready file.
//! 5. To stop: remove the ready file, accept nothing new, answer what has begun, end the processes, stop the services.

mod browser_guard;
mod build;
pub mod control;
mod data;
mod environment;
mod error;
mod ports;
mod ready;
mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::SystemClock;
use crate::event_sources::EventSources;
use crate::functions::events::Destinations;
use crate::functions::{FunctionSpec, Functions, Settings};
use crate::keys::{KeyError, KeyRing, SealingKeys, SigningKey};
use crate::logs::Logs;
use crate::schedules::{Schedules, Upcoming};
use crate::services::Controls;
use crate::services::access::Access;
use crate::services::dynamodb::{DynamoDb, Storage};
use crate::services::s3::S3;
use crate::services::secrets::Secrets;
use crate::services::sqs::{Queues, Sqs};
use crate::template::arn;
use crate::template::model::{Function, REGION, Stack};
use crate::template::{self, Context, TemplateError, samconfig};
use build::{BuildError, Workspace};
use control::Control;
pub(crate) use data::DataFolder;
use environment::Endpoints;
pub use error::RegionError;
use ports::Port;
use ready::Published;
pub use ready::{Ready, ReadyError};
use servers::Servers;

/// The template's parameter that takes the public keys.
pub(crate) const JWKS_PARAMETER: &str = "TokenJwks";

/// The variable by which a function is told which secret holds the signing key.
const SIGNING_KEY_VARIABLE: &str = "TOKEN_SIGNING_KEY_SECRET";

/// Likewise for the keys that seal session payloads.
const SEALING_KEYS_VARIABLE: &str = "SESSION_SEALING_KEYS_SECRET";

/// How often expired items are deleted. DynamoDB takes days; every read checks the expiry itself anyway.
const TTL_SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Where the messages of the queues are, in the data folder.
const QUEUES_FILE: &str = "queues.db";

/// What to run, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// template.yaml.
    pub template: PathBuf,
    /// Values of the template's parameters. They come before samconfig.toml's.
    pub parameters: BTreeMap<String, String>,
    /// The HTTP API's address.
    pub http: SocketAddr,
    /// The WebSocket API's address.
    pub websocket: SocketAddr,
    /// Where everything is kept; in memory if nowhere.
    pub data: Option<PathBuf>,
    /// Written when all is up.
    pub ready_file: Option<PathBuf>,
    /// Cargo's profile of the functions.
    pub profile: String,
    /// Whether they are built first.
    pub build: Build,
    /// Bounds of the pools.
    pub settings: Settings,
}

/// Whether the functions are built before they are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// With cargo.
    First,
    /// They are built already.
    Not,
}

/// Hears how the start goes on.
pub trait Progress {
    /// A phase begins.
    fn begin(&mut self, phase: &str);
    /// Within the phase.
    fn step(&mut self, what: &str);
    /// The phase is over.
    fn done(&mut self, result: &str);
}

/// A running region.
pub struct Region {
    /// What the template says.
    pub stack: Stack,
    /// Where everything is.
    pub ready: Ready,
    /// When the schedules fire next, as of the start.
    pub upcoming: Vec<Upcoming>,
    functions: Arc<Functions>,
    services: Services,
    servers: Servers,
    /// The entry in the list of running regions, and the ready file.
    published: Vec<Published>,
    data: Option<DataFolder>,
}

/// Held for as long as they are to run.
struct Services {
    dynamodb: DynamoDb,
    s3: S3,
    secrets: Arc<Secrets>,
    sealing_keys: SealingKeys,
    sqs: Sqs,
    queues: Arc<Queues>,
}

impl Region {
    /// Starts everything.
    pub async fn start(
        options: &Options,
        logs: &Logs,
        progress: &mut impl Progress,
    ) -> Result<Self, RegionError> {
        let http = ports::bind(options.http, "--http").await?;
        let websocket = ports::bind(options.websocket, "--ws").await?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let lambda = ports::bind(any, "another one").await?;
        let sqs = ports::bind(any, "another one").await?;

        let data = options.data.as_deref().map(DataFolder::open).transpose()?;
        let keys = token_keys(data.as_ref())?;
        let stack = load_template(options, &keys, [&http, &websocket, &sqs])?;

        let workspace = build(options, &stack, progress).await?;

        progress.begin("starting tables, buckets, queues and secrets");
        let controls = Controls::new(Access::new(&stack));
        let services = Services::start(&stack, options.data.as_deref(), &controls, keys.signing(), sqs)?;
        progress.done(&summary(&stack));

        let endpoints = services.endpoints(&lambda);
        let specs = stack.functions.iter().map(|function| spec(function, &workspace, &controls, &endpoints));
        let specs = specs.collect::<Result<Vec<_>, _>>()?;
        let queues = Arc::clone(&services.queues);
        let destinations = Destinations { queues: Arc::clone(&queues), access: Arc::clone(&controls.access) };
        let functions = Functions::new(specs, &options.settings, logs, destinations);
        let schedules = Schedules::new(stack.schedules.clone(), Arc::clone(&functions), SystemClock)?;
        let schedules = Arc::new(schedules.with_queues(Arc::clone(&queues)));
        let event_sources =
            EventSources::new(&stack.event_sources, Arc::clone(&queues), Arc::clone(&functions));
        let upcoming = schedules.upcoming();
        let ready = ready(&stack, endpoints, &controls, [&http, &websocket]);

        let control = Control {
            functions: Arc::clone(&functions),
            schedules: Arc::clone(&schedules),
            queues,
            logs: logs.clone(),
            sealing_keys: services.sealing_keys.clone(),
            services: controls.clone(),
        };
        let mut servers = Servers::default();
        servers.spawn(|stopped| servers::serve_apis(lambda.listener, control, stopped));
        servers.spawn_gateways(&stack, &functions, &controls, [http, websocket])?;
        servers.spawn(|stopped| async move { schedules.run(stopped).await });
        servers.spawn(|stopped| async move { event_sources.run(stopped).await });

        let mut published = vec![Published::in_list(&ready)?];
        if let Some(path) = &options.ready_file {
            published.push(Published::at(path, &ready)?);
        }
        Ok(Self { stack, ready, upcoming, functions, services, servers, published, data })
    }

    /// Functions that nothing in the template triggers.
    pub fn direct(&self) -> impl Iterator<Item = &str> {
        let stack = &self.stack;
        let http = stack.http_api.iter().flat_map(|api| api.routes.iter().map(|route| &route.function));
        let websocket =
            stack.websocket_api.iter().flat_map(|api| api.routes.values().map(|route| &route.function));
        let schedules = stack.schedules.iter().map(|schedule| &schedule.function);
        let queues = stack.event_sources.iter().map(|source| &source.function);
        let triggered: BTreeSet<&String> = http.chain(websocket).chain(schedules).chain(queues).collect();
        let names = stack.functions.iter().map(|function| &function.name);
        names.filter(move |name| !triggered.contains(name)).map(String::as_str)
    }

    /// Stops everything. When it returns, no process of the region is left.
    pub async fn stop(self) {
        let Self { functions, services, servers, published, data, .. } = self;
        drop(published);
        // The gateways answer what has begun while the functions still run.
        servers.stop().await;
        functions.shut_down().await;
        drop(services);
        // Last: the next region may have the folder when nothing writes to it any more.
        drop(data);
    }
}

impl Services {
    fn start(
        stack: &Stack,
        data: Option<&Path>,
        controls: &Controls,
        key: &SigningKey,
        sqs: Port,
    ) -> Result<Self, RegionError> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let storage = data.map_or(Storage::Memory, Storage::Folder);
        let dynamodb = DynamoDb::start(any, storage, &stack.tables, controls.clone())?
            .sweep_every(TTL_SWEEP_INTERVAL)?;
        let objects = data.map(|data| data.join("s3"));
        let s3 = S3::start(any, objects.as_deref(), &stack.buckets, controls.clone())?;
        let secrets = Arc::new(Secrets::start(any, data, controls.clone())?);
        for name in secrets_named_by(SIGNING_KEY_VARIABLE, stack) {
            secrets.put(name, &key.private_jwk())?;
        }
        let sealing_secrets = secrets_named_by(SEALING_KEYS_VARIABLE, stack).map(str::to_owned).collect();
        let sealing_keys = SealingKeys::open(Arc::clone(&secrets), sealing_secrets)?;
        let messages = data.map(|data| data.join(QUEUES_FILE));
        let queues = Arc::new(Queues::open(messages.as_deref(), &stack.queues, SystemClock)?);
        let sqs = Sqs::start(sqs.into_std()?, Arc::clone(&queues), controls.clone())?;
        Ok(Self { dynamodb, s3, secrets, sealing_keys, sqs, queues })
    }

    fn endpoints(&self, lambda: &Port) -> Endpoints {
        Endpoints {
            dynamodb: self.dynamodb.endpoint_url(),
            s3: self.s3.endpoint_url(),
            secrets_manager: self.secrets.endpoint_url(),
            sqs: self.sqs.endpoint_url(),
            lambda: format!("http://{}", lambda.address),
        }
    }
}

/// The secrets that functions are told of in the environment variable `variable`.
fn secrets_named_by<'a>(variable: &str, stack: &'a Stack) -> impl Iterator<Item = &'a str> {
    stack.secrets.iter().map(String::as_str).filter(move |name| {
        let by_arn = arn::secret(name);
        let values = stack.functions.iter().filter_map(|function| function.environment.get(variable));
        values.into_iter().any(|value| *value == by_arn || value == name)
    })
}

fn token_keys(data: Option<&DataFolder>) -> Result<KeyRing, KeyError> {
    match data {
        Some(folder) => KeyRing::load_or_generate(folder.path()),
        None => KeyRing::generate(),
    }
}

fn load_template(
    options: &Options,
    keys: &KeyRing,
    [http, websocket, sqs]: [&Port; 3],
) -> Result<Stack, TemplateError> {
    let mut parameters = samconfig::overrides(&options.template)?;
    parameters.extend(options.parameters.clone());
    parameters.insert(JWKS_PARAMETER.to_owned(), keys.public_jwks());
    let context = Context {
        parameters,
        http_url: format!("http://{}", http.address),
        websocket_url: format!("ws://{}", websocket.address),
        sqs_url: format!("http://{}", sqs.address),
    };
    template::load(&options.template, &context)
}

async fn build(
    options: &Options,
    stack: &Stack,
    progress: &mut impl Progress,
) -> Result<Workspace, BuildError> {
    let root =
        options.template.parent().filter(|root| !root.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let workspace = Workspace::find(root, &options.profile).await?;
    if options.build == Build::First {
        progress.begin("building the functions");
        workspace.build(|target| progress.step(target)).await?;
        progress.done(&format!("{} functions built ({})", stack.functions.len(), options.profile));
    }
    Ok(workspace)
}

fn spec(
    function: &Function,
    workspace: &Workspace,
    controls: &Controls,
    endpoints: &Endpoints,
) -> Result<FunctionSpec, BuildError> {
    let binary = workspace.binary(&function.name)?;
    let key = controls.access.key_of(&function.name);
    Ok(FunctionSpec {
        name: function.name.clone(),
        physical_name: function.physical_name.clone(),
        arn: arn::function(&function.physical_name),
        timeout: function.timeout,
        reserved_concurrency: function.reserved_concurrency,
        event_invoke: function.event_invoke.clone(),
        environment: environment::of(function, &binary, key, endpoints),
        binary,
    })
}

/// `1 bucket`, `2 buckets`.
fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// `2 tables, 1 bucket, ...`.
fn summary(stack: &Stack) -> String {
    let counts = [
        count(stack.tables.len(), "table"),
        count(stack.buckets.len(), "bucket"),
        count(stack.queues.len(), "queue"),
        count(stack.secrets.len(), "secret"),
    ];
    counts.join(", ")
}

fn ready(stack: &Stack, endpoints: Endpoints, controls: &Controls, [http, websocket]: [&Port; 2]) -> Ready {
    let operator = controls.access.operator();
    let stage = stack.websocket_api.as_ref().map_or("", |api| api.stage.as_str());
    Ready {
        http: format!("http://{}", http.address),
        ws: format!("ws://{}/{stage}", websocket.address),
        lambda: endpoints.lambda,
        dynamodb: endpoints.dynamodb,
        s3: endpoints.s3,
        secrets_manager: endpoints.secrets_manager,
        sqs: endpoints.sqs,
        region: REGION.to_owned(),
        access_key_id: operator.access_key_id.clone(),
        secret_access_key: operator.secret_access_key.clone(),
    }
}
