//! The queue on SQS.

use std::time::Duration;

use aws_sdk_sqs::Client;

use super::{NotHidden, NotSent, Queue, Visibility};
use crate::core::env::{ConfigError, Env};

/// [`Queue`] and [`Visibility`] over one SQS queue. Calls `SendMessage` and `ChangeMessageVisibility`.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    client: Client,
    url: String,
}

impl SqsQueue {
    /// The queue whose URL `variable` holds.
    pub fn from_env(client: Client, env: &Env, variable: &'static str) -> Result<Self, ConfigError> {
        Ok(Self { client, url: env.required(variable)?.to_owned() })
    }
}

impl Queue for SqsQueue {
    /// The SDK sends what was lost again, so that there may be two of it.
    async fn send_later(&self, body: &str, delay: Duration) -> Result<(), NotSent> {
        let request =
            self.client.send_message().queue_url(&self.url).message_body(body).delay_seconds(seconds(delay));
        match Box::pin(request.send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(NotSent { queue: self.url.clone(), source: Box::new(error) }),
        }
    }
}

impl Visibility for SqsQueue {
    async fn hide(&self, receipt_handle: &str, timeout: Duration) -> Result<(), NotHidden> {
        let request = self
            .client
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(receipt_handle)
            .visibility_timeout(seconds(timeout));
        match Box::pin(request.send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(NotHidden { queue: self.url.clone(), source: Box::new(error) }),
        }
    }
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}
