//! Accounts in DynamoDB.
//!
//! | item | key `userId` | attributes |
//! |---|---|---|
//! | profile | `usr_…` | `email`, `passwordHash`, `roles?` (string set), `createdAt` |
//! | pointer | `email#<address>` | `accountId` |
//!
//! The instants up to which all sessions of an account have ended are in rows of the sessions table
//! ([`crate::identity::sessions::dynamo`]), where every function reads them. They are read here
//! together with the profile, in one transaction: a sign-in with an old password must not begin
//! after the instant that a concurrent change of the password sets.
//!
//! Requests are boxed when they are sent: the future of an SDK call is ten kilobytes, which every
//! caller up to the handler would otherwise contain.
//!
//! In several regions an address is claimed in the agreement table; the submodule `address` has the
//! steps.
//!
//! All reads are consistent: a changed password or a new account is visible at once.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{PasswordHash, SignUp, User, UserError};
use crate::core::date_time::as_rfc3339;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::UserId;
use crate::core::retry::Backoff;
use crate::identity::email::Email;
use crate::identity::principal::Role;
use crate::identity::sessions::dynamo::{DynamoSessions, parse_all_ended};
use crate::platform::dynamo::{
    Actions, Agreement, DynamoError, Item, RowKey, Transaction, read_rows_at_once, text,
};
use crate::platform::tables;

mod address;
mod passwords;
mod roles;

pub use passwords::DynamoPasswords;
pub use roles::DynamoRoles;

/// For both items of a new account: an address has one account, and an account is never
/// overwritten.
const IS_NEW: &str = "attribute_not_exists(userId)";
/// A user id that is never assigned. It is read if there is no profile, so that the number of reads
/// does not tell whether an address has an account.
const NOBODY: &str = "usr_00000000000000000000000000";
/// How long conflicts are retried. The invocation's deadline may end the retries earlier.
const PATIENCE: Duration = Duration::from_secs(2);

/// The users table, and the users' rows in the sessions table.
#[derive(Debug, Clone)]
pub struct DynamoUsers {
    client: Client,
    table: String,
    sessions: DynamoSessions,
    /// The table of claimed addresses; `None` in a single region.
    agreement: Option<Agreement>,
}

impl DynamoUsers {
    /// Accounts in the table that `USERS_TABLE` names, with the ends of their sessions in that of
    /// `SESSIONS_TABLE`.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        let (table, sessions) = (tables::USERS.name(env)?, DynamoSessions::from_env(client.clone(), env)?);
        Ok(Self { client, table, sessions, agreement: None })
    }

    /// With several regions, addresses are claimed in `agreement`.
    #[must_use]
    pub fn agreeing(self, agreement: Option<Agreement>) -> Self {
        Self { agreement, ..self }
    }

    async fn account_of(&self, email: &Email) -> Result<Option<UserId>, DynamoError> {
        let key = pointer_key(email);
        let request = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(tables::USERS.key.hash, text(key.as_str()))
            .consistent_read(true);
        let answer = Box::pin(request.send())
            .await
            .map_err(|error| DynamoError::new("GetItem", target(&key), error))?;
        let Some(item) = answer.item else { return Ok(None) };
        let pointer: Pointer = serde_dynamo::from_item(item)
            .map_err(|error| DynamoError::unreadable("GetItem", "a pointer to an account", error))?;
        Ok(Some(pointer.account_id))
    }

    /// The account with this id, its password's hash and the end of its sessions, as a consistent
    /// snapshot.
    async fn snapshot(&self, user: &str) -> Result<Option<(User, PasswordHash)>, DynamoError> {
        let profile = Item::from([(tables::USERS.key.hash.to_owned(), text(user))]);
        let profile = RowKey { table: &self.table, key: profile };
        let ends = self.sessions.all_ended_keys(user).map(|key| RowKey { table: self.sessions.table(), key });
        let keys = std::iter::once(profile).chain(ends).collect();
        let mut rows = read_rows_at_once(&self.client, keys, Deadline::after(PATIENCE)).await?.into_iter();
        let Some(profile) = rows.next().flatten() else { return Ok(None) };
        let mut ended_before = Timestamp::UNIX_EPOCH;
        for row in rows.flatten() {
            ended_before = ended_before.max(parse_all_ended(&row)?);
        }
        parse(profile, ended_before).map(Some)
    }

    fn put_new(&self, item: Item) -> Result<TransactWriteItem, DynamoError> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(IS_NEW)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(|error| DynamoError::unreadable("TransactWriteItems", "a new account", error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    async fn try_create(&self, profile: Item, pointer: Item, user: &User) -> Result<Creation, DynamoError> {
        let target = target(user.id.as_str());
        let actions = Actions::from([
            (AccountAction::Address, self.put_new(pointer)?),
            (AccountAction::Account, self.put_new(profile)?),
        ]);
        let reasons = match actions.send(&self.client, &target).await? {
            Transaction::Committed => return Ok(Creation::Settled(SignUp::Created(user.clone()))),
            Transaction::Cancelled(reasons) => reasons,
        };
        if let Some(owner) = reasons.row_refusing(&AccountAction::Address) {
            // An earlier try of this call, whose answer was lost.
            let ours = owner.get("accountId").and_then(|id| id.as_s().ok()) == Some(&user.id.to_string());
            return Ok(Creation::Settled(if ours {
                SignUp::Created(user.clone())
            } else {
                SignUp::EmailTaken
            }));
        }
        // The reasons must not be logged: they contain items, and an item contains a hash.
        if reasons.row_refusing(&AccountAction::Account).is_some() {
            return Err(DynamoError::cancelled(target, "the user id is in use"));
        }
        reasons.require_no_error(&target)?;
        Ok(Creation::Conflict)
    }
}

/// The names of the actions of a transaction on an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AccountAction {
    /// The pointer of its e-mail address.
    Address,
    Account,
    /// The end of its sessions.
    Sessions,
    Event,
}

