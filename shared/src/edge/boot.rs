//! Start of a function's process.
//!
//! The runtime has one thread: a Lambda function of under 1,769 MiB has less than one core, and a
//! single-threaded runtime starts faster and is smaller. Blocking work (password hashing) runs on
//! one blocking thread.

use std::future::Future;
use std::process::ExitCode;

use crate::core::env::Env;
use crate::platform::telemetry;

/// A process has one invocation at a time, so one password to hash. The C library keeps memory for
/// each thread that ever allocated: without this limit, 180 MiB after a few hundred sign-ins.
const BLOCKING_THREADS: usize = 1;

/// An error that prevents a function from starting, or stops it.
pub type BootError = Box<dyn std::error::Error + Send + Sync>;

/// Runs the function `name` until Lambda stops the process.
///
/// `start` reads the configuration, builds the adapters and serves. If it fails, the error is
/// logged and the process exits with a failure, which Lambda reports as an init error.
pub fn run<F>(name: &'static str, start: impl FnOnce(Env) -> F) -> ExitCode
where
    F: Future<Output = Result<(), BootError>>,
{
    let env = Env::of_process();
    telemetry::start(name, &env);
    tracing::debug!(function = name, "starts");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(function = name, %error, "no async runtime");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(start(env)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(
                function = name,
                error = telemetry::chain(&*error),
                "{name} cannot start: {error}"
            );
            ExitCode::FAILURE
        }
    }
}
