//! Changing the signing key while everybody stays signed in.
//!
//! There is always one key that signs, the secret's, and a set that verifies, `TOKEN_JWKS`. Processes of an old and of
//! a new configuration run side by side during every deployment, so the two change one after the other:
//!
//! 1. *Publish*: add the next public key to `TOKEN_JWKS`, everywhere. Nothing signs with it yet.
//! 2. Wait until every region is deployed, then for [`JWKS_MAX_AGE`]: now nobody is left, here or outside, who does not
//!    know it.
//! 3. *Use*: put its private part into the secret, and have every process that signs replaced.
//! 4. Wait for [`KEPT_AFTER_USE`], from the replacement of the last process that signed with the old key: now every token
//!    of that key has ended.
//! 5. *Drop*: take the old public key out of `TOKEN_JWKS`, everywhere.
//!
//! Promises: at no moment is a token within its lifetime refused, by any process of any stage, by clocks that are
//! [`CLOCK_SKEW`] apart, or by a client's copy of the published set. After the drop the old key proves nothing
//! in any function; a client's copy goes on trusting it for [`JWKS_MAX_AGE`].
//!
//! Steps in the wrong order are stopped where they can be: a signer whose key is not in its own `TOKEN_JWKS` does not
//! start ([`TokenSigner::from_env`](super::TokenSigner::from_env)). Waiting cannot be checked, so it is a runbook's:
//! docs/deployment.md.

use std::time::Duration;

use super::{ACCESS_TOKEN_LIFETIME, CLOCK_SKEW};

/// How long anybody may keep a copy of `/.well-known/jwks.json`: what its `Cache-Control` says. A key is published for this
/// long before it signs.
pub const JWKS_MAX_AGE: Duration = Duration::from_mins(5);

/// How long a key stays published after its last signature: until every token of it has ended.
pub const KEPT_AFTER_USE: Duration = ACCESS_TOKEN_LIFETIME.saturating_add(CLOCK_SKEW);
