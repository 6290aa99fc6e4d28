//! The registry in DynamoDB: a row per connection, and an index by user.

use std::fmt::Debug;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ReturnValue;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_dynamo::from_item;

use super::{
    Audience, ConnectionKey, Cursor, FRAMES_WINDOW, FramesPerSocket, Peer, PeerPage, Removed, Touched,
};
use crate::core::clock::SharedClock;
use crate::core::date_time::{as_rfc3339, rfc3339};
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{ConnectionId, UserId};
use crate::platform::dynamo::{DynamoError, Item, RowUpdate, Write, WriteOutcome, number, text};
use crate::platform::tables;

/// Accepts a frame of this connection, if the connection has not expired and the frame does not
/// come too fast. An expired row counts as absent.
///
/// `recentFrames` has the times of the latest frames, as many as a socket may send in
/// [`FRAMES_WINDOW`], oldest first. If the oldest is within the window, one more would be too many.
/// "If the element doesn't already exist, `SET` appends the new element at the end of the list",
/// and all actions see the item as it was before ([update expressions]): the length stays constant,
/// so one expression covers every case.
///
/// [update expressions]: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.UpdateExpressions.html
const TAKE_FRAME: RowUpdate = RowUpdate {
    update: "SET lastActivity = :lastActivity, recentFrames[100] = :nowMs REMOVE recentFrames[0]",
    condition: Some(
        "connectedAt BETWEEN :openedFrom AND :openedUntil AND expiresAt > :now AND recentFrames[0] <= :windowStart",
    ),
    names: &[],
};

/// No list is longer than the index at which [`TAKE_FRAME`] appends.
const _: () = assert!(FramesPerSocket::MAX <= 100);

/// Counts a frame that came too fast.
const COUNT_REFUSED: RowUpdate =
    RowUpdate { update: "ADD refusedFrames :one", condition: Some(IS_SAME), names: &[] };

/// The row is of this connection: a late event of an old connection does not change a newer one.
const IS_SAME: &str = "connectedAt BETWEEN :openedFrom AND :openedUntil";

/// Expired rows are not peers. TTL deletes them within days; posts to them would find nobody.
const NOT_EXPIRED: &str = "expiresAt > :now";

/// The attributes of a [`Peer`]; the index projects no more of them.
const OF_A_PEER: &str = "connectionId, connectedAt, userId, sessionId, endpoint";

const BY_USER: &str = "byUser";

/// Rows on a page. A row of the scan has 400 bytes and eight for each counted frame, 1.2 KB at
/// most, so that a page is far from DynamoDB's limit of 1 MB. Delivering a page takes longer than
/// reading the next, which happens concurrently.
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

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// Accepts a frame of the connection and stamps it, if the connection is live and the frame
    /// does not come too fast. A frame that does is counted by a second call.
    pub async fn touch(&self, key: &ConnectionKey) -> Result<Touched, DynamoError> {
        let target = self.target(key);
        let (from, until) = key.opened_between();
        let now = self.clock.now();
        let window_start = now.checked_sub(FRAMES_WINDOW).unwrap_or(Timestamp::MIN);
        let values = [
            (":openedFrom", text(rfc3339(from))),
            (":openedUntil", text(rfc3339(until))),
            (":now", number(now.as_second())),
            (":lastActivity", text(rfc3339(now))),
            (":nowMs", number(now.as_millisecond())),
            (":windowStart", number(window_start.as_millisecond())),
        ];
        let request =
            TAKE_FRAME.request(&self.client, &self.table, self::key(key.connection_id.as_str()), values);
        let request = request.return_values(ReturnValue::AllNew);
        match Box::pin(request.send()).await.outcome("UpdateItem", &target)? {
            Write::Done(output) => {
                read("UpdateItem", &target, output.attributes.unwrap_or_default()).map(Touched::Live)
            }
            Write::Refused(row) if row.is_empty() => Ok(Touched::Unknown),
            Write::Refused(row) => {
                let row: Refusing = read("UpdateItem", &target, row)?;
                match row.retry_after(key, now) {
                    Some(retry_after) => self.count_refused(key, retry_after).await,
                    None => Ok(Touched::Unknown),
                }
            }
            Write::Conflict => Err(DynamoError::contended("UpdateItem", target)),
        }
    }

    async fn count_refused(
        &self,
        key: &ConnectionKey,
        retry_after: Duration,
    ) -> Result<Touched, DynamoError> {
        let target = self.target(key);
        let (from, until) = key.opened_between();
        let values = [
            (":openedFrom", text(rfc3339(from))),
            (":openedUntil", text(rfc3339(until))),
            (":one", number(1)),
        ];
        let request =
            COUNT_REFUSED.request(&self.client, &self.table, self::key(key.connection_id.as_str()), values);
        let request = request.return_values(ReturnValue::UpdatedNew);
        match Box::pin(request.send()).await.outcome("UpdateItem", &target)? {
            Write::Done(output) => {
                let count: Refused = read("UpdateItem", &target, output.attributes.unwrap_or_default())?;
                Ok(Touched::TooFast { retry_after, refused: count.refused_frames })
            }
            Write::Refused(_) => Ok(Touched::Unknown),
            Write::Conflict => Err(DynamoError::contended("UpdateItem", target)),
        }
    }

    /// Removes this connection and no other.
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
            Write::Conflict => Err(DynamoError::contended("DeleteItem", target)),
        }
    }

    /// The page of `audience` that starts after `cursor`.
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

/// The key of a connection's row.
pub(super) fn key(connection_id: &str) -> Item {
    Item::from([(tables::CONNECTIONS.key.hash.to_owned(), text(connection_id))])
}

pub(super) fn read<T: DeserializeOwned + Debug>(
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

/// A row that refused a frame.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refusing {
    #[serde(with = "as_rfc3339")]
    connected_at: Timestamp,
    expires_at: i64,
    /// Absent in rows from before the limit existed.
    #[serde(default)]
    recent_frames: Vec<i64>,
}

impl Refusing {
    /// When the connection may send again. `None` if the row is of another connection, or has
    /// expired.
    fn retry_after(&self, key: &ConnectionKey, now: Timestamp) -> Option<Duration> {
        let (from, until) = key.opened_between();
        let is_live = (from..=until).contains(&self.connected_at) && self.expires_at > now.as_second();
        let oldest = self.recent_frames.first().filter(|_| is_live)?;
        let passed = u64::try_from(now.as_millisecond().saturating_sub(*oldest)).unwrap_or(0);
        Some(FRAMES_WINDOW.saturating_sub(Duration::from_millis(passed)))
    }
}

/// How many frames were refused.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refused {
    refused_frames: u32,
}

/// The part of a last evaluated key that a cursor contains.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LastKey {
    connection_id: ConnectionId,
}
