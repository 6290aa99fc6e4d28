//! Logs and metrics, both as JSON lines on standard output, where Lambda collects them.
//!
//! A log line carries the request id, the function and the region of the invocation's span. Metrics are CloudWatch
//! Embedded Metric Format: CloudWatch makes metrics of the lines, so that recording one costs no call.
//! Dimensions are few and of few values (function, region, an outcome), never an id: each combination is billed.

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

/// Where this process runs.
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
    /// Orders that another region had written too, by what was done about it.
    OrdersReconciled,
    /// How many regions are evacuated, as each region's watch finds.
    EvacuatedRegions,
    /// Uploads whose file was found to be what was announced.
    UploadsReady,
    /// Uploads whose file was something else, by what was wrong.
    UploadsRejected,
    /// Uploads that were never finished, deleted.
    UploadsExpired,
    /// What a clean-up of uploads left to the next one, by the reason.
    UploadsLeftOver,
    Payments,
    /// Stored answers given again.
    IdempotentReplays,
    /// Keys that were used for another payload.
    IdempotencyMismatches,
    /// Transactions that met another one and were tried again.
    TransactionConflicts,
    /// Messages posted to sockets, by outcome.
    Deliveries,
    /// Messages that no socket of their user took, stored in the inbox.
    InboxStored,
    /// Messages that were refused because an inbox was full.
    InboxFull,
    /// Connections that a post found gone, or not open yet.
    GoneConnections,
    /// Handshakes, frames and messages that were refused because a user does too much with sockets, by the limit that was
    /// reached.
    SocketLimits,
    /// Sockets that we closed, for their session's end or for too many frames, by outcome.
    ClosedSockets,
    /// Entries of events that were published, by destination.
    EventsPublished,
    /// Entries of events that were not published and are sent again, by destination.
    EventsFailed,
    /// Events, or messages of events, that can never be published.
    EventsSetAside,
    /// Age of the oldest event of a batch that is about to be published, in seconds.
    OldestEventAge,
    /// Tries to take a lock, by outcome.
    LockOutcomes,
    /// Scheduled jobs and other tasks completed, by job.
    JobsCompleted,
    /// Exports that came to an end, by outcome.
    Exports,
    /// Events of activity that came out of the buffer, by what became of them.
    ActivityEvents,
    /// Refresh tokens that were shown again after their use: a theft, or a client that keeps old ones.
    RefreshTokensReused,
    /// Copies of sessions in Redis that no function wrote: somebody writes to Redis, or the key has changed.
    ForgedSessionCopies,
    /// Reads through the cache, by how they were answered: `process`, `shared`, `stale`, or loaded (`refreshed`, `missed`,
    /// `direct`).
    CacheReads,
    /// Values that are not cached because they are too large, by entity.
    CacheTooLarge,
    /// Calls of the cache to Redis that failed, and values that could not be read.
    CacheFailures,
    /// Passwords that were not verified because too many had been wrong, by the limit that was reached.
    ThrottledAttempts,
    /// Entries that a write-behind buffer accepted, by its kind.
    BufferOffered,
    /// Entries that a write-behind buffer refused because too many wait, by its kind.
    BufferRefused,
    /// Entries that wait in a write-behind buffer or are leased, by its kind.
    BufferWaiting,
    /// Age of the oldest entry of a write-behind buffer, in seconds, by its kind.
    BufferOldestAge,
    /// Entries that a write-behind buffer delivered once more, because a lease ended without an acknowledgement, by its kind.
    BufferRedelivered,
    /// Messages of a write-behind buffer that cannot be read, by its kind.
    BufferUnreadable,
    /// Answers of status 500 and above, by error type.
    Errors,
}

impl Metric {
    /// All of them.
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

    /// The extra dimension that tells cases apart, if the metric has one.
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
    // A second start in one process (a test) keeps the first one's subscriber.
    if tracing::subscriber::set_global_default(json_lines(filter(function, env), std::io::stdout)).is_ok() {
        let region = env.optional("AWS_REGION").unwrap_or("unknown").to_owned();
        ORIGIN.get_or_init(|| ProcessIdentity { function: function.to_owned(), region });
    }
}

/// What is logged: our own lines from `LOG_LEVEL` up. Libraries never say more than `info`, whatever is asked for: at
/// `trace` they log requests and answers, passwords and tokens among them.
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

/// The span of one invocation: what each of its log lines carries.
pub fn invocation(function: &str, request_id: &str) -> Span {
    let region = ORIGIN.get().map_or("unknown", |origin| origin.region.as_str());
    tracing::info_span!("invocation", request_id, function, region)
}

/// An error and the whole chain of its causes, for one log line.
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

/// Counts `value` of a metric without an extra dimension.
pub fn count(metric: Metric, value: u64) {
    emit(metric, None, value);
}

/// Records `value` of a metric that is measured, not counted.
pub fn measure(metric: Metric, value: u64) {
    emit(metric, None, value);
}

/// Records `value` of a metric that is measured, not counted, under a case of its extra dimension.
pub fn measure_case(metric: Metric, case: &str, value: u64) {
    emit(metric, Some(case), value);
}

/// Counts `value` of a metric under a case of its extra dimension.
pub fn count_case(metric: Metric, case: &str, value: u64) {
    emit(metric, Some(case), value);
}

fn emit(metric: Metric, case: Option<&str>, value: u64) {
    let Some(origin) = ORIGIN.get() else { return };
    let line = emf_line(metric, case, value, origin, SystemClock.now().as_millisecond());
    // Standard output gone means nobody collects: there is nobody left to tell.
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
