//! API Gateway's `@connections` API: posting to a connection, and closing it.
//!
//! [`retry`] repeats a call for [`RETRY_FOR`] at most: a throttled call as often as time allows,
//! any other failure once.

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_apigatewaymanagement::Client;
use aws_sdk_apigatewaymanagement::config::http::HttpResponse;
use aws_sdk_apigatewaymanagement::config::{Builder, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_apigatewaymanagement::error::SdkError;
use aws_sdk_apigatewaymanagement::primitives::Blob;

use super::Frame;
use crate::core::deadline::Deadline;
use crate::core::ids::ConnectionId;
use crate::core::retry::Backoff;
use crate::sockets::connections::CallbackEndpoint;

/// Timeout of one call. A call is one short request within the region; a longer one is lost.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long a call is retried. A client whose buffer is still full by then does not read, and
/// waiting longer would delay the sender's acknowledgement.
const RETRY_FOR: Duration = Duration::from_secs(2);

/// Most attempts of a call that fails for another reason than throttling. A broken connection or a
/// server error deserves a second attempt.
const MAX_FAILURES: u32 = 2;

/// No call starts later than this before the deadline: time for retries, and a last attempt that
/// times out.
pub const LAST_START_MARGIN: Duration = RETRY_FOR.saturating_add(CALL_TIMEOUT);

/// Why a call for one connection failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum GatewayError {
    /// 410: the connection is closed, or its handshake is not answered yet.
    #[error("the connection is gone")]
    Gone,
    /// 429: too many calls, or the receiver's buffer is full. A later call may succeed.
    #[error("the call was throttled")]
    Throttled,
    /// 413: the frame is larger than the gateway accepts.
    #[error("the frame is too large for the gateway")]
    TooLarge,
    /// Anything else: forbidden, a server error, no answer in time.
    #[error("the call failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

impl<E: Error + Send + Sync + 'static> From<SdkError<E, HttpResponse>> for GatewayError {
    /// The API documents one status per case. A 429 may also be the account's request quota, which
    /// has no exception type.
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        match error.raw_response().map(|answer| answer.status().as_u16()) {
            Some(410) => Self::Gone,
            Some(413) => Self::TooLarge,
            Some(429) => Self::Throttled,
            _ => Self::Failed(Box::new(error)),
        }
    }
}

/// Calls the API with the AWS SDK; one client, and so one connection pool, per endpoint.
///
/// The map has an entry per WebSocket API that shares the registry: one, or two while a custom
/// domain is being introduced. Clones share it.
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

    /// Posts `frame` to one connection, without retries.
    pub(super) async fn post(
        &self,
        endpoint: &CallbackEndpoint,
        connection_id: &ConnectionId,
        frame: &Frame,
    ) -> Result<(), GatewayError> {
        let request = self.client(endpoint).post_to_connection().connection_id(connection_id.as_str());
        let request = request.data(Blob::new(frame.as_str()));
        Box::pin(request.send()).await?;
        Ok(())
    }

    /// Closes one connection, without retries. The gateway first sends what was posted before.
    pub(super) async fn close(
        &self,
        endpoint: &CallbackEndpoint,
        connection_id: &ConnectionId,
    ) -> Result<(), GatewayError> {
        let request = self.client(endpoint).delete_connection().connection_id(connection_id.as_str());
        Box::pin(request.send()).await?;
        Ok(())
    }

    fn client(&self, endpoint: &CallbackEndpoint) -> Client {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.entry(endpoint.clone()).or_insert_with(|| self.connect(endpoint)).clone()
    }

    /// The SDK's own retries are off: they would wait a second for a conflict of milliseconds, and
    /// are not counted.
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

/// Repeats `call` until it succeeds, its error is final, or time is up. [`GatewayError::Gone`] is
/// final unless `may_be_opening` says that the handshake may not be answered yet.
pub(super) async fn retry<F>(
    deadline: Deadline,
    call: impl Fn() -> F,
    may_be_opening: impl Fn() -> bool,
) -> Result<(), GatewayError>
where
    F: Future<Output = Result<(), GatewayError>>,
{
    let mut backoff = Backoff::within(Deadline::after(RETRY_FOR).min(deadline));
    let mut failures = 0;
    loop {
        let Err(error) = call().await else { return Ok(()) };
        let may_pass = match error {
            GatewayError::Gone => may_be_opening(),
            GatewayError::Throttled => true,
            GatewayError::TooLarge => false,
            GatewayError::Failed(_) => {
                failures += 1;
                failures < MAX_FAILURES
            }
        };
        if !may_pass || !backoff.wait().await {
            return Err(error);
        }
    }
}
