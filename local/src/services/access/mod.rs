//! Who may do what: the policies of the template, enforced on this machine.
//!
//! 1. Every function gets its own access key, so that an endpoint knows the caller by the `SigV4`
//!    `Credential`.
//! 2. A call of a function is checked against the `Allow` statements of its policy. A missing
//!    statement fails here with AWS's error, before it fails in the cloud.
//! 3. A statement's `Condition` confines `dynamodb:UpdateItem` to the attributes that it lists
//!    (`dynamodb:Attributes`), and what the update may return (`dynamodb:ReturnValues`). The
//!    request shows which ones it names; see [`Details`].
//! 4. The operator's key may do everything, as the account's administrator may.
//! 5. The statements, actions and resources that calls needed are recorded, and those that were
//!    denied, so that a test finds unused and missing permissions.
//!
//! DynamoDB and Secrets Manager look at the key id only and don't verify the signature: everything
//! here listens on 127.0.0.1, and the check is for missing permissions, not for forged signatures.
//! S3 verifies signatures, because presigned URLs depend on them.
//!
//! Limits: `Allow` statements only; no `Deny`, no other conditions, no permission boundaries. A
//! template with a `Deny` or another condition is refused at the start. Resource policies decide
//! over deliveries only, in `services/delivery.rs`.

mod policy;
mod signature;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

pub(in crate::services) use policy::{Case, Policy, covers, matches};
pub use policy::{Details, Grant, Permission};
pub use signature::{Credential, Unauthenticated, credential};

use crate::template::arn::{self, Arns};
use crate::template::model::Stack;

/// Random bytes of the secret key that all callers of one start share.
const SECRET_BYTES: usize = 30;

/// Different refusals that are remembered: a function has no more than some hundred calls in its
/// code, but a resource can be any object or connection.
const DENIED_CAPACITY: usize = 1_000;

/// An access key: what a client signs with.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: String,
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Key").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// The caller of a service.
#[derive(Debug, Clone)]
pub enum Caller {
    /// The person at the machine, or a tool of theirs.
    Operator,
    /// One of the stack's functions.
    Function(Arc<Role>),
}

impl Caller {
    /// The function's short name, or `operator`.
    pub fn name(&self) -> &str {
        match self {
            Self::Operator => "operator",
            Self::Function(role) => &role.function,
        }
    }
}

/// What a function runs as.
#[derive(Debug)]
pub struct Role {
    function: String,
    physical_name: String,
    policy: Policy,
}

/// A call that the caller's policy does not allow. Its text is AWS's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error(
    "User: {principal} is not authorized to perform: {action} on resource: {resource} \
     because no identity-based policy allows the {action} action"
)]
pub struct Denied {
    /// ARN of the caller.
    pub principal: String,
    /// Such as `dynamodb:GetItem`.
    pub action: String,
    /// ARN of what it was to be done to.
    pub resource: String,
}

/// What an unknown key id means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strangers {
    Refused,
    Operators,
}

/// The callers of one region and their policies.
#[derive(Debug)]
pub struct Access {
    /// Names the resources that policies are about.
    pub arns: Arns,
    operator: Key,
    functions: Vec<(Key, Arc<Role>)>,
    callers: HashMap<String, Caller>,
    strangers: Strangers,
    denied: Arc<Mutex<BTreeSet<Denied>>>,
}

