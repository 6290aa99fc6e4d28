//! SNS's dialect of patterns: filter policies of subscriptions.

use serde_json::Value;

use super::{Dialect, Field, Object, Pattern, PatternError, invalid};

/// Keys that hold a list of conditions (SNS developer guide, "Filter policy constraints").
const MAX_KEYS: usize = 5;

/// Product of the numbers of values of all keys; in a body each counts once for each level of
/// nesting.
const MAX_COMBINATIONS: usize = 150;

/// What a filter policy looks at (`FilterPolicyScope`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub enum FilterScope {
    #[default]
    MessageAttributes,
    /// The message itself, which must be a JSON object.
    MessageBody,
}

impl Pattern {
    /// Reads the filter policy of a subscription.
    pub fn parse_filter_policy(policy: &Value, scope: FilterScope) -> Result<Self, PatternError> {
        let pattern = Self::read(policy, Dialect::Sns)?;
        let mut keys = Vec::new();
        pattern.0.keys(1, &mut keys);
        if scope == FilterScope::MessageAttributes && keys.iter().any(|(depth, _)| *depth > 1) {
            return Err(invalid(
                "Filter policy scope MessageAttributes does not support nested filter policy",
            ));
        }
        if keys.len() > MAX_KEYS {
            return Err(invalid(format!("Filter policy can not have more than {MAX_KEYS} keys")));
        }
        let combinations = keys.iter().try_fold(1_usize, |total, (depth, values)| {
            total.checked_mul(depth * values).filter(|total| *total <= MAX_COMBINATIONS)
        });
        combinations.map(|_| pattern).ok_or_else(|| {
            invalid(format!("Filter policy is too complex: more than {MAX_COMBINATIONS} combinations"))
        })
    }
}

impl Object {
    /// Depth and number of values of every key that holds conditions. An alternative is at its
    /// object's own depth.
    fn keys(&self, depth: usize, keys: &mut Vec<(usize, usize)>) {
        for (_, field) in &self.fields {
            match field {
                Field::Object(object) => object.keys(depth + 1, keys),
                Field::Leaf(conditions) => keys.push((depth, conditions.len())),
            }
        }
        for object in self.alternatives.iter().flatten() {
            object.keys(depth, keys);
        }
    }
}
