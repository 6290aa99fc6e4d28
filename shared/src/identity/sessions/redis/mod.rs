//! Sessions in DynamoDB, with copies of what the check reads in Redis.
//!
//! There are two copies for each check. The copy of a *session* tells what its row, its end and the row that spares it say. The copy of a *user*
//! tells up to which instant all sessions have ended. An end, a row that spares and a user's rows may be absent, and a copy says so. A
//! session whose own row is absent has no copy.
//!
//! DynamoDB is the truth: every write goes there first, and whatever Redis does not tell is read there. Redis holds
//! *copies* of rows for a few seconds, so that a session in use is read from DynamoDB once in [`CopyLifetimes::lifetime`] and
//! not with each request. The promise is that of [`SessionReader`](super::SessionReader): a revocation that was answered is seen by every read
//! that begins afterwards, in every process, whatever happened to Redis in between.
//!
//! # Reading
//!
//! 1. Both copies are looked up in one round trip. Where there is nothing, the same command (`SET .. NX GET PX`) leaves a
//!    *lease*: random bytes that only this reader knows.
//! 2. Two copies: that is the answer, and DynamoDB is not asked.
//! 3. Otherwise the reader notes the time, reads the rows from DynamoDB, and fills in the copies that it has a lease of, *if the
//!    lease is still there* (one script: compare, and set). A copy says when it lapses: `lifetime` after the noted time.
//!    Redis drops it then (`PXAT`), and a reader goes by its own clock and believes no copy that has lapsed.
//! 4. Copies that show a session as idle for too long, or as ended with all others, are not believed: DynamoDB is asked. The two
//!    copies may be of different moments.
//! 5. Redis does not answer within its budget, or the breaker is open, or it holds what nobody here wrote: DynamoDB is
//!    asked at once and nothing is filled in.
//!
//! # Writing
//!
//! 1. The write is committed in DynamoDB, alone or in whosever transaction.
//! 2. The keys of what the rows belong to are deleted in Redis: copies and leases alike.
//! 3. If Redis has not confirmed that, a *revoking* writer asks again until it does, or until every copy made of the rows as
//!    they were has lapsed: [`CopyLifetimes::lifetime`] and [`CopyLifetimes::clock_skew`] after the commit. Only then it answers.
//!    Any other writer goes on: a copy that is behind by seconds tells an older `lastActivity` and nothing worse. Where
//!    that would end a session by idleness, DynamoDB is asked.
//!
//! A new session is copied as well: lease, put, fill in, as a reader would.
//!
//! # Why no read shows a revoked session as live
//!
//! Let the revocation be committed at *c* and answered at *a*. A read that begins after *a* and is wrong must have got a
//! copy made of a row that was read before *c*.
//!
//! *The deletion was confirmed* at *d* < *a*. The copy was not there right after *d*, so it was filled in later, and the
//! filler's lease was there later. But the filler got its lease before it read the row, hence before *c*, hence before *d*,
//! and a lease is set once: *d* has deleted it. It makes no difference that Redis was flushed, evicted keys or was restarted
//! empty after *d*: that only removes leases. That a restart brings back an old state from disk, or a failover promotes a
//! replica that never heard of *d*, makes none either: every key holds the server's [`Incarnation`](crate::platform::redis::Incarnation), which is new after
//! both, so that nobody asks for what an earlier one held.
//!
//! *It was not confirmed*: Redis was down, slow, or cut off from the writer and from nobody else. Then *a* is at least
//! `lifetime + clock_skew` after *c*. The copy lapses `lifetime` after an instant before *c* by the filler's clock, so by
//! the reader's clock, which differs by `clock_skew` at most, it has lapsed before *a*.
//!
//! Redis's own clock decides nothing but how long it keeps what lapsed.
//!
//! # Who can write to Redis
//!
//! Each copy carries a code, HMAC-SHA256 with [`CopyKey`], over its content and the name that it is kept under. Without the
//! key nobody makes a session, or moves one session's copy to another's name. A copy whose code is wrong is deleted, counted
//! and treated as if it were not there.
//!
//! Who can write to Redis can put an old copy back, and with it a session that was revoked since. The end of the copy is part
//! of what the code covers, and lies `lifetime` after its row was read at most. So such a session ends `lifetime` after its
//! revocation at the latest, instead of at once. Leases need no code: a lease that is put back lets a late reader fill
//! in what it has read, with the same end.
//!
//! To rotate the key, deploy with another one. Old processes and new ones delete each other's copies while both are there,
//! and DynamoDB is asked more often. Revocations hold as before, since the names are the same.
//!
//! # What it does not do
//!
//! - *Two Redis servers at once.* All functions of a region must talk to the same primary. While some still talk to an old
//!   one (a network split, another `REDIS_URL`, or one half of a deployment that switches `SESSION_STORE`), a revocation
//!   that only the other one heard of takes up to `lifetime` to hold. It heals by itself.
//! - *Other regions.* A revocation replicated from elsewhere shows when the region's table has it and copies have lapsed.
//! - *Redis behind a proxy* that hides which server answers.
//! - A revocation that was cut off before its answer holds within `lifetime + clock_skew` like any other.
//!
//! What Redis holds are the rows as DynamoDB has them: hashes of secrets and no secrets; the sealed payload is not
//! copied. It needs the commands of Redis 7 or any Valkey (`SET` with both `NX` and `GET`), and `EVAL`, `DEL` and `INFO`.

use std::time::Duration;

mod copies;
mod entry;
mod seal;

pub(crate) use copies::RedisCopies;
pub use seal::CopyKey;

/// How long copies count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyLifetimes {
    /// How long after the row was read.
    pub lifetime: Duration,
    /// How far the clocks of two functions may be apart.
    pub clock_skew: Duration,
}

impl CopyLifetimes {
    /// Five seconds make one read of ten in a busy session, and are what a revocation waits for at worst: with the skew,
    /// less than a function's ten seconds. A second is a thousand times what the Amazon Time Sync Service keeps.
    pub const SESSIONS: Self = Self { lifetime: Duration::from_secs(5), clock_skew: Duration::from_secs(1) };
}
