//! Keys from AWS Secrets Manager. They are read when the function starts; a new value takes effect
//! with the next process, and new sealing keys also as soon as a process needs one
//! ([`crate::identity::seal::SealingKeys::fetch`]).
//!
//! The type of a secret ([`Secret`]) knows the variable that names it and parses its text. Every
//! error names the variable and the secret, and none contains the secret's value.

use std::error::Error as StdError;
use std::fmt::{self, Display};

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;

use crate::core::env::{ConfigError, Env};
use crate::core::redacted::Redacted;

/// The parsed value of a secret.
pub trait Secret: Sized {
    /// The variable with the ARN or name of the secret.
    const VARIABLE: &'static str;
    /// What the text has to be, for the operator who puts it there.
    const CONTENT: &'static str;
    /// Why the text is invalid. Must not contain the text.
    type Invalid: Display;

    /// Reads the text.
    fn read(text: &Redacted<String>) -> Result<Self, Self::Invalid>;
}

/// Why a function did not get a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// Secrets Manager did not return it.
    #[error("the secret {secret} ({variable}) cannot be read: {code}")]
    Unreadable {
        /// The variable that names it.
        variable: &'static str,
        /// Its name or ARN.
        secret: String,
        /// Secrets Manager's error code, or how the call failed.
        code: String,
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The secret is binary or empty.
    #[error("the secret {secret} ({variable}) has no text; put {content} into it")]
    NoText {
        /// The variable that names it.
        variable: &'static str,
        /// Its name or ARN.
        secret: String,
        /// What it should contain.
        content: &'static str,
    },
    /// The secret's text is invalid.
    #[error("the secret {secret} ({variable}) is wrong: {reason}")]
    Malformed {
        /// The variable that names it.
        variable: &'static str,
        /// Its name or ARN.
        secret: String,
        /// What is wrong with the text.
        reason: String,
    },
}

/// Reads secrets after the start.
pub struct SecretsManager {
    pub client: Client,
    pub env: Env,
}

impl SecretsManager {
    /// The current value of the secret that [`Secret::VARIABLE`] names.
    pub async fn secret<S: Secret>(&self) -> Result<S, SecretError> {
        read(&self.client, &self.env).await
    }
}

/// The environment may hold a secret.
impl fmt::Debug for SecretsManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretsManager").finish_non_exhaustive()
    }
}

/// The value of the secret that [`Secret::VARIABLE`] names.
pub async fn read<S: Secret>(client: &Client, env: &Env) -> Result<S, SecretError> {
    let variable = S::VARIABLE;
    let secret = env.required(variable)?.to_owned();
    let answer = match client.get_secret_value().secret_id(&secret).send().await {
        Ok(answer) => answer,
        Err(error) => {
            let code = error.code().unwrap_or("Secrets Manager did not answer").to_owned();
            return Err(SecretError::Unreadable { variable, secret, code, source: Box::new(error) });
        }
    };
    match answer.secret_string.map(Redacted::new) {
        Some(text) => S::read(&text).map_err(|reason| SecretError::Malformed {
            variable,
            secret,
            reason: reason.to_string(),
        }),
        None => Err(SecretError::NoText { variable, secret, content: S::CONTENT }),
    }
}
