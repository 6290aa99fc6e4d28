//! What the rest of the region reads of template.yaml: plain values, every intrinsic function
//! already resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::arn::Arns;
pub use super::arn::{ACCOUNT, DEFAULT_BUS};
use crate::patterns::{FilterScope, Pattern};

/// One region's stack.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Stack {
    /// Names its resources: `AWS::Region`, and the ARNs.
    #[serde(skip)]
    pub arns: Arns,
    /// In the order of their logical ids.
    pub functions: Vec<Function>,
    /// The HTTP API, if the template has one.
    pub http_api: Option<HttpApi>,
    /// The WebSocket API, if the template has one.
    pub websocket_api: Option<WebSocketApi>,
    /// Every `AWS::DynamoDB::Table`, and the region's replica of every global table.
    pub tables: Vec<Table>,
    /// Every `AWS::S3::Bucket`.
    pub buckets: Vec<Bucket>,
    /// Every `ScheduleV2` event of a function.
    pub schedules: Vec<Schedule>,
    /// Physical names of every `AWS::SecretsManager::Secret`.
    pub secrets: Vec<String>,
    /// The `SecretString` of those that have one, by physical name.
    #[serde(skip)]
    pub secret_strings: BTreeMap<String, String>,
    /// Every `AWS::SQS::Queue`.
    pub queues: Vec<Queue>,
    /// Every `SQS` event of a function, and every `AWS::Lambda::EventSourceMapping` of a queue.
    pub event_sources: Vec<EventSource>,
    /// Every `DynamoDB` event of a function, and every `AWS::Lambda::EventSourceMapping` of a
    /// stream.
    pub stream_sources: Vec<StreamSource>,
    /// Every `AWS::Lambda::EventSourceMapping` of a topic of Kafka.
    pub kafka_sources: Vec<KafkaSource>,
    /// Every `AWS::SNS::Topic`.
    pub topics: Vec<Topic>,
    /// Every `AWS::SNS::Subscription`, those of topics of other regions too.
    pub subscriptions: Vec<Subscription>,
    /// Names of every `AWS::Events::EventBus`. The bus `default` is there besides them.
    pub event_buses: Vec<String>,
    /// Every `AWS::Events::Rule`.
    pub rules: Vec<Rule>,
    /// What services may deliver to: of every `AWS::SQS::QueuePolicy` and
    /// `AWS::Lambda::Permission`.
    pub service_permissions: Vec<ServicePermission>,
    /// Resources of types that the local region neither runs nor ignores on purpose, as
    /// `LogicalId (Type)`.
    pub not_run: Vec<String>,
}

/// An `AWS::Serverless::Function`.
#[derive(Debug, Clone, Serialize)]
pub struct Function {
    /// Short name: the last folder of `CodeUri`, or the logical id if another function has the
    /// same.
    pub name: String,
    /// The function's name in the stack: `shop-api-orders`.
    pub physical_name: String,
    /// `CodeUri`: a folder, relative to the template's.
    #[serde(skip)]
    pub code_uri: String,
    /// `Handler`, which Lambda passes on to a custom runtime in `_HANDLER`.
    #[serde(skip)]
    pub handler: String,
    /// `Timeout`.
    pub timeout: Duration,
    /// `MemorySize` in MiB.
    pub memory_mib: u32,
    /// `Environment.Variables`, globals merged in.
    pub environment: BTreeMap<String, String>,
    /// What its role may do: the inline statements of `Policies`, and what SAM adds for
    /// `on_failure`.
    pub policy: Vec<Statement>,
    /// `ReservedConcurrentExecutions`, if any.
    pub reserved_concurrency: Option<usize>,
    /// `EventInvokeConfig`. A description of the template has it as it stands there.
    #[serde(skip)]
    pub event_invoke: EventInvoke,
}

/// How asynchronous invocations of a function are tried again, and what becomes of those that fail
/// for good.
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
    /// `StringEqualsIfExists` of `dynamodb:ReturnValues`: the request names one of these, or none
    /// at all.
    ReturnValuesIfExists(BTreeSet<String>),
}

