//! Commands to answers.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use sojourn::core::date_time::rfc3339;
use sojourn::core::deadline::{Deadline, DeadlineExceeded};
use sojourn::core::error_type::ErrorType;
use sojourn::core::ids::UserId;
use sojourn::identity::email::Email;
use sojourn::identity::principal::Role;
use sojourn::identity::users::dynamo::DynamoRoles;
use sojourn::identity::users::{RoleChange, User, UserError};

/// The function's commands. An event has exactly one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Command {
    Find(Address),
    Grant(RoleOfAccount),
    Withdraw(RoleOfAccount),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Address {
    email: Email,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RoleOfAccount {
    user_id: UserId,
    role: Role,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(
        "the event must be {{\"find\": {{\"email\"}}}}, {{\"grant\": {{\"userId\", \"role\"}}}} or {{\"withdraw\": {{\"userId\", \"role\"}}}}; \
         an e-mail address is not verified, so find its account first and look whose it is: {0}"
    )]
    Invalid(#[from] serde_json::Error),
    #[error("no account has the e-mail address {0}")]
    UnknownEmail(Email),
    #[error("there is no account {0}")]
    UnknownUser(UserId),
    #[error("the account could not be changed; retry: {0}")]
    Store(#[from] UserError),
    #[error("the request timed out; retry")]
    TooLate(#[from] DeadlineExceeded),
}

impl ErrorType for CommandError {
    fn error_type(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "InvalidCommand",
            Self::UnknownEmail(_) => "UnknownEmail",
            Self::UnknownUser(_) => "UnknownUser",
            Self::Store(_) | Self::TooLate(_) => "Unavailable",
        }
    }
}

/// Executes one command. Returns the current state of the account.
pub(crate) async fn handle(
    roles: Arc<DynamoRoles>,
    command: Command,
    deadline: Deadline,
) -> Result<Value, CommandError> {
    let user = carry_out(&roles, command, deadline).await?;
    tracing::info!(user_id = %user.id, roles = ?user.roles, "command executed");
    Ok(json!({
        "userId": user.id,
        "email": user.email,
        "createdAt": rfc3339(user.created_at),
        "roles": user.roles,
    }))
}

/// A withdrawal ends the account's sessions, and closes its sockets in this region. Sockets of
/// other regions, and any that could not be closed, are closed at their next frame.
async fn carry_out(roles: &DynamoRoles, command: Command, deadline: Deadline) -> Result<User, CommandError> {
    let (user_id, change) = match command {
        Command::Find(Address { email }) => {
            return roles.find(&email).await?.ok_or(CommandError::UnknownEmail(email));
        }
        Command::Grant(RoleOfAccount { user_id, role }) => {
            let change = roles.grant(&user_id, role).await?;
            (user_id, change)
        }
        Command::Withdraw(RoleOfAccount { user_id, role }) => {
            let change = roles.withdraw(&user_id, role, deadline).await?;
            (user_id, change)
        }
    };
    match change {
        RoleChange::Settled(user) | RoleChange::Withdrawn(user) => Ok(user),
        RoleChange::UnknownUser => Err(CommandError::UnknownUser(user_id)),
    }
}
