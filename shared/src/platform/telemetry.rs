//! Logs and metrics, both as JSON lines on standard output, which Lambda collects.
//!
//! A log line contains the request id, the function and the region of the invocation. Metrics are
//! lines in CloudWatch Embedded Metric Format, so recording one costs no call. Each combination of
//! dimensions is billed, so dimensions have few values (function, region, outcome) and never an id.

use std::error::Error;
use std::io::Write as _;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};
use tracing::level_filters::LevelFilter;
use tracing::{Span, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::core::clock::{Clock, SystemClock};
use crate::core::env::Env;

/// CloudWatch namespace of every metric.
pub const NAMESPACE: &str = "Sojourn";

/// The function and region of this process.
#[derive(Debug)]
struct ProcessIdentity {
    function: String,
    region: String,
}

static ORIGIN: OnceLock<ProcessIdentity> = OnceLock::new();

/// The metrics, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// First invocation of a process.
    ColdStart,
    OrdersPlaced,
    /// Orders cancelled by their customers.
    OrdersCancelled,
    /// Orders cancelled for want of payment.
    OrdersExpired,
    /// Orders that another region had written too, by what was done.
    OrdersReconciled,
    /// Number of evacuated regions, as seen by each region's watch.
    EvacuatedRegions,
    /// Uploads whose file matched its declaration.
    UploadsReady,
    /// Uploads whose file did not match, by the mismatch.
    UploadsRejected,
    /// Unfinished uploads that were deleted.
    UploadsExpired,
    /// Uploads that a clean-up left to the next run, by the reason.
    UploadsLeftOver,
    Payments,
    /// Replayed answers.
    IdempotentReplays,
    /// Keys that were used for another payload.
    IdempotencyMismatches,
    /// Transactions that conflicted and were retried.
    TransactionConflicts,
    /// Messages posted to sockets, by outcome.
    Deliveries,
    /// Messages that no socket of their user took, stored in the inbox.
    InboxStored,
    /// Messages refused because an inbox was full.
    InboxFull,
    /// Connections that a post found gone, or not open yet.
    GoneConnections,
    /// Handshakes, frames and messages refused by a limit on sockets, by the limit.
    SocketLimits,
    /// Sockets closed by the service, for their session's end or for too many frames, by outcome.
    ClosedSockets,
    /// Published event entries, by destination.
    EventsPublished,
    /// Event entries that failed and are retried, by destination.
    EventsFailed,
    /// Events, or messages of events, that can never be published.
    EventsSetAside,
    /// Age of the oldest event of a batch to be published, in seconds.
    OldestEventAge,
    /// Attempts to take a lock, by outcome.
    LockOutcomes,
    /// Scheduled jobs and other tasks completed, by job.
    JobsCompleted,
    /// Exports that ended, by outcome.
    Exports,
    /// Activity events taken from the buffer, by outcome.
    ActivityEvents,
    /// Refresh tokens shown again after their use: a theft, or a client that keeps old ones.
    RefreshTokensReused,
    /// Copies of sessions in Redis that no function wrote: another program writes to Redis, or the
    /// key has changed.
    ForgedSessionCopies,
    /// Reads through the cache, by source: `process`, `shared`, `stale`, or loaded (`refreshed`,
    /// `missed`, `direct`).
    CacheReads,
    /// Values that are not cached because they are too large, by entity.
    CacheTooLarge,
    /// Failed calls of the cache to Redis, and unreadable values.
    CacheFailures,
    /// Passwords not verified after too many failures, by the limit that was reached.
    ThrottledAttempts,
    /// Entries that a write-behind buffer accepted, by its kind.
    BufferOffered,
    /// Entries that a write-behind buffer refused because too many wait, by its kind.
    BufferRefused,
    /// Entries that wait in a write-behind buffer or are leased, by its kind.
    BufferWaiting,
    /// Age of the oldest entry of a write-behind buffer, in seconds, by its kind.
    BufferOldestAge,
    /// Entries redelivered by a write-behind buffer after a lease ended without acknowledgement, by
    /// its kind.
    BufferRedelivered,
    /// Unreadable messages of a write-behind buffer, by its kind.
    BufferUnreadable,
    /// Answers of status 500 and above, by error type.
    Errors,
}

