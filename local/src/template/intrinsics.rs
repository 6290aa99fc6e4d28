//! Evaluation: conditions, references and the other intrinsic functions, in their long form. One
//! file, since each of them may hold the others: a `Ref` gives a resource's name, and that may be a
//! `Sub`.
//!
//! No value stands for `AWS::NoValue`: the property or list item that holds it is left out.

use serde_json::{Map, Value, json};

use super::arn;
use super::error::Problem;
use super::model::{ACCOUNT, DEFAULT_BUS};
use super::scope::{Located, Scope, resource_type, scalar_text};

impl Scope<'_> {
    /// Drops the resources whose condition is false.
    pub(super) fn drop_unwanted(&mut self) -> Result<(), Located> {
        let mut unwanted = Vec::new();
        for (id, resource) in &self.resources {
            if let Some(condition) = resource.get("Condition").and_then(Value::as_str)
                && !self.condition(condition).map_err(|problem| (id.clone(), problem))?
            {
                unwanted.push(id.clone());
            }
        }
        self.resources.retain(|id, _| !unwanted.contains(id));
        Ok(())
    }

    /// The value of a condition.
    pub(super) fn condition(&self, name: &str) -> Result<bool, Problem> {
        let expression =
            self.conditions.get(name).ok_or_else(|| Problem::UnknownName { name: name.to_owned() })?;
        if !self.evaluating.borrow_mut().insert(name.to_owned()) {
            return Err(Problem::Circular { name: name.to_owned() });
        }
        let value = condition(expression, self);
        self.evaluating.borrow_mut().remove(name);
        value
    }

    /// `Ref`; nothing for `AWS::NoValue`.
    pub(super) fn reference(&self, name: &str) -> Result<Option<Value>, Problem> {
        if let Some(pseudo) = name.strip_prefix("AWS::") {
            return match pseudo {
                "NoValue" => Ok(None),
                "Region" => Ok(Some(json!(self.arns().region()))),
                "AccountId" => Ok(Some(json!(ACCOUNT))),
                "StackName" => Ok(Some(json!(self.arns().stack_name()))),
                "StackId" => Ok(Some(json!(self.arns().stack()))),
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
            "AWS::SecretsManager::Secret" => self.arns().secret(&self.physical_name(name)?),
            "AWS::SQS::Queue" => {
                format!("{}/{ACCOUNT}/{}", self.context.sqs_url, self.physical_name(name)?)
            }
            "AWS::SNS::Topic" => self.arns().topic(&self.physical_name(name)?),
            _ => self.physical_name(name)?,
        };
        Ok(Some(Value::String(physical)))
    }

    /// `Fn::GetAtt`.
    pub(super) fn attribute(&self, id: &str, attribute: &str) -> Result<String, Problem> {
        let kind = resource_type(self.resource(id)?);
        let name = self.physical_name(id)?;
        Ok(match (kind, attribute) {
            ("AWS::DynamoDB::Table", "Arn") => self.arns().table(&name),
            ("AWS::DynamoDB::Table", "StreamArn") => self.arns().stream(&name),
            ("AWS::S3::Bucket", "Arn") => arn::bucket(&name),
            ("AWS::Serverless::Function", "Arn") => self.arns().function(&name),
            ("AWS::SecretsManager::Secret", "Id") => self.arns().secret(&name),
            ("AWS::SQS::Queue", "Arn") => self.arns().queue(&name),
            ("AWS::SQS::Queue", "QueueUrl") => format!("{}/{ACCOUNT}/{name}", self.context.sqs_url),
            ("AWS::SNS::Topic", "TopicArn") => self.arns().topic(&name),
            ("AWS::SQS::Queue", "QueueName")
            | ("AWS::SNS::Topic", "TopicName")
            | ("AWS::Events::EventBus", "Name") => name,
            ("AWS::Events::EventBus", "Arn") => self.arns().event_bus(&name),
            ("AWS::Events::Rule", "Arn") => self.arns().rule(&self.bus_of_rule(id)?, &name),
            ("AWS::Logs::LogGroup", "Arn") => self.arns().log_group(&name),
            ("AWS::IAM::Role", "Arn") => arn::role(&name),
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

    /// The name of the bus of a rule, which the template may name by its ARN.
    pub(super) fn bus_of_rule(&self, id: &str) -> Result<String, Problem> {
        let rule = self.resource(id)?;
        let bus = rule.get("Properties").and_then(|properties| properties.get("EventBusName"));
        match bus.map(|bus| evaluate(bus, self)).transpose()?.flatten() {
            None => Ok(DEFAULT_BUS.to_owned()),
            Some(Value::String(name)) => {
                Ok(name.strip_prefix(&self.arns().event_bus("")).unwrap_or(&name).to_owned())
            }
            Some(_) => Err(Problem::Unexpected { property: "EventBusName".to_owned(), wanted: "a text" }),
        }
    }

    /// The name of a resource in its service: given in the template, or made from the logical id.
    pub(super) fn physical_name(&self, id: &str) -> Result<String, Problem> {
        let resource = self.resource(id)?;
        let (property, default) = match resource_type(resource) {
            "AWS::DynamoDB::Table" | "AWS::DynamoDB::GlobalTable" => ("TableName", id.to_owned()),
            "AWS::S3::Bucket" => ("BucketName", self.arns().bucket_name(id)),
            "AWS::Serverless::Function" => ("FunctionName", format!("{}-{id}", self.arns().stack_name())),
            "AWS::SecretsManager::Secret" | "AWS::Events::EventBus" | "AWS::Events::Rule" => {
                ("Name", id.to_owned())
            }
            "AWS::SQS::Queue" => ("QueueName", id.to_owned()),
            "AWS::SNS::Topic" => ("TopicName", id.to_owned()),
            "AWS::Events::Archive" => ("ArchiveName", id.to_owned()),
            "AWS::Logs::LogGroup" => ("LogGroupName", id.to_owned()),
            "AWS::ApiGatewayV2::Stage" => ("StageName", id.to_owned()),
            _ => return Ok(id.to_owned()),
        };
        match resource.get("Properties").and_then(|properties| properties.get(property)) {
            None => Ok(default),
            Some(value) => match evaluate(value, self)? {
                None => Ok(default),
                Some(Value::String(name)) => Ok(name),
                Some(_) => Err(Problem::Unexpected { property: property.to_owned(), wanted: "a text" }),
            },
        }
    }
}

/// `value` with every intrinsic function in it resolved.
pub(super) fn evaluate(value: &Value, scope: &Scope<'_>) -> Result<Option<Value>, Problem> {
    match value {
        Value::Object(object) => {
            if let Some((name, arguments)) = function(object) {
                call(name, arguments, scope)
            } else {
                let mut resolved = Map::new();
                for (key, value) in object {
                    if let Some(value) = evaluate(value, scope)? {
                        resolved.insert(key.clone(), value);
                    }
                }
                Ok(Some(Value::Object(resolved)))
            }
        }
        Value::Array(items) => {
            let mut resolved = Vec::new();
            for item in items {
                resolved.extend(evaluate(item, scope)?);
            }
            Ok(Some(Value::Array(resolved)))
        }
        scalar => Ok(Some(scalar.clone())),
    }
}

/// A condition: `Fn::Equals`, `Fn::Not`, `Fn::And`, `Fn::Or`, `Condition`.
pub(super) fn condition(expression: &Value, scope: &Scope<'_>) -> Result<bool, Problem> {
    let wrong = Problem::Arguments { name: "a condition", wanted: "Equals, Not, And, Or or Condition" };
    let Some((name, arguments)) = expression.as_object().and_then(function) else { return Err(wrong) };
    match name {
        "Condition" => scope.condition(arguments.as_str().ok_or(wrong)?),
        "Fn::Equals" => match list(arguments) {
            Some([left, right]) => {
                let text = |value| Ok(evaluate(value, scope)?.as_ref().map(scalar_text));
                Ok(text(left)? == text(right)?)
            }
            _ => Err(Problem::Arguments { name: "Equals", wanted: "a list of two values" }),
        },
        "Fn::Not" => match list(arguments) {
            Some([inner]) => Ok(!condition(inner, scope)?),
            _ => Err(Problem::Arguments { name: "Not", wanted: "a list of one condition" }),
        },
        "Fn::And" | "Fn::Or" => {
            let items = list(arguments)
                .ok_or(Problem::Arguments { name: "And/Or", wanted: "a list of conditions" })?;
            // All are evaluated, so that an error in one is never hidden by another.
            let values = items.iter().map(|item| condition(item, scope)).collect::<Result<Vec<_>, _>>()?;
            Ok(if name == "Fn::And" { values.iter().all(|value| *value) } else { values.contains(&true) })
        }
        other => Err(Problem::UnknownIntrinsic { name: other.to_owned() }),
    }
}

/// The function call that an object is, if it is one.
fn function(object: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (name, arguments) = object.iter().next()?;
    let is_call = object.len() == 1
        && (name == "Ref" || name.starts_with("Fn::") || (name == "Condition" && arguments.is_string()));
    is_call.then_some((name.as_str(), arguments))
}

fn call(name: &str, arguments: &Value, scope: &Scope<'_>) -> Result<Option<Value>, Problem> {
    match name {
        "Ref" => {
            scope.reference(arguments.as_str().ok_or(Problem::Arguments { name: "Ref", wanted: "a name" })?)
        }
        "Fn::GetAtt" => get_att(arguments, scope).map(|text| Some(Value::String(text))),
        "Fn::Sub" => sub(arguments, scope).map(|text| Some(Value::String(text))),
        "Fn::Join" => join(arguments, scope).map(|text| Some(Value::String(text))),
        "Fn::Split" => split(arguments, scope).map(Some),
        "Fn::Select" => select(arguments, scope).map(Some),
        "Fn::If" => match list(arguments) {
            Some([Value::String(name), yes, no]) => {
                evaluate(if scope.condition(name)? { yes } else { no }, scope)
            }
            _ => {
                Err(Problem::Arguments { name: "If", wanted: "a list of a condition's name and two values" })
            }
        },
        "Fn::Equals" | "Fn::Not" | "Fn::And" | "Fn::Or" | "Condition" => {
            let expression = Value::Object(Map::from_iter([(name.to_owned(), arguments.clone())]));
            condition(&expression, scope).map(|value| Some(Value::Bool(value)))
        }
        other => Err(Problem::UnknownIntrinsic { name: other.to_owned() }),
    }
}

fn get_att(arguments: &Value, scope: &Scope<'_>) -> Result<String, Problem> {
    let wrong =
        || Problem::Arguments { name: "GetAtt", wanted: "a resource and an attribute: Resource.Attribute" };
    match arguments {
        Value::String(text) => {
            let (resource, attribute) = text.split_once('.').ok_or_else(wrong)?;
            scope.attribute(resource, attribute)
        }
        Value::Array(parts) => match parts.as_slice() {
            [Value::String(resource), Value::String(attribute)] => scope.attribute(resource, attribute),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

/// `${Name}`, `${Resource.Attribute}`, `${!Literal}`, with or without a map of its own names.
fn sub(arguments: &Value, scope: &Scope<'_>) -> Result<String, Problem> {
    let none = Map::new();
    let (text, own) = match arguments {
        Value::String(text) => (text, &none),
        Value::Array(parts) => match parts.as_slice() {
            [Value::String(text)] => (text, &none),
            [Value::String(text), Value::Object(own)] => (text, own),
            _ => {
                return Err(Problem::Arguments {
                    name: "Sub",
                    wanted: "a text, or a list of a text and a map",
                });
            }
        },
        _ => return Err(Problem::Arguments { name: "Sub", wanted: "a text, or a list of a text and a map" }),
    };
    let mut result = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after
            .split_once('}')
            .ok_or(Problem::Arguments { name: "Sub", wanted: "a closing brace for every ${" })?;
        result.push_str(before);
        result.push_str(&substitute(name.trim(), own, scope)?);
        rest = after;
    }
    result.push_str(rest);
    Ok(result)
}

fn substitute(name: &str, own: &Map<String, Value>, scope: &Scope<'_>) -> Result<String, Problem> {
    if let Some(literal) = name.strip_prefix('!') {
        return Ok(format!("${{{literal}}}"));
    }
    let value = match (own.get(name), name.split_once('.')) {
        (Some(value), _) => evaluate(value, scope)?,
        (None, Some((resource, attribute))) => return scope.attribute(resource, attribute),
        (None, None) => scope.reference(name)?,
    };
    match value {
        Some(Value::Array(_) | Value::Object(_)) => {
            Err(Problem::Arguments { name: "Sub", wanted: "names of texts; a list must be joined first" })
        }
        value => Ok(value.as_ref().map(scalar_text).unwrap_or_default()),
    }
}

fn join(arguments: &Value, scope: &Scope<'_>) -> Result<String, Problem> {
    let wrong = Problem::Arguments { name: "Join", wanted: "a separator and a list of texts" };
    let Some([Value::String(separator), items]) = list(arguments) else { return Err(wrong) };
    match evaluate(items, scope)? {
        Some(Value::Array(items)) => Ok(items.iter().map(scalar_text).collect::<Vec<_>>().join(separator)),
        _ => Err(wrong),
    }
}

fn split(arguments: &Value, scope: &Scope<'_>) -> Result<Value, Problem> {
    let wrong = Problem::Arguments { name: "Split", wanted: "a separator and a text" };
    let Some([Value::String(separator), text]) = list(arguments) else { return Err(wrong) };
    match evaluate(text, scope)? {
        Some(Value::String(text)) => Ok(text.split(separator.as_str()).map(Value::from).collect()),
        _ => Err(wrong),
    }
}

fn select(arguments: &Value, scope: &Scope<'_>) -> Result<Value, Problem> {
    let wrong = || Problem::Arguments { name: "Select", wanted: "an index inside the list, and a list" };
    let Some([index, items]) = list(arguments) else { return Err(wrong()) };
    let index =
        evaluate(index, scope)?.as_ref().map(scalar_text).and_then(|index| index.parse::<usize>().ok());
    match (index, evaluate(items, scope)?) {
        (Some(index), Some(Value::Array(items))) => items.get(index).cloned().ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

fn list(value: &Value) -> Option<&[Value]> {
    value.as_array().map(Vec::as_slice)
}
