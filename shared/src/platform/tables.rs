//! The tables: keys, indexes, TTL, streams, and which of them regions share. Tests hold this list against template.yaml and
//! global.yaml, which create them.
//!
//! Every attribute that is a key is text. `expiresAt` (epoch seconds) is the TTL attribute wherever rows expire; TTL
//! only collects garbage, late, so every read compares `expiresAt` itself.
//!
//! # Regions
//! A stack alone has every table for itself. Regions that serve the same customers share the [`TableScope::Global`] tables, so
//! that any of them can serve any customer. A global table replicates item by item, about a second late. Its conditions and
//! consistent reads see the copy of their own region, and the last writer of an item wins
//! (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/V2globaltables_HowItWorks.html>). So a condition
//! excludes nobody in another region. So each global table names the rules ([`ConflictRule`]) that make it safe all the same, and its comment
//! says what follows them.

use ConflictRule::{DecidedElsewhere, DerivedIds, Home, LastWriterWins, RowPerRegion, WrittenOnce};

use crate::core::env::{ConfigError, Env};

/// A table or index key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub hash: &'static str,
    /// Sort key, if any.
    pub range: Option<&'static str>,
}

/// What an index has of a row. Keys of table and index are always part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projection {
    KeysOnly,
    /// The keys and these attributes: what the index's readers need. A change of other attributes is no write to the
    /// index.
    Include(&'static [&'static str]),
}

/// A global secondary index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Index {
    pub name: &'static str,
    pub key: Key,
    /// What can be read from it.
    pub projection: Projection,
}

/// Which regions have the rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableScope {
    /// One. Each region has a table of its own, which template.yaml creates.
    Regional,
    /// All, by asynchronous replication. global.yaml creates it; a stack alone has its own, from template.yaml.
    Global,
    /// Those that agree: strongly consistent between them, without TTL and transactions. global.yaml creates it. A stack alone has its
    /// own, from template.yaml, except for [`AGREEMENT`]: it agrees with nobody.
    Agreed,
}

/// What makes writes of several regions to a global table safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictRule {
    /// An item is put once and never changed, or its value only rises. Copies that meet agree.
    WrittenOnce,
    /// One region writes an item, and its key names the region. Readers put the items of all regions together.
    RowPerRegion,
    /// The same request makes the same items in any region, by ids that are derived from it.
    DerivedIds,
    /// What must be decided once is decided in one linearizable place: the agreement table or the payment provider. Regions write
    /// what was decided, and write it again if a region that did not know has replaced it.
    DecidedElsewhere,
    /// An item belongs to the region whose bucket or queue has the thing itself. It names the region, and others send their
    /// write there.
    Home,
    /// The last write of an item stands, and nothing depends on the ones before.
    LastWriterWins,
}

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Logical id in template.yaml and in global.yaml.
    pub logical_id: &'static str,
    /// Which regions have its rows.
    pub scope: TableScope,
    /// Environment variable that tells a function the table's name.
    pub variable: &'static str,
    pub key: Key,
    pub indexes: &'static [Index],
    /// Whether rows expire by `expiresAt`.
    pub expires: bool,
    /// Whether changes are streamed.
    pub streamed: bool,
    /// What makes it safe that several regions write to it. None of a regional table.
    pub rules: &'static [ConflictRule],
}

impl Table {
    /// The table's name in this environment.
    pub fn name(&self, env: &Env) -> Result<String, ConfigError> {
        env.required(self.variable).map(str::to_owned)
    }
}

const fn key(hash: &'static str) -> Key {
    Key { hash, range: None }
}

const fn sorted(hash: &'static str, range: &'static str) -> Key {
    Key { hash, range: Some(range) }
}

const fn table(logical_id: &'static str, variable: &'static str, key: Key) -> Table {
    Table {
        logical_id,
        scope: TableScope::Regional,
        variable,
        key,
        indexes: &[],
        expires: false,
        streamed: false,
        rules: &[],
    }
}

const fn global(
    logical_id: &'static str,
    variable: &'static str,
    key: Key,
    rules: &'static [ConflictRule],
) -> Table {
    Table { scope: TableScope::Global, rules, ..table(logical_id, variable, key) }
}

/// The TTL attribute of every table that has one.
pub const EXPIRES_AT: &str = "expiresAt";

/// Open sockets of this region.
///
/// Regional: a connection id means nothing elsewhere, and the sockets of a lost region are closed.
pub const CONNECTIONS: Table = Table {
    indexes: &[Index {
        name: "byUser",
        key: key("userId"),
        projection: Projection::Include(&["sessionId", "region", "endpoint", "connectedAt", "expiresAt"]),
    }],
    expires: true,
    ..table("ConnectionsTable", "CONNECTIONS_TABLE", key("connectionId"))
};

