//! Event patterns: of `EventBridge` rules, of Lambda's `FilterCriteria`, and the filter policies of
//! SNS subscriptions.
//!
//! 1. [`Pattern::parse`] reads a pattern, and refuses what AWS refuses when the rule is deployed.
//! 2. [`Pattern::matches`] compares a pattern with an event. All fields of a pattern must match; of
//!    the conditions of one field, one must match. `$or` needs one of its patterns.
//! 3. A list in an event matches a field when one of its elements does. All fields within one
//!    object of a pattern match in the same element of a list of objects.
//! 4. A condition sees leaves only: a text, a number, `true`, `false` or `null`. A field that holds
//!    an object or an empty list does not exist, neither for `exists` nor for the others
//!    (`EventBridge` user guide, "Comparison operators for use in event patterns").
//! 5. A number of a pattern equals the same digits only: `300` is not `300.0`. `numeric` compares
//!    values.
//! 6. [`Pattern::parse_filter_policy`] reads SNS's dialect, with SNS's limits (SNS developer guide,
//!    "Filter policy constraints").
//!
//! The crate `quamina` is not used: version 0.7 has no `$or`, and patterns here need AWS's own
//! refusals.
//!
//! Limits: where AWS is silent, a pattern is refused rather than accepted (an empty `prefix`, a
//! `$or` of one pattern).

mod condition;
mod filter_policy;
#[cfg(test)]
mod tests;
mod wildcard;

use serde_json::{Map, Value};

use condition::Condition;
pub use filter_policy::FilterScope;

/// Characters of a pattern (`EventBridge` quota "Event pattern size").
const MAX_PATTERN_CHARACTERS: usize = 2_048;

/// Levels of objects in a pattern. A bound of this region: the recursion must end.
const MAX_DEPTH: usize = 64;

/// Combinations that the alternatives of a pattern may have (`EventBridge` user guide, "Complex
/// example with multiple matching": over 1,000 are refused).
const MAX_COMBINATIONS: usize = 1_000;

/// The key that holds alternatives.
const OR: &str = "$or";

/// A pattern that AWS would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Event pattern is not valid. Reason: {0}")]
pub struct PatternError(pub(super) String);

/// What an event must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern(Object);

/// The conditions on one object of an event.
#[derive(Debug, Clone, PartialEq, Default)]
struct Object {
    fields: Vec<(String, Field)>,
    /// At least one of each list must match.
    alternatives: Vec<Vec<Object>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Field {
    Object(Object),
    Leaf(Vec<Condition>),
}

/// Whose patterns are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    EventBridge,
    Sns,
}

impl Pattern {
    /// Reads the pattern of a rule or a filter: a JSON object, or its text.
    pub fn parse(pattern: &Value) -> Result<Self, PatternError> {
        match pattern {
            Value::String(text) => {
                let pattern = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
                Self::read(&pattern, Dialect::EventBridge)
            }
            pattern => Self::read(pattern, Dialect::EventBridge),
        }
    }

    fn read(pattern: &Value, dialect: Dialect) -> Result<Self, PatternError> {
        let Value::Object(members) = pattern else {
            return Err(invalid("a pattern must be a JSON object"));
        };
        if dialect == Dialect::EventBridge && pattern.to_string().chars().count() > MAX_PATTERN_CHARACTERS {
            return Err(invalid(format!("a pattern has {MAX_PATTERN_CHARACTERS} characters at most")));
        }
        let read = object(members, dialect, 1)?;
        if read.combinations() > MAX_COMBINATIONS {
            return Err(invalid(format!(
                "the alternatives of $or have over {MAX_COMBINATIONS} combinations"
            )));
        }
        Ok(Self(read))
    }

    /// Whether `event` matches.
    pub fn matches(&self, event: &Value) -> bool {
        event.is_object() && self.0.matches(event, event, &mut Vec::new())
    }
}

fn invalid(reason: impl Into<String>) -> PatternError {
    PatternError(reason.into())
}