/// The HTTP API (payload format 2.0).
#[derive(Debug, Clone, Default, Serialize)]
pub struct HttpApi {
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
    /// The resource's resolved properties as the `CreateTable` API takes them (`KeySchema`,
    /// `AttributeDefinitions`, `GlobalSecondaryIndexes`, `StreamSpecification`, `BillingMode`).
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
    /// `VersioningConfiguration`.
    #[serde(skip)]
    pub versioning: Versioning,
    /// `ReplicationConfiguration`.
    #[serde(skip)]
    pub replication: Option<BucketReplication>,
}

/// `VersioningConfiguration.Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Versioning {
    /// `Suspended`, or not said.
    #[default]
    Off,
    /// `Enabled`.
    On,
}

/// Which objects of a bucket S3 copies to which other buckets, and as whom.
#[derive(Debug, Clone, Default)]
pub struct BucketReplication {
    /// What its role may do.
    pub policy: Vec<Statement>,
    /// Those that are enabled, the one with the highest priority first.
    pub rules: Vec<ReplicationRule>,
}

/// An enabled rule of a `ReplicationConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicationRule {
    /// `Filter.Prefix`: what keys begin with; empty for all.
    pub prefix: String,
    /// Name of the bucket `Destination.Bucket`.
    pub destination: String,
    /// `DeleteMarkerReplication`.
    pub delete_markers: DeleteMarkers,
}

/// What becomes of a delete marker in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteMarkers {
    /// It is copied as objects are.
    Copied,
    /// It stays in the source.
    Kept,
}

/// Which web pages may call a bucket, and how. One `*` in an origin or a header stands for any
/// text.
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
    /// The schedule's name: what `fire` takes.
    pub name: String,
    #[serde(skip)]
    pub arn: String,
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
    /// Name of the queue that the input of a run goes to that was given up; only if it is one of
    /// the template's.
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
    /// Where messages go that were received too often.
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
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventSource {
    pub queue: String,
    /// Short name of the function.
    pub function: String,
    /// Who lets the function's role read the queue.
    pub granted_by: GrantedBy,
    /// Messages in an event, at most.
    pub batch_size: usize,
    /// How long a batch that is not full waits for further messages.
    pub batching_window: Duration,
    /// What the function's answer means.
    pub answers: Answers,
    /// Invocations at the same time; `None` leaves it to the region.
    pub maximum_concurrency: Option<usize>,
    /// A message that matches none is deleted; if there are none, every message passes.
    pub filters: Vec<Filter>,
    /// False when the template disables it.
    pub enabled: bool,
}

/// The stream of a table as a function's event source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamSource {
    pub table: String,
    /// Short name of the function.
    pub function: String,
    #[serde(skip)]
    pub function_arn: String,
    /// Who lets the function's role read the stream.
    pub granted_by: GrantedBy,
    /// Where a new mapping begins.
    pub starting_position: StartingPosition,
    /// Records in an event, at most.
    pub batch_size: usize,
    /// How long a batch that is not full waits for further records.
    pub batching_window: Duration,
    /// Whether a failed batch is tried again in two halves.
    pub bisect: bool,
    /// Retries after a failure; `None` for as long as the stream keeps the records.
    pub maximum_retry_attempts: Option<usize>,
    /// Records that are older are given up; `None` for as long as the stream keeps them.
    pub maximum_record_age: Option<Duration>,
    /// Batches of a shard at the same time.
    pub parallelization_factor: usize,
    /// Name of the queue that hears of records that were given up.
    pub on_failure: Option<String>,
    /// A record that matches none is passed over; if there are none, every record passes.
    pub filters: Vec<Filter>,
    /// What the function's answer means.
    pub answers: Answers,
    /// False when the template disables it.
    pub enabled: bool,
}

