//! Sessions in DynamoDB: several small rows per session, and one per user and region.
//!
//! | row | key `sessionId` | attributes | written |
//! |---|---|---|---|
//! | session | `ses_…` | `userId`, `createdAt`, `lastActivity` (RFC 3339), `idleSeconds`, `region`, `cookieHash` (SHA-256, base64url) | at sign-in; `lastActivity` later |
//! | payload | `ses_…#payload` | `owner`, `payload` (sealed, [`SealedPayload`]), `version` | by changes of preferences |
//! | end | `ses_…#end` | `endedAt` | once |
//! | spared | `ses_…#spared` | `sparedAt` | by changes of the password |
//! | refreshes | `ses_…#refresh#<region>` | `number`: that of the latest refresh token the region has issued | by that region; only rises |
//! | all ended | `usr_…#all-ended#<region>` | `endedBefore` (RFC 3339) | by that region; only rises |
//!
//! All but the last have `expiresAt` (TTL, epoch seconds): the session and its payload that of the
//! session, the others a later one, so that they outlive the session in all regions. The last one
//! never expires.
//!
//! Only the session row has `userId`, so that the index `byUser` lists sessions only. The last
//! writer of `sparedAt` wins. If that is the lower value of two, the session ends too early and
//! never too late.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    ConditionCheck, Put, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ACTIVITY_RESOLUTION, END_OUTLIVES, IdleTimeout, SESSION_LIFETIME, SealedPayload, SecretHash, Session,
    SessionError, SessionReader, SessionRows,
};
use crate::core::date_time::{self, as_rfc3339, rfc3339};
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{SessionId, UserId};
use crate::core::retry::Backoff;
use crate::platform::dynamo::{
    Actions, AttributeValue, DynamoError, Item, RowKey, RowUpdate, Rows, Transaction, WriteOutcome, number,
    read_rows, text,
};
use crate::platform::{aws, tables};

mod chain;
mod list;
mod payload;

pub use chain::ExchangeOutcome;
pub use list::ListedSession;
pub use payload::{Replaced, parse_payload, payload_key};

/// A put never replaces another row: two sign-ins with one id would share their rows, and an end
/// never changes.
const IS_NEW: &str = "attribute_not_exists(sessionId)";

/// Only an existing session is stamped, and once a minute: of many concurrent requests the first
/// one writes. `lastActivity` has a fixed width, so that text sorts as time.
const IS_QUIET: &str = "attribute_exists(sessionId) AND lastActivity <= :due";

/// Stamps a session as active, in a transaction with another write. A stamp never creates a row.
const STAMP: RowUpdate = RowUpdate {
    update: "SET lastActivity = :now",
    condition: Some("attribute_exists(sessionId)"),
    names: &[],
};

/// The session has no end.
pub(super) const HAS_NO_END: &str = "attribute_not_exists(sessionId)";

/// In this region nobody has ended all sessions of the user since the account was read. Otherwise
/// the verified password may be an old one.
const NOT_ENDED_SINCE: &str = "attribute_not_exists(endedBefore) OR endedBefore <= :known";

/// How long unprocessed rows are retried. The invocation's deadline may end the retries earlier.
const PATIENCE: Duration = Duration::from_secs(2);

/// The sessions table.
#[derive(Debug, Clone)]
pub struct DynamoSessions {
    client: Client,
    table: String,
    region: String,
    peers: Vec<String>,
}

impl DynamoSessions {
    /// Sessions in the table that `SESSIONS_TABLE` names, with the rows of the region `AWS_REGION`
    /// and the regions of `PEER_REGIONS`.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        let (region, peers) = (aws::region(env)?, aws::peer_regions(env));
        Ok(Self { client, table: tables::SESSIONS.name(env)?, region, peers })
    }

    /// The table's name, for batch reads.
    pub fn table(&self) -> &str {
        &self.table
    }
}

fn key_of(name: impl Into<String>) -> Item {
    Item::from([(tables::SESSIONS.key.hash.to_owned(), text(name))])
}

/// The key of a session's row.
pub fn key(id: &SessionId) -> Item {
    key_of(id.as_str())
}

/// The key of a session's end.
pub fn end_key(id: &SessionId) -> Item {
    key_of(format!("{id}#end"))
}

/// The key of the row that spares a session.
pub fn spared_key(id: &SessionId) -> Item {
    key_of(format!("{id}#spared"))
}

/// The key of the row in which `region` stores the instant up to which all sessions of a user have
/// ended.
pub fn all_ended_key(user: &UserId, region: &str) -> Item {
    key_of(format!("{user}#all-ended#{region}"))
}

/// The kinds of rows in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowKind {
    Session,
    Payload,
    End,
    Spared,
    Refreshes,
    AllEnded,
}

/// A row's key.
fn name_of(row: &Item) -> &str {
    row.get(tables::SESSIONS.key.hash).and_then(|name| name.as_s().ok()).map_or("", String::as_str)
}

