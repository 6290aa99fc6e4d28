//! Roles: an attribute of the profile, and the token version that what was issued with them depends on.

use aws_sdk_dynamodb::types::TransactWriteItem;

use super::{DynamoUsers, PATIENCE, profile_key, target};
use crate::core::deadline::Deadline;
use crate::core::ids::UserId;
use crate::core::retry::Backoff;
use crate::identity::email::Email;
use crate::identity::principal::Role;
use crate::identity::sessions::{EndedSessions, SessionRevoker};
use crate::identity::users::{RoleChange, User, UserError};
use crate::platform::dynamo::{Actions, AttributeValue, Change, Transaction, text};

/// A role is granted to an account that is there: an update would otherwise make half of one. `ADD` on a set: concurrent
/// grants all count, a repeated one changes nothing.
const GRANT: Change = Change {
    update: "ADD #roles :roles",
    condition: Some("attribute_exists(userId)"),
    names: &[("#roles", "roles")],
};
/// A withdrawal counts once: repeating it must not raise the token version again.
const WITHDRAW: Change = Change {
    update: "DELETE #roles :roles",
    condition: Some("contains(#roles, :role)"),
    names: &[("#roles", "roles")],
};

/// Finds accounts and changes their roles: what only administration may do.
#[derive(Debug, Clone)]
pub struct DynamoRoles {
    users: DynamoUsers,
    revoker: SessionRevoker,
}

impl DynamoRoles {
    /// Changes roles of `users`, and has `revoker` end their sessions.
    pub fn new(users: DynamoUsers, revoker: SessionRevoker) -> Self {
        Self { users, revoker }
    }

    /// The account of an address.
    pub async fn find(&self, email: &Email) -> Result<Option<User>, UserError> {
        let Some(user) = self.users.account_of(email).await? else { return Ok(None) };
        Ok(self.users.profile(&user).await?.map(|(user, _)| user))
    }

    /// Gives an account a role. It may have it already.
    pub async fn grant(&self, user: &UserId, role: Role) -> Result<RoleChange, UserError> {
        let action = GRANT.action(&self.users.table, profile_key(user), [(":roles", set_of(role))])?;
        self.settle(user, vec![action], RoleChange::Settled, Deadline::after(PATIENCE)).await
    }

    /// Takes a role from an account and, if it had it, raises its token version. Conflicts are retried until `deadline`.
    pub async fn withdraw(
        &self,
        user: &UserId,
        role: Role,
        deadline: Deadline,
    ) -> Result<RoleChange, UserError> {
        let values = [(":roles", set_of(role)), (":role", text(role.as_str()))];
        let mut actions = vec![WITHDRAW.action(&self.users.table, profile_key(user), values)?];
        actions.extend(self.revoker.actions_for_all(user)?);
        let change = self.settle(user, actions, RoleChange::Withdrawn, deadline).await?;
        match &change {
            RoleChange::Withdrawn(_) => self.revoker.ended(user, &EndedSessions::All, deadline).await,
            // Withdrawn before, perhaps by an invocation that was cut off before it got here. Or the account never had
            // the role: then its sessions go on, and so do their sockets.
            RoleChange::Settled(_) => self.revoker.drop_copies(user, &EndedSessions::All).await,
            RoleChange::UnknownUser => {}
        }
        Ok(change)
    }

    /// Applies the actions to an account, and reads what it is now. Only the condition on the account can refuse them: there
    /// is nothing to change, or no account. Else it is `changed`.
    async fn settle(
        &self,
        user: &UserId,
        actions: Vec<TransactWriteItem>,
        changed: fn(User) -> RoleChange,
        deadline: Deadline,
    ) -> Result<RoleChange, UserError> {
        let actions: Actions<()> = actions.into_iter().map(|action| ((), action)).collect();
        let mut backoff = Backoff::within(deadline);
        let outcome = loop {
            match actions.commit(&self.users.client, &target(user.as_str())).await? {
                Transaction::Committed => break changed,
                Transaction::Cancelled(reasons) if reasons.refused().next().is_some() => {
                    break RoleChange::Settled;
                }
                Transaction::Cancelled(_) if backoff.wait().await => {}
                Transaction::Cancelled(_) => return Err(UserError::Busy),
            }
        };
        let account = self.users.profile(user).await?;
        Ok(account.map_or(RoleChange::UnknownUser, |(user, _)| outcome(user)))
    }
}

fn set_of(role: Role) -> AttributeValue {
    AttributeValue::Ss(vec![role.as_str().to_owned()])
}