/// What users do with sockets, as far as it has a limit: which sockets each has open, and whom they wrote to in a minute.
///
/// Regional: the limits are per region. Counts of two regions in one row would overwrite each other.
pub const SOCKET_LIMITS: Table =
    Table { expires: true, ..table("SocketLimitsTable", "SOCKET_LIMITS_TABLE", key("subject")) };

/// Locks and job slots.
///
/// Regional: a replicated lock excludes nobody, and a write under a lock carries the lock as a condition of its own
/// transaction. What may run once in the world, as the daily report, is a lock of the agreement table .
pub const LOCKS: Table = Table { expires: true, ..table("LocksTable", "LOCKS_TABLE", key("lockName")) };

/// Idempotency records.
///
/// Global, so that a retry in another region gets the stored answer. A record that has its answer is not changed. A retry
/// that is faster than replication makes the same effect. A claim, before there is an answer, excludes other attempts in its own region
/// only; attempts in two regions charge once, because the provider's key follows from the order.
pub const IDEMPOTENCY: Table = Table {
    expires: true,
    ..global("IdempotencyTable", "IDEMPOTENCY_TABLE", key("key"), &[WrittenOnce, DerivedIds])
};

/// Orders, each region's reservations for them, and the counts of each customer's unpaid orders in each region.
///
/// Global, so that a customer sees, pays and cancels orders anywhere. The ids of a new order and of its events are derived from the
/// request; when two regions have made the order, one stands, and the other gives back what it has reserved. The payment provider
/// decides whether an order is paid or cancelled, and all regions write what it has decided. Counts, reservations and shards have rows
/// per region. A region's stream shows orders that have lost their end to a write that did not know of it, and orders whose
/// reservation is to be settled.
pub const ORDERS: Table = Table {
    indexes: &[
        Index {
            name: "byCustomer",
            key: sorted("customerId", "createdAt"),
            projection: Projection::Include(&["status", "lines", "total", "region"]),
        },
        Index { name: "pending", key: sorted("pendingShard", "createdAt"), projection: Projection::KeysOnly },
        Index {
            name: "byDay",
            key: sorted("dayShard", "orderId"),
            projection: Projection::Include(&[
                "status",
                "lines",
                "total",
                "paymentGeneration",
                "cancelReason",
            ]),
        },
    ],
    streamed: true,
    ..global("OrdersTable", "ORDERS_TABLE", key("orderId"), &[DerivedIds, DecidedElsewhere, RowPerRegion])
};

/// The catalogue.
///
/// Global, so that all regions sell the same products. An operator's change replaces the product, on the condition of its version; of
/// two operators in two regions within a second, the later one is right. Caches hear of changes that were made elsewhere.
pub const PRODUCTS: Table = Table {
    streamed: true,
    ..global("ProductsTable", "PRODUCTS_TABLE", key("productId"), &[LastWriterWins])
};

/// Units on hand, a row per product and region.
///
/// Global, so that any region tells how many units there are. A region takes and gives back units of its own row.
pub const STOCK: Table = global("StockTable", "STOCK_TABLE", sorted("productId", "region"), &[RowPerRegion]);

/// Domain events until they are published, and some days longer. By subject, since a stream keeps the order of one
/// partition key only.
///
/// Global, so that no event is lost with its region. A relay publishes what its own region wrote; the same event of two regions has one
/// id, by which consumers drop the second.
pub const OUTBOX: Table = Table {
    expires: true,
    streamed: true,
    ..global("OutboxTable", "OUTBOX_TABLE", sorted("subject", "eventId"), &[WrittenOnce, DerivedIds])
};

/// Accounts, and the e-mail addresses that point to them.
///
/// Global, so that a user signs in anywhere. An address is claimed in the agreement table, so that two regions do not give it to
/// two accounts; the row that leads from an address to its account is put once. Of two new passwords, or two changes of roles, within
/// a second, the later one stands; both have ended the sessions of before.
pub const USERS: Table =
    global("UsersTable", "USERS_TABLE", key("userId"), &[DecidedElsewhere, WrittenOnce, LastWriterWins]);

/// Sessions, their ends, and the instants up to which all sessions of a user have ended.
///
/// Global, so that nobody signs in again when a region is lost. The end of a session is put once. The instants of users and the numbers
/// of refresh tokens only rise, in a row per region, and readers take the highest. A stamp of activity and a change of preferences
/// write other rows, of which the last writer wins.
pub const SESSIONS: Table = Table {
    indexes: &[Index {
        name: "byUser",
        key: sorted("userId", "createdAt"),
        projection: Projection::KeysOnly,
    }],
    expires: true,
    ..global(
        "SessionsTable",
        "SESSIONS_TABLE",
        key("sessionId"),
        &[WrittenOnce, RowPerRegion, LastWriterWins],
    )
};

