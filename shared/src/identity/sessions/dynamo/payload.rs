//! The row of a session's sealed payload.

use aws_sdk_dynamodb::primitives::Blob;
use jiff::Timestamp;

use super::{
    DynamoSessions, HAS_NO_END, PATIENCE, RowKind, STAMP, SessionAction, end_key, key, key_of, kind_of,
};
use crate::core::date_time::rfc3339;
use crate::core::deadline::Deadline;
use crate::core::ids::{SessionId, UserId};
use crate::identity::principal::Principal;
use crate::identity::sessions::{FIRST_VERSION, SealedPayload, Session, SessionError, SessionRows};
use crate::platform::dynamo::{
    Actions, AttributeValue, DynamoError, Item, RowUpdate, Transaction, number, text,
};
use crate::platform::tables;

/// Nobody has written since the payload was read, so no write is lost.
const REPLACE: RowUpdate = RowUpdate {
    update: "SET payload = :payload, version = :version",
    condition: Some("version = :seen"),
    names: &[],
};

/// The key of a session's payload.
pub fn payload_key(id: &SessionId) -> Item {
    key_of(payload_name(id))
}

/// The text of [`payload_key`].
pub(super) fn payload_name(id: &SessionId) -> String {
    format!("{id}#payload")
}

/// The row of a new session's payload.
pub(super) fn new_row(session: &Session, payload: &SealedPayload) -> Item {
    row_of(&session.id, &session.user_id, session.expires_at, payload)
}

fn row_of(id: &SessionId, user: &UserId, session_end: Timestamp, payload: &SealedPayload) -> Item {
    let mut row = payload_key(id);
    row.insert("owner".to_owned(), text(user.as_str()));
    row.insert(tables::EXPIRES_AT.to_owned(), number(session_end.as_second()));
    row.insert("payload".to_owned(), bytes_of(payload));
    row.insert("version".to_owned(), number(payload.version));
    row
}

fn bytes_of(payload: &SealedPayload) -> AttributeValue {
    AttributeValue::B(Blob::new(payload.bytes.clone()))
}

pub(super) fn is_payload(row: &Item) -> bool {
    kind_of(row) == Some(RowKind::Payload)
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

/// The result of a compare-and-swap of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    Done,
    /// Another write happened since the read, or is in progress. Nothing was changed.
    Overtaken,
    /// The session has ended. Nothing was changed.
    Ended,
}

impl DynamoSessions {
    /// The rows for the check of a session of `user`, and the payload if its row has arrived.
    /// Consistent.
    pub async fn read_payload(
        &self,
        id: &SessionId,
        user: &UserId,
    ) -> Result<(SessionRows, Option<SealedPayload>), SessionError> {
        let deadline = Deadline::after(PATIENCE);
        let (rows, items) = self.read_beside(id, user, [payload_key(id)], deadline).await?;
        let payload = items.iter().find(|row| is_payload(row)).map(parse_payload).transpose()?;
        Ok((rows, payload))
    }

    /// Replaces the payload by `next`, and stamps the caller's session. `rows` is what was read. A
    /// row that has not arrived is not stamped, and a payload that has not arrived is replaced by
    /// the first version.
    pub async fn replace_payload(
        &self,
        caller: &Principal,
        rows: &SessionRows,
        next: &SealedPayload,
        now: Timestamp,
    ) -> Result<Replaced, SessionError> {
        let id = caller.session_id();
        let payload = if next.version == FIRST_VERSION {
            self.put_new(row_of(id, caller.user_id(), caller.session_ends_at(), next))?
        } else {
            let seen = number(next.version.saturating_sub(1));
            let values = [(":payload", bytes_of(next)), (":version", number(next.version)), (":seen", seen)];
            REPLACE.action(&self.table, payload_key(id), values)?
        };
        let mut actions = Actions::from([
            (SessionAction::End, self.require(end_key(id), HAS_NO_END, [])?),
            (SessionAction::Payload, payload),
        ]);
        if rows.session.is_some() {
            let stamp = STAMP.action(&self.table, key(id), [(":now", text(rfc3339(now)))])?;
            actions.extend([(SessionAction::Session, stamp)]);
        }
        let target = format!("the payload of session {id}");
        let reasons = match actions.commit(&self.client, &target).await? {
            Transaction::Committed => return Ok(Replaced::Done),
            Transaction::Cancelled(reasons) => reasons,
        };
        let ends = [SessionAction::End, SessionAction::Session];
        if ends.iter().any(|action| reasons.row_refusing(action).is_some()) {
            return Ok(Replaced::Ended);
        }
        Ok(match reasons.row_refusing(&SessionAction::Payload) {
            // An earlier try whose answer was lost wrote it: sealed bytes are unique.
            Some(row) if is_payload(row) && parse_payload(row)? == *next => Replaced::Done,
            _ => Replaced::Overtaken,
        })
    }
}