impl Access {
    /// A key for the operator and one for each of the stack's functions; the secret is new at every
    /// start.
    pub fn new(stack: &Stack) -> Self {
        let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; SECRET_BYTES]>());
        let key = |name: &str| Key {
            access_key_id: format!("AKIALOCAL_{}", name.replace('-', "_").to_ascii_uppercase()),
            secret_access_key: secret.clone(),
        };
        let operator = key("operator");
        let functions: Vec<_> = stack
            .functions
            .iter()
            .map(|function| {
                let role = Role {
                    function: function.name.clone(),
                    physical_name: function.physical_name.clone(),
                    policy: Policy::new(&function.policy),
                };
                (key(&format!("fn_{}", function.name)), Arc::new(role))
            })
            .collect();
        let callers = functions
            .iter()
            .map(|(key, role)| (key.access_key_id.clone(), Caller::Function(Arc::clone(role))))
            .chain([(operator.access_key_id.clone(), Caller::Operator)])
            .collect();
        let (arns, strangers) = (stack.arns.clone(), Strangers::Refused);
        Self { arns, operator, functions, callers, strangers, denied: Arc::default() }
    }

    /// The same callers, who ask another region: its resources are meant, and a signature must be
    /// for it.
    pub(in crate::services) fn in_region(&self, arns: Arns) -> Self {
        Self {
            arns,
            operator: self.operator.clone(),
            functions: self.functions.clone(),
            callers: self.callers.clone(),
            strangers: self.strangers,
            denied: Arc::clone(&self.denied),
        }
    }

    /// Every caller is the operator: for library tests, which have no template.
    ///
    /// S3 verifies signatures, so its clients still need [`Access::operator`]'s key.
    pub fn unrestricted() -> Self {
        Self { strangers: Strangers::Operators, ..Self::new(&Stack::default()) }
    }

    /// The key that may do everything.
    pub fn operator(&self) -> &Key {
        &self.operator
    }

    /// The key of a function, by its short name.
    pub fn key_of(&self, function: &str) -> Option<&Key> {
        self.functions.iter().find(|(_, role)| role.function == function).map(|(key, _)| key)
    }

    /// What a function runs as, by its short name.
    pub fn role(&self, function: &str) -> Option<Arc<Role>> {
        self.functions.iter().find(|(_, role)| role.function == function).map(|(_, role)| Arc::clone(role))
    }

    /// Whose key that is. `None` for a key that was never given out.
    pub fn caller(&self, access_key_id: &str) -> Option<Caller> {
        match (self.callers.get(access_key_id), self.strangers) {
            (Some(caller), _) => Some(caller.clone()),
            (None, Strangers::Operators) => Some(Caller::Operator),
            (None, Strangers::Refused) => None,
        }
    }

    /// Who signed a request for this region, by its headers.
    pub fn authenticate(&self, headers: &http::HeaderMap) -> Result<Caller, Unauthenticated> {
        let Credential { access_key_id, region } = credential(headers)?;
        let caller = self.caller(access_key_id).ok_or(Unauthenticated::UnknownKey)?;
        if region == self.arns.region() { Ok(caller) } else { Err(Unauthenticated::OtherRegion) }
    }

    /// Whether `caller` may do `action` (`dynamodb:GetItem`) to `resource` (an ARN, or `*` where
    /// the action has none).
    pub fn check(&self, caller: &Caller, action: &str, resource: &str) -> Result<(), Denied> {
        self.check_permission(caller, &Permission::new(action, resource))
    }

    /// The same for a permission that statements with conditions may give.
    pub fn check_permission(&self, caller: &Caller, needed: &Permission) -> Result<(), Denied> {
        let Caller::Function(role) = caller else { return Ok(()) };
        if role.policy.allows(needed) {
            return Ok(());
        }
        let denied = Denied {
            principal: arn::principal(&role.physical_name),
            action: needed.action.clone(),
            resource: needed.resource.clone(),
        };
        let mut all = self.all_denied();
        if all.len() < DENIED_CAPACITY {
            all.insert(denied.clone());
        }
        Err(denied)
    }

    /// What was asked for and refused, each once; the first `DENIED_CAPACITY`.
    pub fn denied(&self) -> Vec<Denied> {
        self.all_denied().iter().cloned().collect()
    }

    fn all_denied(&self) -> MutexGuard<'_, BTreeSet<Denied>> {
        // A panic elsewhere leaves no half-written set.
        self.denied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was really needed: function, action and resource as the template has them.
    pub fn used(&self) -> Vec<Grant> {
        self.grants().filter(|grant| grant.used).collect()
    }

    /// What the template allows and nothing has needed since the start.
    pub fn unused(&self) -> Vec<Grant> {
        self.grants().filter(|grant| !grant.used).collect()
    }

    fn grants(&self) -> impl Iterator<Item = Grant> {
        self.functions.iter().flat_map(|(_, role)| role.policy.grants(&role.function))
    }
}

#[cfg(test)]
mod tests;
