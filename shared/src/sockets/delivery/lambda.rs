//! Handing on by an asynchronous invocation of the function itself.

use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use serde_json::json;

use super::{Continuation, Continue, NotHandedOn};
use crate::core::env::{ConfigError, Env};

/// Invokes this function again, as an event: Lambda stores it before it answers, retries it, and sends what fails for
/// good to the function's dead-letter queue.
///
/// The event is `{"continuation": {message, target, cursor, hop}}`. With a message of at most 128 KB it is far from
/// Lambda's limit of 1 MB for asynchronous payloads.
#[derive(Debug, Clone)]
pub struct SelfInvocation {
    client: Client,
    function: String,
}

impl SelfInvocation {
    /// Reads `AWS_LAMBDA_FUNCTION_NAME`, which Lambda sets.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { client, function: env.required("AWS_LAMBDA_FUNCTION_NAME")?.to_owned() })
    }
}

impl Continue for SelfInvocation {
    async fn hand_on(&self, continuation: &Continuation) -> Result<(), NotHandedOn> {
        let event = json!({ "continuation": continuation }).to_string();
        self.client
            .invoke()
            .function_name(&self.function)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(event))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| NotHandedOn(error.into()))
    }
}
