//! A SAM template, read as `CloudFormation` and SAM read it, into a [`Stack`].
//!
//! 1. YAML becomes JSON with every intrinsic function in its long form.
//! 2. Parameters take their values from [`Context::parameters`], then from their defaults.
//! 3. Conditions drop resources and choose values; `Globals.Function` is merged into every
//!    function.
//! 4. What the region runs is read property by property, each resolved when it is read.
//!
//! Run: `AWS::Serverless::Function` (with `HttpApi`, `ScheduleV2`, `SQS` and `DynamoDB` events),
//! `AWS::Serverless::HttpApi`, `AWS::ApiGatewayV2` (WebSocket), `AWS::DynamoDB::Table`,
//! `AWS::S3::Bucket`, `AWS::SecretsManager::Secret`, `AWS::SQS::Queue`,
//! `AWS::Lambda::EventSourceMapping` (of queues, streams and Kafka), `AWS::SNS::Topic`,
//! `AWS::SNS::Subscription`, `AWS::Events::EventBus`, `AWS::Events::Rule`. Read for what SNS and
//! EventBridge may deliver to: `AWS::SQS::QueuePolicy`, `AWS::Lambda::Permission`. Read for what S3
//! may replicate: the `AWS::IAM::Role` of the rules and its `AWS::IAM::Policy`.
//!
//! [`load_global`] reads a second template: of the tables that regions share. They are part of each
//! region's [`Stack`].
//!
//! Ignored on purpose, since a laptop has no use for it: alarms, other roles (a function's own
//! policy is enforced), log groups, API Gateway's account setting, host names and their health
//! checks, policies of buckets, topics and roles, archives of events, and deployments. Any other
//! type is listed in [`Stack::not_run`], and shown at the start.

mod apis;
pub mod arn;
mod buckets;
mod data;
mod description;
mod error;
mod event_invoke;
mod filters;
mod functions;
pub mod global;
mod intrinsics;
mod kafka;
mod mappings;
pub mod model;
mod policy;
mod properties;
mod queues;
mod rules;
pub mod samconfig;
mod scope;
mod service_permissions;
mod streams;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_buckets;
#[cfg(test)]
mod tests_of_global;
mod topics;
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use description::Description;
pub use error::{Problem, TemplateError};
pub(crate) use functions::BOOTSTRAP;
use global::GlobalStack;
use model::{Stack, Subscription};
pub use scope::Context;
use scope::{Located, Scope};

/// Types that are run.
const RUN: [&str; 15] = [
    "AWS::Serverless::Function",
    "AWS::Serverless::HttpApi",
    "AWS::ApiGatewayV2::Api",
    "AWS::ApiGatewayV2::Integration",
    "AWS::ApiGatewayV2::Route",
    "AWS::ApiGatewayV2::RouteResponse",
    "AWS::ApiGatewayV2::Stage",
    "AWS::DynamoDB::Table",
    rules::EVENT_BUS,
    rules::RULE,
    buckets::BUCKET,
    topics::SUBSCRIPTION,
    topics::TOPIC,
    queues::QUEUE,
    streams::MAPPING,
];

/// Types that are read for what they give to others, or ignored on purpose.
const IGNORED: [&str; 17] = [
    "AWS::ApiGateway::Account",
    "AWS::ApiGatewayV2::ApiMapping",
    "AWS::ApiGatewayV2::Deployment",
    "AWS::ApiGatewayV2::DomainName",
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::Events::Archive",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::Lambda::Permission",
    "AWS::Logs::LogGroup",
    "AWS::Route53::HealthCheck",
    "AWS::Route53::RecordSet",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::SecretsManager::Secret",
];

/// Loads the template at `path`. The replicas of [`Context::global_tables`] are among the stack's
/// tables.
pub fn load(path: &Path, context: &Context) -> Result<Stack, TemplateError> {
    read(path, |template| stack(template, &scope(template, context)?))
}

