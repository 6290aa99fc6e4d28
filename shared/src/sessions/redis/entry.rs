//! What stands under a key: a lease, or a copy of a row.

use std::fmt;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::random::{self, NoEntropy};

/// Begins every lease, and no copy: those are JSON objects.
const LEASE_MARK: &[u8] = b"lease:";
/// Nobody guesses, and no two readers draw, the same.
const LEASE_BYTES: usize = 16;

/// The right to fill in what was not there.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Lease(Vec<u8>);

impl Lease {
    pub(super) fn generate() -> Result<Self, NoEntropy> {
        Ok(Self([LEASE_MARK, &random::bytes::<LEASE_BYTES>()?].concat()))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

/// A row, and until when it counts.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RowCopy<T> {
    /// Milliseconds since the epoch.
    until_ms: i64,
    row: T,
}

impl<T> RowCopy<T> {
    pub(super) fn new(row: T, until_ms: i64) -> Self {
        Self { until_ms, row }
    }
}

/// What was found under a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<T> {
    /// A copy that counts.
    Copy(T),
    /// Nothing: the reader's lease is there now.
    Leased,
    /// Somebody else's lease, or a copy that has lapsed: somebody is at it, or will be in a moment.
    Busy,
    /// What nobody here wrote, or not this version of it.
    Garbage,
}

impl<T: DeserializeOwned> Found<T> {
    /// Reads what was under the key before the lease was offered.
    pub(super) fn read(value: Option<&[u8]>, now: Timestamp) -> Self {
        let Some(value) = value else { return Self::Leased };
        if value.starts_with(LEASE_MARK) {
            return Self::Busy;
        }
        match serde_json::from_slice::<RowCopy<T>>(value) {
            Ok(copy) if now.as_millisecond() < copy.until_ms => Self::Copy(copy.row),
            Ok(_) => Self::Busy,
            Err(_) => Self::Garbage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn a_copy_counts_until_it_lapses() {
        let value = serde_json::to_vec(&RowCopy::new(7_u64, 1_000)).unwrap();
        assert_eq!(Found::read(Some(&value), at(999)), Found::Copy(7_u64));
        assert_eq!(Found::<u64>::read(Some(&value), at(1_000)), Found::Busy);
    }

    #[test]
    fn nothing_is_a_lease_of_ones_own_and_a_lease_is_somebody_elses() {
        let lease = Lease::generate().unwrap();
        assert_ne!(lease, Lease::generate().unwrap());
        assert_eq!(Found::<u64>::read(None, at(0)), Found::Leased);
        assert_eq!(Found::<u64>::read(Some(lease.as_bytes()), at(0)), Found::Busy);
    }

    #[test]
    fn what_is_no_copy_is_garbage() {
        for value in
            ["", "7", "{}", "\u{fffd}", r#"{"untilMs":1000,"row":"x"}"#, r#"{"untilMs":9,"row":1,"x":1}"#]
        {
            assert_eq!(Found::<u64>::read(Some(value.as_bytes()), at(0)), Found::Garbage, "{value}");
        }
    }
}
