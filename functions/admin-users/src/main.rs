//! Grants and withdraws roles. There is no route to it: whoever may invoke it by IAM may do this.
//!
//! `{"grant": {"email": "ann@example.com", "role": "operator"}}`, or `withdraw` in place of `grant`, is answered with
//! the account as it is now: `{"userId": …, "email": …, "roles": […]}`. Repeating a command changes nothing. A withdrawal
//! ends the account's sessions and closes its sockets. What cannot be done is a function error whose type is `InvalidCommand`, `UnknownEmail` or `Unavailable`.

use std::process::ExitCode;
use std::sync::Arc;

use lambda_runtime::service_fn;
use sojourn::delivery::{ApiGateway, AwsSocketCloser, EndingSockets};
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
        let roles = DynamoRoles::from_env(dynamodb.clone(), &env, writes, clock::system())?;
        let closer = Arc::new(AwsSocketCloser::from_env(dynamodb, ApiGateway::new(sdk), &env)?);
        let roles = Arc::new(EndingSockets::new(Announced::new(roles, sessions), closer));
        lambda_runtime::run(service_fn(move |event| handler::handle(Arc::clone(&roles), event))).await
    })
}
