//! Finds accounts, grants and withdraws roles. There is no route to it: whoever may invoke it by IAM may do this.
//!
//! | event | does |
//! |---|---|
//! | `{"find": {"email": "ann@example.com"}}` | tells whose account an address is |
//! | `{"grant": {"userId": "usr_…", "role": "operator"}}` | gives the account the role |
//! | `{"withdraw": {"userId": "usr_…", "role": "operator"}}` | takes it away, ends the account's sessions and closes its sockets |
//!
//! Each is answered with the account as it is now: `{"userId", "email", "createdAt", "roles"}`. Repeating a command changes
//! nothing. A role is never granted by address: addresses are not verified, and somebody else may have signed up with it.
//! What cannot be done is a function error whose type is `InvalidCommand`, `UnknownEmail`, `UnknownUser` or `Unavailable`.

use std::process::ExitCode;

use sojourn::core::clock;
use sojourn::core::ids;
use sojourn::edge::boot;
use sojourn::edge::direct;
use sojourn::identity::sessions::{SessionRevoker, SessionStore};
use sojourn::identity::users::dynamo::{DynamoRoles, DynamoUsers};
use sojourn::platform::aws;
use sojourn::sockets::delivery::{ApiGateway, SocketCloser};

mod handler;

fn main() -> ExitCode {
    boot::run("admin-users", |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
        let sessions = SessionStore::from_env(dynamodb.clone(), &env, clock::system())?;
        let users = DynamoUsers::from_env(dynamodb.clone(), &env)?;
        let sockets = SocketCloser::from_env(dynamodb, ApiGateway::new(sdk), &env)?;
        let revoker = SessionRevoker::from_env(sessions, &env, ids::random())?.with_sockets(sockets);
        direct::serve("admin-users", DynamoRoles::new(users, revoker), handler::handle).await
    })
}
