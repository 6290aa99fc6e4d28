//! The tasks of a region, which end when it stops.

use std::sync::Arc;

use axum::{Router, middleware};
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::browser_guard;
use super::control::{self, Control};
use super::error::RegionError;
use crate::functions::{Functions, lambda_api};
use crate::gateway::http::HttpFront;
use crate::gateway::listener;
use crate::gateway::websocket::{Limits, WebSocketFront};
use crate::services::{Controls, Hangup};
use crate::template::model::Stack;

/// Open connections to Lambda's API and the region's own. Each function that invokes others has one
/// or two.
const MAX_API_CONNECTIONS: usize = 1_024;

/// Running tasks.
#[derive(Default)]
pub(crate) struct Servers {
    shutdown: watch::Sender<()>,
    tasks: JoinSet<()>,
}

impl Servers {
    /// Spawns what `serve` makes of a future that is ready when the region stops.
    pub(crate) fn spawn<F>(&mut self, serve: impl FnOnce(Stopped) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(serve(Box::pin(stopped(self.shutdown.subscribe()))));
    }

    /// The template's APIs.
    pub(super) fn spawn_gateways(
        &mut self,
        stack: &Stack,
        functions: &Arc<Functions>,
        controls: &Controls,
        [http, websocket]: [TcpListener; 2],
    ) -> Result<(), RegionError> {
        if let Some(api) = &stack.http_api {
            let front = HttpFront::new(api, Arc::clone(functions))?;
            self.spawn(|stopped| front.serve(http, stopped));
        }
        if let Some(api) = &stack.websocket_api {
            let functions = Arc::clone(functions);
            let front = WebSocketFront::new(api.clone(), functions, controls.clone(), Limits::default())?;
            self.spawn(|stopped| front.serve(websocket, stopped));
        }
        Ok(())
    }

    /// Returns when every task has ended.
    pub(crate) async fn stop(mut self) {
        self.shutdown.send_replace(());
        while self.tasks.join_next().await.is_some() {}
    }

    /// Ends every task where it is, with its connections.
    pub(super) async fn die(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Ready when the region stops.
pub(crate) type Stopped = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

async fn stopped(mut shutdown: watch::Receiver<()>) {
    // An error means that the region was dropped.
    if shutdown.changed().await.is_err() {
        tracing::debug!("the region was dropped");
    }
}

/// Lambda's API and the region's own, for tools on this machine.
pub(super) fn region_apis(control: Control) -> Router {
    guarded(
        lambda_api::router(Arc::clone(&control.functions), control.services.clone())
            .merge(control::router(control)),
    )
}

/// The same without web pages among its clients.
pub(crate) fn guarded(api: Router) -> Router {
    api.layer(middleware::from_fn(browser_guard::refuse_pages))
}

/// Serves APIs for tools on this machine.
pub(crate) async fn serve_apis(listener: TcpListener, api: Router, stopped: Stopped) {
    let service_for = |_| {
        let api = api.clone();
        service_fn(move |request: Request<Incoming>| {
            let answered = api.clone().oneshot(request);
            async move {
                let response = answered.await.unwrap_or_else(|never| match never {});
                match response.extensions().get::<Hangup>() {
                    Some(&hangup) => Err(hangup),
                    None => Ok(response),
                }
            }
        })
    };
    listener::serve(listener, MAX_API_CONNECTIONS, service_for, stopped).await;
}
