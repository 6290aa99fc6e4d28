//! The tables: keys, indexes, TTL, streams, and which of them regions share. Tests compare this
//! list with template.yaml and global.yaml, which create the tables.
//!
//! Every key attribute is text. `expiresAt` (epoch seconds) is the TTL attribute of all tables with
//! expiring rows. TTL deletes late, so every read compares `expiresAt` itself.
//!
//! # Regions
//! A single region has all tables for itself. Regions that serve the same customers share the
//! [`TableScope::Global`] tables, so that any of them can serve any customer. A global table
//! replicates item by item, about a second late. Its conditions and consistent reads see the copy
//! of their own region, and the last writer of an item wins
//! (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/V2globaltables_HowItWorks.html>).
//! So a condition does not exclude a write in another region. Each global table therefore names the
//! rules ([`ConflictRule`]) that make it safe, and its comment explains them.

use ConflictRule::{DecidedElsewhere, DerivedIds, Home, LastWriterWins, RowPerRegion, WrittenOnce};

use crate::core::env::{ConfigError, Env};

/// A table or index key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub hash: &'static str,
    /// Sort key, if any.
    pub range: Option<&'static str>,
}

/// Which attributes an index contains beside the keys of table and index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projection {
    KeysOnly,
    /// These attributes: those that the index's readers need. A change of other attributes does not
    /// write to the index.
    Include(&'static [&'static str]),
}

/// A global secondary index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Index {
    pub name: &'static str,
    pub key: Key,
    pub projection: Projection,
}

/// Which regions share a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableScope {
    /// Each region has its own table, created by template.yaml.
    Regional,
    /// All regions share it by asynchronous replication. Created by global.yaml, or by
    /// template.yaml in a single region.
    Global,
    /// The agreeing regions share it: strongly consistent between them, without TTL and
    /// transactions. Created by global.yaml, or by template.yaml in a single region, except for
    /// [`AGREEMENT`], which a single region does not need.
    Agreed,
}

/// Why writes of several regions to a global table are safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictRule {
    /// An item is put once and never changed, or its value only rises. Merged copies agree.
    WrittenOnce,
    /// One region writes an item, and its key names the region. Readers combine the items of all
    /// regions.
    RowPerRegion,
    /// The same request creates the same items in any region, by ids derived from it.
    DerivedIds,
    /// A decision that must be made once is made in one linearizable place: the agreement table or
    /// the payment provider. Regions write the decision, and write it again if a region that did
    /// not know it has overwritten it.
    DecidedElsewhere,
    /// An item belongs to the region whose bucket or queue has the object or message. It names the
    /// region, and other regions write there.
    Home,
    /// The last write of an item wins, and nothing depends on earlier ones.
    LastWriterWins,
}

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Logical id in template.yaml and global.yaml.
    pub logical_id: &'static str,
    pub scope: TableScope,
    /// The environment variable with the table's name.
    pub variable: &'static str,
    pub key: Key,
    pub indexes: &'static [Index],
    /// Whether rows expire by `expiresAt`.
    pub expires: bool,
    /// Whether changes are streamed.
    pub streamed: bool,
    /// Why writes of several regions are safe. Empty for a regional table.
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
/// Regional: a connection id has no meaning elsewhere, and the sockets of a lost region are closed.
pub const CONNECTIONS: Table = Table {
    indexes: &[Index {
        name: "byUser",
        key: key("userId"),
        projection: Projection::Include(&["sessionId", "region", "endpoint", "connectedAt", "expiresAt"]),
    }],
    expires: true,
    ..table("ConnectionsTable", "CONNECTIONS_TABLE", key("connectionId"))
};

/// Counts for the limits of sockets: which sockets each user has open, and to whom they wrote in a
/// minute.
///
/// Regional: the limits are per region. Two regions would overwrite each other's counts in one row.
pub const SOCKET_LIMITS: Table =
    Table { expires: true, ..table("SocketLimitsTable", "SOCKET_LIMITS_TABLE", key("subject")) };

/// Locks and job slots.
///
/// Regional: a replicated lock excludes nobody, and a write under a lock includes the lock's
/// condition in its transaction. A job that runs once in the world, such as the daily report, has a
/// lock in the agreement table.
pub const LOCKS: Table = Table { expires: true, ..table("LocksTable", "LOCKS_TABLE", key("lockName")) };

/// Idempotency records.
///
/// Global, so that a retry in another region gets the stored answer. A record with an answer never
/// changes. A retry that is faster than replication has the same effect. A claim, before there is
/// an answer, excludes other attempts in its own region only; attempts in two regions charge once,
/// because the provider's key is derived from the order.
pub const IDEMPOTENCY: Table = Table {
    expires: true,
    ..global("IdempotencyTable", "IDEMPOTENCY_TABLE", key("key"), &[WrittenOnce, DerivedIds])
};

/// Orders, each region's reservations for them, and the counts of each customer's unpaid orders in
/// each region.
///
/// Global, so that a customer sees, pays and cancels orders anywhere. The ids of a new order and of
/// its events are derived from the request; if two regions have created the order, one copy wins,
/// and the other region releases its reservation. The payment provider decides whether an order is
/// paid or cancelled, and all regions write that decision. Counts, reservations and shards have
/// rows per region. A region's stream shows orders whose end was overwritten by a region that did
/// not know it, and orders whose reservation must be settled.
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
/// Global, so that all regions sell the same products. An operator's change replaces the product on
/// the condition of its version; if two operators change it in two regions within a second, the
/// later change wins. Caches are told of changes in other regions.
pub const PRODUCTS: Table = Table {
    streamed: true,
    ..global("ProductsTable", "PRODUCTS_TABLE", key("productId"), &[LastWriterWins])
};

