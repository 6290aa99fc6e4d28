//! Sending by SQS.

use std::time::Duration;

use aws_sdk_sqs::Client;

use super::{NotSent, Queue};
use crate::env::{ConfigError, Env};

/// [`Queue`] over one SQS queue. Calls `SendMessage`, nothing else.
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
        let seconds = i32::try_from(delay.as_secs()).unwrap_or(i32::MAX);
        let request =
            self.client.send_message().queue_url(&self.url).message_body(body).delay_seconds(seconds);
        match Box::pin(request.send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(NotSent { queue: self.url.clone(), source: Box::new(error) }),
        }
    }
}