impl Metric {
    /// All values.
    pub const ALL: [Self; 41] = [
        Self::ColdStart,
        Self::OrdersPlaced,
        Self::OrdersCancelled,
        Self::OrdersExpired,
        Self::OrdersReconciled,
        Self::EvacuatedRegions,
        Self::UploadsReady,
        Self::UploadsRejected,
        Self::UploadsExpired,
        Self::UploadsLeftOver,
        Self::Payments,
        Self::IdempotentReplays,
        Self::IdempotencyMismatches,
        Self::TransactionConflicts,
        Self::Deliveries,
        Self::InboxStored,
        Self::InboxFull,
        Self::GoneConnections,
        Self::SocketLimits,
        Self::ClosedSockets,
        Self::EventsPublished,
        Self::EventsFailed,
        Self::EventsSetAside,
        Self::OldestEventAge,
        Self::LockOutcomes,
        Self::JobsCompleted,
        Self::Exports,
        Self::ActivityEvents,
        Self::RefreshTokensReused,
        Self::ForgedSessionCopies,
        Self::CacheReads,
        Self::CacheTooLarge,
        Self::CacheFailures,
        Self::ThrottledAttempts,
        Self::BufferOffered,
        Self::BufferRefused,
        Self::BufferWaiting,
        Self::BufferOldestAge,
        Self::BufferRedelivered,
        Self::BufferUnreadable,
        Self::Errors,
    ];

    /// The name in CloudWatch.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ColdStart => "ColdStart",
            Self::OrdersPlaced => "OrdersPlaced",
            Self::OrdersCancelled => "OrdersCancelled",
            Self::OrdersExpired => "OrdersExpired",
            Self::OrdersReconciled => "OrdersReconciled",
            Self::EvacuatedRegions => "EvacuatedRegions",
            Self::UploadsReady => "UploadsReady",
            Self::UploadsRejected => "UploadsRejected",
            Self::UploadsExpired => "UploadsExpired",
            Self::UploadsLeftOver => "UploadsLeftOver",
            Self::Payments => "Payments",
            Self::IdempotentReplays => "IdempotentReplays",
            Self::IdempotencyMismatches => "IdempotencyMismatches",
            Self::TransactionConflicts => "TransactionConflicts",
            Self::Deliveries => "Deliveries",
            Self::InboxStored => "InboxStored",
            Self::InboxFull => "InboxFull",
            Self::GoneConnections => "GoneConnections",
            Self::SocketLimits => "SocketLimits",
            Self::ClosedSockets => "ClosedSockets",
            Self::EventsPublished => "EventsPublished",
            Self::EventsFailed => "EventsFailed",
            Self::EventsSetAside => "EventsSetAside",
            Self::OldestEventAge => "OldestEventAge",
            Self::LockOutcomes => "LockOutcomes",
            Self::JobsCompleted => "JobsCompleted",
            Self::Exports => "Exports",
            Self::ActivityEvents => "ActivityEvents",
            Self::RefreshTokensReused => "RefreshTokensReused",
            Self::ForgedSessionCopies => "ForgedSessionCopies",
            Self::CacheReads => "CacheReads",
            Self::CacheTooLarge => "CacheTooLarge",
            Self::CacheFailures => "CacheFailures",
            Self::ThrottledAttempts => "ThrottledAttempts",
            Self::BufferOffered => "BufferOffered",
            Self::BufferRefused => "BufferRefused",
            Self::BufferWaiting => "BufferWaiting",
            Self::BufferOldestAge => "BufferOldestAge",
            Self::BufferRedelivered => "BufferRedelivered",
            Self::BufferUnreadable => "BufferUnreadable",
            Self::Errors => "Errors",
        }
    }

    /// The unit in CloudWatch.
    const fn unit(self) -> &'static str {
        match self {
            Self::OldestEventAge | Self::BufferOldestAge => "Seconds",
            _ => "Count",
        }
    }

    /// The extra dimension, if the metric has one.
    pub const fn dimension(self) -> Option<&'static str> {
        match self {
            Self::Payments
            | Self::OrdersReconciled
            | Self::Deliveries
            | Self::ClosedSockets
            | Self::LockOutcomes
            | Self::Exports
            | Self::ActivityEvents
            | Self::CacheReads => Some("outcome"),
            Self::CacheTooLarge => Some("entity"),
            Self::EventsPublished | Self::EventsFailed => Some("destination"),
            Self::UploadsRejected | Self::UploadsLeftOver => Some("reason"),
            Self::JobsCompleted => Some("job"),
            Self::ThrottledAttempts | Self::SocketLimits => Some("limit"),
            Self::BufferOffered
            | Self::BufferRefused
            | Self::BufferWaiting
            | Self::BufferOldestAge
            | Self::BufferRedelivered
            | Self::BufferUnreadable => Some("buffer"),
            Self::Errors => Some("error_type"),
            _ => None,
        }
    }
}

/// Starts logging. Called once, before anything can fail.
pub fn start(function: &str, env: &Env) {
    // A second start in one process (in tests) keeps the first subscriber.
    if tracing::subscriber::set_global_default(json_lines(filter(function, env), std::io::stdout)).is_ok() {
        let region = env.optional("AWS_REGION").unwrap_or("unknown").to_owned();
        ORIGIN.get_or_init(|| ProcessIdentity { function: function.to_owned(), region });
    }
}

