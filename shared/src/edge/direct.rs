//! Direct invocations: an operator's command in, its result or a function error out.
//!
//! There is no route to such a function: whoever may invoke it by IAM may do what it does. An event that is no command, and
//! a command that is not carried out in time, are function errors like those of the command itself.

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

/// Serves commands of type `C` with `handler` until Lambda stops the process. `app` is what the handler works with, built
/// once.
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
