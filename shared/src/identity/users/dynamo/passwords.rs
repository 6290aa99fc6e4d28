//! A new password, and the end of every session that was opened with the old one, in one
//! transaction.

use jiff::Timestamp;

use super::{AccountAction, DynamoUsers, profile_key, target};
use crate::core::deadline::Deadline;
use crate::core::ids::SessionId;
use crate::core::retry::Backoff;
use crate::identity::sessions::{EndedSessions, SessionRevoker};
use crate::identity::users::{PasswordHash, PasswordUpdate, User, UserError};
use crate::platform::dynamo::{Actions, RowUpdate, Transaction, text};

/// The password is still the one that was verified: of two concurrent changes one succeeds.
const CHANGE: RowUpdate =
    RowUpdate { update: "SET passwordHash = :new", condition: Some("passwordHash = :old"), names: &[] };

/// Changes passwords of accounts.
#[derive(Debug, Clone)]
pub struct DynamoPasswords {
    users: DynamoUsers,
    revoker: SessionRevoker,
}

impl DynamoPasswords {
    /// Changes passwords of `users`, and ends their sessions through `revoker`.
    pub fn new(users: DynamoUsers, revoker: SessionRevoker) -> Self {
        Self { users, revoker }
    }

    /// Replaces the password's hash, if it is still `old`, and ends every session of `user` but
    /// `spared`, which began at the instant beside it, both or neither. Conflicts are retried until
    /// `deadline`.
    pub async fn replace(
        &self,
        user: &User,
        old: &PasswordHash,
        new: &PasswordHash,
        spared: &(SessionId, Timestamp),
        deadline: Deadline,
    ) -> Result<PasswordUpdate, UserError> {
        let update = self.commit(user, old, new, spared, deadline).await?;
        if update == PasswordUpdate::Done {
            self.revoker.ended(&user.id, &EndedSessions::AllBut(spared.0.clone()), deadline).await;
        }
        Ok(update)
    }

    async fn commit(
        &self,
        user: &User,
        old: &PasswordHash,
        new: &PasswordHash,
        spared: &(SessionId, Timestamp),
        deadline: Deadline,
    ) -> Result<PasswordUpdate, UserError> {
        let values = [(":old", text(old.expose())), (":new", text(new.expose()))];
        let change = CHANGE.action(&self.users.table, profile_key(&user.id), values)?;
        let (id, began_at) = spared;
        let mut backoff = Backoff::within(deadline);
        loop {
            let end = self.revoker.actions_for_all_but(id, *began_at, &user.id, user.ended_before)?;
            let mut actions = Actions::from([(AccountAction::Account, change.clone())]);
            actions.extend(end.into_iter().map(|action| (AccountAction::Sessions, action)));
            let reasons = match actions.commit(&self.users.client, &target(user.id.as_str())).await? {
                Transaction::Committed => return Ok(PasswordUpdate::Done),
                Transaction::Cancelled(reasons) => reasons,
            };
            match reasons.row_refusing(&AccountAction::Account) {
                // An earlier try of this call, whose answer was lost.
                Some(account) if account.get("passwordHash") == Some(&text(new.expose())) => {
                    return Ok(PasswordUpdate::Done);
                }
                Some(_) => return Ok(PasswordUpdate::OtherPassword),
                None if reasons.refused().next().is_some() => return Ok(PasswordUpdate::SessionEnded),
                None if backoff.wait().await => {}
                None => return Err(UserError::Busy),
            }
        }
    }
}
