//! Sessions in DynamoDB, with copies of the rows of the check in Redis.
//!
//! There are two copies for each check. The copy of a *session* has its row, its end and the row
//! that spares it. The copy of a *user* has the instants up to which all sessions have ended. An
//! end, a row that spares and a user's rows may be absent, and a copy says so. A session whose own
//! row is absent has no copy.
//!
//! DynamoDB is the source of truth: every write goes there first, and what Redis does not have is
//! read there. Redis holds *copies* of rows for a few seconds, so that a session in use is read
//! from DynamoDB once in [`CopyLifetimes::lifetime`] and not with each request. The promise is that
//! of [`SessionReader`](super::SessionReader): a revocation that was answered is seen by every
//! later read, in every process, whatever happens to Redis in between.
//!
//! # Reading
//!
//! 1. Both copies are looked up in one round trip. If there is none, the same command
//!    (`SET .. NX GET PX`) leaves a *lease*: random bytes that only this reader knows.
//! 2. If both copies exist, they are the answer, and DynamoDB is not asked.
//! 3. Otherwise the reader notes the time, reads the rows from DynamoDB, and fills the copies that
//!    it has a lease of, *if the lease is still there* (one script: compare, and set). A copy
//!    contains its expiry: `lifetime` after the noted time. Redis drops it then (`PXAT`), and
//!    readers compare it with their own clock.
//! 4. Copies that show a session as idle for too long, or as ended with all others, are not
//!    trusted, since the two copies may be of different moments: DynamoDB is asked.
//! 5. If Redis does not answer within its budget, the breaker is open, or a value is not authentic,
//!    DynamoDB is asked at once and nothing is filled.
//!
//! # Writing
//!
//! 1. The write is committed in DynamoDB, alone or in another transaction.
//! 2. The keys of the changed rows are deleted in Redis: copies and leases alike.
//! 3. If Redis has not confirmed that, a *revoking* writer retries until it does, or until every
//!    copy of the earlier rows has expired: [`CopyLifetimes::lifetime`] and
//!    [`CopyLifetimes::clock_skew`] after the commit. Only then it answers. Any other writer
//!    continues: a copy that is seconds behind has an older `lastActivity` and nothing worse.
//!    Before such a copy ends a session by idleness, DynamoDB is asked.
//!
//! A new session is copied as well: lease, put, fill, as a reader would.
//!
//! # Why no read shows a revoked session as live
//!
//! Let the revocation be committed at *c* and answered at *a*. A read that begins after *a* and is
//! wrong must have got a copy made of a row that was read before *c*.
//!
//! *The deletion was confirmed* at *d* < *a*. The copy did not exist right after *d*, so it was
//! filled later, and the filler's lease existed later. But the filler got its lease before it read
//! the row, hence before *c*, hence before *d*, and a lease is set once: *d* has deleted it. A
//! flush, an eviction or an empty restart of Redis after *d* only removes leases. A restart that
//! restores an old state from disk, or a failover to a replica that has not received *d*, does not
//! matter either: every key contains the server's
//! [`Incarnation`](crate::platform::redis::Incarnation), which is new after both, so that nobody
//! reads keys of an earlier one.
//!
//! *It was not confirmed*: Redis was down, slow, or disconnected from the writer only. Then *a* is
//! at least `lifetime + clock_skew` after *c*. The copy expires `lifetime` after an instant before
//! *c* by the filler's clock, so by the reader's clock, which differs by `clock_skew` at most, it
//! has expired before *a*.
//!
//! Redis's own clock only decides how long it keeps expired copies.
//!
//! # Who can write to Redis
//!
//! Each copy contains a code, HMAC-SHA256 with [`CopyKey`], over its content and its name. Without
//! the key nobody can create a session, or move one session's copy to another's name. A copy with a
//! wrong code is deleted, counted and treated as absent.
//!
//! An attacker with write access to Redis can restore an old copy, and with it a session that was
//! revoked since. The code covers the copy's expiry, at most `lifetime` after its row was read. So
//! such a session ends `lifetime` after its revocation at the latest, instead of at once. Leases
//! need no code: a restored lease lets a late reader fill what it has read, with the same expiry.
//!
//! To rotate the key, deploy with another one. Old and new processes delete each other's copies
//! while both are running, and DynamoDB is asked more often. Revocations hold as before, since the
//! names are the same.
//!
//! # What it does not do
//!
//! - *Two Redis servers at once.* All functions of a region must use the same primary. While some
//!   still use an old one (a network split, another `REDIS_URL`, or a deployment that switches
//!   `SESSION_STORE`), a revocation that only the other one received takes up to `lifetime` to
//!   hold. No repair is needed.
//! - *Other regions.* A replicated revocation takes effect when the region's table has it and
//!   copies have expired.
//! - *Redis behind a proxy* that hides which server answers.
//! - A revocation that was cut off before its answer holds within `lifetime + clock_skew` like any
//!   other.
//!
//! Redis holds the rows as DynamoDB has them: hashes of secrets and no secrets; the sealed payload
//! is not copied. It needs the commands of Redis 7 or any Valkey (`SET` with both `NX` and `GET`),
//! and `EVAL`, `DEL` and `INFO`.

use std::time::Duration;

mod copies;
mod entry;
mod seal;

pub(crate) use copies::RedisCopies;
pub use seal::CopyKey;

/// How long copies are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyLifetimes {
    /// Validity after the row was read.
    pub lifetime: Duration,
    /// Largest difference between the clocks of two functions.
    pub clock_skew: Duration,
}

impl CopyLifetimes {
    /// With five seconds, a busy session is read once in ten requests, and a revocation waits at
    /// most five seconds and the skew: less than a function's ten seconds. A second is a thousand
    /// times what the Amazon Time Sync Service guarantees.
    pub const SESSIONS: Self = Self { lifetime: Duration::from_secs(5), clock_skew: Duration::from_secs(1) };
}
