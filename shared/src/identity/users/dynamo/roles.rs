//! Roles: an attribute of the profile, and the token version that what was issued with them depends on.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::TransactWriteItem;

use super::{DynamoUsers, PATIENCE, profile_key, target};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::UserId;
use crate::core::retry::Backoff;
use crate::identity::principal::Role;
use crate::identity::sessions::dynamo::SessionWrites;
use crate::identity::users::{Email, ProfileReader, RoleChange, RoleStore, User, UserError};
use crate::platform::dynamo::{AttributeValue, CancellationReason, Change, Transaction, text, transact};

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
/// Accounts whose roles can be changed.
#[derive(Debug, Clone)]
pub struct DynamoRoles {
    client: Client,
    users: DynamoUsers,
    writes: SessionWrites,
    clock: SharedClock,
}

impl DynamoRoles {
    /// Accounts as [`DynamoUsers::from_env`] finds them.
    pub fn from_env(
        client: Client,
        env: &Env,
        writes: SessionWrites,
        clock: SharedClock,
    ) -> Result<Self, ConfigError> {
        Ok(Self { users: DynamoUsers::from_env(client.clone(), env)?, client, writes, clock })
    }

    /// Applies the actions to an account, and reads what it is now. The first action's condition refuses when there is
    /// nothing to change, or no account; else it is `changed`.
    async fn settle(
        &self,
        user: &UserId,
        actions: Vec<TransactWriteItem>,
        changed: fn(User) -> RoleChange,
        deadline: Deadline,
    ) -> Result<RoleChange, UserError> {
        let mut backoff = Backoff::within(deadline);
        let outcome = loop {
            match transact(&self.client, &target(user.as_str()), actions.clone()).await? {
                Transaction::Committed => break changed,
                Transaction::Cancelled(reasons)
                    if matches!(reasons.first(), Some(CancellationReason::ConditionFailed(_))) =>
                {
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

impl RoleStore for DynamoRoles {
    async fn find(&self, email: &Email) -> Result<Option<User>, UserError> {
        let Some(user) = self.users.account_of(email).await? else { return Ok(None) };
        Ok(self.users.profile(&user).await?.map(|(user, _)| user))
    }

    async fn grant(&self, user: &UserId, role: Role) -> Result<RoleChange, UserError> {
        let action = GRANT.action(&self.users.table, profile_key(user), [(":roles", set_of(role))])?;
        self.settle(user, vec![action], RoleChange::Settled, Deadline::after(PATIENCE)).await
    }

    async fn withdraw(&self, user: &UserId, role: Role, deadline: Deadline) -> Result<RoleChange, UserError> {
        let values = [(":roles", set_of(role)), (":role", text(role.as_str()))];
        let mut actions = vec![WITHDRAW.action(&self.users.table, profile_key(user), values)?];
        actions.extend(self.writes.all(user, self.clock.now())?);
        self.settle(user, actions, RoleChange::Withdrawn, deadline).await
    }
}

fn set_of(role: Role) -> AttributeValue {
    AttributeValue::Ss(vec![role.as_str().to_owned()])
}
