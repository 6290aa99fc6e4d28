//! One DynamoDB request on the embedded database: operation name and JSON body in, JSON body out.
//!
//! The database is called by its typed API and not through its own HTTP server, so that a request
//! has no second hop, and its consumed capacity is read from the typed answer.
//!
//! Limits: a request that no SDK builds (a number where a string belongs, JSON nested thousands
//! deep) is refused as DynamoDB refuses it, by type and status, but not always in DynamoDB's exact
//! words.

use dynoxide::types::ConsumedCapacity;
use dynoxide::{Database, DynoxideError, actions};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::streams::Streams;
use super::tokens::Tokens;

/// Whether the capacity that requests consume is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metering {
    /// Only what the request itself asks for.
    Off,
    /// Asked for on the request's behalf, and taken out of the answer again.
    On,
}

/// What an operation answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: String,
    /// The consumed capacity, per table; empty if it was not requested.
    pub(super) consumed: Vec<Consumed>,
}

/// Capacity units that one request consumed on one table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Consumed {
    pub(super) table: String,
    /// Read or write units, by the kind of the operation.
    pub(super) units: f64,
}

/// The two shapes in which answers carry their capacity.
trait Capacity {
    fn as_list(&self) -> &[ConsumedCapacity];
}

impl Capacity for Option<ConsumedCapacity> {
    fn as_list(&self) -> &[ConsumedCapacity] {
        self.as_slice()
    }
}

impl Capacity for Option<Vec<ConsumedCapacity>> {
    fn as_list(&self) -> &[ConsumedCapacity] {
        self.as_deref().unwrap_or_default()
    }
}

/// Runs `operation`. `None` when DynamoDB has no operation of that name (or this database doesn't).
///
/// Blocks the calling thread.
pub(super) fn run(
    database: &Database,
    tokens: &Tokens,
    streams: &Streams,
    operation: &str,
    body: &str,
    metering: Metering,
) -> Option<Result<Answer, DynoxideError>> {
    macro_rules! plain {
        ($method:ident) => {
            decode(body)
                .and_then(|request| database.$method(request))
                .and_then(|answer| encode(&answer, vec![]))
        };
    }
    macro_rules! described {
        ($method:ident, $member:literal) => {
            decode(body)
                .and_then(|request| database.$method(request))
                .and_then(|answer| describe(&answer, $member, streams))
        };
    }
    macro_rules! metered {
        ($request:ty, $method:ident) => {
            metered!($request, |request| database.$method(request))
        };
        ($request:ty, $execute:expr) => {
            decode::<$request>(body).and_then(|mut request| {
                let asked = request.return_consumed_capacity.as_deref().is_some_and(|mode| mode != "NONE");
                if metering == Metering::On && !asked {
                    request.return_consumed_capacity = Some("TOTAL".to_owned());
                }
                let mut answer = $execute(request)?;
                let consumed = consumed(answer.consumed_capacity.as_list());
                if !asked {
                    answer.consumed_capacity = None;
                }
                encode(&answer, consumed)
            })
        };
    }
    Some(match operation {
        "GetItem" => metered!(actions::get_item::GetItemRequest, get_item),
        "PutItem" => metered!(actions::put_item::PutItemRequest, put_item),
        "UpdateItem" => metered!(actions::update_item::UpdateItemRequest, update_item),
        "DeleteItem" => metered!(actions::delete_item::DeleteItemRequest, delete_item),
        "Query" => metered!(actions::query::QueryRequest, query),
        "Scan" => metered!(actions::scan::ScanRequest, scan),
        "BatchGetItem" => metered!(actions::batch_get_item::BatchGetItemRequest, batch_get_item),
        "BatchWriteItem" => metered!(actions::batch_write_item::BatchWriteItemRequest, batch_write_item),
        "TransactGetItems" => {
            metered!(actions::transact_get_items::TransactGetItemsRequest, transact_get_items)
        }
        "TransactWriteItems" => {
            metered!(actions::transact_write_items::TransactWriteItemsRequest, |request| {
                tokens.once(request, |request| database.transact_write_items(request))
            })
        }
        "ExecuteStatement" => plain!(execute_statement),
        "ExecuteTransaction" => plain!(execute_transaction),
        "BatchExecuteStatement" => plain!(batch_execute_statement),
        "CreateTable" => described!(create_table, "TableDescription"),
        "DeleteTable" => described!(delete_table, "TableDescription"),
        "DescribeTable" => described!(describe_table, "Table"),
        "ListTables" => plain!(list_tables),
        "UpdateTable" => described!(update_table, "TableDescription"),
        "UpdateTimeToLive" => plain!(update_time_to_live),
        "DescribeTimeToLive" => plain!(describe_time_to_live),
        "TagResource" => plain!(tag_resource),
        "UntagResource" => plain!(untag_resource),
        "ListTagsOfResource" => plain!(list_tags_of_resource),
        _ => return None,
    })
}

fn consumed(list: &[ConsumedCapacity]) -> Vec<Consumed> {
    list.iter()
        .map(|entry| Consumed { table: entry.table_name.clone(), units: entry.capacity_units })
        .collect()
}

/// The description of a table in this region's words: the engine has a region name and streams of
/// its own.
fn describe(answer: &impl Serialize, member: &str, streams: &Streams) -> Result<Answer, DynoxideError> {
    let internal = |error: serde_json::Error| DynoxideError::InternalServerError(error.to_string());
    let text = serde_json::to_string(answer).map_err(internal)?;
    let engine = format!("arn:aws:dynamodb:{}:", dynoxide::streams::LOCAL_REGION);
    let text = text.replace(&engine, &format!("arn:aws:dynamodb:{}:", streams.arns().region()));
    let mut answer: Value = serde_json::from_str(&text).map_err(internal)?;
    if let Some(description) = answer.get_mut(member) {
        streams.correct_description(description);
    }
    encode(&answer, vec![])
}

fn encode(answer: &impl Serialize, consumed: Vec<Consumed>) -> Result<Answer, DynoxideError> {
    match serde_json::to_string(answer) {
        Ok(body) => Ok(Answer { body, consumed }),
        Err(error) => Err(DynoxideError::InternalServerError(error.to_string())),
    }
}

/// The prefixes by which the database's decoders say of which kind a refusal is.
const VALIDATION_PREFIXES: [&str; 3] = ["VALIDATION:", "VALIDATION_REQUEST:", "VALIDATION_AS_READ:"];
const SERIALIZATION_PREFIXES: [&str; 2] = ["SERIALIZATION:", "SERIALIZATION_AS_READ:"];

fn decode<T: DeserializeOwned>(body: &str) -> Result<T, DynoxideError> {
    serde_json::from_str(body).map_err(|error| {
        let text = error.to_string();
        // serde_json appends where it stopped, which means nothing to a DynamoDB client.
        let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
        let after = |prefixes: &[&str]| prefixes.iter().find_map(|prefix| message.strip_prefix(prefix));
        if let Some(message) = after(&SERIALIZATION_PREFIXES) {
            DynoxideError::SerializationException(message.to_owned())
        } else if let Some(message) = after(&VALIDATION_PREFIXES) {
            DynoxideError::ValidationException(message.to_owned())
        } else if error.is_data() {
            DynoxideError::ValidationException(message.to_owned())
        } else {
            DynoxideError::SerializationException(message.to_owned())
        }
    })
}
