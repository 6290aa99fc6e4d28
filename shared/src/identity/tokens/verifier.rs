//! Verification of access tokens.

use std::collections::HashMap;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};

use super::keys::PublicKeys;
use super::{CLOCK_SKEW, Claims, MAX_TOKEN_BYTES, TOKEN_MEDIA_TYPE, TOKEN_TYPE};
use crate::core::clock::SharedClock;
use crate::core::env::{ConfigError, Env};
use crate::identity::principal::Credential;

/// Why a token is refused. For the log; clients only learn that it was refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Longer than any valid token, or not a JWT.
    #[error("the token is not a JWT")]
    Malformed,
    /// `typ` is not that of an access token.
    #[error("the token is not an access token")]
    WrongType,
    /// `kid` is absent or unknown.
    #[error("the token was signed with an unknown key")]
    UnknownKey,
    /// `crit` is present: it names extensions that must be understood, and none is.
    #[error("the token demands an extension that is not understood")]
    Critical,
    /// Issued in the future, or valid from an instant in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Algorithm, signature, issuer, audience or expiry.
    #[error("the token does not verify")]
    Refused(#[source] jsonwebtoken::errors::Error),
}

/// Verifies access tokens with the configured public keys.
#[derive(Clone)]
pub struct TokenVerifier {
    keys: HashMap<String, DecodingKey>,
    validation: Validation,
    clock: SharedClock,
}

impl std::fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenVerifier").field("keys", &self.keys.keys()).finish_non_exhaustive()
    }
}

impl TokenVerifier {
    /// Reads `TOKEN_ISSUER`, `TOKEN_AUDIENCE` and `TOKEN_JWKS` (a JWK set of Ed25519 public keys).
    pub fn from_env(env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        let keys =
            PublicKeys::from_env(env)?.iter().map(|key| (key.kid().to_owned(), key.decoding_key())).collect();

        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[env.required("TOKEN_ISSUER")?]);
        validation.set_audience(&[env.required("TOKEN_AUDIENCE")?]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // Times are compared with the injected clock below.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Ok(Self { keys, validation, clock })
    }

    /// The caller of `token`.
    pub fn verify(&self, token: &str) -> Result<Credential, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
        if !header.typ.as_deref().is_some_and(is_access_token) {
            return Err(TokenError::WrongType);
        }
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let key = header.kid.and_then(|kid| self.keys.get(&kid)).ok_or(TokenError::UnknownKey)?;
        let claims = decode::<Claims>(token, key, &self.validation).map_err(TokenError::Refused)?.claims;

        let now = self.clock.now().as_second();
        let skew = i64::try_from(CLOCK_SKEW.as_secs()).unwrap_or(i64::MAX);
        if claims.iat.max(claims.nbf.unwrap_or(i64::MIN)) > now.saturating_add(skew) {
            return Err(TokenError::NotYetValid);
        }
        if claims.exp.saturating_add(skew) <= now {
            let expired = jsonwebtoken::errors::ErrorKind::ExpiredSignature;
            return Err(TokenError::Refused(expired.into()));
        }
        // Beyond the calendar: not a token of ours.
        Timestamp::from_second(claims.exp).map_err(|_| TokenError::Malformed)?;
        let signed_in_at =
            Timestamp::from_millisecond(claims.auth_time_ms).map_err(|_| TokenError::Malformed)?;
        Ok(Credential::of_token(claims.sub, claims.sid, signed_in_at, claims.roles))
    }
}

/// RFC 9068, section 4, wants both spellings accepted; media types are compared without case.
fn is_access_token(typ: &str) -> bool {
    [TOKEN_TYPE, TOKEN_MEDIA_TYPE].iter().any(|known| typ.eq_ignore_ascii_case(known))
}
