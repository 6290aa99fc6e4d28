//! Shards of the two indexes whose natural partition key has one value: the day, and "unpaid".
//!
//! A partition of an index takes 1,000 write units a second, one for each KB of the entry, and a
//! hot one throttles its table. Capacity of a shard:
//!
//! - `byDay`: an entry has about 200 bytes and 80 for each line, so 1 KB with 10 lines, which
//!   counts as 2 when it is a little more, and 8 KB with the most lines. It is written when the
//!   order is placed and again when it is paid or cancelled; the other attributes of payments are
//!   not in the index. 2 writes of 2 units: 250 orders a second for a shard, 4,000 for all 16.
//! - `pending`: keys only, 1 unit, written when the order is placed and deleted when it is paid or
//!   cancelled: 500 orders a second for a shard, 4,000 for all 8.
//!
//! A reader of all shards makes as many queries. The numbers are part of the data: raising one is
//! safe, lowering it hides rows.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::core::ids::OrderId;
use crate::core::shards::spread;

/// Shards of a day.
pub const DAY_SHARDS: u8 = 16;
/// Shards of a region's unpaid orders.
pub const PENDING_SHARDS: u8 = 8;
/// Shards of orders that a clean-up failed to cancel: one per hour of the day.
pub const FAILED_SHARDS: u8 = 24;

/// A shard of the orders of one UTC day: `2026-11-20#3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayShard {
    day: Date,
    shard: u8,
}

impl DayShard {
    /// The shard of an order placed at `placed_at`.
    pub fn of(order_id: &OrderId, placed_at: Timestamp) -> Self {
        let day = placed_at.to_zoned(TimeZone::UTC).date();
        Self { day, shard: spread(order_id.as_str(), DAY_SHARDS) }
    }

    /// All shards of a day.
    pub fn all(day: Date) -> impl Iterator<Item = Self> {
        (0..DAY_SHARDS).map(move |shard| Self { day, shard })
    }
}

impl fmt::Display for DayShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.day, self.shard)
    }
}

/// A shard of a region's unpaid orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PendingShard {
    /// Orders that no clean-up has failed with.
    Fresh(u8),
    /// Orders that a clean-up has failed with.
    Failed(u8),
}

impl PendingShard {
    /// The shard of a new order.
    pub fn of(order_id: &OrderId) -> Self {
        Self::Fresh(spread(order_id.as_str(), PENDING_SHARDS))
    }

    /// All shards of orders that no clean-up has failed with.
    pub fn fresh() -> impl Iterator<Item = Self> {
        (0..PENDING_SHARDS).map(Self::Fresh)
    }

    /// All shards of orders that a clean-up has failed with.
    pub fn failed() -> impl Iterator<Item = Self> {
        (0..FAILED_SHARDS).map(Self::Failed)
    }

    /// The index's key in `region`: `local#3`, `local#failed#7`.
    pub fn key(self, region: &str) -> String {
        match self {
            Self::Fresh(shard) => format!("{region}#{shard}"),
            Self::Failed(shard) => format!("{region}#failed#{shard}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn orders_spread_over_all_shards_and_each_is_found_among_them() {
        let at: Timestamp = "2026-11-20T23:59:59.999Z".parse().unwrap();
        let ids: Vec<OrderId> = (0..400).map(|_| crate::core::ids::random().next()).collect();
        let used: HashSet<String> = ids.iter().map(|id| DayShard::of(id, at).to_string()).collect();
        let all: HashSet<String> =
            DayShard::all(Date::constant(2026, 11, 20)).map(|s| s.to_string()).collect();
        assert_eq!(used, all);
        assert!(all.contains("2026-11-20#0"));
        let fresh: HashSet<PendingShard> = PendingShard::fresh().collect();
        assert_eq!(ids.iter().map(PendingShard::of).collect::<HashSet<_>>(), fresh);
    }

    #[test]
    fn no_two_shards_of_unpaid_orders_have_one_key() {
        let keys: HashSet<String> =
            PendingShard::fresh().chain(PendingShard::failed()).map(|shard| shard.key("local")).collect();
        assert_eq!(keys.len(), usize::from(PENDING_SHARDS + FAILED_SHARDS));
    }
}