/// The log filter: lines of this service from `LOG_LEVEL` up, lines of libraries from `info` up at
/// most. At `trace`, libraries log requests and answers with passwords and tokens.
fn filter(function: &str, env: &Env) -> EnvFilter {
    let level = env.optional("LOG_LEVEL").and_then(|text| text.parse().ok()).unwrap_or(LevelFilter::INFO);
    let (libraries, function) = (level.min(LevelFilter::INFO), function.replace('-', "_"));
    EnvFilter::new(format!("{libraries},sojourn={level},{function}={level}"))
}

fn json_lines<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_target(false)
        .with_env_filter(filter)
        .with_writer(writer)
        .finish()
}

/// The span of an invocation, whose fields each of its log lines contains.
pub fn invocation(function: &str, request_id: &str) -> Span {
    let region = ORIGIN.get().map_or("unknown", |origin| origin.region.as_str());
    tracing::info_span!("invocation", request_id, function, region)
}

/// An error and its causes, for one log line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Adds `value` to a metric without an extra dimension.
pub fn count(metric: Metric, value: u64) {
    emit(metric, None, value);
}

/// Records a measured `value`.
pub fn measure(metric: Metric, value: u64) {
    emit(metric, None, value);
}

/// Records a measured `value` under `case` of the extra dimension.
pub fn measure_case(metric: Metric, case: &str, value: u64) {
    emit(metric, Some(case), value);
}

/// Adds `value` to a metric under `case` of its extra dimension.
pub fn count_case(metric: Metric, case: &str, value: u64) {
    emit(metric, Some(case), value);
}

fn emit(metric: Metric, case: Option<&str>, value: u64) {
    let Some(origin) = ORIGIN.get() else { return };
    let line = emf_line(metric, case, value, origin, SystemClock.now().as_millisecond());
    // If standard output is closed, there is nowhere to report the error.
    if let Err(error) = writeln!(std::io::stdout().lock(), "{line}") {
        tracing::debug!(%error, "metric line not written");
    }
}

fn emf_line(metric: Metric, case: Option<&str>, value: u64, origin: &ProcessIdentity, now_ms: i64) -> Value {
    let mut line = Map::new();
    let mut dimensions = vec!["function", "region"];
    line.insert("function".into(), origin.function.clone().into());
    line.insert("region".into(), origin.region.clone().into());
    if let (Some(dimension), Some(case)) = (metric.dimension(), case) {
        dimensions.push(dimension);
        line.insert(dimension.into(), case.into());
    }
    line.insert(metric.name().into(), value.into());
    line.insert(
        "_aws".into(),
        json!({
            "Timestamp": now_ms,
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [dimensions],
                "Metrics": [{"Name": metric.name(), "Unit": metric.unit()}],
            }],
        }),
    );
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: EnvFilter, work: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(json_lines(filter, move || writer.clone()), work);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn at_the_lowest_level_libraries_still_say_nothing_of_what_they_carry() {
        for (level, expected) in [("trace", "own shop info"), ("error", ""), ("nonsense", "info")] {
            let text = logged(filter("api-orders", &Env::of([("LOG_LEVEL", level)])), || {
                tracing::trace!(target: "sojourn::commerce::orders", "own");
                tracing::debug!(target: "api_orders::handler", "shop");
                tracing::trace!(target: "aws_smithy_runtime", "a request with its secrets");
                tracing::debug!(target: "lambda_runtime", "an answer with its token");
                tracing::info!(target: "lambda_runtime", "info");
            });
            let said: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let said: Vec<_> = said.iter().map(|line| line["message"].as_str().unwrap()).collect();
            assert_eq!(said.join(" "), expected, "{level}");
        }
    }

    #[test]
    fn a_log_line_of_an_invocation_says_which_where_and_by_what() {
        let text = logged(EnvFilter::new("info"), || {
            invocation("api-orders", "req-1").in_scope(|| tracing::info!(status = 409, "refused"));
        });
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["level"], &line["message"], &line["status"]),
            (&json!("INFO"), &json!("refused"), &json!(409))
        );
        let span = json!({"name": "invocation", "request_id": "req-1", "function": "api-orders", "region": "unknown"});
        assert_eq!(line["span"], span);
    }

    #[test]
    fn a_metric_line_names_its_values_where_the_format_wants_them() {
        let origin = ProcessIdentity { function: "ws-send".into(), region: "local".into() };
        let line = emf_line(Metric::Deliveries, Some("gone"), 3, &origin, 1_700_000_000_000);
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Dimensions"][0], json!(["function", "region", "outcome"]));
        assert_eq!(line[directive["Metrics"][0]["Name"].as_str().unwrap()], 3);
        assert_eq!(line["outcome"], "gone");
        assert_eq!(line["_aws"]["Timestamp"], 1_700_000_000_000_i64);
    }
}
