//! Finds accounts, grants and withdraws roles. The function has no route: IAM decides who may
//! invoke it.
//!
//! | event | does |
//! |---|---|
//! | `{"find": {"email": "ann@example.com"}}` | returns the account of an address |
//! | `{"grant": {"userId": "usr_…", "role": "operator"}}` | gives the account the role |
//! | `{"withdraw": {"userId": "usr_…", "role": "operator"}}` | withdraws the role, ends the account's sessions and closes its sockets |
//!
//! Each returns the current state of the account: `{"userId", "email", "createdAt", "roles"}`.
//! Repeating a command changes nothing. A role is never granted by address: addresses are not
//! verified, so another person may have signed up with one. A command that fails is a function
//! error of type `InvalidCommand`, `UnknownEmail`, `UnknownUser` or `Unavailable`.

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