/// The result of one try to create an account.
enum Creation {
    Settled(SignUp),
    Conflict,
}

impl DynamoUsers {
    /// Stores a new account, unless its address has one. Conflicts are retried until `deadline`.
    pub async fn create(
        &self,
        user: &User,
        password: &PasswordHash,
        deadline: Deadline,
    ) -> Result<SignUp, UserError> {
        let unwritable =
            |error| DynamoError::unreadable("TransactWriteItems", target(user.id.as_str()), error);
        let profile: Item = serde_dynamo::to_item(Profile::of(user, password)).map_err(unwritable)?;
        if let Some(agreement) = &self.agreement {
            return Ok(self.create_in_all_regions(agreement, user, profile, deadline).await?);
        }
        let pointer = pointer(&user.email, &user.id);
        let mut backoff = Backoff::within(deadline);
        loop {
            match self.try_create(profile.clone(), pointer.clone(), user).await? {
                Creation::Settled(outcome) => return Ok(outcome),
                Creation::Conflict if backoff.wait().await => {}
                Creation::Conflict => return Err(UserError::Busy),
            }
        }
    }

    /// The account of an address, with its password's hash. Makes as many reads if there is none.
    pub async fn credentials(&self, email: &Email) -> Result<Option<(User, PasswordHash)>, UserError> {
        let account = self.account_of(email).await?;
        Ok(self.snapshot(account.as_ref().map_or(NOBODY, UserId::as_str)).await?)
    }

    /// The account with this id and its password's hash, as a consistent snapshot with the end of
    /// its sessions.
    pub async fn profile(&self, id: &UserId) -> Result<Option<(User, PasswordHash)>, UserError> {
        Ok(self.snapshot(id.as_str()).await?)
    }
}

fn profile_key(user: &UserId) -> Item {
    Item::from([(tables::USERS.key.hash.to_owned(), text(user.as_str()))])
}

/// The row that points from an address to its account.
fn pointer(email: &Email, account: &UserId) -> Item {
    Item::from([
        (tables::USERS.key.hash.to_owned(), text(pointer_key(email))),
        ("accountId".to_owned(), text(account.as_str())),
    ])
}

fn pointer_key(email: &Email) -> String {
    format!("email#{email}")
}

/// The name of an item in errors. Addresses are not logged.
fn target(key: &str) -> String {
    match key.split_once('#') {
        Some((kind, _)) => format!("user {kind}#…"),
        None => format!("user {key}"),
    }
}

fn parse(item: Item, ended_before: Timestamp) -> Result<(User, PasswordHash), DynamoError> {
    let profile: Profile = serde_dynamo::from_item(item)
        .map_err(|error| DynamoError::unreadable("TransactGetItems", "an account's profile", error))?;
    let user = User {
        id: profile.user_id,
        email: profile.email,
        roles: profile.roles,
        ended_before,
        created_at: profile.created_at,
    };
    Ok((user, profile.password_hash))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pointer {
    account_id: UserId,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    user_id: UserId,
    email: Email,
    password_hash: PasswordHash,
    /// Absent if empty: DynamoDB has no empty sets.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty", with = "serde_dynamo::string_set")]
    roles: BTreeSet<Role>,
    #[serde(with = "as_rfc3339")]
    created_at: Timestamp,
}

impl Profile {
    fn of(user: &User, password: &PasswordHash) -> Self {
        Self {
            user_id: user.id.clone(),
            email: user.email.clone(),
            password_hash: password.clone(),
            roles: user.roles.clone(),
            created_at: user.created_at,
        }
    }
}
