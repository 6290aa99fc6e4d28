//! What the names of a template stand for: parameters, conditions and resources, as they are
//! written there. What they evaluate to is in `intrinsics`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::arn::Arns;
use super::error::Problem;
use super::model::Table;

/// A problem and where it is.
pub(super) type Located = (String, Problem);

/// What the template is evaluated in.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The region that the stack is in.
    pub arns: Arns,
    /// Values of parameters; those of SSM types must be among them.
    pub parameters: BTreeMap<String, String>,
    /// The HTTP API's `ApiEndpoint`: `http://127.0.0.1:3000`.
    pub http_url: String,
    /// The WebSocket API's `ApiEndpoint`, without the stage: `ws://127.0.0.1:3001`.
    pub websocket_url: String,
    /// SQS's address, which the queues' URLs begin with: `http://127.0.0.1:9324`.
    pub sqs_url: String,
    /// The region's replicas of global tables, if the template is to use them.
    pub global_tables: Vec<Table>,
}

/// Everything that an expression can refer to.
pub(super) struct Scope<'a> {
    pub(super) context: &'a Context,
    pub(super) parameters: BTreeMap<String, Value>,
    pub(super) conditions: Map<String, Value>,
    /// Only those whose condition holds.
    pub(super) resources: Map<String, Value>,
    /// Conditions under evaluation, to notice one that depends on itself.
    pub(super) evaluating: RefCell<BTreeSet<String>>,
}

impl<'a> Scope<'a> {
    /// Reads parameters and conditions. Holds every resource until [`Scope::drop_unwanted`].
    pub(super) fn new(template: &Value, context: &'a Context) -> Result<Self, Located> {
        let section = |name: &str| template.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
        Ok(Self {
            context,
            parameters: parameters(&section("Parameters"), context)?,
            conditions: section("Conditions"),
            resources: section("Resources"),
            evaluating: RefCell::default(),
        })
    }

    /// Names the resources of the stack's region.
    pub(super) fn arns(&self) -> &Arns {
        &self.context.arns
    }

    /// Logical ids and resources of `kind`, in the order of the ids.
    pub(super) fn of_type<'s>(&'s self, kind: &'s str) -> impl Iterator<Item = (&'s str, &'s Value)> {
        let mut found: Vec<_> =
            self.resources.iter().filter(|(_, resource)| resource_type(resource) == kind).collect();
        found.sort_by_key(|(id, _)| *id);
        found.into_iter().map(|(id, resource)| (id.as_str(), resource))
    }

    /// Every resource's logical id and type.
    pub(super) fn types(&self) -> impl Iterator<Item = (&str, &str)> {
        self.resources.iter().map(|(id, resource)| (id.as_str(), resource_type(resource)))
    }

    /// The resource of a logical id.
    pub(super) fn resource(&self, id: &str) -> Result<&Value, Problem> {
        self.resources.get(id).ok_or_else(|| Problem::UnknownName { name: id.to_owned() })
    }
}

/// The `Type` of a resource.
pub(super) fn resource_type(resource: &Value) -> &str {
    resource.get("Type").and_then(Value::as_str).unwrap_or_default()
}

fn parameters(section: &Map<String, Value>, context: &Context) -> Result<BTreeMap<String, Value>, Located> {
    if let Some(name) = context.parameters.keys().find(|name| !section.contains_key(*name)) {
        return Err((format!("Parameters.{name}"), Problem::Undeclared));
    }
    let mut values = BTreeMap::new();
    for (name, declaration) in section {
        let located = |problem| (format!("Parameters.{name}"), problem);
        let kind = declaration.get("Type").and_then(Value::as_str).unwrap_or("String");
        let given = context.parameters.get(name).cloned();
        let text = if kind.starts_with("AWS::SSM::Parameter::Value") {
            // The default is the parameter's name in SSM, not a value.
            given.ok_or_else(|| located(Problem::NoSsmValue))?
        } else {
            let default = declaration.get("Default").map(scalar_text);
            given.or(default).ok_or_else(|| located(Problem::NoValue))?
        };
        if let Some(allowed) = declaration.get("AllowedValues").and_then(Value::as_array) {
            let allowed: Vec<String> = allowed.iter().map(scalar_text).collect();
            if !allowed.contains(&text) {
                return Err(located(Problem::NotAllowed { value: text, allowed: allowed.join(", ") }));
            }
        }
        let value = if kind == "CommaDelimitedList" || kind.starts_with("List<") {
            text.split(',').map(|item| Value::from(item.trim())).collect()
        } else {
            Value::String(text)
        };
        values.insert(name.clone(), value);
    }
    Ok(values)
}

/// `CloudFormation` knows no other scalars than texts: `24` and `"24"` are the same.
pub(super) fn scalar_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
