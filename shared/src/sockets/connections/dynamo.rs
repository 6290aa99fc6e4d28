//! The registry in DynamoDB: one row a connection, an index by user.

use std::fmt::Debug;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ReturnValue;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_dynamo::{from_item, to_item};

use super::{Audience, Connection, ConnectionKey, Cursor, Peer, PeerPage, Removed, Touched};
use crate::core::clock::SharedClock;
use crate::core::date_time::rfc3339;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{ConnectionId, UserId};
use crate::platform::dynamo::{DynamoError, Item, Write, WriteOutcome, number, text};
use crate::platform::tables;

/// The row is this very connection's, and its time is not over. A row that has expired and was not yet collected is as
/// good as none.
const IS_LIVE: &str = "connectedAt BETWEEN :openedFrom AND :openedUntil AND expiresAt > :now";

/// The row is this very connection's: a late word about an old connection leaves a newer one alone.
const IS_SAME: &str = "connectedAt BETWEEN :openedFrom AND :openedUntil";

/// Rows past their time are not peers. TTL collects them within days, posts to them would all find nobody.
const NOT_EXPIRED: &str = "expiresAt > :now";

/// The attributes of a [`Peer`]; the index projects no more of them.
const OF_A_PEER: &str = "connectionId, connectedAt, userId, sessionId, endpoint";

/// The index by user.
const BY_USER: &str = "byUser";

/// Rows in a page. A row of the scan is under 400 bytes, so that a page costs 12 read units and is far from the 1 MB at
/// which DynamoDB would cut it; delivering one takes longer than reading the next, which happens meanwhile.
const PAGE_ROWS: i32 = 250;

/// The registry of one region, in its DynamoDB table.
#[derive(Debug, Clone)]
pub struct DynamoConnections {
    client: Client,
    table: String,
    clock: SharedClock,
}

impl DynamoConnections {
    /// The registry in the table that `CONNECTIONS_TABLE` names.
    pub fn from_env(client: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        Ok(Self { client, table: tables::CONNECTIONS.name(env)?, clock })
    }

    /// Enters `connection`. Entering it twice is entering it once.
    pub async fn register(&self, connection: &Connection) -> Result<(), DynamoError> {
        let target = self.target(&connection.key);
        let item: Item =
            to_item(connection).map_err(|error| DynamoError::unreadable("PutItem", &target, error))?;
        let request = self.client.put_item().table_name(&self.table).set_item(Some(item));
        Box::pin(request.send()).await.map(|_| ()).map_err(|error| DynamoError::new("PutItem", target, error))
    }

    /// Stamps the connection with the present instant if it is live.
    pub async fn touch(&self, key: &ConnectionKey) -> Result<Touched, DynamoError> {
        let target = self.target(key);
        let (from, until) = key.opened_between();
        let now = self.clock.now();
        let request = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("connectionId", text(key.connection_id.as_str()))
            .update_expression("SET lastActivity = :lastActivity")
            .condition_expression(IS_LIVE)
            .expression_attribute_values(":openedFrom", text(rfc3339(from)))
            .expression_attribute_values(":openedUntil", text(rfc3339(until)))
            .expression_attribute_values(":now", number(now.as_second()))
            .expression_attribute_values(":lastActivity", text(rfc3339(now)))
            .return_values(ReturnValue::AllNew);
        let write = Box::pin(request.send()).await.outcome("UpdateItem", &target)?;
        match write {
            Write::Done(output) => {
                read("UpdateItem", &target, output.attributes.unwrap_or_default()).map(Touched::Live)
            }
            Write::Refused(_) => Ok(Touched::Unknown),
            Write::Conflict => Err(unexpected_conflict("UpdateItem", target)),
        }
    }

