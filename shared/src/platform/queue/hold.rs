//! Keeps a message hidden while its work runs, so that a dead worker is replaced soon.
//!
//! The queue's visibility timeout is long: Lambda recommends six times the function's timeout,
//! because its poller keeps messages while the function is throttled. A dead worker would hide its
//! message for all of that time. So:
//!
//! 1. Before the work starts, the message's timeout is set to [`HELD`].
//! 2. While the work runs, it is set to [`HELD`] again every [`HEARTBEAT`]. If the worker dies, the
//!    message is received again at most [`HELD`] after its last heartbeat.
//! 3. If the work fails, the timeout is set to [`retry_after`], which doubles with each receive
//!    (exponential backoff).
//! 4. If the work succeeds, nothing is done: the event source mapping deletes the message.
//!
//! # Limits
//! A failed call is logged and the work continues: a message that is received too early meets the
//! lock of the work, as any duplicate does. A worker that dies before step 1 has ended hides its
//! message for the queue's own timeout. A death counts as a receive, as a failure does.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use super::Delivered;
use crate::platform::telemetry::chain;

/// How long a message is hidden after each heartbeat: two heartbeats may fail before it is received
/// again.
pub const HELD: Duration = Duration::from_secs(30);

/// The pause between two heartbeats. Each costs a request to the queue.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// How long a message is hidden after the first failure.
const FIRST_RETRY: Duration = Duration::from_secs(30);

/// How long a message is hidden after a failure, at most.
const LONGEST_RETRY: Duration = Duration::from_mins(15);

/// A message's timeout was not changed, or it is unknown whether it was.
#[derive(Debug, thiserror::Error)]
#[error("the visibility timeout of a message of {queue} was not changed")]
pub struct NotHidden {
    pub queue: String,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Changes how long messages are hidden.
pub trait Visibility: Send + Sync {
    /// Hides the message that was received with `receipt_handle` for `timeout` from now on.
    fn hide(
        &self,
        receipt_handle: &str,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), NotHidden>> + Send;
}

/// Runs `work` for `message` of `queue`, and keeps the message hidden meanwhile.
pub async fn hold<T, E>(
    queue: &impl Visibility,
    message: &Delivered,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    hide(queue, message, HELD).await;
    let ended = tokio::select! {
        biased;
        ended = work => ended,
        never = heartbeats(queue, message) => match never {},
    };
    if ended.is_err() {
        hide(queue, message, retry_after(message.receive_count)).await;
    }
    ended
}

async fn heartbeats(queue: &impl Visibility, message: &Delivered) -> Infallible {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        hide(queue, message, HELD).await;
    }
}

async fn hide(queue: &impl Visibility, message: &Delivered, timeout: Duration) {
    if let Err(error) = queue.hide(&message.receipt_handle, timeout).await {
        tracing::warn!(
            message_id = message.message_id,
            error = chain(&error),
            "the visibility timeout was not extended"
        );
    }
}

/// How long a message is hidden after its failure number `receive_count`.
fn retry_after(receive_count: u32) -> Duration {
    let doublings = receive_count.saturating_sub(1);
    let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
    FIRST_RETRY.saturating_mul(factor).min(LONGEST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::deadline::Deadline;
    use jiff::Timestamp;
    use std::sync::Mutex;
    use tokio::time::{Instant, sleep};

    /// Notes when it was asked for what.
    struct Noted {
        began: Instant,
        calls: Mutex<Vec<(u64, u64)>>,
        fails: bool,
    }

    impl Noted {
        fn new(fails: bool) -> Self {
            Self { began: Instant::now(), calls: Mutex::default(), fails }
        }

        /// Each call: how many seconds after the beginning, and for how many seconds.
        fn calls(self) -> Vec<(u64, u64)> {
            self.calls.into_inner().unwrap()
        }
    }

    impl Visibility for Noted {
        async fn hide(&self, receipt_handle: &str, timeout: Duration) -> Result<(), NotHidden> {
            assert_eq!(receipt_handle, "r");
            self.calls.lock().unwrap().push((self.began.elapsed().as_secs(), timeout.as_secs()));
            let failed = || NotHidden { queue: "q".to_owned(), source: "down".into() };
            if self.fails { Err(failed()) } else { Ok(()) }
        }
    }

    fn received(receive_count: u32) -> Delivered {
        Delivered {
            body: String::new(),
            message_id: "m".to_owned(),
            receipt_handle: "r".to_owned(),
            receive_count,
            queue_arn: "q".to_owned(),
            sent_at: Timestamp::UNIX_EPOCH,
            deadline: Deadline::after(Duration::from_mins(1)),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_hidden_for_as_long_as_the_work_takes_and_no_longer() {
        let queue = Noted::new(false);
        let work = async {
            sleep(Duration::from_secs(25)).await;
            Ok::<_, ()>("done")
        };
        assert_eq!(hold(&queue, &received(1), work).await, Ok("done"));
        sleep(HELD).await;
        assert_eq!(queue.calls(), [(0, 30), (10, 30), (20, 30)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_fails_again_comes_again_later() {
        for (receive_count, seconds) in [(1, 30), (2, 60), (5, 480), (6, 900), (40, 900)] {
            let queue = Noted::new(false);
            let failed = hold(&queue, &received(receive_count), async { Err::<(), _>("no") }).await;
            assert_eq!(failed, Err("no"));
            assert_eq!(queue.calls(), [(0, 30), (0, seconds)], "receive {receive_count}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_is_down_stops_no_work() {
        let queue = Noted::new(true);
        let work = async {
            sleep(Duration::from_secs(15)).await;
            Ok::<_, ()>("done")
        };
        assert_eq!(hold(&queue, &received(1), work).await, Ok("done"));
        assert_eq!(queue.calls(), [(0, 30), (10, 30)]);
    }
}
