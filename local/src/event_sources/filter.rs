//! Which messages and records pass the filters of a mapping.
//!
//! A mapping without filters lets everything pass; otherwise one filter is enough. By the developer
//! guide, "Properly filtering Amazon SQS messages", the body of a message and the pattern for it
//! must be of one format:
//!
//! | body | pattern of `body` | |
//! |---|---|---|
//! | JSON | an object | compared with what the JSON says |
//! | no JSON | a list: plain strings | compared with the text |
//! | JSON | a list | does not pass |
//! | no JSON | an object | does not pass |

use serde_json::{Value, json};

use crate::template::model::Filter;

/// Whether a message with this body passes.
pub(super) fn passes_body(filters: &[Filter], body: &str) -> bool {
    if filters.is_empty() {
        return true;
    }
    let parsed: Option<Value> = serde_json::from_str(body).ok();
    filters.iter().any(|filter| {
        let wants_json = filter.document["body"].is_object();
        match &parsed {
            Some(json) if wants_json => filter.pattern.matches(&json!({ "body": json })),
            None if !wants_json => filter.pattern.matches(&json!({ "body": body })),
            _ => false,
        }
    })
}

/// Whether a record of a stream passes, as it stands in an event.
pub(super) fn passes_record(filters: &[Filter], record: &Value) -> bool {
    filters.is_empty() || filters.iter().any(|filter| filter.pattern.matches(record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patterns::Pattern;

    fn filters(patterns: &[Value]) -> Vec<Filter> {
        let filter = |document: &Value| Filter {
            pattern: Pattern::parse(document).unwrap(),
            document: document.clone(),
        };
        patterns.iter().map(filter).collect()
    }

    #[test]
    fn body_and_pattern_must_be_of_one_format() {
        let object = json!({"body": {"kind": ["order"]}});
        let plain = json!({"body": ["order"]});
        let prefix = json!({"body": [{"prefix": "or"}]});
        let or = json!({"body": {"$or": [{"kind": ["cart"]}, {"size": [{"numeric": [">", 9]}]}]}});
        let nested = json!({"body": {"items": {"id": ["b"]}}});
        for (pattern, body, passes) in [
            (&object, r#"{"kind":"order","size":1}"#, true),
            (&object, r#"{"kind":"cart"}"#, false),
            (&object, r#"{"kind":"order""#, false),
            (&object, "order", false),
            (&object, "\"order\"", false),
            (&object, "", false),
            (&plain, "order", true),
            (&plain, "orders", false),
            (&plain, "\"order\"", false),
            (&plain, r#"{"kind":"order"}"#, false),
            (&prefix, "orders", true),
            (&prefix, "carts", false),
            (&or, r#"{"size":10}"#, true),
            (&or, r#"{"size":"10"}"#, false),
            (&nested, r#"{"items":[{"id":"a"},{"id":"b"}]}"#, true),
            (&nested, r#"{"items":[{"id":"a"}]}"#, false),
        ] {
            assert_eq!(
                passes_body(&filters(std::slice::from_ref(pattern)), body),
                passes,
                "{pattern} {body}"
            );
        }
        assert!(passes_body(&[], "anything"));
        assert!(passes_body(&filters(&[object, plain]), "order"), "one filter is enough");
    }

    #[test]
    fn a_record_passes_by_its_name_its_images_and_who_deleted_it() {
        let record = json!({
            "eventName": "REMOVE",
            "userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"},
            "dynamodb": {
                "Keys": {"id": {"S": "a-1"}},
                "OldImage": {"id": {"S": "a-1"}, "state": {"S": "paid"}, "total": {"N": "42"}},
            },
        });
        for (pattern, passes) in [
            (json!({"eventName": ["INSERT", "REMOVE"]}), true),
            (json!({"eventName": ["INSERT"]}), false),
            (json!({"userIdentity": {"type": ["Service"]}}), true),
            (json!({"userIdentity": {"type": [{"exists": false}]}}), false),
            (json!({"dynamodb": {"Keys": {"id": {"S": [{"prefix": "a-"}]}}}}), true),
            (json!({"dynamodb": {"OldImage": {"state": {"S": ["paid"]}}}}), true),
            (json!({"dynamodb": {"NewImage": {"state": {"S": ["paid"]}}}}), false),
            (json!({"dynamodb": {"NewImage": {"state": {"S": [{"exists": false}]}}}}), true),
            // A number of DynamoDB is a text in JSON: `numeric` does not see it.
            (json!({"dynamodb": {"OldImage": {"total": {"N": ["42"]}}}}), true),
            (json!({"dynamodb": {"OldImage": {"total": {"N": [{"numeric": ["=", 42]}]}}}}), false),
            (json!({"eventName": ["REMOVE"], "dynamodb": {"OldImage": {"state": {"S": ["open"]}}}}), false),
        ] {
            assert_eq!(passes_record(&filters(std::slice::from_ref(&pattern)), &record), passes, "{pattern}");
        }
        assert!(passes_record(&[], &record));
    }
}
