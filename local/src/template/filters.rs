//! `FilterCriteria` of an event source (Lambda's developer guide, "Control which events Lambda
//! sends to your function").
//!
//! A record passes if it matches one of the filters, or if there are none. Patterns are those of
//! EventBridge ([`patterns`](crate::patterns)).
//!
//! What Lambda refuses when the mapping is made is refused here: more than five filters (the quota
//! of an account that has not asked for more), a pattern that is not valid, a pattern of a key that
//! can't be filtered by.
//!
//! Limits: a pattern has 2,048 characters at most; Lambda takes 4,096.

use serde_json::Value;

use super::error::Problem;
use super::model::Filter;
use super::properties::{Properties, unexpected};
use crate::patterns::Pattern;

/// Filters of one mapping (developer guide: "By default, you can have five different filters per
/// event source").
const MAX_FILTERS: usize = 5;

/// What a pattern for a message of a queue may name ("Using event filtering with an Amazon SQS
/// event source").
pub(super) const QUEUE_KEYS: &[&str] = &["body"];

/// What a pattern for a record of a stream may name. Lambda's guide has `dynamodb` only; DynamoDB's
/// guide filters by the two others as well ("Tutorial #2: Using filters to process some events with
/// DynamoDB and Lambda", "DynamoDB Streams and Time to Live").
pub(super) const STREAM_KEYS: &[&str] = &["dynamodb", "eventName", "userIdentity"];

/// The filters of an event or a mapping. Patterns may name `keys` of a record and no others.
pub(super) fn read(event: Properties<'_>, keys: &[&str]) -> Result<Vec<Filter>, Problem> {
    let criteria = event.part("FilterCriteria")?;
    let filters = match &criteria {
        Value::Null => return Ok(Vec::new()),
        Value::Object(criteria) if criteria.keys().all(|name| name == "Filters") => criteria.get("Filters"),
        _ => return Err(unexpected("FilterCriteria", "an object with Filters and nothing else")),
    };
    let filters = match filters {
        None => return Ok(Vec::new()),
        Some(Value::Array(filters)) if filters.len() <= MAX_FILTERS => filters,
        Some(_) => return Err(unexpected("FilterCriteria.Filters", "a list of five filters at most")),
    };
    filters.iter().map(|filter| one(filter, keys)).collect()
}

fn one(filter: &Value, keys: &[&str]) -> Result<Filter, Problem> {
    let wrong = || {
        unexpected("FilterCriteria.Filters", "a list of objects with a Pattern, the text of a JSON object")
    };
    let text = match filter.as_object() {
        Some(filter) if filter.len() == 1 => {
            filter.get("Pattern").and_then(Value::as_str).ok_or_else(wrong)?
        }
        _ => return Err(wrong()),
    };
    let document: Value = serde_json::from_str(text).map_err(|_| wrong())?;
    let pattern = Pattern::parse(&document).map_err(Problem::Pattern)?;
    let names = document.as_object().into_iter().flat_map(|members| members.keys());
    if let Some(other) = names.into_iter().find(|name| !keys.contains(&name.as_str())) {
        return Err(Problem::Unsupported {
            what: format!("a filter by {other}"),
            instead: "filter by body (SQS), or by dynamodb, eventName and userIdentity (DynamoDB)",
        });
    }
    // Lambda: "The filter pattern for data properties must be in a valid JSON format."
    if document.get("dynamodb").is_some_and(|pattern| !pattern.is_object()) {
        return Err(unexpected("FilterCriteria", "patterns whose dynamodb is an object"));
    }
    Ok(Filter { document, pattern })
}
