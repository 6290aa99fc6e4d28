//! Serves a region, or several, until Ctrl-C or SIGTERM.

use tokio::signal::unix::{SignalKind, signal};

use super::progress::Terminal;
use super::{CliError, ServeArgs, print, summary};
use crate::front_door::Addresses;
use crate::functions::Settings;
use crate::logs::{Format, Logs};
use crate::region::{Build, Code};
use crate::regions::places::Wanted;
use crate::regions::{Options, Regions, places};
use crate::template::samconfig::SamConfig;

/// Serves until Ctrl-C or SIGTERM, and prints where everything is.
pub async fn serve(options: Options, format: Format) -> Result<(), CliError> {
    // Before the first await: a signal during the start ends the start.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let logs = Logs::start(format)?;
    let mut progress = Terminal::new();
    let started = async { Regions::start(options, &logs, &mut progress).await };
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

impl ServeArgs {
    /// What to run. Opens the data folders.
    pub fn options(self, build: Option<Build>, code: Code) -> Result<Options, CliError> {
        let template = self.stack.path()?;
        let config = SamConfig::beside(&template)?;
        let global = self.stack.global();
        let wanted = Wanted {
            stack: self.stack.stack_name,
            region: Some(self.aws_region),
            parameters: self.stack.parameters.into_iter().collect(),
            http: self.http,
            websocket: self.ws,
            data: self.data,
        };
        let places = if self.regions.is_empty() {
            vec![places::alone(wanted, &config)?]
        } else {
            places::named(&self.regions, &wanted, &config)?
        };
        Ok(Options {
            template,
            global,
            places,
            front: Addresses { http: self.http, websocket: self.ws },
            failover: self.front.failover(),
            ready_file: self.ready_file,
            build,
            code,
            settings: Settings { concurrency: self.concurrency, ..Settings::default() },
            before_serving: None,
        })
    }

    /// How the functions' log lines are printed.
    pub fn format(&self) -> Format {
        self.log.format(self.metrics)
    }
}
