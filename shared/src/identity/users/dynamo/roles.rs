//! Roles: an attribute of the profile. A withdrawal also ends all sessions of the account.

use jiff::Timestamp;

use super::{AccountAction, DynamoUsers, PATIENCE, profile_key, target};
use crate::core::deadline::Deadline;
use crate::core::ids::UserId;
use crate::core::retry::Backoff;
use crate::identity::email::Email;
use crate::identity::principal::Role;
use crate::identity::sessions::dynamo::parse_all_ended;
use crate::identity::sessions::{EndedSessions, SessionRevoker};
use crate::identity::users::{RoleChange, User, UserError};
use crate::platform::dynamo::{Actions, AttributeValue, DynamoError, RowUpdate, Transaction, text};

/// Only an existing account gets a role: an update would otherwise create half an account. `ADD` on
/// a set: concurrent grants all succeed, a repeated one changes nothing.
const GRANT: RowUpdate = RowUpdate {
    update: "ADD #roles :roles",
    condition: Some("attribute_exists(userId)"),
    names: &[("#roles", "roles")],
};
/// A withdrawal happens once: repeating it must not end sessions again.
const WITHDRAW: RowUpdate = RowUpdate {
    update: "DELETE #roles :roles",
    condition: Some("contains(#roles, :role)"),
    names: &[("#roles", "roles")],
};

/// Finds accounts and changes their roles, for administration only.
#[derive(Debug, Clone)]
pub struct DynamoRoles {
    users: DynamoUsers,
    revoker: SessionRevoker,
}

impl DynamoRoles {
    /// Changes roles of `users`, and ends their sessions through `revoker`.
    pub fn new(users: DynamoUsers, revoker: SessionRevoker) -> Self {
        Self { users, revoker }
    }

    /// The account of an address.
    pub async fn find(&self, email: &Email) -> Result<Option<User>, UserError> {
        let Some(user) = self.users.account_of(email).await? else { return Ok(None) };
        Ok(self.users.profile(&user).await?.map(|(user, _)| user))
    }

    /// Gives an account a role. Idempotent.
    pub async fn grant(&self, user: &UserId, role: Role) -> Result<RoleChange, UserError> {
        let action = GRANT.action(&self.users.table, profile_key(user), [(":roles", set_of(role))])?;
        let actions = |_| Ok(Actions::from([(AccountAction::Account, action.clone())]));
        self.settle(user, actions, RoleChange::Settled, Deadline::after(PATIENCE)).await
    }

    /// Withdraws a role from an account and, if it had the role, ends all of its sessions.
    /// Conflicts are retried until `deadline`.
    pub async fn withdraw(
        &self,
        user: &UserId,
        role: Role,
        deadline: Deadline,
    ) -> Result<RoleChange, UserError> {
        let values = [(":roles", set_of(role)), (":role", text(role.as_str()))];
        let withdraw = WITHDRAW.action(&self.users.table, profile_key(user), values)?;
        let actions = |known| {
            let [raise, event] = self.revoker.actions_for_all(user, known)?;
            Ok(Actions::from([
                (AccountAction::Account, withdraw.clone()),
                (AccountAction::Sessions, raise),
                (AccountAction::Event, event),
            ]))
        };
        let change = self.settle(user, actions, RoleChange::Withdrawn, deadline).await?;
        match &change {
            RoleChange::Withdrawn(_) => self.revoker.ended(user, &EndedSessions::All, deadline).await,
            // Withdrawn before, perhaps by an invocation that was cut off before it got here. Or
            // the account never had the role: then its sessions and sockets continue.
            RoleChange::Settled(_) => self.revoker.drop_copies(user, &EndedSessions::All).await,
            RoleChange::UnknownUser => {}
        }
        Ok(change)
    }

    /// Applies the actions to an account, and returns its new state. If the condition on the
    /// account fails, there is nothing to change, or no account. Otherwise the result is `changed`.
    /// The actions are built for the latest known end of all sessions, and built again if there is
    /// a later one.
    async fn settle(
        &self,
        user: &UserId,
        actions: impl Fn(Timestamp) -> Result<Actions<AccountAction>, DynamoError>,
        changed: fn(User) -> RoleChange,
        deadline: Deadline,
    ) -> Result<RoleChange, UserError> {
        let mut known = Timestamp::UNIX_EPOCH;
        let mut backoff = Backoff::within(deadline);
        let outcome = loop {
            let commit = actions(known)?.commit(&self.users.client, &target(user.as_str())).await?;
            let Transaction::Cancelled(reasons) = commit else { break changed };
            if reasons.row_refusing(&AccountAction::Account).is_some() {
                break RoleChange::Settled;
            }
            match reasons.row_refusing(&AccountAction::Sessions) {
                Some(row) => known = parse_all_ended(row)?,
                None if backoff.wait().await => {}
                None => return Err(UserError::Busy),
            }
        };
        let account = self.users.profile(user).await?;
        Ok(account.map_or(RoleChange::UnknownUser, |(user, _)| outcome(user)))
    }
}

fn set_of(role: Role) -> AttributeValue {
    AttributeValue::Ss(vec![role.as_str().to_owned()])
}