fn object(members: &Map<String, Value>, dialect: Dialect, depth: usize) -> Result<Object, PatternError> {
    if members.is_empty() {
        return Err(invalid("an empty object is not allowed"));
    }
    if depth > MAX_DEPTH {
        return Err(invalid("too many levels of objects"));
    }
    let mut read = Object::default();
    for (name, value) in members {
        match value {
            Value::Array(items) if name == OR => read.alternatives.push(alternatives(items, dialect, depth)?),
            _ if name == OR => return Err(invalid("$or must be a list of patterns")),
            Value::Object(members) => {
                read.fields.push((name.clone(), Field::Object(object(members, dialect, depth + 1)?)));
            }
            Value::Array(items) if items.is_empty() => {
                return Err(invalid(format!("the list of {name:?} is empty")));
            }
            Value::Array(items) => {
                let conditions = items.iter().map(|item| Condition::read(item, dialect));
                let conditions = conditions.collect::<Result<_, _>>()?;
                read.fields.push((name.clone(), Field::Leaf(conditions)));
            }
            _ => return Err(invalid(format!("{name:?} must be an object or an array"))),
        }
    }
    Ok(read)
}

fn alternatives(items: &[Value], dialect: Dialect, depth: usize) -> Result<Vec<Object>, PatternError> {
    if items.len() < 2 {
        return Err(invalid("$or must have two patterns at least"));
    }
    let read = |item: &Value| match item {
        Value::Object(members) => object(members, dialect, depth + 1),
        _ => Err(invalid("$or must be a list of objects")),
    };
    items.iter().map(read).collect()
}

impl Object {
    /// In how many ways alternatives can be chosen.
    fn combinations(&self) -> usize {
        let within = self.fields.iter().map(|(_, field)| match field {
            Field::Object(object) => object.combinations(),
            Field::Leaf(_) => 1,
        });
        let alternatives = self
            .alternatives
            .iter()
            .map(|objects| objects.iter().map(Self::combinations).fold(0, usize::saturating_add));
        within.chain(alternatives).fold(1, usize::saturating_mul)
    }

    /// Whether `value` matches. `path` leads from `event` to `value`.
    fn matches<'a>(&'a self, value: &Value, event: &Value, path: &mut Vec<&'a str>) -> bool {
        match value {
            Value::Array(items) => items.iter().any(|item| self.matches(item, event, path)),
            // Without the object its fields do not exist; that may be what the pattern asks for.
            value => {
                self.fields.iter().all(|(name, field)| {
                    path.push(name);
                    let matches = field.matches(value.get(name).unwrap_or(&ABSENT), event, path);
                    path.pop();
                    matches
                }) && self
                    .alternatives
                    .iter()
                    .all(|objects| objects.iter().any(|object| object.matches(value, event, path)))
            }
        }
    }
}

/// An empty list has no leaf: what holds it counts as absent.
const ABSENT: Value = Value::Array(Vec::new());

impl Field {
    fn matches<'a>(&'a self, value: &Value, event: &Value, path: &mut Vec<&'a str>) -> bool {
        match self {
            // An absent object, or an empty list, has no field.
            Self::Object(object) if *value == ABSENT => object.matches(&Value::Null, event, path),
            Self::Object(object) => object.matches(value, event, path),
            Self::Leaf(conditions) => conditions.iter().any(|condition| match condition {
                Condition::Absent => !has_leaf(event, path),
                condition => any_leaf(value, &|leaf| condition.holds(leaf)),
            }),
        }
    }
}

/// Whether a leaf at `value` meets `test`; lists are looked through.
fn any_leaf(value: &Value, test: &impl Fn(&Value) -> bool) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| any_leaf(item, test)),
        Value::Object(_) => false,
        leaf => test(leaf),
    }
}

/// Whether anything is at `path`, in any element of the lists on the way.
fn has_leaf(value: &Value, path: &[&str]) -> bool {
    match (value, path.split_first()) {
        (Value::Array(items), _) => items.iter().any(|item| has_leaf(item, path)),
        (value, Some((name, rest))) => value.get(name).is_some_and(|value| has_leaf(value, rest)),
        (value, None) => !value.is_object(),
    }
}
