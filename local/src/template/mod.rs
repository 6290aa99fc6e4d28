//! template.yaml, read as `CloudFormation` and SAM would read it, into a [`Stack`].
//!
//! 1. YAML becomes JSON with every intrinsic function in its long form.
//! 2. Parameters take their values from [`Context::parameters`], then from their defaults.
//! 3. Conditions drop resources and choose values; `Globals.Function` is merged into every function.
//! 4. What the region runs is read property by property, each resolved when it is read.
//!
//! Run: `AWS::Serverless::Function` (with `HttpApi`, `ScheduleV2` and `SQS` events), `AWS::Serverless::HttpApi`,
//! `AWS::ApiGatewayV2` (WebSocket), `AWS::DynamoDB::Table`, `AWS::S3::Bucket`, `AWS::SecretsManager::Secret`,
//! `AWS::SQS::Queue`.
//!
//! Ignored on purpose, since a laptop has no use for it: alarms, roles and permissions (a function's own policy is
//! enforced), log groups, API Gateway's account setting, host names, bucket and queue policies, and deployments. Any other type is
//! listed in [`Stack::not_run`], and shown at the start.

mod apis;
pub mod arn;
mod data;
mod description;
mod error;
mod event_invoke;
mod functions;
mod intrinsics;
pub mod model;
mod policy;
mod properties;
mod queues;
pub mod samconfig;
mod scope;
#[cfg(test)]
mod tests;
mod yaml;

use std::path::Path;

use serde_json::Value;

pub use description::Description;
pub use error::{Problem, TemplateError};
use model::Stack;
pub use scope::Context;
use scope::{Located, Scope};

/// Types that are run.
const RUN: [&str; 10] = [
    "AWS::Serverless::Function",
    "AWS::Serverless::HttpApi",
    "AWS::ApiGatewayV2::Api",
    "AWS::ApiGatewayV2::Integration",
    "AWS::ApiGatewayV2::Route",
    "AWS::ApiGatewayV2::RouteResponse",
    "AWS::ApiGatewayV2::Stage",
    "AWS::DynamoDB::Table",
    "AWS::S3::Bucket",
    queues::QUEUE,
];

/// Types that are read for what they give to others, or ignored on purpose.
const IGNORED: [&str; 13] = [
    "AWS::ApiGateway::Account",
    "AWS::ApiGatewayV2::ApiMapping",
    "AWS::ApiGatewayV2::Deployment",
    "AWS::ApiGatewayV2::DomainName",
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::IAM::Role",
    "AWS::Lambda::Permission",
    "AWS::Logs::LogGroup",
    "AWS::Route53::RecordSet",
    "AWS::S3::BucketPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::SecretsManager::Secret",
];

/// Loads the template at `path`.
pub fn load(path: &Path, context: &Context) -> Result<Stack, TemplateError> {
    read(path, |template| stack(template, &scope(template, context)?))
}

/// What the local region understood of the template at `path`.
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
    not_run.sort();
    let queues = queues::queues(scope)?;
    let event_sources = queues::sources(functions.mappings, &queues, &functions.functions)?;
    Ok(Stack {
        http_api: apis::http(scope, functions.routes)?,
        websocket_api: apis::websocket(scope, &functions.by_arn)?,
        tables: data::tables(scope)?,
        buckets: data::buckets(scope)?,
        secrets: data::names("AWS::SecretsManager::Secret", scope)?,
        queues,
        event_sources,
        functions: functions.functions,
        schedules: functions.schedules,
        not_run,
    })
}
