//! Access tokens: signed proof of the caller's identity.
//!
//! A token is a JWT of type `at+jwt` (RFC 9068), signed with Ed25519 by one function
//! (`api-sessions`), valid for [`ACCESS_TOKEN_LIFETIME`]. Every other function has the public keys
//! only, from its configuration, and verifies by itself ([`TokenVerifier`]): that costs less than
//! an authorizer's extra invocation. A verified token is a
//! [`Credential`](crate::identity::principal::Credential), a claim: the caller's session is checked
//! before the caller may do anything.
//!
//! A token is refused unless all of this holds (RFC 8725):
//!
//! 1. `typ` is `at+jwt`, or `application/at+jwt` (RFC 9068, section 4), and nothing is declared
//!    critical (`crit`).
//! 2. `kid` names a configured key. A key in or linked from the header (`jwk`, `jku`, `x5c`, `x5u`)
//!    is ignored.
//! 3. `alg` is `EdDSA`, and the signature verifies with that key.
//! 4. `iss` and `aud` are ours: one text each, no lists.
//! 5. `exp` has not passed; `iat`, and `nbf` if there is one, are not in the future. [`CLOCK_SKEW`]
//!    is allowed.
//! 6. `sub` and `sid` are ids of a user and of a session, and `auth_time_ms` is an instant. No
//!    claim is duplicated.
//!
//! `auth_time_ms` is when the user signed in, in milliseconds since the epoch. It decides whether
//! the session has ended with all others of its user. The standard claim `auth_time` has the same
//! in seconds, which cannot tell a sign-in from a revocation in the same second.
//!
//! Two of RFC 9068's claims are left out: `client_id`, since the shop is the only client, and
//! `jti`, since a token is never looked up by itself; revocation uses `sid`.
//!
//! A signature does not tell whether the session is still live; [`crate::identity::sessions`] does.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::ids::{SessionId, UserId};
use crate::identity::principal::Role;

pub mod keys;
pub mod rotation;
mod signer;
mod verifier;

pub use keys::{PublicKeys, SigningKey};
pub use signer::{AccessToken, SigningFailed, TokenSigner};
pub use verifier::{TokenError, TokenVerifier};

/// The lifetime of an access token.
pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_mins(15);
/// Allowed difference between the signer's clock and a verifier's.
pub const CLOCK_SKEW: Duration = Duration::from_secs(30);
/// `typ` of an access token (RFC 9068, section 2.1).
pub const TOKEN_TYPE: &str = "at+jwt";
/// The same, as a media type.
const TOKEN_MEDIA_TYPE: &str = "application/at+jwt";
/// Longest token that is parsed, in bytes. Real ones have about 500.
pub const MAX_TOKEN_BYTES: usize = 4_096;

/// The claims of an access token.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    sid: SessionId,
    auth_time_ms: i64,
    #[serde(default)]
    roles: BTreeSet<Role>,
    iat: i64,
    exp: i64,
    /// Not issued, but honoured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
}
