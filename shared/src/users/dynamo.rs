//! Accounts in DynamoDB.
//!
//! | item | key `userId` | attributes |
//! |---|---|---|
//! | profile | `usr_…` | `email`, `passwordHash`, `roles?` (string set), `ver`, `createdAt` |
//! | pointer | `email#<address>` | `accountId` |
//!
//! Requests are boxed when they are sent: the future of an SDK call is ten kilobytes, which every caller up to the
//! handler would otherwise carry along.
//!
//! All reads are consistent: a password that was just changed, or an account that was just made, counts at once.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{Put, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    CredentialReader, Email, PasswordHash, RoleChange, RoleStore, SignUp, User, UserError, UserWriter,
};
use crate::clock::as_rfc3339;
use crate::deadline::Deadline;
use crate::dynamo::{
    AttributeValue, CancellationReason, DynamoError, Item, Transaction, Write, WriteOutcome, number, text,
};
use crate::env::{ConfigError, Env};
use crate::ids::UserId;
use crate::retry::Backoff;
use crate::tables;
use crate::tokens::Role;

/// For both items of a new account: an address has one account, and an account is never overwritten.
const IS_NEW: &str = "attribute_not_exists(userId)";
/// A role is granted to an account that is there: an update would otherwise make half of one.
const EXISTS: &str = "attribute_exists(userId)";
/// A withdrawal counts once: repeating it must not raise the token version again.
const HAS_ROLE: &str = "contains(#roles, :role)";
/// `ADD` on a set: concurrent grants all count, a repeated one changes nothing.
const GRANT: &str = "ADD #roles :roles";
/// Tokens with the role in them stop counting.
const WITHDRAW: &str = "DELETE #roles :roles ADD ver :one";
/// A user id that is never given out, read instead of a profile when there is none, so that the number of reads does
/// not tell whether an address has an account.
const NOBODY: &str = "usr_00000000000000000000000000";

/// The users table.
#[derive(Debug, Clone)]
pub struct DynamoUsers {
    client: Client,
    table: String,
}

impl DynamoUsers {
    /// Accounts in the table that `USERS_TABLE` names.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { client, table: tables::USERS.name(env)? })
    }

    async fn get(&self, key: String) -> Result<Option<Item>, DynamoError> {
        let request = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(tables::USERS.key.hash, text(key.as_str()))
            .consistent_read(true);
        let answer = Box::pin(request.send())
            .await
            .map_err(|error| DynamoError::new("GetItem", target(&key), error))?;
        Ok(answer.item)
    }

    async fn account_of(&self, email: &Email) -> Result<Option<UserId>, DynamoError> {
        let Some(item) = self.get(pointer_key(email)).await? else { return Ok(None) };
        let pointer: Pointer = serde_dynamo::from_item(item)
            .map_err(|error| DynamoError::unreadable("GetItem", "a pointer to an account", error))?;
        Ok(Some(pointer.account_id))
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
        let request = self
            .client
            .transact_write_items()
            .transact_items(self.put_new(pointer)?)
            .transact_items(self.put_new(profile)?);
        let result = Box::pin(request.send()).await;
        let reasons = match Transaction::outcome(result, &target)? {
            Transaction::Committed => return Ok(Creation::Settled(SignUp::Created(user.clone()))),
            Transaction::Cancelled(reasons) => reasons,
        };
        if let [CancellationReason::ConditionFailed(owner), ..] = reasons.as_slice() {
            // The commit of a try whose answer was lost is our own.
            let ours = owner.get("accountId").and_then(|id| id.as_s().ok()) == Some(&user.id.to_string());
            return Ok(Creation::Settled(if ours {
                SignUp::Created(user.clone())
            } else {
                SignUp::EmailTaken
            }));
        }
        // Never the reasons themselves: they carry items, and an item carries a hash.
        let other = reasons.iter().find_map(|reason| match reason {
            CancellationReason::None | CancellationReason::Conflict => None,
            CancellationReason::ConditionFailed(_) => Some("the user id is in use".to_owned()),
            CancellationReason::Other(code) => Some(code.clone()),
        });
        match other {
            None => Ok(Creation::Conflict),
            Some(code) => Err(DynamoError {
                operation: "TransactWriteItems",
                target,
                code: Some(code),
                source: "the transaction was cancelled".into(),
            }),
        }
    }

    async fn change_roles(&self, user: &UserId, change: &Change) -> Result<Write<Option<Item>>, DynamoError> {
        let request = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(tables::USERS.key.hash, text(user.as_str()))
            .update_expression(change.update)
            .condition_expression(change.condition)
            .expression_attribute_names("#roles", "roles")
            .set_expression_attribute_values(Some(change.values.clone()))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let update = Box::pin(request.send()).await.outcome("UpdateItem", &target(user.as_str()))?;
        Ok(match update {
            Write::Done(answer) => Write::Done(answer.attributes),
            Write::Refused(item) => Write::Refused(item),
            Write::Conflict => Write::Conflict,
        })
    }

    async fn settle(&self, email: &Email, change: Change) -> Result<RoleChange, UserError> {
        let Some(user) = self.account_of(email).await? else { return Ok(RoleChange::UnknownEmail) };
        let item = match self.change_roles(&user, &change).await? {
            Write::Done(item) => item.unwrap_or_default(),
            // There was nothing to change; this is the account as it stands.
            Write::Refused(item) => item,
            Write::Conflict => return Err(UserError::Busy),
        };
        if item.is_empty() {
            let missing = "the pointer leads to an account that is not there";
            return Err(DynamoError::unreadable("UpdateItem", target(user.as_str()), missing).into());
        }
        Ok(RoleChange::Settled(parse(item)?.0))
    }
}

