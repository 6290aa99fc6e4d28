//! The statements of one function, compiled.
//!
//! A statement is the product of its actions and its resources; each pair is a grant of its own
//! here, so that an unused pair is found even when its statement is used for another one.
//!
//! A statement with conditions allows a request only by its known details: a request without
//! details meets no condition.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::template::model::{Condition, Statement};

/// One action on one resource that a function's policy allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Short name of the function.
    pub function: String,
    /// Position of the statement in the function's policy.
    pub statement: usize,
    /// As in the template, wildcards included.
    pub action: String,
    /// As in the template, wildcards included.
    pub resource: String,
    /// Whether a call needed it.
    pub used: bool,
}

/// What a request needs: an action on a resource, and what conditions may look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// Such as `dynamodb:GetItem`.
    pub action: String,
    /// An ARN, or `*` where the action has no resource.
    pub resource: String,
    /// `None` if conditions cannot look at requests of this kind.
    pub details: Option<Details>,
}

impl Permission {
    /// A permission of a request that shows nothing to conditions.
    pub fn new(action: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { action: action.into(), resource: resource.into(), details: None }
    }
}

/// What a request shows of itself to conditions, beyond its action and resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Details {
    /// `dynamodb:Attributes`: the top-level attributes that it names.
    pub attributes: BTreeSet<String>,
    /// `dynamodb:ReturnValues`, if the request says it.
    pub return_values: Option<String>,
}

impl Details {
    /// A key that the request does not have fails `StringEquals` and passes the operators that end
    /// with `IfExists` or begin with `ForAllValues` (IAM User Guide, "IAM JSON policy elements:
    /// Condition operators").
    fn meet(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Attributes(allowed) => self.attributes.is_subset(allowed),
            Condition::ReturnValues(allowed) => {
                self.return_values.as_ref().is_some_and(|value| allowed.contains(value))
            }
            Condition::ReturnValuesIfExists(allowed) => {
                self.return_values.as_ref().is_none_or(|value| allowed.contains(value))
            }
        }
    }
}

#[derive(Debug)]
pub(in crate::services) struct Policy {
    pairs: Vec<Pair>,
}

#[derive(Debug)]
struct Pair {
    statement: usize,
    action: String,
    resource: String,
    conditions: Vec<Condition>,
    used: AtomicBool,
}

impl Pair {
    fn allows(&self, needed: &Permission) -> bool {
        let meets = |condition| needed.details.as_ref().is_some_and(|details| details.meet(condition));
        // IAM compares actions without case and resources with it.
        matches(&self.action, &needed.action, Case::Ignored)
            && covers(&self.resource, &needed.resource)
            && self.conditions.iter().all(meets)
    }
}

impl Policy {
    pub(in crate::services) fn new(statements: &[Statement]) -> Self {
        let pairs = statements
            .iter()
            .enumerate()
            .flat_map(|(position, statement)| {
                statement.actions.iter().flat_map(move |action| {
                    statement.resources.iter().map(move |resource| Pair {
                        statement: position,
                        action: action.clone(),
                        resource: resource.clone(),
                        conditions: statement.conditions.clone(),
                        used: AtomicBool::new(false),
                    })
                })
            })
            .collect();
        Self { pairs }
    }

    /// Whether some pair allows it. Every pair that does counts as used.
    pub(in crate::services) fn allows(&self, needed: &Permission) -> bool {
        let mut allowed = false;
        for pair in &self.pairs {
            if pair.allows(needed) {
                pair.used.store(true, Ordering::Relaxed);
                allowed = true;
            }
        }
        allowed
    }

    pub(super) fn grants<'a>(&'a self, function: &'a str) -> impl Iterator<Item = Grant> + 'a {
        self.pairs.iter().map(|pair| Grant {
            function: function.to_owned(),
            statement: pair.statement,
            action: pair.action.clone(),
            resource: pair.resource.clone(),
            used: pair.used.load(Ordering::Relaxed),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::services) enum Case {
    Kept,
    Ignored,
}

/// Components of an ARN: `arn:partition:service:region:account:resource`. The last one may hold
/// colons.
const ARN_COMPONENTS: usize = 6;

/// Whether the ARN `pattern` of a statement covers `resource`. A wildcard stays within its
/// component of the ARN, as with `ArnLike`; `*` alone is everything.
pub(in crate::services) fn covers(pattern: &str, resource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let components = |arn| str::splitn(arn, ARN_COMPONENTS, ':');
    components(pattern).count() == components(resource).count()
        && components(pattern)
            .zip(components(resource))
            .all(|(pattern, component)| matches(pattern, component, Case::Kept))
}

/// IAM's wildcards: `*` is any run of characters, also none; `?` is exactly one.
pub(in crate::services) fn matches(pattern: &str, text: &str, case: Case) -> bool {
    let same = |a: u8, b: u8| a == b || (case == Case::Ignored && a.eq_ignore_ascii_case(&b));
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when the characters after the last `*` turn out not to match: one character
    // further.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(&wanted) if wanted == b'?' || same(wanted, text[t]) => {
                p += 1;
                t += 1;
            }
            _ => match &mut retry {
                Some((after_star, from)) => {
                    *from += 1;
                    (p, t) = (*after_star, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&rest| rest == b'*')
}