    /// Removes exactly this connection.
    pub async fn remove(&self, key: &ConnectionKey) -> Result<Removed, DynamoError> {
        let target = self.target(key);
        let (from, until) = key.opened_between();
        let request = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("connectionId", text(key.connection_id.as_str()))
            .condition_expression(IS_SAME)
            .expression_attribute_values(":openedFrom", text(rfc3339(from)))
            .expression_attribute_values(":openedUntil", text(rfc3339(until)));
        let write = Box::pin(request.send()).await.outcome("DeleteItem", &target)?;
        match write {
            Write::Done(_) => Ok(Removed::Removed),
            Write::Refused(_) => Ok(Removed::NotThere),
            Write::Conflict => Err(unexpected_conflict("DeleteItem", target)),
        }
    }

    /// The part of `audience` that starts behind `cursor`.
    pub async fn find(&self, audience: &Audience, cursor: &Cursor) -> Result<PeerPage, DynamoError> {
        match audience {
            Audience::User(user) => self.of_user(user, cursor).await,
            Audience::Everyone => self.of_everyone(cursor).await,
        }
    }

    fn target(&self, key: &ConnectionKey) -> String {
        format!("{} {}", self.table, key.connection_id)
    }

    fn now(&self) -> i64 {
        self.clock.now().as_second()
    }

    async fn of_user(&self, user: &UserId, cursor: &Cursor) -> Result<PeerPage, DynamoError> {
        let target = format!("{} {BY_USER} {user}", self.table);
        let start = cursor.last_seen().map(|last| {
            Item::from([("userId".into(), text(user.as_str())), ("connectionId".into(), text(last.as_str()))])
        });
        let request = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(BY_USER)
            .key_condition_expression("userId = :userId")
            .filter_expression(NOT_EXPIRED)
            .projection_expression(OF_A_PEER)
            .expression_attribute_values(":userId", text(user.as_str()))
            .expression_attribute_values(":now", number(self.now()))
            .set_exclusive_start_key(start)
            .limit(PAGE_ROWS);
        let page =
            Box::pin(request.send()).await.map_err(|error| DynamoError::new("Query", &target, error))?;
        read_page("Query", &target, page.items, page.last_evaluated_key)
    }

    async fn of_everyone(&self, cursor: &Cursor) -> Result<PeerPage, DynamoError> {
        let start = cursor.last_seen().map(|last| Item::from([("connectionId".into(), text(last.as_str()))]));
        let request = self
            .client
            .scan()
            .table_name(&self.table)
            .filter_expression(NOT_EXPIRED)
            .projection_expression(OF_A_PEER)
            .expression_attribute_values(":now", number(self.now()))
            .set_exclusive_start_key(start)
            .limit(PAGE_ROWS);
        let page =
            Box::pin(request.send()).await.map_err(|error| DynamoError::new("Scan", &self.table, error))?;
        read_page("Scan", &self.table, page.items, page.last_evaluated_key)
    }
}

/// No transaction ever writes to this table, so DynamoDB has nothing to conflict with.
fn unexpected_conflict(operation: &'static str, target: String) -> DynamoError {
    DynamoError::unreadable(operation, target, "a transaction was at the row")
}

fn read<T: DeserializeOwned + Debug>(
    operation: &'static str,
    target: &str,
    item: Item,
) -> Result<T, DynamoError> {
    from_item(item).map_err(|error| DynamoError::unreadable(operation, target, error))
}

fn read_page(
    operation: &'static str,
    target: &str,
    items: Option<Vec<Item>>,
    last_key: Option<Item>,
) -> Result<PeerPage, DynamoError> {
    let peers: Vec<Peer> = items
        .unwrap_or_default()
        .into_iter()
        .map(|item| read(operation, target, item))
        .collect::<Result<_, _>>()?;
    let next = last_key.map(|key| read::<LastKey>(operation, target, key)).transpose()?;
    let next = next.map(|last| Cursor::behind(last.connection_id));
    Ok(PeerPage { peers, next })
}

/// The part of a last evaluated key that a cursor keeps.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LastKey {
    connection_id: ConnectionId,
}