fn kind_of(row: &Item) -> Option<RowKind> {
    Some(match name_of(row).split('#').nth(1) {
        None => RowKind::Session,
        Some("payload") => RowKind::Payload,
        Some("end") => RowKind::End,
        Some("spared") => RowKind::Spared,
        Some("refresh") => RowKind::Refreshes,
        Some("all-ended") => RowKind::AllEnded,
        Some(_) => return None,
    })
}

/// Parses the rows that [`DynamoSessions::keys`] asked for, in any order. Rows of other kinds are
/// ignored.
fn parse(items: &[Item]) -> Result<SessionRows, DynamoError> {
    let mut rows = SessionRows::default();
    for item in items {
        match kind_of(item) {
            Some(RowKind::Session) => rows.session = Some(parse_session(item.clone())?),
            Some(RowKind::End) => rows.has_end = true,
            Some(RowKind::Spared) => rows.spared_at = instant(item, "sparedAt")?,
            Some(RowKind::AllEnded) => rows.ended_before = rows.ended_before.max(parse_all_ended(item)?),
            Some(RowKind::Payload | RowKind::Refreshes) | None => {}
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

/// Reads the instant up to which all sessions of a user have ended.
pub fn parse_all_ended(row: &Item) -> Result<Timestamp, DynamoError> {
    instant(row, "endedBefore")
}

fn instant(row: &Item, attribute: &str) -> Result<Timestamp, DynamoError> {
    let unreadable =
        || DynamoError::unreadable("read", name_of(row), format!("it has no instant {attribute}"));
    let at = row.get(attribute).and_then(|at| at.as_s().ok()).ok_or_else(unreadable)?;
    date_time::parse(at).map_err(|error| DynamoError::unreadable("read", name_of(row), error))
}

/// The `expiresAt` of rows that must outlive a session that is live at `now`.
pub(super) fn row_expiry(now: Timestamp) -> AttributeValue {
    let seconds = (SESSION_LIFETIME + END_OUTLIVES).as_secs();
    number(i128::from(now.as_second()) + i128::from(seconds))
}

impl DynamoSessions {
    /// Puts a row that must not exist yet.
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

    /// A condition check of a transaction: `condition` must hold for the row `key`.
    pub(super) fn require<const N: usize>(
        &self,
        key: Item,
        condition: &str,
        values: [(&str, AttributeValue); N],
    ) -> Result<TransactWriteItem, DynamoError> {
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let check = ConditionCheck::builder()
            .table_name(&self.table)
            .set_key(Some(key))
            .condition_expression(condition)
            // DynamoDB refuses an empty map.
            .set_expression_attribute_values((N > 0).then_some(values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(|error| DynamoError::unreadable("build", self.table.as_str(), error))?;
        Ok(TransactWriteItem::builder().condition_check(check).build())
    }

    /// Puts the end of a session, unless it has one.
    pub(super) fn put_end(&self, id: &SessionId, now: Timestamp) -> Result<TransactWriteItem, DynamoError> {
        let mut row = end_key(id);
        row.insert("endedAt".to_owned(), text(rfc3339(now)));
        row.insert(tables::EXPIRES_AT.to_owned(), row_expiry(now));
        self.put_new(row)
    }

    /// The key of this region's row with the instant up to which all sessions of a user have ended.
    pub(super) fn own_all_ended_key(&self, user: &UserId) -> Item {
        all_ended_key(user, &self.region)
    }

    /// The keys of the rows with the instants up to which all sessions of a user have ended: one
    /// per region.
    pub(crate) fn all_ended_keys(&self, user: &str) -> impl Iterator<Item = Item> {
        self.regions().map(move |region| key_of(format!("{user}#all-ended#{region}")))
    }

    fn regions(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.region).chain(&self.peers).map(String::as_str)
    }

    /// The keys of the rows for the check of a session of `user`.
    fn keys(&self, id: &SessionId, user: &UserId) -> Vec<Item> {
        [key(id), end_key(id)].into_iter().chain(self.all_ended_keys(user.as_str())).collect()
    }

    /// The rows for the check of a session of `user`, and `others` in the same call.
    pub(crate) async fn read_with(
        &self,
        id: &SessionId,
        user: &UserId,
        others: Vec<RowKey<'_>>,
        deadline: Deadline,
    ) -> Result<(SessionRows, Rows), DynamoError> {
        let checked = self.keys(id, user).into_iter().map(|key| RowKey { table: &self.table, key });
        let mut rows = read_rows(&self.client, others.into_iter().chain(checked).collect(), deadline).await?;
        let session = parse(&rows.take(&self.table))?;
        Ok((self.with_spared(session, id, deadline).await?, rows))
    }

    /// The same with further rows of this table, which are returned unparsed.
    async fn read_beside(
        &self,
        id: &SessionId,
        user: &UserId,
        further: impl IntoIterator<Item = Item>,
        deadline: Deadline,
    ) -> Result<(SessionRows, Vec<Item>), DynamoError> {
        let keys = self.keys(id, user).into_iter().chain(further);
        let keys = keys.map(|key| RowKey { table: &self.table, key }).collect();
        let items = read_rows(&self.client, keys, deadline).await?.take(&self.table);
        let session = self.with_spared(parse(&items)?, id, deadline).await?;
        Ok((session, items))
    }

    /// Adds the row that spares the session, if it decides the check.
    async fn with_spared(
        &self,
        rows: SessionRows,
        id: &SessionId,
        deadline: Deadline,
    ) -> Result<SessionRows, DynamoError> {
        if !rows.may_be_spared() {
            return Ok(rows);
        }
        let key = RowKey { table: &self.table, key: spared_key(id) };
        let spared = read_rows(&self.client, vec![key], deadline).await?.take(&self.table);
        Ok(SessionRows { spared_at: parse(&spared)?.spared_at, ..rows })
    }

    /// The client, for reads beside the copies, and for revocations.
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
    /// Sets `lastActivity` to `now`, unless the session is gone or was stamped within
    /// [`ACTIVITY_RESOLUTION`].
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
            // The default, stated explicitly: the IAM policy has a condition on it, which a missing
            // key would not match.
            .return_values(ReturnValue::None);
        // Refused, or a conflict: another request has stamped the session.
        Box::pin(request.send()).await.outcome("UpdateItem", &format!("session {id}"))?;
        Ok(())
    }

    /// Stores a new session with its first payload, in one transaction: a session without a payload
    /// would have no device. `ended_before` is the value of its user's account when the password
    /// was verified.
    ///
    /// # Errors
    /// [`SessionError::Busy`] if all sessions of the user were ended since. Nothing is stored then.
    pub async fn create(
        &self,
        session: &Session,
        payload: &SealedPayload,
        ended_before: Timestamp,
    ) -> Result<(), SessionError> {
        let target = format!("session {}", session.id);
        let key = self.own_all_ended_key(&session.user_id);
        let known = [(":known", text(rfc3339(ended_before)))];
        let actions = Actions::from([
            (SessionAction::Session, self.put_session(session)?),
            (SessionAction::Payload, self.put_new(payload::new_row(session, payload))?),
            (SessionAction::User, self.require(key, NOT_ENDED_SINCE, known)?),
        ]);
        let mut backoff = Backoff::within(Deadline::after(PATIENCE));
        loop {
            let reasons = match actions.commit(&self.client, &target).await? {
                Transaction::Committed => return Ok(()),
                Transaction::Cancelled(reasons) => reasons,
            };
            if let Some(row) = reasons.row_refusing(&SessionAction::Session) {
                // An earlier try whose answer was lost wrote it: the cookie is unique.
                if parse_session(row.clone())?.cookie_hash == session.cookie_hash {
                    return Ok(());
                }
                let source = "another session has this id";
                return Err(DynamoError::unreadable("TransactWriteItems", target, source).into());
            }
            if reasons.row_refusing(&SessionAction::User).is_some() || !backoff.wait().await {
                return Err(SessionError::Busy);
            }
        }
    }

    /// Puts a session's row, unless it exists.
    fn put_session(&self, session: &Session) -> Result<TransactWriteItem, DynamoError> {
        let row: Item = serde_dynamo::to_item(SessionRow::from(session))
            .map_err(|error| DynamoError::unreadable("build", format!("session {}", session.id), error))?;
        self.put_new(row)
    }
}

/// The names of the actions of a transaction on one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SessionAction {
    Session,
    Payload,
    End,
    Refreshes,
    User,
}

/// A complete stored session.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionRow {
    session_id: SessionId,
    user_id: UserId,
    #[serde(with = "as_rfc3339")]
    created_at: Timestamp,
    #[serde(with = "as_rfc3339")]
    last_activity: Timestamp,
    expires_at: i64,
    idle_seconds: IdleTimeout,
    region: String,
    cookie_hash: SecretHash,
}

impl TryFrom<SessionRow> for Session {
    type Error = DynamoError;

    fn try_from(row: SessionRow) -> Result<Self, DynamoError> {
        let expires_at = Timestamp::from_second(row.expires_at)
            .map_err(|error| DynamoError::unreadable("read", format!("session {}", row.session_id), error))?;
        Ok(Self {
            id: row.session_id,
            user_id: row.user_id,
            created_at: row.created_at,
            last_activity: row.last_activity,
            expires_at,
            idle_timeout: row.idle_seconds,
            region: row.region,
            cookie_hash: row.cookie_hash,
        })
    }
}

impl From<&Session> for SessionRow {
    fn from(session: &Session) -> Self {
        Self {
            session_id: session.id.clone(),
            user_id: session.user_id.clone(),
            created_at: session.created_at,
            last_activity: session.last_activity,
            expires_at: session.expires_at.as_second(),
            idle_seconds: session.idle_timeout,
            region: session.region.clone(),
            cookie_hash: session.cookie_hash.clone(),
        }
    }
}
