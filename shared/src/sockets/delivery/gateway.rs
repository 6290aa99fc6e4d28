//! API Gateway's `@connections` interface: posting to a socket and closing it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_apigatewaymanagement::Client;
use aws_sdk_apigatewaymanagement::config::{Builder, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_apigatewaymanagement::error::SdkError;
use aws_sdk_apigatewaymanagement::operation::delete_connection::DeleteConnectionError;
use aws_sdk_apigatewaymanagement::operation::post_to_connection::PostToConnectionError;
use aws_sdk_apigatewaymanagement::primitives::Blob;

use super::{CloseConnection, CloseError, Frame, PostError, PostToConnection};
use crate::core::ids::ConnectionId;
use crate::sockets::connections::CallbackEndpoint;

/// HTTP 429 without one of the interface's own exceptions is the account's request quota.
const TOO_MANY_REQUESTS: u16 = 429;

/// A call is one short request to an endpoint of the same region; past this it is lost, and another try is the better
/// bet. Part of [`super::LAST_START_MARGIN`].
pub(super) const CALL_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Posts and closes with the AWS SDK; one client, and so one pool of connections, per endpoint.
///
/// The map is as small as the number of WebSocket APIs whose connections share a registry: one, or two while a custom
/// domain is being introduced. A clone shares it.
#[derive(Debug, Clone)]
pub struct ApiGateway {
    sdk: SdkConfig,
    clients: Arc<Mutex<HashMap<CallbackEndpoint, Client>>>,
}

impl ApiGateway {
    /// Calls with the credentials and region of `sdk`.
    pub fn new(sdk: SdkConfig) -> Self {
        Self { sdk, clients: Arc::default() }
    }

    fn client(&self, endpoint: &CallbackEndpoint) -> Client {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.entry(endpoint.clone()).or_insert_with(|| self.connect(endpoint)).clone()
    }

    /// The SDK's own retries are off: they would wait a second for what is over in milliseconds, and count nothing.
    fn connect(&self, endpoint: &CallbackEndpoint) -> Client {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CALL_TIMEOUT)
            .operation_attempt_timeout(CALL_TIMEOUT)
            .operation_timeout(CALL_TIMEOUT)
            .build();
        let config = Builder::from(&self.sdk)
            .endpoint_url(endpoint.as_str())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .build();
        Client::from_conf(config)
    }
}

impl PostToConnection for ApiGateway {
    async fn post(
        &self,
        endpoint: &CallbackEndpoint,
        connection_id: &ConnectionId,
        frame: &Frame,
    ) -> Result<(), PostError> {
        let request = self.client(endpoint).post_to_connection().connection_id(connection_id.as_str());
        let request = request.data(Blob::new(frame.bytes().as_ref()));
        Box::pin(request.send()).await.map(|_| ()).map_err(post_error)
    }
}

impl CloseConnection for ApiGateway {
    async fn close(
        &self,
        endpoint: &CallbackEndpoint,
        connection_id: &ConnectionId,
    ) -> Result<(), CloseError> {
        let request = self.client(endpoint).delete_connection().connection_id(connection_id.as_str());
        Box::pin(request.send()).await.map(|_| ()).map_err(close_error)
    }
}

fn post_error(error: SdkError<PostToConnectionError>) -> PostError {
    match error.as_service_error() {
        Some(PostToConnectionError::GoneException(_)) => PostError::Gone,
        Some(PostToConnectionError::LimitExceededException(_)) => PostError::Throttled,
        Some(PostToConnectionError::PayloadTooLargeException(_)) => PostError::TooLarge,
        _ if is_over_quota(&error) => PostError::Throttled,
        _ => PostError::Failed(Box::new(error)),
    }
}

fn close_error(error: SdkError<DeleteConnectionError>) -> CloseError {
    match error.as_service_error() {
        Some(DeleteConnectionError::GoneException(_)) => CloseError::Gone,
        Some(DeleteConnectionError::LimitExceededException(_)) => CloseError::Throttled,
        _ if is_over_quota(&error) => CloseError::Throttled,
        _ => CloseError::Failed(Box::new(error)),
    }
}

fn is_over_quota<E>(error: &SdkError<E>) -> bool {
    error.raw_response().is_some_and(|answer| answer.status().as_u16() == TOO_MANY_REQUESTS)
}
