//! What a function's answer says of its batch (`ReportBatchItemFailures`).
//!
//! By the developer guide, "Implementing partial batch responses": the whole batch was handled if
//! `batchItemFailures` is empty, null or absent, and if there is no answer at all. It was not if
//! the answer can't be understood: no JSON, another form, an `itemIdentifier` that is missing,
//! null, empty or no message of the batch.

use std::collections::BTreeSet;

use serde_json::Value;

/// Why an answer counts as the failure of the whole batch.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("its answer is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its answer is not {{\"batchItemFailures\": [{{\"itemIdentifier\": \"...\"}}]}}")]
    Form,
    #[error("its answer names an item that was not in the batch: {0:?}")]
    Unknown(String),
}

/// Ids of the messages, among those of the batch, that were not handled.
pub(super) fn failures(answer: &[u8], batch: &BTreeSet<&str>) -> Result<BTreeSet<String>, AnswerError> {
    if answer.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut answer: Value = serde_json::from_slice(answer)?;
    let listed = match &mut answer {
        Value::Null => Value::Null,
        Value::Object(answer) => answer.remove("batchItemFailures").unwrap_or_default(),
        _ => return Err(AnswerError::Form),
    };
    let items = match listed {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        _ => return Err(AnswerError::Form),
    };
    items.iter().map(|item| failure(item, batch)).collect()
}

fn failure(item: &Value, batch: &BTreeSet<&str>) -> Result<String, AnswerError> {
    match item.get("itemIdentifier").and_then(Value::as_str) {
        Some(id) if batch.contains(id) => Ok(id.to_owned()),
        Some(id) => Err(AnswerError::Unknown(id.to_owned())),
        None => Err(AnswerError::Form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(answer: &str) -> Option<Vec<String>> {
        let failures = failures(answer.as_bytes(), &BTreeSet::from(["a", "b"])).ok()?;
        Some(failures.into_iter().collect())
    }

    #[test]
    fn an_answer_without_failures_is_a_success() {
        for answer in ["", "null", "{}", r#"{"batchItemFailures":[]}"#, r#"{"batchItemFailures":null}"#] {
            assert_eq!(failed(answer), Some(vec![]), "{answer}");
        }
    }

    #[test]
    fn the_items_that_are_listed_failed() {
        let twice = r#"{"batchItemFailures":[{"itemIdentifier":"b"},{"itemIdentifier":"b"}]}"#;
        assert_eq!(failed(twice), Some(vec!["b".to_owned()]));
    }

    #[test]
    fn an_answer_that_is_not_understood_fails_the_whole_batch() {
        for answer in [
            "{",
            "\"ok\"",
            "[]",
            "[[]]",
            r#"{"batchItemFailures":"a"}"#,
            r#"{"batchItemFailures":["a"]}"#,
            r#"{"batchItemFailures":[["a"]]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
            r#"{"batchItemFailures":[{"itemId":"a"}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"c"}]}"#,
        ] {
            assert_eq!(failed(answer), None, "{answer}");
        }
    }
}
