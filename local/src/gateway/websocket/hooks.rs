//! What the region plugs into `@connections`: who may call it, and which calls go wrong on purpose.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Decides on calls to `@connections`, as IAM does in the cloud.
pub trait Authorize: Send + Sync + 'static {
    /// Whether the holder of `access_key_id` may do `action` (`execute-api:ManageConnections`) on `resource`
    /// (`arn:aws:execute-api:<region>:<account>:<api>/<stage>/POST/@connections/<id>`).
    fn authorize(&self, access_key_id: &str, action: &str, resource: &str) -> Authorization;
}

/// What [`Authorize`] decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorization {
    /// The call goes on.
    Allowed,
    /// The caller gets 403 with this reason.
    Denied {
        /// Such as "no statement of ws-send allows ...".
        reason: String,
    },
}

/// Makes calls to `@connections` fail on purpose.
pub trait Intercept: Send + Sync + 'static {
    /// Asked once per authorised call. `operation` is `PostToConnection`, `GetConnection` or `DeleteConnection`.
    fn intercept(&self, operation: &str, connection_id: &str) -> Option<InjectedFault>;
}

/// How an intercepted call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedFault {
    /// 410 `GoneException`; the connection stays as it is.
    Gone,
    /// 429 `LimitExceededException`.
    LimitExceeded,
    /// 500 `InternalServerError`.
    InternalError,
    /// The caller's TCP connection is cut; nothing was done.
    DropRequest,
    /// The call is carried out, then the caller's TCP connection is cut: done, but the answer is lost.
    LoseAnswer,
}

/// A fault to inject a number of times.
#[derive(Debug, Clone)]
pub struct Fault {
    /// `PostToConnection` and so on; `None` is every operation.
    pub operation: Option<String>,
    /// One connection; `None` is every connection.
    pub connection_id: Option<String>,
    /// What happens.
    pub fault: InjectedFault,
    /// To how many calls.
    pub times: u32,
}

/// Faults in the order in which they were injected. Empty, it intercepts nothing.
#[derive(Debug, Default)]
pub struct FaultPlan {
    faults: Mutex<VecDeque<Fault>>,
}

impl FaultPlan {
    /// Adds a fault behind those that are already there.
    pub fn inject(&self, fault: Fault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push_back(fault);
    }
}

impl Intercept for FaultPlan {
    fn intercept(&self, operation: &str, connection_id: &str) -> Option<InjectedFault> {
        let fits = |own: &Option<String>, asked: &str| own.as_deref().is_none_or(|own| own == asked);
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.retain(|fault| fault.times > 0);
        let fault = faults
            .iter_mut()
            .find(|fault| fits(&fault.operation, operation) && fits(&fault.connection_id, connection_id))?;
        fault.times -= 1;
        Some(fault.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_hits_the_next_calls_that_fit_and_then_is_gone() {
        let plan = FaultPlan::default();
        plan.inject(Fault {
            operation: Some("PostToConnection".into()),
            connection_id: Some("a=".into()),
            fault: InjectedFault::Gone,
            times: 2,
        });
        assert_eq!(plan.intercept("PostToConnection", "b="), None);
        assert_eq!(plan.intercept("GetConnection", "a="), None);
        assert_eq!(plan.intercept("PostToConnection", "a="), Some(InjectedFault::Gone));
        assert_eq!(plan.intercept("PostToConnection", "a="), Some(InjectedFault::Gone));
        assert_eq!(plan.intercept("PostToConnection", "a="), None);
    }
}