/// A topic of a Kafka cluster of one's own as a function's event source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KafkaSource {
    /// `KafkaBootstrapServers`: `host:port` each.
    pub bootstrap_servers: Vec<String>,
    pub topic: String,
    /// The consumer group, whose committed offsets are the position of the mapping.
    pub consumer_group: String,
    /// Short name of the function.
    pub function: String,
    /// Where a group that has committed nothing begins.
    pub starting_position: StartingPosition,
    /// Records in an event, at most.
    pub batch_size: usize,
    /// How long a batch that is not full waits for further records.
    pub batching_window: Duration,
    /// False when the template disables it.
    pub enabled: bool,
}

/// Where a role has the permission to read a queue or a stream from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum GrantedBy {
    /// SAM gives the role `AWSLambdaDynamoDBExecutionRole` with a `DynamoDB` event, and
    /// `AWSLambdaSQSQueueExecutionRole` with an `SQS` event.
    Event,
    /// The `Policies` of the function must say it: for an `AWS::Lambda::EventSourceMapping` nobody
    /// adds anything.
    Policies,
}

/// One filter of an event source. Serialized, it is its JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Filter {
    pub document: serde_json::Value,
    #[serde(skip)]
    pub pattern: Pattern,
}

/// `StartingPosition`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StartingPosition {
    /// With the oldest record.
    TrimHorizon,
    /// With the first record that is written after the mapping was made.
    Latest,
}

/// What the answer of a function to a batch means (`FunctionResponseTypes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Answers {
    /// Nothing: the batch was handled if there was an answer.
    Ignored,
    /// It lists the messages that were not handled (`ReportBatchItemFailures`).
    ReportFailures,
}

/// An SNS topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Topic {
    /// What `GetAtt TopicName` gives.
    pub name: String,
    /// `MaximumMessageSize`: body and attributes of a message, and all messages of a batch
    /// together.
    pub maximum_message_bytes: usize,
}

/// Where a message or an event is delivered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// A queue, by its name.
    Queue(String),
    /// A function, by its short name.
    Function(String),
}

impl Target {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Function(name) => name,
        }
    }
}

/// A subscription of a topic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Subscription {
    pub id: String,
    /// The topic. One of another region delivers nothing here.
    pub topic_arn: String,
    pub target: Target,
    /// Whether the message is delivered as it was published (`RawMessageDelivery`), without SNS's
    /// envelope.
    pub raw: bool,
    /// Which messages go there; all without one.
    pub filter: Option<FilterPolicy>,
    /// Name of the queue that takes what can't be delivered.
    pub dead_letter_queue: Option<String>,
}

/// A subscription's `FilterPolicy`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FilterPolicy {
    /// As the template has it.
    pub policy: Value,
    /// What it looks at.
    pub scope: FilterScope,
    #[serde(skip)]
    pub pattern: Pattern,
}

/// A rule of an event bus.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rule {
    pub name: String,
    pub bus: String,
    /// As the template has it.
    pub event_pattern: Value,
    #[serde(skip)]
    pub pattern: Pattern,
    /// False when the template disables it.
    pub enabled: bool,
    /// Where matching events go.
    pub targets: Vec<RuleTarget>,
}

/// One target of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleTarget {
    /// `Id`.
    pub id: String,
    /// Where the event goes.
    pub target: Target,
    /// What is delivered of it.
    pub input: Input,
    /// `RetryPolicy.MaximumRetryAttempts`.
    pub maximum_retry_attempts: u32,
    /// `RetryPolicy.MaximumEventAgeInSeconds`.
    pub maximum_event_age: Duration,
    /// Name of the queue that takes what can't be delivered.
    pub dead_letter_queue: Option<String>,
}

/// What a target gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Input {
    Event,
    /// This text instead (`Input`).
    Constant(String),
    /// A part of the event (`InputPath`): the names that lead to it.
    Path(Vec<String>),
}

/// A service may deliver to a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ServicePermission {
    /// `sns.amazonaws.com`, or `*`.
    pub principal: String,
    /// What it may deliver to.
    pub target: Target,
    /// ARNs of the topics or rules that it may do so for, wildcards allowed; all of them if absent.
    pub sources: Option<Vec<String>>,
}
