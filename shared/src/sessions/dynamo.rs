//! Sessions in DynamoDB: a row each, and a row for each user's token version.
//!
//! | attribute of a session | |
//! |---|---|
//! | `sessionId` | key, `ses_…` |
//! | `userId`, `ver` | whose, and the token version it was issued with |
//! | `createdAt`, `lastActivity`, `revokedAt?` | RFC 3339 |
//! | `expiresAt` | TTL, epoch seconds |
//! | `region` | where it began |
//! | `tokens` | hashes of its refresh tokens |
//! | `cookieHash` | SHA-256, base64url |
//! | `payload`, `version` | sealed bytes ([`SealedPayload`]); the submodule reads them |
//!
//! | attribute of a token version | |
//! |---|---|
//! | `sessionId` | key: the user's id, `usr_…` |
//! | `ver` | only rises; no row is 0. Never expires |
//!
//! A token version has no `userId`, so that the index `byUser` lists sessions only.
//!
//! [`keys`] and [`parse`] are for functions that read the rows in a `BatchGetItem` of their own; they must ask for this
//! table with `ConsistentRead`.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ACTIVITY_RESOLUTION, ActivityWriter, CheckedRow, CopyHolder, SealedPayload, SecretHash, Session,
    SessionError, SessionReader, SessionRows, SessionWriter, TokenFamily,
};
use crate::clock::{as_rfc3339, rfc3339};
use crate::deadline::Deadline;
use crate::dynamo::{DynamoError, Item, RowKey, Write, WriteOutcome, read_rows, text};
use crate::env::{ConfigError, Env};
use crate::ids::{SessionId, UserId};
use crate::tables;

mod list;
mod payload;
mod revoke;
mod rotate;
mod writes;

pub use payload::parse_payload;
pub use revoke::DynamoRevocations;
pub use writes::SessionWrites;

/// A new session never replaces another: two sign-ins with one id would share a row.
const IS_NEW: &str = "attribute_not_exists(sessionId)";

/// Only a session that is there is stamped, and once a minute: of many requests at once the first one writes.
/// `lastActivity` has a fixed width, so that text compares as time does.
///
/// `revokedAt` is not asked for: a policy that lets an update name an attribute lets it remove that too. A stamp that
/// meets a revocation leaves it in force.
const IS_QUIET: &str = "attribute_exists(sessionId) AND lastActivity <= :due";

/// How long rows are asked for again that DynamoDB left out of its answer. The invocation's own deadline cuts in earlier.
const PATIENCE: Duration = Duration::from_secs(2);

/// The sessions table.
#[derive(Debug, Clone)]
pub struct DynamoSessions {
    client: Client,
    table: String,
}

impl DynamoSessions {
    /// Sessions in the table that `SESSIONS_TABLE` names.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { client, table: tables::SESSIONS.name(env)? })
    }

    /// The table's name, for batch reads.
    pub fn table(&self) -> &str {
        &self.table
    }
}

/// The key of a session's row.
pub fn key(id: &SessionId) -> Item {
    Item::from([(tables::SESSIONS.key.hash.to_owned(), text(id.as_str()))])
}

/// The key of a user's token version.
pub fn version_key(user: &UserId) -> Item {
    Item::from([(tables::SESSIONS.key.hash.to_owned(), text(user.as_str()))])
}

/// The keys of the rows that a session of `user` is checked with.
pub fn keys(id: &SessionId, user: &UserId) -> [Item; 2] {
    [key(id), version_key(user)]
}

/// The rows that a session of `user` is checked with, as they are stored in `table`.
pub(crate) async fn read_items(
    client: &Client,
    table: &str,
    id: &SessionId,
    user: &UserId,
    deadline: Deadline,
) -> Result<Vec<Item>, DynamoError> {
    let keys = keys(id, user).map(|key| RowKey { table, key });
    Ok(read_rows(client, keys.into(), deadline).await?.take(table))
}

/// Reads the rows that [`keys`] asked for, in any order; absent ones are absent.
pub fn parse(items: Vec<Item>) -> Result<SessionRows, DynamoError> {
    let mut rows = SessionRows::default();
    for item in items {
        if item.contains_key("userId") {
            rows.session = Some(parse_session(item)?);
        } else {
            rows.token_version = parse_version(item)?;
        }
    }
    Ok(rows)
}

/// Reads a session's row.
pub fn parse_session(item: Item) -> Result<Session, DynamoError> {
    let row: SessionRow = serde_dynamo::from_item(item)
        .map_err(|error| DynamoError::unreadable("read", "a session's row", error))?;
    row.try_into()
}

/// Reads a token version's row.
pub fn parse_version(item: Item) -> Result<u64, DynamoError> {
    let row: VersionRow = serde_dynamo::from_item(item)
        .map_err(|error| DynamoError::unreadable("read", "a token version", error))?;
    Ok(row.ver)
}

