//! The tables: keys, indexes, TTL, streams, and which of them regions share. Tests hold this list against template.yaml and
//! global.yaml, which create them.
//!
//! Every attribute that is a key is text. `expiresAt` (epoch seconds) is the TTL attribute wherever rows expire; TTL
//! only collects garbage, late, so every read compares `expiresAt` itself.
//!
//! # Regions
//! A stack alone has every table for itself. Regions that serve the same customers share the [`Scope::Global`] tables, so
//! that any of them can serve any customer. A global table replicates item by item, about a second late. Its conditions and
//! consistent reads see the copy of their own region, and the last writer of an item wins
//! (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/V2globaltables_HowItWorks.html>). So a condition
//! excludes nobody in another region. Each global table needs a rule that makes it safe all the same, and its comment names
//! the rule:
//!
//! | rule | what it asks |
//! |---|---|
//! | R1, written once | An item is put once and never changed, or its value only rises: replicas that meet agree. |
//! | R2, home | One region at a time changes an item, and the item names it. Others send their write there. |
//! | R3, view | A region writes as a home only with a fresh view of who is the home. |
//! | R4, evacuation | The homes of a lost region move to a successor, after every view of before has run out. |
//! | R5, same request, same ids | A retry in another region makes the same rows, before it can see the first ones. |
//! | R6, agreement | What must be decided before it happens is one item of the agreement table. |
//! | R7, streams | A stream tells replicated writes too. A reader says which of them it acts on. |
//!
//! Modules keep the rows of regions apart by their keys wherever a comment says so. The rest of a rule is what the table asks of its
//! module before two regions may write to it.

use crate::core::env::{ConfigError, Env};

/// A table or index key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Partition key.
    pub hash: &'static str,
    /// Sort key, if any.
    pub range: Option<&'static str>,
}

/// What an index has of a row. Keys of table and index are always part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projection {
    /// The keys.
    KeysOnly,
    /// The keys and these attributes: what the index's readers need. A change of other attributes is no write to the
    /// index.
    Include(&'static [&'static str]),
}

/// A global secondary index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: &'static str,
    /// Its key.
    pub key: Key,
    /// What can be read from it.
    pub projection: Projection,
}

/// Which regions have the rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One. Each region has a table of its own, which template.yaml creates.
    Regional,
    /// All, by asynchronous replication. global.yaml creates it; a stack alone has its own, from template.yaml.
    Global,
    /// Those that agree: strongly consistent between them, without TTL and transactions. global.yaml creates it. A stack alone has its
    /// own, from template.yaml, except for [`AGREEMENT`]: it agrees with nobody.
    Agreed,
}

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Logical id in template.yaml and in global.yaml.
    pub logical_id: &'static str,
    /// Which regions have its rows.
    pub scope: Scope,
    /// Environment variable that tells a function the table's name.
    pub variable: &'static str,
    /// Primary key.
    pub key: Key,
    /// Indexes.
    pub indexes: &'static [Index],
    /// Whether rows expire by `expiresAt`.
    pub expires: bool,
    /// Whether changes are streamed.
    pub streamed: bool,
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
    Table { logical_id, scope: Scope::Regional, variable, key, indexes: &[], expires: false, streamed: false }
}

const fn global(logical_id: &'static str, variable: &'static str, key: Key) -> Table {
    Table { scope: Scope::Global, ..table(logical_id, variable, key) }
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
/// transaction. What may run once in the world, as the daily report, is a lock of the agreement table (R6).
pub const LOCKS: Table = Table { expires: true, ..table("LocksTable", "LOCKS_TABLE", key("lockName")) };

/// Idempotency records.
///
/// Global, so that a retry in another region gets the stored answer. R1: a record that has its answer is not changed. R5: a retry
/// that is faster than replication makes the same effect. A claim, before there is an answer, excludes other attempts in its own region
/// only; attempts in two regions charge once, because the provider's key follows from the order.
pub const IDEMPOTENCY: Table =
    Table { expires: true, ..global("IdempotencyTable", "IDEMPOTENCY_TABLE", key("key")) };

/// Orders, each region's reservations for them, and the counts of each customer's unpaid orders in each region.
///
/// Global, so that a customer sees, pays and cancels orders anywhere. R5: the ids of a new order and of its events are derived from the
/// request; when two regions have made the order, one stands, and the other region gives back what it has reserved. R6: the payment
/// provider decides whether an order is paid or cancelled, once, and all regions write what it has decided. A region has its own rows of
/// counts, reservations and shards. R7: a region's stream shows orders that have lost their end to a write that did not know of it, and
/// orders whose reservation is to be settled.
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
    ..global("OrdersTable", "ORDERS_TABLE", key("orderId"))
};

