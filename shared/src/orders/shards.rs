//! Partitions of the two indexes whose natural key is one value for everybody: the day, and "unpaid".
//!
//! A partition of an index takes 1,000 writes a second, and a hot one throttles its table. Each order is written to an
//! index about twice (placed; then paid or cancelled), so 8 shards carry some 4,000 orders a second, and a reader of
//! all of them makes 8 queries. The numbers are part of the data: raising one is safe, lowering it hides rows.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::ids::OrderId;
use crate::shards::spread;

/// Shards of a day.
pub const DAY_SHARDS: u8 = 8;
/// Shards of a region's unpaid orders.
pub const PENDING_SHARDS: u8 = 8;

/// The orders of one UTC day, or rather an eighth of them: `2026-11-20#3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayShard {
    day: Date,
    shard: u8,
}

impl DayShard {
    /// Where an order placed at `placed_at` belongs.
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

/// An eighth of a region's unpaid orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PendingShard(u8);

impl PendingShard {
    /// Where an order belongs.
    pub fn of(order_id: &OrderId) -> Self {
        Self(spread(order_id.as_str(), PENDING_SHARDS))
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..PENDING_SHARDS).map(Self)
    }

    /// The index's key in `region`: `local#3`.
    pub fn key(self, region: &str) -> String {
        format!("{region}#{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn orders_spread_over_all_shards_and_each_is_found_among_them() {
        let at: Timestamp = "2026-11-20T23:59:59.999Z".parse().unwrap();
        let ids: Vec<OrderId> = (0..400).map(|_| crate::ids::random().next()).collect();
        let used: HashSet<String> = ids.iter().map(|id| DayShard::of(id, at).to_string()).collect();
        let all: HashSet<String> =
            DayShard::all(Date::constant(2026, 11, 20)).map(|s| s.to_string()).collect();
        assert_eq!(used, all);
        assert!(all.contains("2026-11-20#0"));
        assert_eq!(PendingShard::of(&ids[0]).key("local").split('#').count(), 2);
    }
}
