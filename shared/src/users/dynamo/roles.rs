//! Roles: an attribute of the profile, and the token version that what was issued with them depends on.

use aws_sdk_dynamodb::types::TransactWriteItem;

use super::{DynamoUsers, PATIENCE, target};
use crate::deadline::Deadline;
use crate::dynamo::{
    AttributeValue, CancellationReason, Change, DynamoError, Item, Transaction, number, text, transact,
};
use crate::ids::UserId;
use crate::retry::Backoff;
use crate::sessions;
use crate::tables;
use crate::tokens::Role;
use crate::users::{Email, RoleChange, RoleStore, UserError};

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
/// What was issued before stops to count. The first time there is no row yet.
const RAISE_VERSION: Change = Change { update: "ADD ver :one", condition: None, names: &[] };

impl DynamoUsers {
    /// Raises the token version of `user`: every session of a lower one has ended.
    fn raise_version(&self, user: &UserId) -> Result<TransactWriteItem, DynamoError> {
        RAISE_VERSION.action(&self.sessions, sessions::dynamo::version_key(user), [(":one", number(1))])
    }

    /// Applies the actions to the account of an address, and reads what it is now. The first action's condition
    /// refuses when there is nothing to change.
    async fn settle(
        &self,
        email: &Email,
        actions: impl Fn(&UserId) -> Result<Vec<TransactWriteItem>, DynamoError>,
    ) -> Result<RoleChange, UserError> {
        let Some(user) = self.account_of(email).await? else { return Ok(RoleChange::UnknownEmail) };
        let mut backoff = Backoff::within(Deadline::after(PATIENCE));
        loop {
            match transact(&self.client, &target(user.as_str()), actions(&user)?).await? {
                Transaction::Committed => break,
                Transaction::Cancelled(reasons)
                    if matches!(reasons.first(), Some(CancellationReason::ConditionFailed(_))) =>
                {
                    break;
                }
                Transaction::Cancelled(_) if backoff.wait().await => {}
                Transaction::Cancelled(_) => return Err(UserError::Busy),
            }
        }
        let Some((user, _)) = self.profile(user.as_str()).await? else {
            let missing = "the pointer leads to an account that is not there";
            return Err(DynamoError::unreadable("TransactGetItems", target(user.as_str()), missing).into());
        };
        Ok(RoleChange::Settled(user))
    }
}

impl RoleStore for DynamoUsers {
    async fn grant(&self, email: &Email, role: Role) -> Result<RoleChange, UserError> {
        let actions = |user: &UserId| {
            Ok(vec![GRANT.action(&self.table, profile_key(user), [(":roles", set_of(role))])?])
        };
        self.settle(email, actions).await
    }

    async fn withdraw(&self, email: &Email, role: Role) -> Result<RoleChange, UserError> {
        let actions = |user: &UserId| {
            let values = [(":roles", set_of(role)), (":role", text(role.as_str()))];
            Ok(vec![WITHDRAW.action(&self.table, profile_key(user), values)?, self.raise_version(user)?])
        };
        self.settle(email, actions).await
    }
}

fn profile_key(user: &UserId) -> Item {
    Item::from([(tables::USERS.key.hash.to_owned(), text(user.as_str()))])
}

fn set_of(role: Role) -> AttributeValue {
    AttributeValue::Ss(vec![role.as_str().to_owned()])
}
