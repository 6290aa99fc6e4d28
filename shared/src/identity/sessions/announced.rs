//! What ends sessions, answered only when the store's copies have been seen to.
//!
//! A session ends in transactions of several kinds: on its own, with a new password, with a withdrawn role. Each is an
//! adapter that knows nothing of copies; wrapped in [`Announced`] it keeps its port and tells the store after the commit.

use jiff::Timestamp;

use super::{CheckedRow, CopyHolder, Revocation, SessionError, SessionRevoker, SessionStore};
use crate::core::deadline::Deadline;
use crate::core::ids::{SessionId, UserId};
use crate::identity::principal::Role;
use crate::identity::users::{
    Email, PasswordHash, PasswordStore, PasswordUpdate, ProfileReader, RoleChange, RoleStore, User, UserError,
};

/// An adapter whose writes end sessions, and the store that is told.
#[derive(Debug, Clone)]
pub struct Announced<T> {
    writes: T,
    store: SessionStore,
}

impl<T> Announced<T> {
    /// Tells `store` of what `writes` has committed.
    pub fn new(writes: T, store: SessionStore) -> Self {
        Self { writes, store }
    }
}

impl<T: SessionRevoker> SessionRevoker for Announced<T> {
    async fn revoke(
        &self,
        id: &SessionId,
        user: &UserId,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Revocation, SessionError> {
        let revocation = self.writes.revoke(id, user, now, deadline).await?;
        // One that had ended before may have been ended by an invocation that was cut off before it got here.
        self.store.revoked(&[CheckedRow::Session(id)]).await;
        Ok(revocation)
    }

    async fn revoke_all(
        &self,
        user: &UserId,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<(), SessionError> {
        self.writes.revoke_all(user, now, deadline).await?;
        self.store.revoked(&[CheckedRow::Version(user)]).await;
        Ok(())
    }
}

impl<T: ProfileReader> ProfileReader for Announced<T> {
    async fn profile(&self, id: &UserId) -> Result<Option<(User, PasswordHash)>, UserError> {
        self.writes.profile(id).await
    }
}

impl<T: PasswordStore> PasswordStore for Announced<T> {
    async fn replace(
        &self,
        user: &User,
        old: &PasswordHash,
        new: &PasswordHash,
        spared: &SessionId,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<PasswordUpdate, UserError> {
        let update = self.writes.replace(user, old, new, spared, now, deadline).await?;
        if update == PasswordUpdate::Done {
            // Both: a copy of the spared session from before would have the lower version, and end with the others.
            self.store.revoked(&[CheckedRow::Version(&user.id), CheckedRow::Session(spared)]).await;
        }
        Ok(update)
    }
}

impl<T: RoleStore> RoleStore for Announced<T> {
    async fn find(&self, email: &Email) -> Result<Option<User>, UserError> {
        self.writes.find(email).await
    }

    async fn grant(&self, user: &UserId, role: Role) -> Result<RoleChange, UserError> {
        self.writes.grant(user, role).await
    }

    async fn withdraw(&self, user: &UserId, role: Role, deadline: Deadline) -> Result<RoleChange, UserError> {
        let change = self.writes.withdraw(user, role, deadline).await?;
        // Also when the role had been withdrawn before: perhaps by an invocation that was cut off before it got here.
        match &change {
            RoleChange::Settled(user) | RoleChange::Withdrawn(user) => {
                self.store.revoked(&[CheckedRow::Version(&user.id)]).await;
            }
            RoleChange::UnknownUser => {}
        }
        Ok(change)
    }
}
