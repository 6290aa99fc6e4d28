//! `Condition` of a statement: which requests of its action it allows.
//!
//! Understood is what confines an update to some attributes of a row. Everything else is refused: a condition that is
//! read over allows more here than in the cloud.

use serde_json::Value;

use super::Problem;
use super::model::Condition;
use super::properties::{Properties, unexpected};

/// The one action whose requests are looked at closely enough.
const UPDATE: &str = "dynamodb:UpdateItem";

pub(super) fn read(statement: Properties<'_>, actions: &[String]) -> Result<Vec<Condition>, Problem> {
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
