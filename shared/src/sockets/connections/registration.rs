//! Registration of a connection, if its user may have one more.
//!
//! # Protocol
//! Each user has one row with the set of their connection ids.
//! 1. One transaction puts the connection's row and adds its id to the set, if the set is smaller
//!    than [`SocketsPerUser`].
//! 2. If it is not, the failed condition returns the set. The connection rows that it names are
//!    read in one transaction. An id counts if this user has an unexpired row for it.
//! 3. If as many count as are allowed, the user has too many sockets. Otherwise the transaction
//!    that puts the connection's row replaces the set by the ids that count and the new one, if the
//!    set has not changed since it was read.
//! 4. If another handshake of the user was faster, it starts again, after a wait with jitter.
//!
//! No id is removed from the set when its connection ends: removing the connection's row frees the
//! place. A `$disconnect`, a revocation, or a post that finds the connection gone does that. So
//! does the row's expiry, if the `$disconnect` was lost.
//!
//! # Why the limit is strict
//! Every connection row is put together with its id. An id leaves the set only after a read that
//! found no row for it. That read is a transaction: a plain one could miss the row of a transaction
//! whose id is in the set already.
//!
//! # Limits
//! The limit holds per region, as the registry does. Handshakes of one user write to one row, one
//! after the other.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use serde::Deserialize;

use super::dynamo::{key, read};
use super::{Connection, DynamoConnections, FramesPerSocket};
use crate::core::bounded::Bounded;
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::UserId;
use crate::core::retry::Backoff;
use crate::platform::dynamo::{
    Actions, DynamoError, Item, MAX_SNAPSHOT, Reasons, RowKey, RowUpdate, Transaction, number,
    read_rows_at_once, text,
};
use crate::platform::tables;

/// Most sockets of a user in a region. One transaction reads the rows of all of them.
pub type SocketsPerUser = Bounded<1, MAX_SNAPSHOT>;

/// Takes a place if one is free, or if the connection already has one (a retried handshake).
const TAKE: RowUpdate = RowUpdate {
    update: "ADD connectionIds :added SET expiresAt = :expiresAt",
    condition: Some(
        "attribute_not_exists(connectionIds) OR size(connectionIds) < :most OR contains(connectionIds, :id)",
    ),
    names: &[],
};

/// Takes the place of a connection that has ended, unless another handshake has changed the set.
const REPLACE: RowUpdate = RowUpdate {
    update: "SET connectionIds = :present, expiresAt = :expiresAt",
    condition: Some("connectionIds = :seen"),
    names: &[],
};

/// Registers connections.
#[derive(Debug)]
pub struct Registrar {
    client: Client,
    registry: DynamoConnections,
    table: String,
    clock: SharedClock,
    most: SocketsPerUser,
    frames: FramesPerSocket,
}

/// Outcome of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// The connection is registered.
    Registered,
    /// The user has as many sockets as this limit allows. Nothing was written.
    TooMany(u16),
}

/// The attributes that decide whether a connection's row counts.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    user_id: UserId,
    expires_at: i64,
}

/// The actions of the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Connection,
    Place,
}

impl Registrar {
    /// Registers in the tables of `CONNECTIONS_TABLE` and `SOCKET_LIMITS_TABLE`, with the limits of
    /// `SOCKETS_PER_USER` and `FRAMES_PER_SOCKET`.
    pub fn from_env(client: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        Ok(Self {
            registry: DynamoConnections::from_env(client.clone(), env, clock.clone())?,
            table: tables::SOCKET_LIMITS.name(env)?,
            most: env.parse("SOCKETS_PER_USER")?,
            frames: env.parse("FRAMES_PER_SOCKET")?,
            client,
            clock,
        })
    }

    pub(super) fn registry(&self) -> &DynamoConnections {
        &self.registry
    }

    /// Registers `connection`. Idempotent.
    ///
    /// # Errors
    /// A table failed, or other handshakes of the user were faster until `deadline`.
    pub async fn register(
        &self,
        connection: &Connection,
        deadline: Deadline,
    ) -> Result<Registered, DynamoError> {
        let target = format!("{} {}", self.table, connection.user_id);
        let mut place = self.take(connection)?;
        let mut backoff = Backoff::within(deadline);
        loop {
            let put = self.put(connection)?;
            let actions = Actions::from([(Action::Connection, put), (Action::Place, place.clone())]);
            let reasons = match actions.commit(&self.client, &target).await? {
                Transaction::Committed => return Ok(Registered::Registered),
                Transaction::Cancelled(reasons) => reasons,
            };
            if let Some(seen) = seen(&reasons) {
                let present = self.present(connection, &seen, deadline).await?;
                if present.len() >= usize::from(self.most.get()) {
                    return Ok(Registered::TooMany(self.most.get()));
                }
                place = self.replace(connection, seen, present)?;
            }
            if !backoff.wait().await {
                return Err(DynamoError::contended("TransactWriteItems", target));
            }
        }
    }

    /// Those of `ids` that have an unexpired row of the connection's user.
    async fn present(
        &self,
        connection: &Connection,
        ids: &[String],
        deadline: Deadline,
    ) -> Result<Vec<String>, DynamoError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys = ids.iter().map(|id| RowKey { table: self.registry.table(), key: key(id) });
        let rows = read_rows_at_once(&self.client, keys.collect(), deadline).await?;
        let (own, now) = (connection.key.connection_id.as_str(), self.clock.now().as_second());
        let mut present = Vec::new();
        for (id, row) in ids.iter().zip(rows) {
            let Some(row) = row else { continue };
            let row: Place = read("TransactGetItems", self.registry.table(), row)?;
            if row.user_id == connection.user_id && row.expires_at > now && id != own {
                present.push(id.clone());
            }
        }
        Ok(present)
    }

    fn put(&self, connection: &Connection) -> Result<TransactWriteItem, DynamoError> {
        let put = Put::builder()
            .table_name(self.registry.table())
            .set_item(Some(connection.row(self.frames)?))
            .build()
            .map_err(|error| DynamoError::unreadable("build", self.registry.table(), error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    fn take(&self, connection: &Connection) -> Result<TransactWriteItem, DynamoError> {
        let id = connection.key.connection_id.as_str();
        let values = [
            (":added", AttributeValue::Ss(vec![id.to_owned()])),
            (":id", text(id)),
            (":most", number(self.most.get())),
            (":expiresAt", number(connection.expires_at)),
        ];
        TAKE.action(&self.table, row_key(connection), values)
    }

    fn replace(
        &self,
        connection: &Connection,
        seen: Vec<String>,
        mut present: Vec<String>,
    ) -> Result<TransactWriteItem, DynamoError> {
        if seen.is_empty() {
            return self.take(connection);
        }
        present.push(connection.key.connection_id.to_string());
        let values = [
            (":present", AttributeValue::Ss(present)),
            (":seen", AttributeValue::Ss(seen)),
            (":expiresAt", number(connection.expires_at)),
        ];
        REPLACE.action(&self.table, row_key(connection), values)
    }
}

/// The key of the user's row.
fn row_key(connection: &Connection) -> Item {
    Item::from([(tables::SOCKET_LIMITS.key.hash.to_owned(), text(connection.user_id.as_str()))])
}

/// The set of the user's row, if the limit cancelled the transaction. Empty if the row is gone.
fn seen(reasons: &Reasons<Action>) -> Option<Vec<String>> {
    let row = reasons.row_refusing(&Action::Place)?;
    Some(row.get("connectionIds").and_then(|ids| ids.as_ss().ok()).cloned().unwrap_or_default())
}
