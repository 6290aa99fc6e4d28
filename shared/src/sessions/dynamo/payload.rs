//! The sealed payload in a session's row.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use jiff::Timestamp;

use super::{DynamoSessions, PATIENCE, key, parse, read_items};
use crate::clock::rfc3339;
use crate::deadline::Deadline;
use crate::dynamo::{AttributeValue, DynamoError, Item, Write, WriteOutcome, number, text};
use crate::ids::{SessionId, UserId};
use crate::sessions::{PayloadStore, Replaced, SealedPayload, SessionError, SessionRows};

/// Nobody has written since the payload was read, so nothing of theirs is lost. And nobody has revoked the session: what
/// has ended is not changed any more.
const IS_AS_READ: &str = "version = :seen AND attribute_not_exists(revokedAt)";

/// The attributes of a payload.
pub(super) fn attributes(payload: &SealedPayload) -> [(String, AttributeValue); 2] {
    let SealedPayload { version, bytes } = payload;
    [
        ("version".to_owned(), number(*version)),
        ("payload".to_owned(), AttributeValue::B(Blob::new(bytes.clone()))),
    ]
}

/// The payload in a session's row.
pub fn parse_payload(row: &Item) -> Result<SealedPayload, DynamoError> {
    let version = row.get("version").and_then(|version| version.as_n().ok()?.parse().ok());
    let bytes = row.get("payload").and_then(|payload| payload.as_b().ok());
    match (version, bytes) {
        (Some(version), Some(bytes)) => Ok(SealedPayload { version, bytes: bytes.as_ref().to_vec() }),
        _ => Err(DynamoError::unreadable("read", "a session's row", "it has no payload")),
    }
}

impl PayloadStore for DynamoSessions {
    async fn read_payload(
        &self,
        id: &SessionId,
        user: &UserId,
    ) -> Result<(SessionRows, Option<SealedPayload>), SessionError> {
        let items = read_items(&self.client, &self.table, id, user, Deadline::after(PATIENCE)).await?;
        let session = items.iter().find(|item| item.contains_key("userId"));
        let payload = session.map(parse_payload).transpose()?;
        Ok((parse(items)?, payload))
    }

    async fn replace_payload(
        &self,
        id: &SessionId,
        seen: u64,
        next: &SealedPayload,
        now: Timestamp,
    ) -> Result<Replaced, SessionError> {
        let [(_, version), (_, payload)] = attributes(next);
        let request = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(id)))
            .update_expression("SET payload = :payload, version = :version, lastActivity = :now")
            .condition_expression(IS_AS_READ)
            .expression_attribute_values(":payload", payload)
            .expression_attribute_values(":version", version)
            .expression_attribute_values(":seen", number(seen))
            .expression_attribute_values(":now", text(rfc3339(now)))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let update = Box::pin(request.send()).await.outcome("UpdateItem", &format!("session {id}"))?;
        match update {
            Write::Done(_) => Ok(Replaced::Done),
            Write::Refused(row) if row.is_empty() || row.contains_key("revokedAt") => Ok(Replaced::Ended),
            // The SDK tried again after a lost answer and met its own first try: no two seals have the same bytes.
            Write::Refused(row) if parse_payload(&row)? == *next => Ok(Replaced::Done),
            Write::Refused(_) | Write::Conflict => Ok(Replaced::Overtaken),
        }
    }
}
