//! The life of one function process: started, watched, timed and ended.
//!
//! 1. A listener of its own is bound and the binary started with its address in
//!    `AWS_LAMBDA_RUNTIME_API`: so that every caller at this address is this process.
//! 2. Until its first `next` it has [`limits::INIT_LIMIT`](super::limits::INIT_LIMIT).
//! 3. It ends by itself (a crash), by its timeout, by idleness, by `kill` or with the region. In
//!    each case the invocation that it held is answered at once.
//!
//! A process that outlives a killed region (`kill -9` on the region itself) ends by itself: the
//! runtime gives up when the connection of its `next` or of its answer breaks. Nothing here needs a
//! parent-death signal, which Rust can't ask for without `unsafe`.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::dispatch::Ended;
use super::function::FunctionSpec;
use super::limits::SHUTDOWN_GRACE;
use super::process::{Check, Process, Stop};
use super::{output, runtime_api};
use crate::clock;

/// From spawn to the last log line; how far the process got.
pub(super) async fn run(process: &Arc<Process>) -> Ended {
    let function = &process.function;
    let (child, listener) = match spawn(&function.spec).await {
        Ok(spawned) => spawned,
        Err(error) => {
            let binary = function.spec.binary.display();
            function.platform_log(format!("Cannot start {binary}: {error}")).await;
            process.end();
            return Ended::InitFailed;
        }
    };
    let mut connections = JoinSet::new();
    let ended = watch(process, child, listener, &mut connections).await;
    // Work that was on its way to the process is put back before the pool counts what waits.
    connections.shutdown().await;
    ended
}

async fn spawn(spec: &FunctionSpec) -> std::io::Result<(Child, TcpListener)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let child = Command::new(&spec.binary)
        .env_clear()
        .envs(&spec.environment)
        .env("AWS_LAMBDA_RUNTIME_API", listener.local_addr()?.to_string())
        .env("AWS_LAMBDA_LOG_STREAM_NAME", format!("local/[$LATEST]{:032x}", rand::random::<u128>()))
        .current_dir(spec.binary.parent().unwrap_or(Path::new("/")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: Ctrl-C at the terminal reaches the region only, which then stops its
        // processes in order; and a kill takes whatever the function itself started along.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, listener))
}

async fn watch(
    process: &Arc<Process>,
    mut child: Child,
    listener: TcpListener,
    connections: &mut JoinSet<()>,
) -> Ended {
    let function = &process.function;
    let (mut output, flush) = output::forward(&mut child, process);
    process.spawned(child.id(), flush);
    let server = runtime_api::serve(listener, Arc::clone(process), connections);
    let (exit, init_timed_out) = until_exit(process, &mut child, server).await;
    if process.tail().is_some() {
        output.drained().await;
    }
    let end = process.end();
    // What the process said before its end belongs before the region's own line about it.
    output.drained().await;
    if init_timed_out {
        let seconds = function.settings.init_limit.as_secs_f64();
        function.platform_log(format!("Init timed out after {seconds:.2} seconds")).await;
    } else if end.unexpected {
        function.platform_log(exit_text(&exit, end.request_id.as_deref())).await;
    }
    end.when
}

/// Waits for the end of the process, or ends it when that is due; how it ended, and whether its
/// init took too long.
async fn until_exit(
    process: &Process,
    child: &mut Child,
    server: impl Future<Output = ()>,
) -> (std::io::Result<ExitStatus>, bool) {
    let function = &process.function;
    let mut server = std::pin::pin!(server);
    let mut stop = process.stop_asked();
    let mut look_at = Instant::now() + function.settings.init_limit.min(function.spec.timeout);
    loop {
        let asked = *stop.borrow_and_update();
        if let Some(reason) = asked {
            return (end(child, reason).await, false);
        }
        tokio::select! {
            exit = child.wait() => return (exit, false),
            () = &mut server => return (end(child, Stop::Kill).await, false),
            // The sender lives in the process.
            _ = stop.changed() => {}
            () = tokio::time::sleep_until(look_at) => match process.check(Instant::now()) {
                Check::LookAgainAt(at) => look_at = at,
                Check::InitTimedOut => return (end(child, Stop::Kill).await, true),
                Check::TimedOut => {
                    time_out(process).await;
                    return (end(child, Stop::Kill).await, false);
                }
                Check::Retire => return (end(child, Stop::Shutdown).await, false),
            },
        }
    }
}

async fn time_out(process: &Process) {
    process.flush_for_tail().await;
    let Some(request_id) = process.time_out() else { return };
    let seconds = process.function.spec.timeout.as_secs_f64();
    let text = format!("{} {request_id} Task timed out after {seconds:.2} seconds", clock::now());
    process.function.platform_log(text).await;
}

/// Ends the process group and reaps the process.
async fn end(child: &mut Child, stop: Stop) -> std::io::Result<ExitStatus> {
    if stop == Stop::Shutdown {
        signal(child, Signal::SIGTERM);
        if let Ok(exit) = tokio::time::timeout(SHUTDOWN_GRACE, child.wait()).await {
            return exit;
        }
    }
    signal(child, Signal::SIGKILL);
    child.wait().await
}

fn signal(child: &Child, signal: Signal) {
    // Not reaped yet, so the pid is still this process's.
    let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else { return };
    if let Err(error) = killpg(Pid::from_raw(pid), signal) {
        tracing::debug!(pid, %signal, %error, "the process group is gone already");
    }
}

fn exit_text(exit: &std::io::Result<ExitStatus>, request_id: Option<&str>) -> String {
    use std::os::unix::process::ExitStatusExt;
    let how = match exit {
        Ok(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("signal: {signal}"),
            (None, Some(code)) => format!("exit status {code}"),
            (None, None) => "unknown".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    match request_id {
        Some(id) => format!("RequestId: {id} Error: Runtime exited with error: {how} Runtime.ExitError"),
        None => format!("Init failed: Runtime exited with error: {how} Runtime.ExitError"),
    }
}
