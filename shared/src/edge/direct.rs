//! Direct invocations: an operator's command in, its result or a function error out.
//!
//! Such a function has no route: the IAM permission to invoke it is the permission to run its
//! commands. An invalid command, or one that is not executed in time, is a function error like an
//! error of the command itself.

use std::future::Future;
use std::sync::Arc;

use lambda_runtime::LambdaEvent;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::core::deadline::{Deadline, DeadlineExceeded};
use crate::core::error_type::ErrorType;
use crate::edge::boot::BootError;
use crate::edge::invocation;

/// Serves commands of type `C` with `handler` until Lambda stops the process. `app` is built once.
pub async fn serve<A, C, R, H, F, E>(function: &'static str, app: A, handler: H) -> Result<(), BootError>
where
    A: Send + Sync + 'static,
    C: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    H: Fn(Arc<A>, C, Deadline) -> F + Send + Sync + 'static,
    F: Future<Output = Result<R, E>> + Send + 'static,
    E: ErrorType + From<serde_json::Error> + From<DeadlineExceeded> + Send + 'static,
{
    let handler = Arc::new(handler);
    invocation::serve(function, app, move |app, event: LambdaEvent<Value>, deadline| {
        let handler = Arc::clone(&handler);
        async move {
            let command = serde_json::from_value(event.payload)?;
            deadline.cut_off(handler(app, command, deadline)).await?
        }
    })
    .await
}