/// Loads the template of what regions share.
pub fn load_global(path: &Path, context: &Context) -> Result<GlobalStack, TemplateError> {
    read(path, |template| global::stack(&scope(template, context)?))
}

/// A template of what regions share, and the values of its parameters.
#[derive(Debug, Clone)]
pub struct GlobalTemplate {
    /// The file.
    pub path: PathBuf,
    /// Values of its parameters.
    pub parameters: BTreeMap<String, String>,
}

impl GlobalTemplate {
    /// Loads the template.
    pub fn load(&self) -> Result<GlobalStack, TemplateError> {
        let parameters = self.parameters.clone();
        load_global(&self.path, &Context { parameters, ..Context::default() })
    }
}

/// What this crate understood of the template at `path`.
pub fn describe(path: &Path, context: &Context) -> Result<Description, TemplateError> {
    read(path, |template| {
        let scope = scope(template, context)?;
        Description::of(stack(template, &scope)?, template, &scope)
    })
}

fn read<T>(path: &Path, reader: impl FnOnce(&Value) -> Result<T, Located>) -> Result<T, TemplateError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| TemplateError::Read { path: path.to_owned(), source })?;
    let yaml = serde_yaml_ng::from_str(&text)
        .map_err(|source| TemplateError::Yaml { path: path.to_owned(), source })?;
    reader(&yaml::to_json(yaml)).map_err(|(place, problem)| TemplateError::Invalid {
        path: path.to_owned(),
        place,
        problem,
    })
}

fn scope<'a>(template: &Value, context: &'a Context) -> Result<Scope<'a>, Located> {
    let mut scope = Scope::new(template, context)?;
    scope.drop_unwanted()?;
    Ok(scope)
}

fn stack(template: &Value, scope: &Scope<'_>) -> Result<Stack, Located> {
    let functions = functions::read(template, scope)?;
    let mut not_run: Vec<String> = scope
        .types()
        .filter(|(_, kind)| !RUN.contains(kind) && !IGNORED.contains(kind))
        .map(|(id, kind)| format!("{id} ({kind})"))
        .collect();
    let topics = topics::topics(scope)?;
    let subscriptions = topics::subscriptions(scope, &functions.by_arn)?;
    let is_of_stack = |arn: &str| topics.iter().any(|topic| scope.arns().topic(&topic.name) == arn);
    let foreign = subscriptions.iter().filter(|subscription| !is_of_stack(&subscription.topic_arn));
    not_run.extend(foreign.map(|Subscription { id, topic_arn, .. }| {
        format!("{id} ({}, of {topic_arn}, which is of another stack or region)", topics::SUBSCRIPTION)
    }));
    not_run.sort();
    let event_buses = rules::event_buses(scope)?;
    let queues = queues::queues(scope)?;
    let mappings = mappings::read(scope, &functions.by_arn)?;
    let of_queues = functions.mappings.into_iter().chain(mappings.queues).collect();
    let event_sources = queues::sources(of_queues, &queues, &functions.functions)?;
    let mut stream_sources = functions.stream_sources;
    stream_sources.extend(mappings.streams);
    streams::check_pairs(&stream_sources)?;
    Ok(Stack {
        arns: scope.arns().clone(),
        http_api: apis::http(scope, functions.routes)?,
        websocket_api: apis::websocket(scope, &functions.by_arn)?,
        tables: data::tables(scope)?.into_iter().chain(scope.context.global_tables.iter().cloned()).collect(),
        buckets: buckets::buckets(scope)?,
        secrets: data::names("AWS::SecretsManager::Secret", scope)?,
        secret_strings: data::secret_strings(scope)?,
        queues,
        event_sources,
        stream_sources,
        kafka_sources: mappings.topics,
        topics,
        subscriptions,
        rules: rules::rules(scope, &event_buses, &functions.by_arn)?,
        event_buses,
        service_permissions: service_permissions::read(scope, &functions.by_arn)?,
        functions: functions.functions,
        schedules: functions.schedules,
        not_run,
    })
}
