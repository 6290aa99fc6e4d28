//! How a function process begins.
//!
//! One thread: a Lambda of under 1,769 MiB has less than one core, and a single-threaded runtime starts faster and is
//! smaller. Blocking work (password hashing) goes to `spawn_blocking`, and there to one thread more.

use std::future::Future;
use std::process::ExitCode;

use crate::core::env::Env;
use crate::platform::telemetry;

/// A process has one invocation at a time, so one password to hash. The C library keeps memory for each thread that ever
/// asked for some: without this bound, 180 MiB after a few hundred sign-ins.
const BLOCKING_THREADS: usize = 1;

/// Anything that keeps a function from starting, or stops it.
pub type BootError = Box<dyn std::error::Error + Send + Sync>;

/// Runs the function `name` until Lambda stops the process.
///
/// `start` reads its configuration, builds its adapters and serves. If it fails, one log line says why and the
/// process ends with a failure, which Lambda reports as an init error.
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
