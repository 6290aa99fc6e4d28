//! The region's log: what the functions write, and what the region says about them.
//!
//! 1. Every line gets a time, its function and its source, and goes to a ring of the last
//!    [`RING_LIMIT`] lines, to followers (`logs -f`), and to the terminal.
//! 2. One thread writes to the terminal. Its queue is bounded: a slow terminal slows the functions
//!    down, as a full pipe would, and nothing is lost. A follower that is too slow loses lines and
//!    gets their number.

mod pretty;

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc};

use crate::clock;
pub use pretty::{Colours, Metrics, Pretty};

/// Lines kept for `logs`.
pub const RING_LIMIT: usize = 5_000;

/// Lines on their way to the terminal, and to each follower.
const QUEUE_LIMIT: usize = 1_024;

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// The function's standard output.
    Stdout,
    /// The function's standard error.
    Stderr,
    /// The region itself: a timeout, a crash, a lost event.
    Platform,
}

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// When the region read it.
    pub at: jiff::Timestamp,
    /// Name of the region, if it is one of several.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Short name of the function.
    pub function: String,
    /// Its process, if the line is the function's own.
    pub pid: Option<u32>,
    /// Where it comes from.
    pub source: Source,
    /// As written, without the line feed.
    pub text: String,
}

/// How lines look on the terminal.
#[derive(Debug, Clone)]
pub enum Format {
    /// Coloured by function, key fields picked out of JSON lines.
    Pretty(Pretty),
    Raw,
    /// Nothing is printed: for tests.
    Silent,
}

impl Format {
    /// The line as it is printed, or nothing if it is not.
    pub fn format(&self, line: &Line) -> Option<String> {
        match self {
            Self::Pretty(pretty) => pretty.format(line),
            Self::Raw => Some(line.text.clone()),
            Self::Silent => None,
        }
    }
}

/// The log of one region. Clones share it.
#[derive(Clone)]
pub struct Logs(Arc<Inner>);

struct Inner {
    region: String,
    ring: Mutex<VecDeque<Arc<Line>>>,
    followers: broadcast::Sender<Arc<Line>>,
    terminal: Option<mpsc::Sender<Arc<Line>>>,
}

impl Logs {
    /// Starts the thread that prints. It ends when the last clone is dropped.
    pub fn start(format: Format) -> std::io::Result<Self> {
        let terminal = match format {
            Format::Silent => None,
            format => {
                let (sender, receiver) = mpsc::channel(QUEUE_LIMIT);
                std::thread::Builder::new()
                    .name("terminal".to_owned())
                    .spawn(move || print(receiver, &format))?;
                Some(sender)
            }
        };
        Ok(Self::new(String::new(), terminal))
    }

    /// Another log, of the region of that name, on the same terminal.
    #[must_use]
    pub fn of_region(&self, region: &str) -> Self {
        Self::new(region.to_owned(), self.0.terminal.clone())
    }

    fn new(region: String, terminal: Option<mpsc::Sender<Arc<Line>>>) -> Self {
        let (ring, followers) = (Mutex::default(), broadcast::Sender::new(QUEUE_LIMIT));
        Self(Arc::new(Inner { region, ring, followers, terminal }))
    }

    /// Takes one line in.
    pub async fn push(&self, function: &str, source: Source, pid: Option<u32>, text: String) {
        let at = clock::now();
        let (region, function) = (self.0.region.clone(), function.to_owned());
        let line = Arc::new(Line { at, region, function, pid, source, text });
        {
            let mut ring = self.0.ring.lock().unwrap_or_else(PoisonError::into_inner);
            if ring.len() >= RING_LIMIT {
                ring.pop_front();
            }
            ring.push_back(Arc::clone(&line));
            // Inside the lock, so that a new follower sees every line exactly once: in the ring or
            // live. Without followers it fails, and that is fine.
            if self.0.followers.receiver_count() > 0 && self.0.followers.send(Arc::clone(&line)).is_err() {
                tracing::debug!("the last follower left");
            }
        }
        if let Some(terminal) = &self.0.terminal
            && terminal.send(line).await.is_err()
        {
            tracing::debug!("the terminal is closed");
        }
    }

    /// The lines in the ring, oldest first, and everything after them.
    pub fn follow(&self) -> (Vec<Arc<Line>>, broadcast::Receiver<Arc<Line>>) {
        let ring = self.0.ring.lock().unwrap_or_else(PoisonError::into_inner);
        (ring.iter().cloned().collect(), self.0.followers.subscribe())
    }

    /// The lines in the ring, oldest first.
    pub fn recent(&self) -> Vec<Arc<Line>> {
        self.follow().0
    }
}

fn print(mut lines: mpsc::Receiver<Arc<Line>>, format: &Format) {
    let mut out = std::io::stdout();
    while let Some(line) = lines.blocking_recv() {
        let text = format.format(&line);
        let Some(text) = text else { continue };
        if let Err(error) = writeln!(out, "{text}") {
            return tracing::debug!(%error, "the terminal is closed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_ring_keeps_the_newest_lines() {
        let logs = Logs::start(Format::Silent).unwrap();
        for number in 0..RING_LIMIT + 3 {
            logs.push("api-health", Source::Stdout, None, number.to_string()).await;
        }
        let lines = logs.recent();
        assert_eq!(lines.len(), RING_LIMIT);
        assert_eq!(lines[0].text, "3");
    }

    #[tokio::test]
    async fn a_follower_sees_old_and_new_lines_once_each() {
        let logs = Logs::start(Format::Silent).unwrap();
        logs.push("api-health", Source::Stdout, None, "old".to_owned()).await;
        let (old, mut live) = logs.follow();
        logs.push("api-health", Source::Stdout, None, "new".to_owned()).await;
        assert_eq!(old.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["old"]);
        assert_eq!(live.recv().await.unwrap().text, "new");
        assert!(live.try_recv().is_err());
    }
}
