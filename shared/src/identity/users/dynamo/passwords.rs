//! A new password, and the end of every session that was opened with the old one, in one transaction.

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;

use super::{DynamoUsers, profile_key, target};
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{SessionId, UserId};
use crate::core::retry::Backoff;
use crate::identity::sessions::dynamo::SessionWrites;
use crate::identity::users::{PasswordHash, PasswordStore, PasswordUpdate, ProfileReader, User, UserError};
use crate::platform::dynamo::CancellationReason::ConditionFailed;
use crate::platform::dynamo::{Change, Transaction, text, transact};

/// The password is still the one that was held against the caller's: of two changes at once one counts.
const CHANGE: Change =
    Change { update: "SET passwordHash = :new", condition: Some("passwordHash = :old"), names: &[] };

/// Accounts whose passwords can be changed.
#[derive(Debug, Clone)]
pub struct DynamoPasswords {
    client: Client,
    users: DynamoUsers,
    writes: SessionWrites,
}

impl DynamoPasswords {
    /// Accounts as [`DynamoUsers::from_env`] finds them.
    pub fn from_env(client: Client, env: &Env, writes: SessionWrites) -> Result<Self, ConfigError> {
        Ok(Self { users: DynamoUsers::from_env(client.clone(), env)?, client, writes })
    }
}

impl ProfileReader for DynamoPasswords {
    async fn profile(&self, id: &UserId) -> Result<Option<(User, PasswordHash)>, UserError> {
        self.users.profile(id).await
    }
}

impl PasswordStore for DynamoPasswords {
    async fn replace(
        &self,
        user: &User,
        old: &PasswordHash,
        new: &PasswordHash,
        spared: &SessionId,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<PasswordUpdate, UserError> {
        let values = [(":old", text(old.expose())), (":new", text(new.expose()))];
        let mut actions = vec![CHANGE.action(&self.users.table, profile_key(&user.id), values)?];
        actions.extend(self.writes.all_but(spared, &user.id, user.token_version, now)?);
        let mut backoff = Backoff::within(deadline);
        loop {
            match transact(&self.client, &target(user.id.as_str()), actions.clone()).await? {
                Transaction::Committed => return Ok(PasswordUpdate::Done),
                Transaction::Cancelled(reasons) => match reasons.as_slice() {
                    // Our own try, whose answer was lost.
                    [ConditionFailed(account), ..]
                        if account.get("passwordHash") == Some(&text(new.expose())) =>
                    {
                        return Ok(PasswordUpdate::Done);
                    }
                    [ConditionFailed(_), ..] => return Ok(PasswordUpdate::OtherPassword),
                    [_, ConditionFailed(_), ..] | [_, _, ConditionFailed(_), ..] => {
                        return Ok(PasswordUpdate::SessionEnded);
                    }
                    _ if backoff.wait().await => {}
                    _ => return Err(UserError::Busy),
                },
            }
        }
    }
}
