//! What a function process writes, line by line, into the log.
//!
//! The pipe is read no faster than the log takes the lines, so a flood slows the function down and not the region.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::task::JoinSet;

use super::limits::LOG_LINE_LIMIT_BYTES;
use super::pool::Pool;
use crate::logs::Source;

/// After the process's end its pipes are closed, unless a child of its own holds them open.
const DRAIN_LIMIT: Duration = Duration::from_millis(200);

/// The two readers of one process. Dropped, they stop.
pub(super) struct Output(JoinSet<()>);

/// Starts to forward stdout and stderr of `child`.
pub(super) fn forward(child: &mut Child, pool: &Arc<Pool>) -> Output {
    let mut readers = JoinSet::new();
    let pid = child.id();
    if let Some(stdout) = child.stdout.take() {
        readers.spawn(lines(stdout, Source::Stdout, pid, Arc::clone(pool)));
    }
    if let Some(stderr) = child.stderr.take() {
        readers.spawn(lines(stderr, Source::Stderr, pid, Arc::clone(pool)));
    }
    Output(readers)
}

impl Output {
    /// Waits until everything that was written has been forwarded.
    pub(super) async fn drained(mut self) {
        let all = async { while self.0.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_LIMIT, all).await.is_err() {
            tracing::debug!("a function's output is still held open; the rest is dropped");
        }
    }
}

async fn lines(pipe: impl AsyncRead + Unpin, source: Source, pid: Option<u32>, pool: Arc<Pool>) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        match fill(&mut reader, &mut line).await {
            Ok(true) => {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                line.clear();
                if !text.is_empty() {
                    pool.log(source, pid, text).await;
                }
            }
            Ok(false) => return,
            Err(error) => return tracing::debug!(%error, "a function's output can't be read any more"),
        }
    }
}

/// Reads one line, or its first [`LOG_LINE_LIMIT_BYTES`], without the line feed; false at the end.
async fn fill(reader: &mut (impl AsyncBufReadExt + Unpin), line: &mut Vec<u8>) -> std::io::Result<bool> {
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(!line.is_empty());
        }
        let room = LOG_LINE_LIMIT_BYTES - line.len();
        let end = available.iter().take(room).position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(available.len().min(room));
        line.extend_from_slice(&available[..taken]);
        reader.consume(taken + usize::from(end.is_some()));
        if end.is_some() || line.len() >= LOG_LINE_LIMIT_BYTES {
            return Ok(true);
        }
    }
}
