//! Copies the output of a function process into the log, line by line.
//!
//! The pipe is read no faster than the log takes the lines, so a flood slows the function down and
//! not the region.
//!
//! A function's answer may arrive before the lines that were written earlier. [`Flush`] forwards
//! the lines that the pipes hold at that moment.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::limits::LOG_LINE_LIMIT_BYTES;
use super::process::{Flush, Process};
use crate::logs::Source;

/// After the process's end its pipes are closed, unless a child of its own holds them open.
const DRAIN_LIMIT: Duration = Duration::from_millis(200);

/// Read from a pipe at once.
const CHUNK_BYTES: usize = 8 * 1024;

/// More than a pipe holds (64 KiB): where a flush ends although the function goes on writing.
const FLUSH_LIMIT_BYTES: usize = 128 * 1024;

/// The two readers of one process. Dropped, they stop.
pub(super) struct Output(JoinSet<()>);

/// Starts to forward stdout and stderr of `child`, which is `process`.
pub(super) fn forward(child: &mut Child, process: &Arc<Process>) -> (Output, Flush) {
    let mut readers = JoinSet::new();
    let mut flush = Flush::default();
    let pid = child.id();
    let reader = |source| Reader { process: Arc::clone(process), source, pid, line: Vec::new() };
    if let Some(stdout) = child.stdout.take() {
        readers.spawn(reader(Source::Stdout).run(stdout, flushes(&mut flush)));
    }
    if let Some(stderr) = child.stderr.take() {
        readers.spawn(reader(Source::Stderr).run(stderr, flushes(&mut flush)));
    }
    (Output(readers), flush)
}

/// What asks a reader to forward what its pipe holds.
fn flushes(flush: &mut Flush) -> mpsc::Receiver<oneshot::Sender<()>> {
    let (sender, receiver) = mpsc::channel(1);
    flush.0.push(sender);
    receiver
}

impl Output {
    /// Waits until everything that was written has been forwarded.
    pub(super) async fn drained(&mut self) {
        let all = async { while self.0.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_LIMIT, all).await.is_err() {
            tracing::debug!("a function's output is still held open; the rest is dropped");
        }
    }
}

/// One pipe of a process.
struct Reader {
    process: Arc<Process>,
    source: Source,
    pid: Option<u32>,
    /// What has come of a line that has no end yet.
    line: Vec<u8>,
}

impl Reader {
    async fn run<P>(mut self, mut pipe: P, mut flushes: mpsc::Receiver<oneshot::Sender<()>>)
    where
        P: AsyncRead + AsFd + Unpin,
    {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = tokio::select! {
                biased;
                read = pipe.read(&mut chunk) => read,
                Some(done) = flushes.recv() => {
                    self.flush(&pipe, &mut chunk).await;
                    if done.send(()).is_err() {
                        tracing::debug!("nobody waits for a flush any more");
                    }
                    continue;
                }
            };
            match read {
                Ok(0) => break,
                Ok(read) => self.take(&chunk[..read]).await,
                Err(error) => {
                    tracing::debug!(%error, "a function's output can't be read any more");
                    break;
                }
            }
        }
        self.end_line().await;
    }

    /// Reads by the system call: tokio may not have been told yet that the pipe has something.
    async fn flush(&mut self, pipe: &impl AsFd, chunk: &mut [u8]) {
        let mut flushed = 0;
        while flushed < FLUSH_LIMIT_BYTES
            && let Ok(read @ 1..) = nix::unistd::read(pipe, chunk)
        {
            flushed += read;
            self.take(&chunk[..read]).await;
        }
    }

    /// Forwards the lines that end in `bytes`. One beyond [`LOG_LINE_LIMIT_BYTES`] is cut into
    /// several.
    async fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = LOG_LINE_LIMIT_BYTES - self.line.len();
            let end = bytes.iter().take(room).position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(bytes.len().min(room));
            self.line.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken + usize::from(end.is_some())..];
            if end.is_some() || self.line.len() >= LOG_LINE_LIMIT_BYTES {
                self.end_line().await;
            }
        }
    }

    async fn end_line(&mut self) {
        let text = String::from_utf8_lossy(&self.line).trim_end_matches('\r').to_owned();
        self.line.clear();
        if !text.is_empty() {
            self.process.log(self.source, self.pid, text).await;
        }
    }
}
