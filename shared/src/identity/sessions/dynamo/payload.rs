//! The row of a session's sealed payload.

use aws_sdk_dynamodb::primitives::Blob;
use jiff::Timestamp;

use super::{DynamoSessions, PATIENCE, SessionAction, key, keys, parse};
use crate::core::date_time::rfc3339;
use crate::core::deadline::Deadline;
use crate::core::ids::{SessionId, UserId};
use crate::identity::sessions::{SealedPayload, Session, SessionError, SessionRows};
use crate::platform::dynamo::{
    Actions, AttributeValue, Change, DynamoError, Item, RowKey, Transaction, number, read_rows, text,
};
use crate::platform::tables;

/// Nobody has written since the payload was read, so nothing of theirs is lost.
const REPLACE: Change = Change {
    update: "SET payload = :payload, version = :version",
    condition: Some("version = :seen"),
    names: &[],
};

/// Stamps the payload's session. What was revoked meanwhile is not changed any more, nor is its payload: this is an action
/// of the same transaction.
const STAMP: Change = Change {
    update: "SET lastActivity = :now",
    condition: Some("attribute_exists(sessionId) AND attribute_not_exists(revokedAt)"),
    names: &[],
};

/// The key of a session's payload.
pub fn payload_key(id: &SessionId) -> Item {
    Item::from([(tables::SESSIONS.key.hash.to_owned(), text(payload_name(id)))])
}

/// What [`payload_key`] consists of.
pub(super) fn payload_name(id: &SessionId) -> String {
    format!("{id}#payload")
}

/// The row of a new session's payload.
pub(super) fn new_row(session: &Session, payload: &SealedPayload) -> Item {
    let mut row = payload_key(&session.id);
    row.insert("owner".to_owned(), text(session.user_id.as_str()));
    row.insert("expiresAt".to_owned(), number(session.expires_at.as_second()));
    row.insert("payload".to_owned(), bytes_of(payload));
    row.insert("version".to_owned(), number(payload.version));
    row
}

fn bytes_of(payload: &SealedPayload) -> AttributeValue {
    AttributeValue::B(Blob::new(payload.bytes.clone()))
}

/// Tells a payload's row from the rows of the check.
pub(super) fn is_payload(row: &Item) -> bool {
    row.contains_key("payload")
}

/// Reads a payload's row.
pub fn parse_payload(row: &Item) -> Result<SealedPayload, DynamoError> {
    let version = row.get("version").and_then(|version| version.as_n().ok()?.parse().ok());
    let bytes = row.get("payload").and_then(|payload| payload.as_b().ok());
    match (version, bytes) {
        (Some(version), Some(bytes)) => Ok(SealedPayload { version, bytes: bytes.as_ref().to_vec() }),
        _ => Err(DynamoError::unreadable("read", "a session's payload", "it has no bytes or no version")),
    }
}

impl DynamoSessions {
    async fn read_payload_once(
        &self,
        id: &SessionId,
        user: &UserId,
        deadline: Deadline,
    ) -> Result<(SessionRows, Option<SealedPayload>), DynamoError> {
        let keys = keys(id, user).into_iter().chain([payload_key(id)]);
        let keys = keys.map(|key| RowKey { table: &self.table, key }).collect();
        let rows = read_rows(&self.client, keys, deadline).await?.take(&self.table);
        let (payload, rows): (Vec<Item>, Vec<Item>) = rows.into_iter().partition(is_payload);
        Ok((parse(rows)?, payload.first().map(parse_payload).transpose()?))
    }
}

/// Outcome of a compare-and-swap of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// It is written.
    Done,
    /// Somebody else has written since, or is writing now. Nothing happened.
    Overtaken,
    /// The session was revoked, or is gone. Nothing happened.
    Ended,
}

impl DynamoSessions {
    /// The rows to check a session of `user` with, and the payload if there is such a session. Consistent.
    pub async fn read_payload(
        &self,
        id: &SessionId,
        user: &UserId,
    ) -> Result<(SessionRows, Option<SealedPayload>), SessionError> {
        let deadline = Deadline::after(PATIENCE);
        let found = self.read_payload_once(id, user, deadline).await?;
        Ok(if found.0.may_be_torn() { self.read_payload_once(id, user, deadline).await? } else { found })
    }

    /// Puts `next` in the place of the payload at version `seen`, and stamps the session as in use.
    pub async fn replace_payload(
        &self,
        id: &SessionId,
        seen: u64,
        next: &SealedPayload,
        now: Timestamp,
    ) -> Result<Replaced, SessionError> {
        let payload =
            [(":payload", bytes_of(next)), (":version", number(next.version)), (":seen", number(seen))];
        let stamp = STAMP.action(&self.table, key(id), [(":now", text(rfc3339(now)))])?;
        let replace = REPLACE.action(&self.table, payload_key(id), payload)?;
        let actions = Actions::from([(SessionAction::Session, stamp), (SessionAction::Payload, replace)]);
        let target = format!("the payload of session {id}");
        let reasons = match actions.commit(&self.client, &target).await? {
            Transaction::Committed => return Ok(Replaced::Done),
            Transaction::Cancelled(reasons) => reasons,
        };
        if reasons.row_refusing(&SessionAction::Session).is_some() {
            return Ok(Replaced::Ended);
        }
        Ok(match reasons.row_refusing(&SessionAction::Payload) {
            // An earlier try wrote it, whose answer got lost: no two seals have the same bytes.
            Some(row) if is_payload(row) && parse_payload(row)? == *next => Replaced::Done,
            _ => Replaced::Overtaken,
        })
    }
}
