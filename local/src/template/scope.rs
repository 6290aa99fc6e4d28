//! What names mean: parameters, pseudo parameters, conditions, and the physical names and ARNs of resources.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::model::{ACCOUNT, REGION, STACK_NAME};
use super::{Context, Problem, intrinsics};
use crate::services::access::arn;

/// A problem and where it is.
pub(super) type Located = (String, Problem);

/// Everything that an expression can refer to.
pub(super) struct Scope<'a> {
    context: &'a Context,
    parameters: BTreeMap<String, Value>,
    conditions: Map<String, Value>,
    /// Only those whose condition holds.
    resources: Map<String, Value>,
    /// Conditions under evaluation, to notice one that depends on itself.
    evaluating: RefCell<BTreeSet<String>>,
}

impl<'a> Scope<'a> {
    /// Reads parameters and conditions, and drops the resources whose condition is false.
    pub(super) fn new(template: &Value, context: &'a Context) -> Result<Self, Located> {
        let section = |name: &str| template.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
        let mut scope = Self {
            context,
            parameters: parameters(&section("Parameters"), context)?,
            conditions: section("Conditions"),
            resources: section("Resources"),
            evaluating: RefCell::default(),
        };
        let mut resources = std::mem::take(&mut scope.resources);
        let mut dropped = Vec::new();
        for (id, resource) in &resources {
            if let Some(condition) = resource.get("Condition").and_then(Value::as_str)
                && !scope.condition(condition).map_err(|problem| (id.clone(), problem))?
            {
                dropped.push(id.clone());
            }
        }
        for id in dropped {
            resources.remove(&id);
        }
        scope.resources = resources;
        Ok(scope)
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

    /// The value of a condition.
    pub(super) fn condition(&self, name: &str) -> Result<bool, Problem> {
        let expression =
            self.conditions.get(name).ok_or_else(|| Problem::UnknownName { name: name.to_owned() })?;
        if !self.evaluating.borrow_mut().insert(name.to_owned()) {
            return Err(Problem::Circular { name: name.to_owned() });
        }
        let value = intrinsics::condition(expression, self);
        self.evaluating.borrow_mut().remove(name);
        value
    }

    /// `Ref`; nothing for `AWS::NoValue`.
    pub(super) fn reference(&self, name: &str) -> Result<Option<Value>, Problem> {
        if let Some(pseudo) = name.strip_prefix("AWS::") {
            return match pseudo {
                "NoValue" => Ok(None),
                "Region" => Ok(Some(json!(REGION))),
                "AccountId" => Ok(Some(json!(ACCOUNT))),
                "StackName" => Ok(Some(json!(STACK_NAME))),
                "StackId" => Ok(Some(json!(format!(
                    "arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK_NAME}/local"
                )))),
                "Partition" => Ok(Some(json!("aws"))),
                "URLSuffix" => Ok(Some(json!("amazonaws.com"))),
                _ => Err(Problem::UnknownName { name: name.to_owned() }),
            };
        }
        if let Some(value) = self.parameters.get(name) {
            return Ok(Some(value.clone()));
        }
        let resource = self.resource(name)?;
        let physical = match resource_type(resource) {
            "AWS::SecretsManager::Secret" => arn::secret(&self.physical_name(name)?),
            "AWS::SQS::Queue" => {
                format!("{}/{ACCOUNT}/{}", self.context.sqs_url, self.physical_name(name)?)
            }
            "AWS::SNS::Topic" => format!("arn:aws:sns:{REGION}:{ACCOUNT}:{}", self.physical_name(name)?),
            _ => self.physical_name(name)?,
        };
        Ok(Some(Value::String(physical)))
    }

    /// `Fn::GetAtt`.
    pub(super) fn attribute(&self, id: &str, attribute: &str) -> Result<String, Problem> {
        let kind = resource_type(self.resource(id)?);
        let name = self.physical_name(id)?;
        let other = |service: &str, rest: &str| format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}");
        Ok(match (kind, attribute) {
            ("AWS::DynamoDB::Table", "Arn") => arn::table(&name),
            ("AWS::DynamoDB::Table", "StreamArn") => format!("{}/stream/local", arn::table(&name)),
            ("AWS::S3::Bucket", "Arn") => arn::bucket(&name),
            ("AWS::Serverless::Function", "Arn") => arn::function(&name),
            ("AWS::SecretsManager::Secret", "Id") => arn::secret(&name),
            ("AWS::SQS::Queue", "Arn") => arn::queue(&name),
            ("AWS::SQS::Queue", "QueueName") => name,
            ("AWS::SQS::Queue", "QueueUrl") => format!("{}/{ACCOUNT}/{name}", self.context.sqs_url),
            ("AWS::Logs::LogGroup", "Arn") => other("logs", &format!("log-group:{name}:*")),
            ("AWS::IAM::Role", "Arn") => format!("arn:aws:iam::{ACCOUNT}:role/{name}"),
            ("AWS::Serverless::HttpApi", "ApiEndpoint") => self.context.http_url.clone(),
            ("AWS::ApiGatewayV2::Api", "ApiEndpoint") => self.context.websocket_url.clone(),
            _ => {
                return Err(Problem::UnknownAttribute {
                    resource: id.to_owned(),
                    attribute: attribute.to_owned(),
                });
            }
        })
    }

    /// The name of a resource in its service: given in the template, or made from the logical id.
    pub(super) fn physical_name(&self, id: &str) -> Result<String, Problem> {
        let resource = self.resource(id)?;
        let (property, default) = match resource_type(resource) {
            "AWS::DynamoDB::Table" => ("TableName", id.to_owned()),
            // Bucket names know no capitals.
            "AWS::S3::Bucket" => ("BucketName", id.to_lowercase()),
            "AWS::Serverless::Function" => ("FunctionName", format!("{STACK_NAME}-{id}")),
            "AWS::SecretsManager::Secret" => ("Name", id.to_owned()),
            "AWS::SQS::Queue" => ("QueueName", id.to_owned()),
            "AWS::SNS::Topic" => ("TopicName", id.to_owned()),
            "AWS::Logs::LogGroup" => ("LogGroupName", id.to_owned()),
            "AWS::ApiGatewayV2::Stage" => ("StageName", id.to_owned()),
            _ => return Ok(id.to_owned()),
        };
        match resource.get("Properties").and_then(|properties| properties.get(property)) {
            None => Ok(default),
            Some(value) => match intrinsics::evaluate(value, self)? {
                None => Ok(default),
                Some(Value::String(name)) => Ok(name),
                Some(_) => Err(Problem::Unexpected { property: property.to_owned(), wanted: "a text" }),
            },
        }
    }

    fn resource(&self, id: &str) -> Result<&Value, Problem> {
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
