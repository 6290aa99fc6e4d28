//! Sessions in DynamoDB: a row each, a row for the sealed payload of each, and a row for each user's token version.
//!
//! | attribute of a session | |
//! |---|---|
//! | `sessionId` | key, `ses_…` |
//! | `userId`, `ver` | whose, and the token version it was issued with |
//! | `createdAt`, `lastActivity`, `revokedAt?` | RFC 3339 |
//! | `expiresAt` | TTL, epoch seconds |
//! | `idleSeconds` | after how much idle time it ends earlier |
//! | `region` | where it began |
//! | `tokens` | hashes of its refresh tokens |
//! | `cookieHash` | SHA-256, base64url |
//!
//! | attribute of a payload | |
//! |---|---|
//! | `sessionId` | key: the session's id and `#payload` |
//! | `owner` | the user's id |
//! | `payload`, `version` | sealed bytes ([`SealedPayload`]); the submodule reads them |
//! | `expiresAt` | TTL: the session's |
//!
//! | attribute of a token version | |
//! |---|---|
//! | `sessionId` | key: the user's id, `usr_…` |
//! | `ver` | only rises; no row is 0. Never expires |
//!
//! Payloads and token versions have no `userId`, so that the index `byUser` lists sessions only.
//!
//! [`keys`] and [`parse`] are for functions that read the rows in a `BatchGetItem` of their own; they must ask for this
//! table with `ConsistentRead`.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{Put, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ACTIVITY_RESOLUTION, IdleTimeout, SealedPayload, SecretHash, Session, SessionError, SessionReader,
    SessionRows, TokenFamily,
};
use crate::core::date_time::{as_rfc3339, rfc3339};
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{SessionId, UserId};
use crate::core::retry::Backoff;
use crate::platform::dynamo::{
    Actions, DynamoError, Item, RowKey, Rows, Transaction, WriteOutcome, read_rows, text,
};
use crate::platform::tables;

mod list;
mod payload;
mod rotate;

pub use list::ListedSession;
pub use payload::{Replaced, parse_payload, payload_key};
pub use rotate::Exchange;

/// A new session never replaces another: two sign-ins with one id would share its rows.
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

/// Reads the rows that [`keys`] asked for, in any order; absent ones are absent.
pub fn parse(items: Vec<Item>) -> Result<SessionRows, DynamoError> {
    let mut rows = SessionRows::default();
    for item in items {
        if is_session(&item) {
            rows.session = Some(parse_session(item)?);
        } else {
            rows.token_version = parse_version(item)?;
        }
    }
    Ok(rows)
}

/// Tells a session's row from a token version and from a payload.
fn is_session(item: &Item) -> bool {
    item.contains_key("userId")
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
    /// Stores a row that is not there.
    fn put_new(&self, row: Item) -> Result<TransactWriteItem, DynamoError> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(row))
            .condition_expression(IS_NEW)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(|error| DynamoError::unreadable("build", self.table.as_str(), error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// The rows that a session of `user` is checked with, and `others` in the same call. Rows that may be torn are read
    /// once more.
    pub(crate) async fn read_with(
        &self,
        id: &SessionId,
        user: &UserId,
        others: Vec<RowKey<'_>>,
        deadline: Deadline,
    ) -> Result<(SessionRows, Rows), DynamoError> {
        let checked = || keys(id, user).map(|key| RowKey { table: &self.table, key });
        let all = others.into_iter().chain(checked()).collect();
        let mut rows = read_rows(&self.client, all, deadline).await?;
        let mut session = parse(rows.take(&self.table))?;
        if session.may_be_torn() {
            let again = read_rows(&self.client, checked().into(), deadline).await?.take(&self.table);
            session = parse(again)?;
        }
        Ok((session, rows))
    }

    /// The client, for what is read beside copies, and for revocations.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }
}

impl SessionReader for DynamoSessions {
    async fn read(&self, id: &SessionId, user: &UserId) -> Result<SessionRows, SessionError> {
        let (rows, _) = self.read_with(id, user, Vec::new(), Deadline::after(PATIENCE)).await?;
        Ok(rows)
    }
}

impl DynamoSessions {
    /// Sets `lastActivity` to `now`, unless the session is gone or somebody did within [`ACTIVITY_RESOLUTION`]. What else
    /// the row says stays as it is: a session that is being revoked may be stamped, and is revoked.
    pub async fn touch(&self, id: &SessionId, now: Timestamp) -> Result<(), SessionError> {
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

    /// Stores a new session with its first payload. Both rows in one transaction: a session without a payload would have
    /// no preferences to read or to change.
    pub async fn create(&self, session: &Session, payload: &SealedPayload) -> Result<(), SessionError> {
        let target = format!("session {}", session.id);
        let row: Item = serde_dynamo::to_item(SessionRow::from(session))
            .map_err(|error| DynamoError::unreadable("TransactWriteItems", target.as_str(), error))?;
        let actions = Actions::from([
            (SessionAction::Session, self.put_new(row)?),
            (SessionAction::Payload, self.put_new(payload::new_row(session, payload))?),
        ]);
        let mut backoff = Backoff::within(Deadline::after(PATIENCE));
        loop {
            let reasons = match actions.commit(&self.client, &target).await? {
                Transaction::Committed => return Ok(()),
                Transaction::Cancelled(reasons) => reasons,
            };
            if let Some(row) = reasons.row_refusing(&SessionAction::Session) {
                // An earlier try wrote it, whose answer got lost: nobody else has the secret.
                if parse_session(row.clone())?.tokens == session.tokens {
                    return Ok(());
                }
                let source = "another session has this id";
                return Err(DynamoError::unreadable("TransactWriteItems", target, source).into());
            }
            if !backoff.wait().await {
                return Err(SessionError::Busy);
            }
        }
    }
}

/// The names of the actions of a transaction on one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SessionAction {
    Session,
    Payload,
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
    idle_seconds: IdleTimeout,
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
            idle_timeout: row.idle_seconds,
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
            idle_seconds: session.idle_timeout,
            revoked_at: session.revoked_at.map(Instant),
            region: session.region.clone(),
            tokens: session.tokens.clone(),
            cookie_hash: session.cookie_hash.clone(),
        }
    }
}
