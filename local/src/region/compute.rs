//! The stateless part of a region: the functions' processes, the gateways, Lambda's API and the
//! control API, the schedules and the event sources. It ends when the region goes down, and is
//! started again when it comes up.

use std::sync::Arc;

use axum::Router;
use tokio::runtime::Handle;

use super::control::Control;
use super::error::RegionError;
use super::servers::{self, Servers};
use super::{Ports, Region};
use crate::clock::SystemClock;
use crate::event_sources::{EventSources, StreamParts, check_queues};
use crate::functions::Functions;
use crate::functions::events::Destinations;
use crate::functions::outcome::{HandOver, HandedOver};
use crate::schedules::{Schedules, Upcoming};
use crate::services::delivery::InvokeFunction;

/// Ends with [`Compute::stop`] or [`Compute::die`]. Dropped, its tasks end, and its processes when
/// their connections break.
pub(super) struct Compute {
    pub(super) functions: Arc<Functions>,
    pub(super) upcoming: Vec<Upcoming>,
    servers: Servers,
}

impl Compute {
    pub(super) fn start(region: &Region, routes: &Router) -> Result<Self, RegionError> {
        let Region { stack, services, controls, settings, logs, specs, .. } = region;
        let queues = &services.queues;
        let destinations = Destinations { queues: Arc::clone(queues), access: Arc::clone(&controls.access) };
        let functions = Functions::new(specs.clone(), settings, logs, destinations.clone());
        services.deliveries.connect(invoke(&functions));
        let schedules = Schedules::new(stack.schedules.clone(), Arc::clone(&functions), SystemClock)?;
        let schedules = Arc::new(schedules.with_queues(Arc::clone(queues)));
        check_queues(&stack.event_sources, &controls.access)?;
        let mut event_sources =
            EventSources::new(&stack.event_sources, Arc::clone(queues), Arc::clone(&functions))
                .with_topics(&stack.kafka_sources);
        if let Some(streams) = services.dynamodb.streams() {
            let checkpoints = Arc::clone(&services.checkpoints);
            let parts = StreamParts { streams, checkpoints, destinations, clock: Arc::new(SystemClock) };
            event_sources = event_sources.with_streams(&stack.stream_sources, &parts)?;
        }
        let upcoming = schedules.upcoming();
        let control = Control {
            functions: Arc::clone(&functions),
            schedules: Arc::clone(&schedules),
            queues: Arc::clone(queues),
            deliveries: Arc::clone(&services.deliveries),
            logs: logs.clone(),
            routes: routes.clone(),
            services: controls.clone(),
        };
        let Ports { http, websocket, lambda } = &region.ports;
        let mut servers = Servers::default();
        let apis = servers::region_apis(control);
        let listener = lambda.listener()?;
        servers.spawn(|stopped| servers::serve_apis(listener, apis, stopped));
        let gateways = [http.listener()?, websocket.listener()?];
        servers.spawn_gateways(stack, &functions, controls, gateways)?;
        servers.spawn(|stopped| async move { schedules.run(stopped).await });
        servers.spawn(|stopped| async move { event_sources.run(stopped).await });
        Ok(Self { functions, upcoming, servers })
    }

    /// Accepts no requests, answers the pending ones, ends the processes. When it returns, none is
    /// left.
    pub(super) async fn stop(self) {
        // The gateways answer pending requests while the functions still run.
        self.servers.stop().await;
        self.functions.shut_down().await;
    }

    /// Ends everything at once, pending requests too. When it returns, no process is left.
    pub(super) async fn die(self) {
        self.servers.die().await;
        self.functions.die().await;
    }
}

/// How SNS and `EventBridge` invoke functions. They call from threads of their own, and what an
/// invocation spawns belongs to the region's runtime. Functions that have gone with their region
/// are throttled: the delivery is tried again.
fn invoke(functions: &Arc<Functions>) -> InvokeFunction {
    let (functions, runtime) = (Arc::downgrade(functions), Handle::current());
    Box::new(move |function, payload| {
        let Some(functions) = functions.upgrade() else { return HandedOver::Throttled };
        let _runtime = runtime.enter();
        functions.hand_over(function, payload)
    })
}
