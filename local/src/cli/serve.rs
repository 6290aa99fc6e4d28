//! Serves a region, or several, until Ctrl-C or SIGTERM.

use tokio::signal::unix::{SignalKind, signal};

use super::progress::Terminal;
use super::{CliError, ServeArgs, print, summary};
use crate::front_door::Addresses;
use crate::functions::Settings;
use crate::logs::Logs;
use crate::region::Place;
use crate::regions::{Build, Options, Regions, places};
use crate::template::arn::Arns;
use crate::template::samconfig::SamConfig;

pub(super) async fn serve(args: ServeArgs) -> Result<(), CliError> {
    // Before the first await: a signal during the start ends the start.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let logs = Logs::start(args.log.format(args.metrics))?;
    let options = options(args)?;
    let mut progress = Terminal::new();
    let started = async { Regions::start(&options, &logs, &mut progress).await };
    let regions = tokio::select! {
        regions = started => regions?,
        // What was started so far is dropped, and ends with that.
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    print(&summary::of(&regions).await)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    regions.stop().await;
    Ok(())
}

fn options(args: ServeArgs) -> Result<Options, CliError> {
    let template = args.stack.path()?;
    let config = SamConfig::beside(&template)?;
    let wanted = Place {
        name: String::new(),
        arns: Arns::default(),
        parameters: args.stack.parameters.into_iter().collect(),
        http: args.http,
        websocket: args.ws,
        data: args.data,
    };
    let places = if args.regions.is_empty() {
        vec![places::alone(wanted, &config)?]
    } else {
        places::named(&args.regions, &wanted, &config)?
    };
    Ok(Options {
        template,
        places,
        front: Addresses { http: args.http, websocket: args.ws },
        failover: args.front.failover(),
        ready_file: args.ready_file,
        profile: if args.release { "release".to_owned() } else { args.profile },
        build: if args.no_build { Build::Not } else { Build::First },
        settings: Settings { concurrency: args.concurrency, ..Settings::default() },
    })
}
