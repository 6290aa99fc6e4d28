//! What SNS and EventBridge may deliver to: `AWS::SQS::QueuePolicy` and `AWS::Lambda::Permission`.
//!
//! 1. An `Allow` statement for `sqs:SendMessage` lets its service principals deliver to its queues.
//! 2. A permission for `lambda:InvokeFunction` lets its principal invoke its function.
//! 3. Of conditions `aws:SourceArn` and `aws:SourceAccount` are read. A statement whose source
//!    account is another one allows nothing here.
//!
//! Limits: a `Deny` is read over if it denies requests without TLS, since every delivery is the
//! region's own; any other one is refused, and so is a condition of another kind. AWS has one
//! policy a queue, and the one that is deployed last wins: two for one queue are refused.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::error::Problem;
use super::model::{ACCOUNT, ServicePermission, Target};
use super::properties::{Properties, unexpected};
use super::queues;
use super::scope::{Located, Scope};
use super::topics::unsupported;

/// The actions that let a service deliver, in lower case: IAM compares actions without case.
const SENDS: [&str; 3] = ["sqs:sendmessage", "sqs:*", "*"];

/// Whose deliveries are made here. Permissions of other principals (API Gateway's) are not
/// enforced.
const DELIVERING: [&str; 3] = ["*", "events.amazonaws.com", "sns.amazonaws.com"];

/// The ARNs that a statement is for.
enum Sources {
    Any,
    These(Vec<String>),
    /// None of this account.
    Foreign,
}

/// All permissions. `functions` has the functions' short names by their ARNs.
pub(super) fn read(
    scope: &Scope<'_>,
    functions: &BTreeMap<String, String>,
) -> Result<Vec<ServicePermission>, Located> {
    let mut all = Vec::new();
    let mut governed = BTreeSet::new();
    for (id, resource) in scope.of_type("AWS::SQS::QueuePolicy") {
        let read = queue_policy(Properties::of(resource, scope), &mut governed);
        all.extend(read.map_err(|problem| (id.to_owned(), problem))?);
    }
    for (id, resource) in scope.of_type("AWS::Lambda::Permission") {
        let read = lambda_permission(Properties::of(resource, scope), functions);
        all.extend(read.map_err(|problem| (id.to_owned(), problem))?);
    }
    Ok(all)
}

/// `governed` holds the names of the queues that have a policy already.
fn queue_policy(
    policy: Properties<'_>,
    governed: &mut BTreeSet<String>,
) -> Result<Vec<ServicePermission>, Problem> {
    let mut names = Vec::new();
    for url in policy.texts("Queues")? {
        let name = queue_of(&url, policy.scope())?;
        if !governed.insert(name.clone()) {
            let what = format!("a second policy of the queue {name}");
            return Err(unsupported(&what, "write one policy: in AWS the second replaces the first"));
        }
        names.push(name);
    }
    let document = policy.part("PolicyDocument")?;
    let statements = match document.get("Statement") {
        Some(Value::Array(statements)) => statements.as_slice(),
        Some(statement @ Value::Object(_)) => std::slice::from_ref(statement),
        _ => return Err(Problem::Missing { property: "PolicyDocument.Statement".to_owned() }),
    };
    let mut permissions = Vec::new();
    for statement in statements {
        permissions.extend(queue_statement(Properties::within(statement, policy.scope()), &names)?);
    }
    Ok(permissions)
}

/// The name of the queue of this template that has the URL `url`.
fn queue_of(url: &str, scope: &Scope<'_>) -> Result<String, Problem> {
    for (id, _) in scope.of_type(queues::QUEUE) {
        if scope.attribute(id, "QueueUrl")? == url {
            return scope.physical_name(id);
        }
    }
    Err(unexpected("Queues", "a list of queues of this template, each as !Ref Queue"))
}

