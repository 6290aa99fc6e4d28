//! Commands to answers.

use std::sync::Arc;

use lambda_runtime::{Diagnostic, LambdaEvent};
use serde::Deserialize;
use serde_json::{Value, json};
use sojourn::clock::{Clock, SystemClock};
use sojourn::deadline::{ANSWER_MARGIN, Deadline, DeadlineExceeded};
use sojourn::telemetry;
use sojourn::tokens::Role;
use sojourn::users::{Email, RoleChange, RoleStore, User, UserError};
use tracing::Instrument;

/// What the function is told to do: exactly one of these.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Command {
    Grant(RoleOfAccount),
    Withdraw(RoleOfAccount),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleOfAccount {
    email: Email,
    role: Role,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("the event must be {{\"grant\": {{\"email\", \"role\"}}}} or {{\"withdraw\": …}}: {0}")]
    Invalid(#[from] serde_json::Error),
    #[error("no account has the e-mail address {0}")]
    UnknownEmail(Email),
    #[error("the account could not be changed; try again: {0}")]
    Store(#[from] UserError),
    #[error("this took too long; try again")]
    TooLate(#[from] DeadlineExceeded),
}

impl CommandError {
    /// The stable name of its kind, in answers and logs.
    fn error_type(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "InvalidCommand",
            Self::UnknownEmail(_) => "UnknownEmail",
            Self::Store(_) | Self::TooLate(_) => "Unavailable",
        }
    }
}

impl From<CommandError> for Diagnostic {
    fn from(error: CommandError) -> Self {
        Self { error_type: error.error_type().to_owned(), error_message: error.to_string() }
    }
}

/// Carries out one command.
pub(crate) async fn handle(
    roles: Arc<impl RoleStore>,
    event: LambdaEvent<Value>,
) -> Result<Value, CommandError> {
    let deadline =
        Deadline::of_invocation(event.context.deadline, SystemClock.now()).earlier_by(ANSWER_MARGIN);
    let span = telemetry::invocation("admin-users", &event.context.request_id);
    async {
        let outcome = match serde_json::from_value(event.payload) {
            Ok(command) => deadline.cut_off(carry_out(&*roles, command, deadline)).await?,
            Err(error) => Err(error.into()),
        };
        match &outcome {
            Ok(user) => tracing::info!(user_id = %user.id, roles = ?user.roles, "roles settled"),
            // By its stable name; the runtime logs the error itself.
            Err(error) => tracing::warn!(error_type = error.error_type(), "command not carried out"),
        }
        outcome.map(|user| json!({ "userId": user.id, "email": user.email, "roles": user.roles }))
    }
    .instrument(span)
    .await
}

/// A withdrawal ends the account's sessions, and with them its sockets in this region. The sockets of other regions, and
/// any that could not be closed now, end with the next frame from them.
async fn carry_out(
    roles: &impl RoleStore,
    command: Command,
    deadline: Deadline,
) -> Result<User, CommandError> {
    let (email, change) = match command {
        Command::Grant(RoleOfAccount { email, role }) => (email.clone(), roles.grant(&email, role).await?),
        Command::Withdraw(RoleOfAccount { email, role }) => {
            (email.clone(), roles.withdraw(&email, role, deadline).await?)
        }
    };
    match change {
        RoleChange::Settled(user) | RoleChange::Withdrawn(user) => Ok(user),
        RoleChange::UnknownEmail => Err(CommandError::UnknownEmail(email)),
    }
}
