//! Signing of access tokens.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, Header, encode};

use super::keys::{PublicKeys, TOKEN_JWKS};
use super::{ACCESS_TOKEN_LIFETIME, Claims, Role, SigningKey, TOKEN_TYPE};
use crate::core::clock::SharedClock;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{SessionId, UserId};
use crate::core::redacted::Redacted;

/// The cryptographic library refused to sign. 500.
#[derive(Debug, thiserror::Error)]
#[error("the access token could not be signed")]
pub struct SigningFailed(#[source] jsonwebtoken::errors::Error);

/// A signed token.
#[derive(Debug, Clone)]
pub struct AccessToken {
    pub text: Redacted<String>,
    pub expires_at: Timestamp,
}

/// Signs access tokens.
#[derive(Clone)]
pub struct TokenSigner {
    key: SigningKey,
    issuer: String,
    audience: String,
    clock: SharedClock,
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSigner").field("kid", &self.key.public().kid()).finish_non_exhaustive()
    }
}

impl TokenSigner {
    /// A signer with `key`, for the `TOKEN_ISSUER` and `TOKEN_AUDIENCE` of the environment. Fails
    /// if `TOKEN_JWKS` lacks the key's public part: no function could verify its tokens, and every
    /// sign-in would end in a 401.
    pub fn from_env(env: &Env, key: SigningKey, clock: SharedClock) -> Result<Self, ConfigError> {
        if !PublicKeys::from_env(env)?.verify_what_signs(&key) {
            let reason = format!("it lacks the public part of the signing key {:?}", key.public().kid());
            return Err(ConfigError::Invalid { variable: TOKEN_JWKS, reason });
        }
        let issuer = env.required("TOKEN_ISSUER")?.to_owned();
        let audience = env.required("TOKEN_AUDIENCE")?.to_owned();
        Ok(Self { key, issuer, audience, clock })
    }

    /// Signs a token for the session of a user who has `roles` and signed in at `signed_in_at`.
    pub fn sign(
        &self,
        user: &UserId,
        session: &SessionId,
        signed_in_at: Timestamp,
        roles: &BTreeSet<Role>,
    ) -> Result<AccessToken, SigningFailed> {
        let issued_at = self.clock.now().as_second();
        let lifetime = i64::try_from(ACCESS_TOKEN_LIFETIME.as_secs()).unwrap_or(i64::MAX);
        let expires_at = issued_at.saturating_add(lifetime);
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: user.clone(),
            sid: session.clone(),
            auth_time_ms: signed_in_at.as_millisecond(),
            roles: roles.clone(),
            iat: issued_at,
            exp: expires_at,
            nbf: None,
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TOKEN_TYPE.to_owned());
        header.kid = Some(self.key.public().kid().to_owned());
        let text = encode(&header, &claims, self.key.encoding_key()).map_err(SigningFailed)?;
        Ok(AccessToken {
            text: Redacted::new(text),
            expires_at: Timestamp::from_second(expires_at).unwrap_or(Timestamp::MAX),
        })
    }
}