/// Units on hand, a row per product and region.
///
/// Global, so that any region can show the total. A region takes and returns units of its own row.
pub const STOCK: Table = global("StockTable", "STOCK_TABLE", sorted("productId", "region"), &[RowPerRegion]);

/// Domain events until they are published, and some days longer. Keyed by subject, since a stream
/// keeps the order of one partition key only.
///
/// Global, so that no event is lost with its region. A relay publishes what its own region wrote;
/// the same event of two regions has one id, by which consumers drop the second.
pub const OUTBOX: Table = Table {
    expires: true,
    streamed: true,
    ..global("OutboxTable", "OUTBOX_TABLE", sorted("subject", "eventId"), &[WrittenOnce, DerivedIds])
};

/// Accounts, and the e-mail addresses that point to them.
///
/// Global, so that a user signs in anywhere. An address is claimed in the agreement table, so that
/// two regions cannot give it to two accounts; the row that points from an address to its account
/// is put once. Of two new passwords, or two role changes, within a second, the later one wins;
/// both have ended the earlier sessions.
pub const USERS: Table =
    global("UsersTable", "USERS_TABLE", key("userId"), &[DecidedElsewhere, WrittenOnce, LastWriterWins]);

/// Sessions, their ends, and the instants up to which all sessions of a user have ended.
///
/// Global, so that nobody has to sign in again when a region is lost. The end of a session is put
/// once. The instants of users and the numbers of refresh tokens only rise, in a row per region,
/// and readers take the highest. An activity stamp and a change of preferences write other rows,
/// whose last writer wins.
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

/// Recent password attempts, by account and by network address.
///
/// Regional: replicated counts overwrite each other, so they would limit less. An attacker in
/// several regions has the limit once per region.
pub const SIGN_IN_ATTEMPTS: Table =
    Table { expires: true, ..table("SignInAttemptsTable", "SIGN_IN_ATTEMPTS_TABLE", key("subject")) };

/// Carts, a row per customer and region.
///
/// Global, so that a customer finds the cart anywhere. A region writes its own row only. Readers
/// merge the rows as an observed-remove set, so that regions with the same rows have the same cart.
pub const CARTS: Table = global("CartsTable", "CARTS_TABLE", key("customerId"), &[RowPerRegion]);

/// Uploaded files, and each user's used quota in each region.
///
/// Global, so that a file is found anywhere; the bucket replicates the objects. The home of an
/// upload is the region that created it and has its bytes; it never changes. Other regions complete
/// and delete the upload by calling the home's DynamoDB and S3. The usage of a user is a row per
/// region, which changes with that region's uploads in one transaction. The index `sweep` has the
/// region in its key: each region cleans up its own uploads.
pub const UPLOADS: Table = Table {
    indexes: &[Index {
        name: "sweep",
        key: sorted("sweepShard", "sweepAt"),
        projection: Projection::KeysOnly,
    }],
    ..global("UploadsTable", "UPLOADS_TABLE", sorted("ownerId", "uploadId"), &[Home, RowPerRegion])
};

/// The ledger of the sandbox payment provider.
///
/// Agreed, because it stands for a provider that serves all regions: a charge in one region is
/// visible to the next call in any other.
pub const PAYMENT_LEDGER: Table = Table {
    scope: TableScope::Agreed,
    ..table("PaymentLedgerTable", "PAYMENT_LEDGER_TABLE", key("paymentKey"))
};

/// Exports, the parts of their files, and how many each customer has open.
///
/// Global, so that a customer follows and downloads an export anywhere. Only the region whose queue
/// has the request writes its rows; the slot's name contains the region. Slots are rows per region,
/// so that a customer whose region is lost can ask in another one. A repeated request in another
/// region sends no message.
pub const EXPORTS: Table = Table {
    expires: true,
    ..global("ExportsTable", "EXPORTS_TABLE", sorted("exportId", "item"), &[Home, RowPerRegion])
};

/// Messages that no socket of their user took.
///
/// Global, so that a user reads messages of every region anywhere. A message is put once. An inbox
/// belongs to a user and a region, so its head has one writer.
pub const INBOX: Table = Table {
    expires: true,
    ..global("InboxTable", "INBOX_TABLE", sorted("inboxId", "item"), &[WrittenOnce, RowPerRegion])
};

/// Events of customers' activity, and their counts per product and day.
///
/// Global, so that the counts of a product can be added up anywhere. Events are put once, and each
/// region has its own rows of counts, which only rise.
pub const ACTIVITY: Table = Table {
    expires: true,
    ..global("ActivityTable", "ACTIVITY_TABLE", sorted("activityId", "item"), &[WrittenOnce, RowPerRegion])
};

/// Decisions of several regions: slots of jobs that run once in the world (`daily-report#<date>`),
/// e-mail addresses at sign-up (`email#<address>`), which regions are evacuated
/// (`region#<region>`). One item per decision.
///
/// Agreed: a write is accepted only if no other region has written since, and a consistent read
/// sees every accepted write. There is no TTL, so the code that puts an item also removes it.
pub const AGREEMENT: Table =
    Table { scope: TableScope::Agreed, ..table("AgreementTable", "AGREEMENT_TABLE", key("subject")) };

/// All values.
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
