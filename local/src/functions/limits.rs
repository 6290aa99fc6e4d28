//! Lambda's limits that are enforced here, and a few of this crate's own.

use std::time::Duration;

/// Time a new process has until its first `next`: Lambda's init phase.
pub const INIT_LIMIT: Duration = Duration::from_secs(10);

/// An idle process is stopped after this long. Lambda keeps one for minutes; a laptop wants its
/// memory back.
pub const IDLE_LIMIT: Duration = Duration::from_mins(1);

/// Between SIGTERM and SIGKILL, as Lambda grants it at shutdown.
pub const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// How long an invocation waits for a process that has just answered before another is started. A
/// runtime asks for its next event within a millisecond.
pub const RETURN_TIME: Duration = Duration::from_millis(5);

/// Largest answer of a synchronous invocation: 6 MB and the 100 bytes that Lambda adds for its
/// envelope.
pub const RESPONSE_LIMIT_BYTES: usize = 6 * 1024 * 1024 + 100;

/// Largest payload of an asynchronous invocation: 1 MB.
pub const EVENT_LIMIT_BYTES: usize = 1024 * 1024;

/// Processes of one function at once, unless `--concurrency` says otherwise.
pub const DEFAULT_CONCURRENCY: usize = 10;

/// Invocations of one function that wait for a process. Lambda would throttle at once, but its own
/// limit is a thousand environments and not ten: a burst that the cloud takes must not fail here.
pub const QUEUE_LIMIT: usize = 1_000;

/// How long one of them waits before it is throttled after all: API Gateway's integration timeout.
pub const QUEUE_WAIT: Duration = Duration::from_secs(29);

/// Processes in a row that may fail to start before the invocations that wait for one are given up.
pub const INIT_ATTEMPTS: u32 = 2;

/// Pauses before the two retries of an asynchronous invocation. Lambda waits one minute, then two;
/// which is too long to wait at a laptop.
pub const EVENT_RETRY_DELAYS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// Pause before a throttled asynchronous invocation is tried again; it doubles each time.
pub const THROTTLED_PAUSE: Duration = Duration::from_secs(1);

/// The longest of these pauses, as in Lambda.
pub const THROTTLED_PAUSE_LIMIT: Duration = Duration::from_mins(5);

/// Asynchronous invocations under way in the whole region; one more is throttled.
pub const EVENTS_LIMIT: usize = 1_000;

/// The longest log line that is kept whole: CloudWatch's event size.
pub const LOG_LINE_LIMIT_BYTES: usize = 256 * 1024;

/// Bounds of every pool. [`Settings::default`] is what the program runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Processes of one function at once.
    pub concurrency: usize,
    /// See [`INIT_LIMIT`].
    pub init_limit: Duration,
    /// See [`IDLE_LIMIT`].
    pub idle_limit: Duration,
    /// See [`RETURN_TIME`].
    pub return_time: Duration,
    /// See [`QUEUE_LIMIT`].
    pub queue_limit: usize,
    /// See [`QUEUE_WAIT`].
    pub queue_wait: Duration,
    /// See [`INIT_ATTEMPTS`].
    pub init_attempts: u32,
    /// See [`EVENT_RETRY_DELAYS`].
    pub event_retry_delays: Vec<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: DEFAULT_CONCURRENCY,
            init_limit: INIT_LIMIT,
            idle_limit: IDLE_LIMIT,
            return_time: RETURN_TIME,
            queue_limit: QUEUE_LIMIT,
            queue_wait: QUEUE_WAIT,
            init_attempts: INIT_ATTEMPTS,
            event_retry_delays: EVENT_RETRY_DELAYS.to_vec(),
        }
    }
}
