//! What ends sessions, answered when their sockets have been seen to.
//!
//! Sessions end in transactions of several kinds: on their own, with a new password, with a withdrawn role. Each is an
//! adapter that knows nothing of sockets; wrapped in [`EndingSockets`] it keeps its port, and the sockets are closed after
//! the commit. That can fail, or be cut short, and changes nothing: the revocation stands.

use std::sync::Arc;

use jiff::Timestamp;

use super::close::{AwsSocketCloser, Selection};
use crate::core::deadline::Deadline;
use crate::core::ids::{SessionId, UserId};
use crate::identity::principal::Role;
use crate::identity::sessions::{Revocation, SessionError, SessionRevoker};
use crate::identity::users::{
    Email, PasswordHash, PasswordStore, PasswordUpdate, ProfileReader, RoleChange, RoleStore, User, UserError,
};

/// An adapter whose writes end sessions, and what closes their sockets in this region.
#[derive(Debug)]
pub struct EndingSockets<T> {
    writes: T,
    closer: Arc<AwsSocketCloser>,
}

impl<T> EndingSockets<T> {
    /// Has `closer` close the sockets of what `writes` has ended.
    pub fn new(writes: T, closer: Arc<AwsSocketCloser>) -> Self {
        Self { writes, closer }
    }
}

impl<T: SessionRevoker> SessionRevoker for EndingSockets<T> {
    async fn revoke(
        &self,
        id: &SessionId,
        user: &UserId,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Revocation, SessionError> {
        let revocation = self.writes.revoke(id, user, now, deadline).await?;
        // One that had ended before may have been ended by an invocation that was cut off before it got here.
        self.closer.close(user, &Selection::Session(id.clone()), deadline).await;
        Ok(revocation)
    }

    async fn revoke_all(
        &self,
        user: &UserId,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<(), SessionError> {
        self.writes.revoke_all(user, now, deadline).await?;
        self.closer.close(user, &Selection::AllBut(None), deadline).await;
        Ok(())
    }
}

impl<T: ProfileReader> ProfileReader for EndingSockets<T> {
    async fn profile(&self, id: &UserId) -> Result<Option<(User, PasswordHash)>, UserError> {
        self.writes.profile(id).await
    }
}

impl<T: PasswordStore> PasswordStore for EndingSockets<T> {
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
            self.closer.close(&user.id, &Selection::AllBut(Some(spared.clone())), deadline).await;
        }
        Ok(update)
    }
}

impl<T: RoleStore> RoleStore for EndingSockets<T> {
    async fn find(&self, email: &Email) -> Result<Option<User>, UserError> {
        self.writes.find(email).await
    }

    async fn grant(&self, user: &UserId, role: Role) -> Result<RoleChange, UserError> {
        self.writes.grant(user, role).await
    }

    async fn withdraw(&self, user: &UserId, role: Role, deadline: Deadline) -> Result<RoleChange, UserError> {
        let change = self.writes.withdraw(user, role, deadline).await?;
        if let RoleChange::Withdrawn(user) = &change {
            self.closer.close(&user.id, &Selection::AllBut(None), deadline).await;
        }
        Ok(change)
    }
}