impl DynamoSessions {
    async fn read_once(
        &self,
        id: &SessionId,
        user: &UserId,
        deadline: Deadline,
    ) -> Result<SessionRows, DynamoError> {
        parse(read_items(&self.client, &self.table, id, user, deadline).await?)
    }
}

impl SessionReader for DynamoSessions {
    async fn read(&self, id: &SessionId, user: &UserId) -> Result<SessionRows, SessionError> {
        let deadline = Deadline::after(PATIENCE);
        let rows = self.read_once(id, user, deadline).await?;
        if rows.may_be_torn() { Ok(self.read_once(id, user, deadline).await?) } else { Ok(rows) }
    }
}

impl ActivityWriter for DynamoSessions {
    async fn touch(&self, id: &SessionId, now: Timestamp) -> Result<(), SessionError> {
        let due = now.checked_sub(ACTIVITY_RESOLUTION).unwrap_or(Timestamp::MIN);
        let request = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(id)))
            .update_expression("SET lastActivity = :now")
            .condition_expression(IS_QUIET)
            .expression_attribute_values(":now", text(rfc3339(now)))
            .expression_attribute_values(":due", text(rfc3339(due)))
            // The default. The policy's condition on it needs it to be said: a key that is absent equals nothing.
            .return_values(ReturnValue::None);
        // Refused, or another write is at the row: it is in use, and somebody says so.
        Box::pin(request.send()).await.outcome("UpdateItem", &format!("session {id}"))?;
        Ok(())
    }
}

impl SessionWriter for DynamoSessions {
    async fn create(&self, session: &Session, payload: &SealedPayload) -> Result<(), SessionError> {
        let target = format!("session {}", session.id);
        let row = SessionRow::from(session);
        let mut item: Item = serde_dynamo::to_item(row)
            .map_err(|error| DynamoError::unreadable("PutItem", target.as_str(), error))?;
        item.extend(payload::attributes(payload));
        let request = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(IS_NEW)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = Box::pin(request.send()).await.outcome("PutItem", &target)?;
        match put {
            Write::Done(_) => Ok(()),
            // The SDK tried again after a lost answer and met the row of its own first try: nobody else has the secret.
            Write::Refused(row) => match parse_session(row)? {
                row if row.tokens == session.tokens => Ok(()),
                _ => Err(DynamoError::unreadable("PutItem", target, "another session has this id").into()),
            },
            Write::Conflict => {
                let code = Some("TransactionConflictException".to_owned());
                let source = "the row is being written".into();
                Err(DynamoError { operation: "PutItem", target, code, source }.into())
            }
        }
    }
}

/// Nobody else keeps anything of the rows.
impl CopyHolder for DynamoSessions {
    async fn changed(&self, _: &[CheckedRow<'_>]) {}

    async fn revoked(&self, _: &[CheckedRow<'_>]) {}
}

/// A session as it is stored, whole.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionRow {
    session_id: SessionId,
    user_id: UserId,
    ver: u64,
    #[serde(with = "as_rfc3339")]
    created_at: Timestamp,
    #[serde(with = "as_rfc3339")]
    last_activity: Timestamp,
    expires_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Instant>,
    region: String,
    tokens: TokenFamily,
    cookie_hash: SecretHash,
}

#[derive(Debug, Serialize, Deserialize)]
struct VersionRow {
    ver: u64,
}

/// RFC 3339 where the attribute is optional.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Instant(#[serde(with = "as_rfc3339")] Timestamp);

impl TryFrom<SessionRow> for Session {
    type Error = DynamoError;

    fn try_from(row: SessionRow) -> Result<Self, DynamoError> {
        let expires_at = Timestamp::from_second(row.expires_at)
            .map_err(|error| DynamoError::unreadable("read", format!("session {}", row.session_id), error))?;
        Ok(Self {
            id: row.session_id,
            user_id: row.user_id,
            token_version: row.ver,
            created_at: row.created_at,
            last_activity: row.last_activity,
            expires_at,
            revoked_at: row.revoked_at.map(|Instant(at)| at),
            region: row.region,
            tokens: row.tokens,
            cookie_hash: row.cookie_hash,
        })
    }
}

impl From<&Session> for SessionRow {
    fn from(session: &Session) -> Self {
        Self {
            session_id: session.id.clone(),
            user_id: session.user_id.clone(),
            ver: session.token_version,
            created_at: session.created_at,
            last_activity: session.last_activity,
            expires_at: session.expires_at.as_second(),
            revoked_at: session.revoked_at.map(Instant),
            region: session.region.clone(),
            tokens: session.tokens.clone(),
            cookie_hash: session.cookie_hash.clone(),
        }
    }
}
