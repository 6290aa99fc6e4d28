//! `Policies` of a function, or of a role: their `Allow` statements.
//!
//! Of conditions those are understood that confine an update to some attributes of a row.
//! Everything else is refused: a statement or a condition that is read over allows more here than
//! in the cloud.

use serde_json::Value;

use super::error::Problem;
use super::model::{Condition, Statement};
use super::properties::{Properties, unexpected};
use super::scope::Scope;

/// What a statement may consist of: all that is enforced.
const STATEMENT_ELEMENTS: [&str; 5] = ["Sid", "Effect", "Action", "Resource", "Condition"];

/// The one action whose requests are looked at closely enough.
const UPDATE: &str = "dynamodb:UpdateItem";

/// All statements of `function`.
pub(super) fn read(function: Properties<'_>) -> Result<Vec<Statement>, Problem> {
    // Resolved as a whole: a statement may stand behind a condition.
    let policies = function.part("Policies")?;
    let documents = match &policies {
        Value::Null => return Ok(Vec::new()),
        Value::Array(documents) => documents.as_slice(),
        document => std::slice::from_ref(document),
    };
    documents
        .iter()
        .map(|document| statements(document, function.scope()))
        .collect::<Result<Vec<_>, _>>()
        .map(|all| all.concat())
}

/// All statements of a role: its own `Policies`, and every `AWS::IAM::Policy` that names it.
pub(super) fn of_role(id: &str, scope: &Scope<'_>) -> Result<Vec<Statement>, Problem> {
    let role = Properties::of(scope.resource(id)?, scope);
    if role.raw("ManagedPolicyArns").is_some() {
        return Err(managed());
    }
    let mut documents: Vec<Value> = Vec::new();
    let own = role.part("Policies")?;
    for policy in own.as_array().into_iter().flatten() {
        documents.push(Properties::within(policy, scope).part("PolicyDocument")?);
    }
    for (_, policy) in scope.of_type("AWS::IAM::Policy") {
        let policy = Properties::of(policy, scope);
        if policy.texts("Roles")?.iter().any(|role| role == id) {
            documents.push(policy.part("PolicyDocument")?);
        }
    }
    documents
        .iter()
        .map(|document| statements(document, scope))
        .collect::<Result<Vec<_>, _>>()
        .map(|all| all.concat())
}

fn statements(document: &Value, scope: &Scope<'_>) -> Result<Vec<Statement>, Problem> {
    let statements = match document.get("Statement") {
        Some(Value::Array(statements)) => statements.as_slice(),
        Some(statement @ Value::Object(_)) => std::slice::from_ref(statement),
        _ => return Err(managed()),
    };
    statements.iter().map(|statement| read_statement(Properties::within(statement, scope))).collect()
}

fn managed() -> Problem {
    Problem::Unsupported {
        what: "a managed policy or policy template in Policies".to_owned(),
        instead: "write its statements inline (Version, Statement)",
    }
}

fn read_statement(statement: Properties<'_>) -> Result<Statement, Problem> {
    if statement.text("Effect")? != "Allow" {
        return Err(Problem::Unsupported {
            what: "a Deny statement in Policies".to_owned(),
            instead: "grant less in the Allow statements",
        });
    }
    if let Some(unsupported) = statement.names().find(|name| !STATEMENT_ELEMENTS.contains(name)) {
        return Err(Problem::Unsupported {
            what: format!("{unsupported} in a statement of Policies"),
            instead: "say all with Effect, Action, Resource and Condition",
        });
    }
    let (actions, resources) = (statement.texts("Action")?, statement.texts("Resource")?);
    if actions.is_empty() || resources.is_empty() {
        let property = "Action and Resource of a statement in Policies".to_owned();
        return Err(Problem::Missing { property });
    }
    // `${aws:…}` is filled in by IAM for each request; taken as text it would match nothing, or too
    // much.
    if let Some(variable) = resources.iter().find(|resource| resource.contains("${")) {
        return Err(Problem::Unsupported {
            what: format!("the policy variable in {variable}"),
            instead: "name the resource",
        });
    }
    let conditions = conditions(statement, &actions)?;
    Ok(Statement { actions, resources, conditions })
}

fn conditions(statement: Properties<'_>, actions: &[String]) -> Result<Vec<Condition>, Problem> {
    let Some(operators) = statement.value("Condition")? else { return Ok(Vec::new()) };
    if let Some(other) = actions.iter().find(|action| *action != UPDATE) {
        return Err(Problem::Unsupported {
            what: format!("a Condition for {other} in Policies"),
            instead: "give dynamodb:UpdateItem a statement of its own, and others none",
        });
    }
    let mut conditions = Vec::new();
    for (operator, keys) in members("Condition", &operators)? {
        for (key, _) in members(operator, keys)? {
            let values = Properties::within(keys, statement.scope()).texts(key)?.into_iter().collect();
            conditions.push(match (operator.as_str(), key.as_str()) {
                ("ForAllValues:StringEquals", "dynamodb:Attributes") => Condition::Attributes(values),
                ("StringEquals", "dynamodb:ReturnValues") => Condition::ReturnValues(values),
                ("StringEqualsIfExists", "dynamodb:ReturnValues") => Condition::ReturnValuesIfExists(values),
                _ => {
                    return Err(Problem::Unsupported {
                        what: format!("the condition {operator} of {key} in Policies"),
                        instead: "use ForAllValues:StringEquals of dynamodb:Attributes and StringEquals of dynamodb:ReturnValues",
                    });
                }
            });
        }
    }
    Ok(conditions)
}

fn members<'a>(name: &str, value: &'a Value) -> Result<&'a serde_json::Map<String, Value>, Problem> {
    value.as_object().ok_or_else(|| unexpected(name, "an object"))
}