/// The catalogue.
///
/// Global, so that all regions sell the same products. R2: an operator's change is conditional on the version. R7: caches hear of
/// changes that were made elsewhere.
pub const PRODUCTS: Table =
    Table { streamed: true, ..global("ProductsTable", "PRODUCTS_TABLE", key("productId")) };

/// Units on hand, a row per product and region.
///
/// Global, so that the units of a lost region are known and can be given to a successor (R4). R2: the region in the key is the home.
pub const STOCK: Table = global("StockTable", "STOCK_TABLE", sorted("productId", "region"));

/// Domain events until they are published, and some days longer. By subject, since a stream keeps the order of one
/// partition key only.
///
/// Global, so that the events of a lost region are there to be published by its successor (R4). R1: rows are put once. R7: a relay
/// publishes what its own region wrote.
pub const OUTBOX: Table = Table {
    expires: true,
    streamed: true,
    ..global("OutboxTable", "OUTBOX_TABLE", sorted("subject", "eventId"))
};

/// Accounts, and the e-mail addresses that point to them.
///
/// Global, so that a user signs in anywhere. R6: an address is claimed in the agreement table, so that two regions do not give it to
/// two accounts; the row that leads from an address to its account is put once (R1). R2: passwords and roles.
pub const USERS: Table = global("UsersTable", "USERS_TABLE", key("userId"));

/// Sessions, their ends, and the instants up to which all sessions of a user have ended.
///
/// Global, so that nobody signs in again when a region is lost. R1: the end of a session is put once. The instants of users and the numbers
/// of refresh tokens only rise, in a row per region, and readers take the highest. A stamp of activity and a change of preferences
/// write other rows, of which the last writer wins.
pub const SESSIONS: Table = Table {
    indexes: &[Index {
        name: "byUser",
        key: sorted("userId", "createdAt"),
        projection: Projection::KeysOnly,
    }],
    expires: true,
    ..global("SessionsTable", "SESSIONS_TABLE", key("sessionId"))
};

/// Passwords that were tried lately, by account and by network address.
///
/// Regional: replicated counts overwrite each other, so they would limit less. Somebody who tries in each region has the limit once a
/// region.
pub const SIGN_IN_ATTEMPTS: Table =
    Table { expires: true, ..table("SignInAttemptsTable", "SIGN_IN_ATTEMPTS_TABLE", key("subject")) };

/// Carts, a row per customer.
///
/// Global, so that a customer finds the cart anywhere. R2: a change is conditional on the version.
pub const CARTS: Table = global("CartsTable", "CARTS_TABLE", key("customerId"));

/// Uploaded files, and how much of their quota users have taken.
///
/// Global, so that a file is found anywhere; the bucket replicates the objects. R2: an upload is completed where it began, and the
/// quota is counted in one place.
pub const UPLOADS: Table = Table {
    indexes: &[Index {
        name: "sweep",
        key: sorted("sweepShard", "sweepAt"),
        projection: Projection::KeysOnly,
    }],
    ..global("UploadsTable", "UPLOADS_TABLE", sorted("ownerId", "uploadId"))
};

/// The sandbox payment provider's ledger.
///
/// Agreed (R6), because it stands for a provider that serves all regions: a charge in one is known to the next call in any other.
pub const PAYMENT_LEDGER: Table =
    Table { scope: Scope::Agreed, ..table("PaymentLedgerTable", "PAYMENT_LEDGER_TABLE", key("paymentKey")) };

/// Lists of orders that customers asked for, the parts of their files, and how many each customer has open.
///
/// Global, so that a customer follows and fetches an export anywhere. R2: the region whose queue has the request works on it. Slots
/// are per region.
pub const EXPORTS: Table =
    Table { expires: true, ..global("ExportsTable", "EXPORTS_TABLE", sorted("exportId", "item")) };

/// Messages that no socket of their user took.
///
/// Global, so that a user reads anywhere what was stored anywhere. R1: a message is put once. An inbox belongs to its user and
/// the region that writes it, so its head has one writer.
pub const INBOX: Table =
    Table { expires: true, ..global("InboxTable", "INBOX_TABLE", sorted("inboxId", "item")) };

/// Events of customers' activity, and what they add up to for each product and day.
///
/// Global, so that the counts of a product are added up anywhere. R1: events are put once, and each region has its own rows of counts,
/// which only rise.
pub const ACTIVITY: Table =
    Table { expires: true, ..global("ActivityTable", "ACTIVITY_TABLE", sorted("activityId", "item")) };

/// What regions decide together before it happens: slots of jobs that run once in the world (`daily-report#<date>`), e-mail addresses
/// at sign-up (`email#<address>`). An item a decision.
///
/// Agreed (R6): a write is accepted only if no other region has written since, and a consistent read sees every accepted write. There
/// is no TTL, so whoever puts an item also removes it.
pub const AGREEMENT: Table =
    Table { scope: Scope::Agreed, ..table("AgreementTable", "AGREEMENT_TABLE", key("subject")) };

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
