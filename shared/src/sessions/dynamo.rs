//! Sessions in DynamoDB: a row each.
//!
//! | attribute | |
//! |---|---|
//! | `sessionId` | key |
//! | `userId`, `ver` | whose, and the token version it was issued or renewed with |
//! | `createdAt`, `lastActivity`, `revokedAt?` | RFC 3339 |
//! | `expiresAt` | TTL, epoch seconds |
//! | `region`, `device?` | where it began, and on what |
//! | `refreshHash`, `cookieHash` | SHA-256, base64url |
//!
//! [`key`] and [`parse`] are for functions that read the row in a `BatchGetItem` of their own; they must ask for this
//! table with `ConsistentRead`.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Device, SecretHash, Session, SessionError, SessionReader, SessionWriter};
use crate::clock::as_rfc3339;
use crate::dynamo::{DynamoError, Item, Write, WriteOutcome, text};
use crate::env::{ConfigError, Env};
use crate::ids::{SessionId, UserId};
use crate::tables;

/// A new session never replaces another: two sign-ins with one id would share a row.
const IS_NEW: &str = "attribute_not_exists(sessionId)";

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

/// Reads a row.
pub fn parse(item: Item) -> Result<Session, DynamoError> {
    let row: Row = serde_dynamo::from_item(item)
        .map_err(|error| DynamoError::unreadable("GetItem", "a session's row", error))?;
    let expires_at = Timestamp::from_second(row.expires_at)
        .map_err(|error| DynamoError::unreadable("GetItem", format!("session {}", row.session_id), error))?;
    Ok(Session {
        id: row.session_id,
        user_id: row.user_id,
        token_version: row.ver,
        created_at: row.created_at,
        last_activity: row.last_activity,
        expires_at,
        revoked_at: row.revoked_at.map(|Instant(at)| at),
        region: row.region,
        device: row.device,
        refresh_hash: row.refresh_hash,
        cookie_hash: row.cookie_hash,
    })
}

impl SessionReader for DynamoSessions {
    async fn read(&self, id: &SessionId) -> Result<Option<Session>, SessionError> {
        let request =
            self.client.get_item().table_name(&self.table).set_key(Some(key(id))).consistent_read(true);
        let answer = Box::pin(request.send())
            .await
            .map_err(|error| DynamoError::new("GetItem", format!("session {id}"), error))?;
        Ok(answer.item.map(parse).transpose()?)
    }
}

impl SessionWriter for DynamoSessions {
    async fn create(&self, session: &Session) -> Result<(), SessionError> {
        let target = format!("session {}", session.id);
        let row = Row::from(session);
        let item = serde_dynamo::to_item(row)
            .map_err(|error| DynamoError::unreadable("PutItem", target.as_str(), error))?;
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
            Write::Refused(row) => match parse(row)? {
                row if row.refresh_hash == session.refresh_hash => Ok(()),
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

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<Device>,
    refresh_hash: SecretHash,
    cookie_hash: SecretHash,
}

/// RFC 3339 where the attribute is optional.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Instant(#[serde(with = "as_rfc3339")] Timestamp);

impl From<&Session> for Row {
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
            device: session.device.clone(),
            refresh_hash: session.refresh_hash.clone(),
            cookie_hash: session.cookie_hash.clone(),
        }
    }
}
