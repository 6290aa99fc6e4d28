//! Serves a region until Ctrl-C or SIGTERM.

use tokio::signal::unix::{SignalKind, signal};

use super::progress::Terminal;
use super::{CliError, ServeArgs, print, summary};
use crate::functions::Settings;
use crate::logs::Logs;
use crate::region::{Build, Options, Region};

pub(super) async fn serve(args: ServeArgs) -> Result<(), CliError> {
    // Before the first await: a signal during the start ends the start.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let logs = Logs::start(args.log.format(args.metrics))?;
    let options = options(args)?;
    let mut progress = Terminal::new();
    let started = async { Region::start(&options, &logs, &mut progress).await };
    let region = tokio::select! {
        region = started => region?,
        // What was started so far is dropped, and ends with that.
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    print(&summary::of(&region))?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    region.stop().await;
    Ok(())
}

fn options(args: ServeArgs) -> Result<Options, CliError> {
    Ok(Options {
        template: args.stack.path()?,
        parameters: args.stack.parameters.into_iter().collect(),
        http: args.http,
        websocket: args.ws,
        data: args.data,
        ready_file: args.ready_file,
        profile: if args.release { "release".to_owned() } else { args.profile },
        build: if args.no_build { Build::Not } else { Build::First },
        settings: Settings { concurrency: args.concurrency, ..Settings::default() },
    })
}
