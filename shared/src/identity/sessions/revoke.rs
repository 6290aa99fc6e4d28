//! Revoking: one session, or all of a user with one write.
//!
//! A revocation holds from the moment it is answered: every function reads the rows that it writes, consistently, before it
//! tells or changes anything. Each is one transaction with an event in the outbox, for whoever serves sockets elsewhere; nobody
//! consumes it yet. A socket of this region is closed by the function that revoked, right after.

use std::future::Future;

use jiff::Timestamp;

use super::SessionError;
use crate::core::deadline::Deadline;
use crate::core::ids::{SessionId, UserId};

/// Outcome of revoking one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// It stood until now.
    Revoked,
    /// The user has no such session, or it was revoked before or has expired. (One that ended with all others is as
    /// good as revoked: naming it again is answered [`Self::Revoked`] and changes nothing.)
    NotThere,
}

/// Revokes sessions.
pub trait SessionRevoker: Send + Sync {
    /// Revokes one session of `user`.
    fn revoke(
        &self,
        id: &SessionId,
        user: &UserId,
        now: Timestamp,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Revocation, SessionError>> + Send;

    /// Revokes all sessions of `user`, however many there are.
    fn revoke_all(
        &self,
        user: &UserId,
        now: Timestamp,
        deadline: Deadline,
    ) -> impl Future<Output = Result<(), SessionError>> + Send;
}
