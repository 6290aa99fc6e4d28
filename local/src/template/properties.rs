//! Reading a resource's properties: each is evaluated when it is read, and only then. So a property
//! that the local region has no use for may refer to anything.

use serde_json::Value;

use super::error::Problem;
use super::intrinsics::evaluate;
use super::scope::{Scope, scalar_text};

/// The properties of one resource, or an object within them.
#[derive(Clone, Copy)]
pub(super) struct Properties<'a> {
    value: &'a Value,
    scope: &'a Scope<'a>,
}

impl<'a> Properties<'a> {
    /// The properties of `resource`.
    pub(super) fn of(resource: &'a Value, scope: &'a Scope<'a>) -> Self {
        Self { value: resource.get("Properties").unwrap_or(&Value::Null), scope }
    }

    /// `value` as an object to read properties from.
    pub(super) fn within(value: &'a Value, scope: &'a Scope<'a>) -> Self {
        Self { value, scope }
    }

    /// What its expressions refer to.
    pub(super) fn scope(&self) -> &'a Scope<'a> {
        self.scope
    }

    /// Unevaluated.
    pub(super) fn raw(&self, name: &str) -> Option<&'a Value> {
        self.value.get(name)
    }

    /// The names of the properties.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.value.as_object().into_iter().flat_map(|object| object.keys().map(String::as_str))
    }

    /// Everything, evaluated.
    pub(super) fn all(&self) -> Result<Value, Problem> {
        Ok(evaluate(self.value, self.scope)?.unwrap_or(Value::Null))
    }

    /// Any value; nothing when absent or `AWS::NoValue`.
    pub(super) fn value(&self, name: &str) -> Result<Option<Value>, Problem> {
        match self.raw(name) {
            Some(value) => evaluate(value, self.scope),
            None => Ok(None),
        }
    }

    /// An object or a list that holds properties of its own, evaluated; nothing when absent or
    /// `AWS::NoValue`.
    pub(super) fn part(&self, name: &str) -> Result<Value, Problem> {
        Ok(self.value(name)?.unwrap_or(Value::Null))
    }

    /// A text that must be there.
    pub(super) fn text(&self, name: &str) -> Result<String, Problem> {
        self.optional_text(name)?.ok_or_else(|| Problem::Missing { property: name.to_owned() })
    }

    /// A text.
    pub(super) fn optional_text(&self, name: &str) -> Result<Option<String>, Problem> {
        match self.value(name)? {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(_) | Value::Object(_)) => Err(unexpected(name, "a text")),
            Some(scalar) => Ok(Some(scalar_text(&scalar))),
        }
    }

    /// A whole number, also one written as a text.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        match self.optional_text(name)? {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| unexpected(name, "a whole number")),
        }
    }

    /// True or false, also written as a text.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.optional_text(name)?.as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(unexpected(name, "true or false")),
        }
    }

    /// A list of texts; a single text is a list of one, as everywhere in `CloudFormation`.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Problem> {
        match self.value(name)? {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items.iter().map(scalar_text).collect()),
            Some(Value::Object(_)) => Err(unexpected(name, "a text or a list of texts")),
            Some(scalar) => Ok(vec![scalar_text(&scalar)]),
        }
    }
}

/// The property `name` is of another type.
pub(super) fn unexpected(name: &str, wanted: &'static str) -> Problem {
    Problem::Unexpected { property: name.to_owned(), wanted }
}
