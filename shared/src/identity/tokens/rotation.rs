//! Rotation of the signing key without signing anybody out.
//!
//! One key signs, the secret's, and a set verifies, `TOKEN_JWKS`. Processes of an old and of a new
//! configuration run concurrently during every deployment, so the two change one after the other:
//!
//! 1. *Publish*: add the next public key to `TOKEN_JWKS`, everywhere. Nothing signs with it yet.
//! 2. Wait until every region is deployed, then for [`JWKS_MAX_AGE`]: now every verifier knows it,
//!    also outside.
//! 3. *Use*: put its private part into the secret, and replace every process that signs.
//! 4. Wait for [`KEPT_AFTER_USE`] after the last process that signed with the old key was replaced:
//!    now every token of that key has expired.
//! 5. *Drop*: remove the old public key from `TOKEN_JWKS`, everywhere.
//!
//! Promises: a valid token is never refused, by any process at any step, with clocks that are
//! [`CLOCK_SKEW`] apart, or by a client's copy of the published set. After the drop the old key
//! proves nothing in any function; a client's copy trusts it for [`JWKS_MAX_AGE`] longer.
//!
//! Wrong order is prevented where possible: a signer whose key is not in its own `TOKEN_JWKS` does
//! not start ([`TokenSigner::from_env`](super::TokenSigner::from_env)). Waiting cannot be checked;
//! docs/deployment.md has the runbook.

use std::time::Duration;

use super::{ACCESS_TOKEN_LIFETIME, CLOCK_SKEW};

/// How long a copy of `/.well-known/jwks.json` may be cached (its `Cache-Control`). A key is
/// published for this long before it signs.
pub const JWKS_MAX_AGE: Duration = Duration::from_mins(5);

/// How long a key stays published after its last signature: until every token of it has expired.
pub const KEPT_AFTER_USE: Duration = ACCESS_TOKEN_LIFETIME.saturating_add(CLOCK_SKEW);
