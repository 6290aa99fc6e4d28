//! The signing key's home: AWS Secrets Manager. Read once, when the function starts; a new key takes effect with the
//! next process.

use std::error::Error as StdError;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;

use super::SigningKey;
use super::keys::InvalidKey;
use crate::env::{ConfigError, Env};
use crate::redacted::Redacted;

/// Variable that names the secret: an ARN or a name.
const TOKEN_SIGNING_KEY_SECRET: &str = "TOKEN_SIGNING_KEY_SECRET";

/// Why the function cannot sign. Each sentence names the secret, none its content.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// The variable is not set.
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// Secrets Manager did not give it.
    #[error("the secret {secret} (TOKEN_SIGNING_KEY_SECRET) cannot be read: {code}")]
    Unreadable {
        /// Its name or ARN.
        secret: String,
        /// Secrets Manager's error code, or what became of the call.
        code: String,
        /// The cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The secret holds bytes, or nothing yet.
    #[error(
        "the secret {secret} (TOKEN_SIGNING_KEY_SECRET) holds no text; put a private Ed25519 JWK into it"
    )]
    NoText {
        /// Its name or ARN.
        secret: String,
    },
    /// The secret's text is no private Ed25519 JWK.
    #[error("the secret {secret} (TOKEN_SIGNING_KEY_SECRET) is wrong: {reason}")]
    Malformed {
        /// Its name or ARN.
        secret: String,
        /// What is wrong with it.
        reason: InvalidKey,
    },
}

/// The private key from the secret that `TOKEN_SIGNING_KEY_SECRET` names.
pub async fn signing_key(client: &Client, env: &Env) -> Result<SigningKey, SigningKeyError> {
    let secret = env.required(TOKEN_SIGNING_KEY_SECRET)?.to_owned();
    let answer = match client.get_secret_value().secret_id(&secret).send().await {
        Ok(answer) => answer,
        Err(error) => {
            let code = error.code().unwrap_or("Secrets Manager did not answer").to_owned();
            return Err(SigningKeyError::Unreadable { secret, code, source: Box::new(error) });
        }
    };
    match answer.secret_string.map(Redacted::new) {
        Some(text) => {
            SigningKey::from_jwk(&text).map_err(|reason| SigningKeyError::Malformed { secret, reason })
        }
        None => Err(SigningKeyError::NoText { secret }),
    }
}