fn queue_statement(statement: Properties<'_>, queues: &[String]) -> Result<Vec<ServicePermission>, Problem> {
    match statement.text("Effect")?.as_str() {
        "Allow" => {}
        "Deny" => return check_deny(statement).map(|()| Vec::new()),
        _ => return Err(unexpected("Effect", "Allow or Deny")),
    }
    let sources = match sources(statement)? {
        Sources::Any => None,
        Sources::These(arns) => Some(arns),
        Sources::Foreign => return Ok(Vec::new()),
    };
    if !statement.texts("Action")?.iter().any(|action| SENDS.contains(&action.to_lowercase().as_str())) {
        return Ok(Vec::new());
    }
    let resources = statement.texts("Resource")?;
    let principals = match &statement.part("Principal")? {
        Value::String(any) if any == "*" => vec!["*".to_owned()],
        principals => Properties::within(principals, statement.scope()).texts("Service")?,
    };
    let mut permissions = Vec::new();
    for name in queues {
        if resources
            .iter()
            .any(|resource| resource == "*" || *resource == statement.scope().arns().queue(name))
        {
            permissions.extend(principals.iter().filter(|name| DELIVERING.contains(&name.as_str())).map(
                |principal| ServicePermission {
                    principal: principal.clone(),
                    target: Target::Queue(name.clone()),
                    sources: sources.clone(),
                },
            ));
        }
    }
    Ok(permissions)
}

/// Accepts the one `Deny` that no delivery of the region meets.
fn check_deny(statement: Properties<'_>) -> Result<(), Problem> {
    let condition = statement.part("Condition")?;
    let is_only = |value: &Value| value.as_object().is_some_and(|members| members.len() == 1);
    let keys = condition.get("Bool").filter(|keys| is_only(&condition) && is_only(keys));
    let secure = keys.and_then(|keys| keys.get("aws:SecureTransport"));
    if secure.is_some_and(|value| value == "false" || *value == Value::Bool(false)) {
        return Ok(());
    }
    Err(unsupported("a Deny statement in a queue's policy", "deny only requests without aws:SecureTransport"))
}

fn sources(statement: Properties<'_>) -> Result<Sources, Problem> {
    let condition = statement.part("Condition")?;
    let mut sources = Sources::Any;
    let mut is_foreign = false;
    for (operator, keys) in condition.as_object().into_iter().flatten() {
        for key in keys.as_object().into_iter().flatten().map(|(key, _)| key) {
            let values = Properties::within(keys, statement.scope()).texts(key)?;
            let has_wildcard = values.iter().any(|value| value.contains(['*', '?']));
            match (operator.as_str(), key.to_lowercase().as_str()) {
                // `StringEquals` knows no wildcards, and those of `StringLike` are others than an
                // ARN's.
                ("StringEquals", "aws:sourcearn") if has_wildcard => {
                    return Err(unsupported("wildcards in StringEquals of aws:SourceArn", "use ArnLike"));
                }
                ("ArnEquals" | "ArnLike" | "StringEquals", "aws:sourcearn") => {
                    if !matches!(sources, Sources::Any) {
                        return Err(unsupported("two conditions of aws:SourceArn", "write one with a list"));
                    }
                    sources = Sources::These(values);
                }
                ("StringEquals", "aws:sourceaccount") => {
                    is_foreign |= !values.iter().any(|account| account == ACCOUNT);
                }
                _ => {
                    let what = format!("the condition {operator} of {key} in a queue's policy");
                    return Err(unsupported(&what, "use ArnEquals or ArnLike of aws:SourceArn"));
                }
            }
        }
    }
    Ok(if is_foreign { Sources::Foreign } else { sources })
}

/// None for a permission that allows no invocation, or that is not for this account.
fn lambda_permission(
    permission: Properties<'_>,
    functions: &BTreeMap<String, String>,
) -> Result<Option<ServicePermission>, Problem> {
    let action = permission.text("Action")?;
    let principal = permission.text("Principal")?;
    let name = permission.text("FunctionName")?;
    let is_named =
        |(arn, _): &(&String, &String)| **arn == name || **arn == permission.scope().arns().function(&name);
    let Some((_, function)) = functions.iter().find(is_named) else {
        return Err(unexpected(
            "FunctionName",
            "a function of this template, by !Ref or !GetAtt Function.Arn",
        ));
    };
    let account = permission.optional_text("SourceAccount")?;
    let is_foreign = account.is_some_and(|account| account != ACCOUNT);
    if !DELIVERING.contains(&principal.as_str())
        || is_foreign
        || !(action == "lambda:InvokeFunction" || action == "lambda:*")
    {
        return Ok(None);
    }
    Ok(Some(ServicePermission {
        principal,
        target: Target::Function(function.clone()),
        sources: permission.optional_text("SourceArn")?.map(|arn| vec![arn]),
    }))
}
