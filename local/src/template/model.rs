//! What the rest of the region reads of template.yaml: plain values, every intrinsic function already resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

/// `AWS::Region` here.
pub const REGION: &str = "local";

/// `AWS::AccountId` here.
pub const ACCOUNT: &str = "000000000000";

/// `AWS::StackName` here.
pub const STACK_NAME: &str = "sojourn";

/// One region's stack.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Stack {
    /// In the order of their logical ids.
    pub functions: Vec<Function>,
    /// The HTTP API, if the template has one.
    pub http_api: Option<HttpApi>,
    /// The WebSocket API, if the template has one.
    pub websocket_api: Option<WebSocketApi>,
    /// Every `AWS::DynamoDB::Table`.
    pub tables: Vec<Table>,
    /// Every `AWS::S3::Bucket`.
    pub buckets: Vec<Bucket>,
    /// Every `ScheduleV2` event of a function.
    pub schedules: Vec<Schedule>,
    /// Physical names of every `AWS::SecretsManager::Secret`.
    pub secrets: Vec<String>,
    /// Every `AWS::SQS::Queue`.
    pub queues: Vec<Queue>,
    /// Every `SQS` event of a function.
    pub event_sources: Vec<EventSource>,
    /// Resources of types that the local region neither runs nor ignores on purpose, as `LogicalId (Type)`.
    pub not_run: Vec<String>,
}

/// An `AWS::Serverless::Function`.
#[derive(Debug, Clone, Serialize)]
pub struct Function {
    /// Short name, the last segment of `CodeUri`: `api-orders`. Also the name of its cargo binary.
    pub name: String,
    /// The function's name in the stack: `sojourn-api-orders`.
    pub physical_name: String,
    /// `Timeout`.
    pub timeout: Duration,
    /// `MemorySize` in MiB.
    pub memory_mib: u32,
    /// `Environment.Variables`, globals merged in.
    pub environment: BTreeMap<String, String>,
    /// What its role may do: the inline statements of `Policies`, and what SAM adds for `on_failure`.
    pub policy: Vec<Statement>,
    /// `ReservedConcurrentExecutions`, if any.
    pub reserved_concurrency: Option<usize>,
    /// `EventInvokeConfig`. A description of the template has it as it stands there.
    #[serde(skip)]
    pub event_invoke: EventInvoke,
}

/// How asynchronous invocations of a function are tried again, and what becomes of those that fail for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventInvoke {
    /// `MaximumRetryAttempts`.
    pub maximum_retry_attempts: usize,
    /// `MaximumEventAgeInSeconds`.
    pub maximum_event_age: Duration,
    /// Name of the queue that `DestinationConfig.OnFailure` names.
    pub on_failure: Option<String>,
}

/// Lambda's own settings.
impl Default for EventInvoke {
    fn default() -> Self {
        Self { maximum_retry_attempts: 2, maximum_event_age: Duration::from_hours(6), on_failure: None }
    }
}

/// One `Allow` statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// `dynamodb:GetItem`, wildcards allowed.
    pub actions: Vec<String>,
    /// ARNs, wildcards allowed.
    pub resources: Vec<String>,
    /// What must hold of a request as well: all of it.
    pub conditions: Vec<Condition>,
}

/// One key of a statement's `Condition`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Condition {
    /// `ForAllValues:StringEquals` of `dynamodb:Attributes`: the request names no others.
    Attributes(BTreeSet<String>),
    /// `StringEquals` of `dynamodb:ReturnValues`: the request names one of these.
    ReturnValues(BTreeSet<String>),
    /// `StringEqualsIfExists` of `dynamodb:ReturnValues`: the request names one of these, or none at all.
    ReturnValuesIfExists(BTreeSet<String>),
}

/// The HTTP API (payload format 2.0).
#[derive(Debug, Clone, Default, Serialize)]
pub struct HttpApi {
    /// Its routes.
    pub routes: Vec<HttpRoute>,
    /// `CorsConfiguration`, if any.
    pub cors: Option<Cors>,
}

/// One route: `POST /orders/{orderId}/cancel`.
#[derive(Debug, Clone, Serialize)]
pub struct HttpRoute {
    /// Upper case, or `ANY`.
    pub method: String,
    /// With `{name}` and `{name+}` segments.
    pub path: String,
    /// Short name of the function that answers.
    pub function: String,
}

