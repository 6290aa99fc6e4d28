//! IAM for `@connections`: the template's policies, as the other services enforce them.

use std::sync::Arc;

use crate::gateway::websocket::{Authorization, Authorize};
use crate::services::access::Access;

/// Asks [`Access`].
pub(super) struct Iam(pub(super) Arc<Access>);

impl Authorize for Iam {
    fn authorize(&self, access_key_id: &str, action: &str, resource: &str) -> Authorization {
        let Some(caller) = self.0.caller(access_key_id) else {
            return Authorization::Denied {
                reason: "The security token included in the request is invalid.".to_owned(),
            };
        };
        match self.0.check(&caller, action, resource) {
            Ok(()) => Authorization::Allowed,
            Err(denied) => Authorization::Denied { reason: denied.to_string() },
        }
    }
}
