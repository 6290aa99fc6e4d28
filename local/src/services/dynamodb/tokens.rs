//! `ClientRequestToken`: a transaction that is sent twice has its effect once.
//!
//! 1. The token of a transaction that committed is remembered for ten minutes, as DynamoDB does,
//!    with a digest of its items. The same token with the same items is answered without another
//!    effect.
//! 2. The same token with other items is an `IdempotentParameterMismatchException`.
//! 3. A transaction that was refused or cancelled leaves no token: sent again, it is tried again.
//!
//! The engine has this, too, but scans all tokens of ten minutes for each transaction, which
//! becomes slow under load. Here a queue has the oldest tokens first.
//!
//! Limits: at most [`CAPACITY`] tokens; an answer from memory names no capacity units.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dynoxide::DynoxideError;
use dynoxide::actions::transact_write_items::{TransactWriteItemsRequest, TransactWriteItemsResponse};
use serde_json::Value;

/// How long DynamoDB remembers a token.
const WINDOW: Duration = Duration::from_mins(10);

/// DynamoDB's longest token. The engine refuses what is longer, with the right words.
const MAX_TOKEN_BYTES: usize = 36;

/// Tokens at once, some 20 MB: a minute of all that this machine can do. A retry comes within
/// seconds.
const CAPACITY: usize = 100_000;

/// The transactions that committed lately.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<Committed>);

#[derive(Debug, Default)]
struct Committed {
    digests: HashMap<String, u64>,
    order: VecDeque<(Instant, String)>,
}

impl Tokens {
    /// Executes `request`, unless its token says that this was done.
    ///
    /// The lock is held meanwhile, so that of two at once the second finds the first one's token.
    /// It costs nothing: the engine takes one request at a time anyway.
    pub(super) fn once(
        &self,
        mut request: TransactWriteItemsRequest,
        execute: impl FnOnce(TransactWriteItemsRequest) -> Result<TransactWriteItemsResponse, DynoxideError>,
    ) -> Result<TransactWriteItemsResponse, DynoxideError> {
        let Some(token) = request.client_request_token.take_if(|token| token.len() <= MAX_TOKEN_BYTES) else {
            return execute(request);
        };
        let items = serde_json::to_value(&request.transact_items)
            .map_err(|error| DynoxideError::InternalServerError(error.to_string()))?;
        let digest = digest(&items);
        let mut committed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match committed.digests.get(&token) {
            Some(known) if *known == digest => return Ok(TransactWriteItemsResponse::default()),
            Some(_) => {
                let message = "An error occurred (IdempotentParameterMismatchException)";
                return Err(DynoxideError::IdempotentParameterMismatchException(message.to_owned()));
            }
            None => {}
        }
        let response = execute(request)?;
        committed.remember(token, digest, Instant::now());
        Ok(response)
    }
}

impl Committed {
    fn remember(&mut self, token: String, digest: u64, now: Instant) {
        while self.order.len() >= CAPACITY
            || self.order.front().is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW)
        {
            if let Some((_, expired)) = self.order.pop_front() {
                self.digests.remove(&expired);
            }
        }
        self.digests.insert(token.clone(), digest);
        self.order.push_back((now, token));
    }
}

/// The same for the same content, in whatever order an object has its members.
fn digest(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    match value {
        Value::Object(members) => members
            .iter()
            .fold(0_u64, |sum, (name, value)| sum.wrapping_add(member(name, value)))
            .hash(&mut hasher),
        Value::Array(entries) => entries.iter().for_each(|entry| digest(entry).hash(&mut hasher)),
        scalar => scalar.hash(&mut hasher),
    }
    std::mem::discriminant(value).hash(&mut hasher);
    hasher.finish()
}

fn member(name: &str, value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, digest(value)).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use serde_json::json;

    use super::*;

    fn request(token: &str, items: &Value) -> TransactWriteItemsRequest {
        serde_json::from_value(json!({"TransactItems": items, "ClientRequestToken": token})).unwrap()
    }

    fn put(name: &str) -> Value {
        json!([{"Put": {"TableName": "Orders", "Item": {"orderId": {"S": name}, "status": {"S": "PAID"}}}}])
    }

    #[test]
    fn a_transaction_that_is_sent_again_has_its_effect_once() {
        let (tokens, effects) = (Tokens::default(), Cell::new(0));
        let execute = |request: TransactWriteItemsRequest| {
            assert_eq!(request.client_request_token, None);
            effects.set(effects.get() + 1);
            Ok(TransactWriteItemsResponse::default())
        };
        tokens.once(request("t1", &put("a")), execute).unwrap();
        tokens.once(request("t1", &put("a")), execute).unwrap();
        assert_eq!(effects.get(), 1);
        let refused = tokens.once(request("t1", &put("b")), execute).unwrap_err();
        assert!(matches!(refused, DynoxideError::IdempotentParameterMismatchException(_)), "{refused}");
        tokens.once(request("t2", &put("b")), execute).unwrap();
        assert_eq!(effects.get(), 2);
    }

    #[test]
    fn a_transaction_that_was_cancelled_is_tried_again() {
        let tokens = Tokens::default();
        let cancelled = |_| Err(DynoxideError::InternalServerError("cancelled".into()));
        assert!(tokens.once(request("t1", &put("a")), cancelled).is_err());
        let tried = Cell::new(false);
        let execute = |_| {
            tried.set(true);
            Ok(TransactWriteItemsResponse::default())
        };
        tokens.once(request("t1", &put("a")), execute).unwrap();
        assert!(tried.get());
    }

    #[test]
    fn a_token_is_forgotten_after_ten_minutes() {
        let (mut committed, start) = (Committed::default(), Instant::now());
        committed.remember("old".into(), 1, start);
        committed.remember("new".into(), 2, start + Duration::from_mins(9));
        assert_eq!(committed.digests.len(), 2);
        committed.remember("newest".into(), 3, start + WINDOW);
        assert_eq!((committed.digests.get("old"), committed.digests.get("new")), (None, Some(&2)));
    }

    #[test]
    fn a_digest_depends_on_content_and_not_on_the_order_of_members() {
        let parse = |text| digest(&serde_json::from_str(text).unwrap());
        assert_eq!(parse(r#"{"a": 1, "b": [2, 3]}"#), parse(r#"{"b": [2, 3], "a": 1}"#));
        assert_ne!(parse(r#"{"a": 1, "b": [2, 3]}"#), parse(r#"{"a": 1, "b": [3, 2]}"#));
        assert_ne!(parse(r#"{"a": "b"}"#), parse(r#"{"b": "a"}"#));
        assert_ne!(parse("{}"), parse("[]"));
    }
}
