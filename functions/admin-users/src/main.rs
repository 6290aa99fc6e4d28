//! Grants and withdraws roles. There is no route to it: whoever may invoke it by IAM may do this.
//!
//! `{"grant": {"email": "ann@example.com", "role": "operator"}}`, or `withdraw` in place of `grant`, is answered with
//! the account as it is now: `{"userId": …, "email": …, "roles": […]}`. Repeating a command changes nothing. What
//! cannot be done is a function error whose type is `InvalidCommand`, `UnknownEmail` or `Unavailable`.

use std::process::ExitCode;
use std::sync::Arc;

use lambda_runtime::service_fn;
use sojourn::sessions::dynamo::SessionWrites;
use sojourn::sessions::{Announced, SessionStore};
use sojourn::users::dynamo::DynamoRoles;
use sojourn::{aws, boot, clock, ids};

mod handler;

fn main() -> ExitCode {
    boot::run("admin-users", |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
        let writes = SessionWrites::from_env(&env, ids::random())?;
        let sessions = SessionStore::from_env(dynamodb.clone(), &env, clock::system())?;
        let users = DynamoRoles::from_env(dynamodb, &env, writes, clock::system())?;
        let users = Arc::new(Announced::new(users, sessions));
        lambda_runtime::run(service_fn(move |event| handler::handle(Arc::clone(&users), event))).await
    })
}