/// Passwords that were tried lately, by account and by network address.
///
/// Regional: replicated counts overwrite each other, so they would limit less. Somebody who tries in each region has the limit once a
/// region.
pub const SIGN_IN_ATTEMPTS: Table =
    Table { expires: true, ..table("SignInAttemptsTable", "SIGN_IN_ATTEMPTS_TABLE", key("subject")) };

/// Carts, a row per customer and region.
///
/// Global, so that a customer finds the cart anywhere. A region writes its own row only. Readers merge the rows as an
/// observed-remove set, so that regions that have the same rows have the same cart.
pub const CARTS: Table = global("CartsTable", "CARTS_TABLE", key("customerId"), &[RowPerRegion]);

/// Uploaded files, and how much of their quota users have taken in each region.
///
/// Global, so that a file is found anywhere; the bucket replicates the objects. The home of an upload is the region that announced
/// it, which has its bytes, and never changes. Other regions complete and delete it by calls of the home's DynamoDB and S3. The usage of a user is a row per region, which changes with that region's uploads in one transaction. The index
/// `sweep` has the region in its key: each cleans up its own.
pub const UPLOADS: Table = Table {
    indexes: &[Index {
        name: "sweep",
        key: sorted("sweepShard", "sweepAt"),
        projection: Projection::KeysOnly,
    }],
    ..global("UploadsTable", "UPLOADS_TABLE", sorted("ownerId", "uploadId"), &[Home, RowPerRegion])
};

/// The sandbox payment provider's ledger.
///
/// Agreed, because it stands for a provider that serves all regions: a charge in one is known to the next call in any other.
pub const PAYMENT_LEDGER: Table = Table {
    scope: TableScope::Agreed,
    ..table("PaymentLedgerTable", "PAYMENT_LEDGER_TABLE", key("paymentKey"))
};

/// Lists of orders that customers asked for, the parts of their files, and how many each customer has open.
///
/// Global, so that a customer follows and fetches an export anywhere. The region whose queue has the request is the only one that
/// writes its rows; it is part of the slot's name. Slots are rows per region, so that a customer whose region is lost asks in another
/// one. A repeated request in another region sends no message.
pub const EXPORTS: Table = Table {
    expires: true,
    ..global("ExportsTable", "EXPORTS_TABLE", sorted("exportId", "item"), &[Home, RowPerRegion])
};

/// Messages that no socket of their user took.
///
/// Global, so that a user reads anywhere what was stored anywhere. A message is put once. An inbox belongs to its user and
/// the region that writes it, so its head has one writer.
pub const INBOX: Table = Table {
    expires: true,
    ..global("InboxTable", "INBOX_TABLE", sorted("inboxId", "item"), &[WrittenOnce, RowPerRegion])
};

/// Events of customers' activity, and what they add up to for each product and day.
///
/// Global, so that the counts of a product are added up anywhere. Events are put once, and each region has its own rows of counts,
/// which only rise.
pub const ACTIVITY: Table = Table {
    expires: true,
    ..global("ActivityTable", "ACTIVITY_TABLE", sorted("activityId", "item"), &[WrittenOnce, RowPerRegion])
};

/// What regions decide together before it happens: slots of jobs that run once in the world (`daily-report#<date>`), e-mail addresses
/// at sign-up (`email#<address>`), which regions are evacuated (`region#<region>`). An item a decision.
///
/// Agreed: a write is accepted only if no other region has written since, and a consistent read sees every accepted write. There
/// is no TTL, so whoever puts an item also removes it.
pub const AGREEMENT: Table =
    Table { scope: TableScope::Agreed, ..table("AgreementTable", "AGREEMENT_TABLE", key("subject")) };

/// All of them.
pub const ALL: &[Table] = &[
    CONNECTIONS,
    SOCKET_LIMITS,
    LOCKS,
    IDEMPOTENCY,
    ORDERS,
    PRODUCTS,
    STOCK,
    OUTBOX,
    USERS,
    SESSIONS,
    SIGN_IN_ATTEMPTS,
    CARTS,
    UPLOADS,
    PAYMENT_LEDGER,
    EXPORTS,
    INBOX,
    ACTIVITY,
    AGREEMENT,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_global_table_has_a_rule_and_no_other_needs_one() {
        for table in ALL {
            assert_eq!(table.rules.is_empty(), table.scope != TableScope::Global, "{}", table.logical_id);
        }
    }
}
