//! The progress of a start: a spinner on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::OwoColorize;

use super::colours;
use crate::logs::Colours;
use crate::regions::Progress;

/// The period of the spinner.
const TICK: Duration = Duration::from_millis(100);

/// Shows the phases of a start on standard error, so that standard output holds log lines only.
pub(super) struct Terminal {
    bar: Option<ProgressBar>,
    phase: String,
    since: Instant,
    steps: usize,
}

impl Terminal {
    pub(super) fn new() -> Self {
        Self { bar: None, phase: String::new(), since: Instant::now(), steps: 0 }
    }
}

impl Progress for Terminal {
    fn begin(&mut self, phase: &str) {
        phase.clone_into(&mut self.phase);
        self.since = Instant::now();
        self.steps = 0;
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}") {
                bar.set_style(style);
            }
            bar.set_message(self.phase.clone());
            bar.enable_steady_tick(TICK);
            self.bar = Some(bar);
        }
    }

    fn step(&mut self, what: &str) {
        self.steps += 1;
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {} ({what})", self.phase, self.steps));
        }
    }

    fn done(&mut self, result: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let seconds = self.since.elapsed().as_secs_f64();
        let mark = match colours(&std::io::stderr()) {
            Colours::On => "✓".green().to_string(),
            Colours::Off => "✓".to_owned(),
        };
        if let Err(error) = writeln!(std::io::stderr(), "{mark} {result} in {seconds:.1} s") {
            tracing::debug!(%error, "standard error is closed");
        }
    }
}

/// A spinner that an error interrupts must not stay on the screen.
impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