/// `CorsConfiguration` of an HTTP API.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Cors {
    /// `AllowOrigins`: exact origins, `*`, or a scheme and `*`.
    pub allow_origins: Vec<String>,
    /// `AllowMethods`, `*` allowed.
    pub allow_methods: Vec<String>,
    /// `AllowHeaders`, `*` allowed.
    pub allow_headers: Vec<String>,
    /// `ExposeHeaders`.
    pub expose_headers: Vec<String>,
    /// `AllowCredentials`.
    pub allow_credentials: bool,
    /// `MaxAge`.
    pub max_age: Option<Duration>,
}

/// The WebSocket API.
#[derive(Debug, Clone, Serialize)]
pub struct WebSocketApi {
    /// Such as `$request.body.action`.
    pub route_selection_expression: String,
    /// Route key (`$connect`, `send`, ...) to route.
    pub routes: BTreeMap<String, WebSocketRoute>,
    /// The stage's name.
    pub stage: String,
}

/// One WebSocket route.
#[derive(Debug, Clone, Serialize)]
pub struct WebSocketRoute {
    /// Short name of the function.
    pub function: String,
    /// Whether a route response exists, so that the function's answer reaches the client.
    pub responds: bool,
}

/// A DynamoDB table.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    /// Logical id: `OrdersTable`.
    pub logical_id: String,
    /// Physical name: what `Ref` gives.
    pub name: String,
    /// The resource's resolved properties as the `CreateTable` API takes them (`KeySchema`, `AttributeDefinitions`,
    /// `GlobalSecondaryIndexes`, `StreamSpecification`, `BillingMode`).
    pub create: serde_json::Value,
    /// TTL attribute, if enabled.
    pub ttl_attribute: Option<String>,
}

/// An S3 bucket.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Bucket {
    /// Physical name: what `Ref` gives.
    pub name: String,
    /// `CorsConfiguration.CorsRules`, the first that fits decides.
    pub cors: Vec<CorsRule>,
}

/// Who may ask a bucket from a web page, and how. One `*` in an origin or a header stands for any text.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CorsRule {
    /// `AllowedOrigins`.
    pub allowed_origins: Vec<String>,
    /// `AllowedMethods`.
    pub allowed_methods: Vec<String>,
    /// `AllowedHeaders`, case aside.
    pub allowed_headers: Vec<String>,
    /// `ExposedHeaders`.
    pub exposed_headers: Vec<String>,
    /// `MaxAge`.
    pub max_age: Option<Duration>,
}

/// An EventBridge Scheduler schedule.
#[derive(Debug, Clone, Serialize)]
pub struct Schedule {
    /// The schedule's name: what `cargo dev -- fire` takes.
    pub name: String,
    /// `cron(...)`, `rate(...)` or `at(...)`, in UTC.
    pub expression: String,
    /// Short name of the function.
    pub function: String,
    /// The `Input` text, with `<aws.scheduler.scheduled-time>` and friends still in it.
    pub input: String,
    /// Retries after a failed delivery.
    pub maximum_retry_attempts: u32,
    /// False when the template disables it.
    pub enabled: bool,
    /// Name of the queue that the input of a run goes to that was given up; only if it is one of the template's.
    pub dead_letter_queue: Option<String>,
}

/// An SQS queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// What `GetAtt QueueName` gives.
    pub name: String,
    /// How long a message that was received is hidden from others.
    pub visibility_timeout: Duration,
    /// How long a message is hidden after it was sent.
    pub delay: Duration,
    /// How long a message is kept.
    pub retention: Duration,
    /// How long a receiver waits for a message unless it says so itself.
    pub receive_wait: Duration,
    /// Largest message, body and attributes.
    pub maximum_message_bytes: usize,
    /// Where messages go that nobody could handle.
    pub redrive: Option<Redrive>,
}

/// A queue's `RedrivePolicy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Redrive {
    /// Name of the queue that takes them.
    pub dead_letter_queue: String,
    /// A message that has been received this often goes there instead of being received once more.
    pub maximum_receives: u32,
}

/// A queue as a function's event source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventSource {
    /// The queue's name.
    pub queue: String,
    /// Short name of the function.
    pub function: String,
    /// Messages in an event, at most.
    pub batch_size: usize,
    /// How long a batch that is not full waits for further messages.
    pub batching_window: Duration,
    /// What the function's answer means.
    pub answers: Answers,
    /// Invocations at the same time; `None` leaves it to the region.
    pub maximum_concurrency: Option<usize>,
    /// False when the template disables it.
    pub enabled: bool,
}

/// What the answer of a function to a batch means (`FunctionResponseTypes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Answers {
    /// Nothing: the batch was handled if there was an answer.
    Ignored,
    /// It lists the messages that were not handled (`ReportBatchItemFailures`).
    ReportFailures,
}
