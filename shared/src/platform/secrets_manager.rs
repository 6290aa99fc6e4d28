//! Keys from AWS Secrets Manager. Read when the function starts; a new value takes effect with the next process, and new
//! sealing keys also as soon as a process needs one ([`crate::identity::seal::SealingKeys::fetch`]).
//!
//! What a secret holds is a type ([`Secret`]), which knows the variable that names it and how its text is read. Every
//! sentence about what went wrong names the variable and the secret, and none shows its content.

use std::error::Error as StdError;
use std::fmt::{self, Display};

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;

use crate::core::env::{ConfigError, Env};
use crate::core::redacted::Redacted;

/// What a secret's text is read into.
pub trait Secret: Sized {
    /// The variable that names the secret: by its ARN or its name.
    const VARIABLE: &'static str;
    /// What the text has to be, in words for the operator who is to put it there.
    const CONTENT: &'static str;
    /// Why text is not that. Its sentence repeats nothing of the text.
    type Invalid: Display;

    /// Reads the text.
    fn read(text: &Redacted<String>) -> Result<Self, Self::Invalid>;
}

/// Why a function does not have its key.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// Secrets Manager did not give it.
    #[error("the secret {secret} ({variable}) cannot be read: {code}")]
    Unreadable {
        /// The variable that names it.
        variable: &'static str,
        /// Its name or ARN.
        secret: String,
        /// Secrets Manager's error code, or what became of the call.
        code: String,
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The secret holds bytes, or nothing yet.
    #[error("the secret {secret} ({variable}) holds no text; put {content} into it")]
    NoText {
        /// The variable that names it.
        variable: &'static str,
        /// Its name or ARN.
        secret: String,
        /// What it is to hold.
        content: &'static str,
    },
    /// The secret's text is something else.
    #[error("the secret {secret} ({variable}) is wrong: {reason}")]
    Malformed {
        /// The variable that names it.
        variable: &'static str,
        /// Its name or ARN.
        secret: String,
        /// What is wrong with its text.
        reason: String,
    },
}

/// Reads secrets again, after the start.
pub struct SecretsManager {
    pub client: Client,
    pub env: Env,
}

impl SecretsManager {
    /// What the secret holds now that [`Secret::VARIABLE`] names.
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

/// What the secret holds that [`Secret::VARIABLE`] names.
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
