//! The tables: keys, indexes, TTL, streams. A test holds this list against template.yaml, which creates them.
//!
//! Every attribute that is a key is text. `expiresAt` (epoch seconds) is the TTL attribute wherever rows expire; TTL
//! only collects garbage, late, so every read compares `expiresAt` itself.

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

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Logical id in template.yaml.
    pub logical_id: &'static str,
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
    Table { logical_id, variable, key, indexes: &[], expires: false, streamed: false }
}

/// The TTL attribute of every table that has one.
pub const EXPIRES_AT: &str = "expiresAt";

/// Open sockets of this region.
pub const CONNECTIONS: Table = Table {
    indexes: &[Index {
        name: "byUser",
        key: key("userId"),
        projection: Projection::Include(&["sessionId", "region", "endpoint", "connectedAt", "expiresAt"]),
    }],
    expires: true,
    ..table("ConnectionsTable", "CONNECTIONS_TABLE", key("connectionId"))
};

/// Locks and job slots.
pub const LOCKS: Table = Table { expires: true, ..table("LocksTable", "LOCKS_TABLE", key("lockName")) };

/// Idempotency records.
pub const IDEMPOTENCY: Table =
    Table { expires: true, ..table("IdempotencyTable", "IDEMPOTENCY_TABLE", key("key")) };

/// Orders.
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
    ..table("OrdersTable", "ORDERS_TABLE", key("orderId"))
};

/// The catalogue.
pub const PRODUCTS: Table = table("ProductsTable", "PRODUCTS_TABLE", key("productId"));

/// Units on hand, a row per product and region.
pub const STOCK: Table = table("StockTable", "STOCK_TABLE", sorted("productId", "region"));

/// Domain events on their way out.
pub const OUTBOX: Table =
    Table { expires: true, streamed: true, ..table("OutboxTable", "OUTBOX_TABLE", key("eventId")) };

/// Accounts, and the e-mail addresses that point to them.
pub const USERS: Table = table("UsersTable", "USERS_TABLE", key("userId"));

/// Sessions, and the users' token versions.
pub const SESSIONS: Table = Table {
    indexes: &[Index {
        name: "byUser",
        key: sorted("userId", "createdAt"),
        projection: Projection::KeysOnly,
    }],
    expires: true,
    ..table("SessionsTable", "SESSIONS_TABLE", key("sessionId"))
};

/// Passwords that were tried lately, by account and by network address.
pub const SIGN_IN_ATTEMPTS: Table =
    Table { expires: true, ..table("SignInAttemptsTable", "SIGN_IN_ATTEMPTS_TABLE", key("subject")) };

/// Carts, a row per customer.
pub const CARTS: Table = table("CartsTable", "CARTS_TABLE", key("customerId"));

/// Uploaded files, and how much of their quota users have taken.
pub const UPLOADS: Table = Table {
    indexes: &[Index {
        name: "sweep",
        key: sorted("sweepShard", "sweepAt"),
        projection: Projection::KeysOnly,
    }],
    ..table("UploadsTable", "UPLOADS_TABLE", sorted("ownerId", "uploadId"))
};

/// The sandbox payment provider's ledger.
pub const PAYMENT_LEDGER: Table = table("PaymentLedgerTable", "PAYMENT_LEDGER_TABLE", key("paymentKey"));

/// Lists of orders that customers asked for, the parts of their files, and how many each customer has open.
pub const EXPORTS: Table =
    Table { expires: true, ..table("ExportsTable", "EXPORTS_TABLE", sorted("exportId", "item")) };

/// Messages that no socket of their user took.
pub const INBOX: Table =
    Table { expires: true, ..table("InboxTable", "INBOX_TABLE", sorted("inboxId", "item")) };

/// All of them.
pub const ALL: &[Table] = &[
    CONNECTIONS,
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
];
