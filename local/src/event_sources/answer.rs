//! What a function's answer says of its batch (`ReportBatchItemFailures`).
//!
//! By the developer guide, "Implementing partial batch responses": the whole batch was handled if `batchItemFailures` is
//! empty, null or absent, and if there is no answer at all. It was not if the answer can't be understood: no JSON, another
//! form, an `itemIdentifier` that is missing, null, empty or no message of the batch.

use std::collections::BTreeSet;

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    batch_item_failures: Option<Vec<Failure>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    item_identifier: String,
}

/// Why an answer counts as the failure of the whole batch.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("its answer is not {{\"batchItemFailures\": [{{\"itemIdentifier\": \"...\"}}]}}: {0}")]
    Form(#[from] serde_json::Error),
    #[error("its answer names an item that was not in the batch: {0:?}")]
    Unknown(String),
}

/// Ids of the messages, among those of the batch, that were not handled.
pub(super) fn failures(answer: &[u8], batch: &BTreeSet<&str>) -> Result<BTreeSet<String>, AnswerError> {
    if answer.is_empty() {
        return Ok(BTreeSet::new());
    }
    // Derived structs take a list for an object as well; Lambda doesn't.
    let response: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(answer)?;
    let Some(response) = response else { return Ok(BTreeSet::new()) };
    let response: Response = serde_json::from_value(response.into())?;
    let mut failures = BTreeSet::new();
    for Failure { item_identifier } in response.batch_item_failures.unwrap_or_default() {
        if !batch.contains(item_identifier.as_str()) {
            return Err(AnswerError::Unknown(item_identifier));
        }
        failures.insert(item_identifier);
    }
    Ok(failures)
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