/// What one try to create an account came to.
enum Creation {
    Settled(SignUp),
    Conflict,
}

/// One change of roles.
struct Change {
    update: &'static str,
    condition: &'static str,
    values: Item,
}

impl UserWriter for DynamoUsers {
    async fn create(
        &self,
        user: &User,
        password: &PasswordHash,
        deadline: Deadline,
    ) -> Result<SignUp, UserError> {
        let unwritable =
            |error| DynamoError::unreadable("TransactWriteItems", target(user.id.as_str()), error);
        let profile: Item = serde_dynamo::to_item(Profile::of(user, password)).map_err(unwritable)?;
        let pointer = Item::from([
            (tables::USERS.key.hash.to_owned(), text(pointer_key(&user.email))),
            ("accountId".to_owned(), text(user.id.as_str())),
        ]);
        let mut backoff = Backoff::within(deadline);
        loop {
            match self.try_create(profile.clone(), pointer.clone(), user).await? {
                Creation::Settled(outcome) => return Ok(outcome),
                Creation::Conflict if backoff.wait().await => {}
                Creation::Conflict => return Err(UserError::Busy),
            }
        }
    }
}

impl CredentialReader for DynamoUsers {
    async fn credentials(&self, email: &Email) -> Result<Option<(User, PasswordHash)>, UserError> {
        let account = self.account_of(email).await?;
        let key = account.map_or_else(|| NOBODY.to_owned(), |id| id.to_string());
        Ok(self.get(key).await?.map(parse).transpose()?)
    }
}

impl RoleStore for DynamoUsers {
    async fn grant(&self, email: &Email, role: Role) -> Result<RoleChange, UserError> {
        let values = Item::from([(":roles".to_owned(), role_set(role))]);
        self.settle(email, Change { update: GRANT, condition: EXISTS, values }).await
    }

    async fn withdraw(&self, email: &Email, role: Role) -> Result<RoleChange, UserError> {
        let values = Item::from([
            (":roles".to_owned(), role_set(role)),
            (":role".to_owned(), text(role.as_str())),
            (":one".to_owned(), number(1)),
        ]);
        self.settle(email, Change { update: WITHDRAW, condition: HAS_ROLE, values }).await
    }
}

fn role_set(role: Role) -> AttributeValue {
    AttributeValue::Ss(vec![role.as_str().to_owned()])
}

fn pointer_key(email: &Email) -> String {
    format!("email#{email}")
}

/// How errors name an item. Addresses stay out of logs.
fn target(key: &str) -> String {
    match key.split_once('#') {
        Some((kind, _)) => format!("user {kind}#…"),
        None => format!("user {key}"),
    }
}

fn parse(item: Item) -> Result<(User, PasswordHash), DynamoError> {
    let profile: Profile = serde_dynamo::from_item(item)
        .map_err(|error| DynamoError::unreadable("GetItem", "an account's profile", error))?;
    let user = User {
        id: profile.user_id,
        email: profile.email,
        roles: profile.roles,
        token_version: profile.ver,
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
    /// Absent when empty: DynamoDB has no empty sets.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty", with = "serde_dynamo::string_set")]
    roles: BTreeSet<Role>,
    ver: u64,
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
            ver: user.token_version,
            created_at: user.created_at,
        }
    }
}
