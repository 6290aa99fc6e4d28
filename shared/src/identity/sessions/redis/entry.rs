//! The values in Redis: a lease, or a copy of a row.

use std::fmt;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::seal::CopyKey;
use crate::core::random::{self, NoEntropy};

/// The start of every lease. No copy has it: a copy starts with a code in base64url, which has no
/// colon.
const LEASE_MARK: &[u8] = b"lease:";
/// Random bytes, unique and not guessable.
const LEASE_BYTES: usize = 16;

/// The right to fill an absent copy.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct FillLease(Vec<u8>);

impl FillLease {
    pub(super) fn generate() -> Result<Self, NoEntropy> {
        Ok(Self([LEASE_MARK, &random::bytes::<LEASE_BYTES>()?].concat()))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for FillLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

/// A row, and until when it is valid.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RowCopy<T> {
    /// Milliseconds since the epoch.
    until_ms: i64,
    row: T,
}

/// The value for `name`. `None` if the row cannot be serialised.
pub(super) fn copy<T: Serialize>(key: &CopyKey, name: &str, row: T, until_ms: i64) -> Option<Vec<u8>> {
    let content = serde_json::to_vec(&RowCopy { until_ms, row }).ok()?;
    Some(key.seal(name, &content))
}

/// The result of reading a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<T> {
    /// A valid copy.
    Copy(T),
    /// Nothing: the reader's lease was set.
    Leased,
    /// Another reader's lease, or an expired copy, which somebody refreshes or will refresh.
    Busy,
    /// Not written by a function under this name with this key.
    Forged,
    /// Written by another version of the functions.
    Garbage,
}

impl<T: DeserializeOwned> Found<T> {
    /// Reads the value that `name` had before the lease was offered.
    pub(super) fn read(value: Option<&[u8]>, key: &CopyKey, name: &str, now: Timestamp) -> Self {
        let Some(value) = value else { return Self::Leased };
        if value.starts_with(LEASE_MARK) {
            return Self::Busy;
        }
        let Some(content) = key.open(name, value) else { return Self::Forged };
        match serde_json::from_slice::<RowCopy<T>>(content) {
            Ok(copy) if now.as_millisecond() < copy.until_ms => Self::Copy(copy.row),
            Ok(_) => Self::Busy,
            Err(_) => Self::Garbage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::env::Env;

    const NAME: &str = "sojourn:Sessions:0b6f:ses_1";

    fn key() -> CopyKey {
        CopyKey::from_env(&Env::of([(CopyKey::VARIABLE, "k".repeat(32))])).unwrap()
    }

    fn read(value: Option<&[u8]>, ms: i64) -> Found<u64> {
        Found::read(value, &key(), NAME, Timestamp::from_millisecond(ms).unwrap())
    }

    #[test]
    fn a_copy_counts_until_it_lapses() {
        let value = copy(&key(), NAME, 7_u64, 1_000).unwrap();
        assert_eq!(read(Some(&value), 999), Found::Copy(7));
        assert_eq!(read(Some(&value), 1_000), Found::Busy);
    }

    #[test]
    fn nothing_is_a_lease_of_ones_own_and_a_lease_is_somebody_elses() {
        let lease = FillLease::generate().unwrap();
        assert_ne!(lease, FillLease::generate().unwrap());
        assert_eq!(read(None, 0), Found::Leased);
        assert_eq!(read(Some(lease.as_bytes()), 0), Found::Busy);
    }

    #[test]
    fn what_nobody_here_wrote_is_forged() {
        let of_another_row = copy(&key(), "sojourn:Sessions:0b6f:ses_2", 7_u64, 1_000).unwrap();
        for value in [b"".as_slice(), b"7", b"{}", br#"{"untilMs":1000,"row":7}"#, &of_another_row] {
            assert_eq!(read(Some(value), 0), Found::Forged, "{value:?}");
        }
    }

    #[test]
    fn what_another_version_wrote_is_garbage() {
        for content in ["", "7", "{}", r#"{"untilMs":1000,"row":"x"}"#, r#"{"untilMs":9,"row":1,"x":1}"#] {
            let value = key().seal(NAME, content.as_bytes());
            assert_eq!(read(Some(&value), 0), Found::Garbage, "{content}");
        }
    }
}
