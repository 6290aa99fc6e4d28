//! What the local region understood of a template, as the command `template` prints it.
//!
//! Two halves: the [`Stack`], which the region runs, and what only matters in the cloud. The second
//! half is read for the check that compares all of it with what SAM makes of the same template.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::error::Problem;
use super::functions::{short_names, with_globals};
use super::model::{HttpRoute, Stack};
use super::properties::Properties;
use super::scope::{Located, Scope};

/// Everything that was understood.
#[derive(Debug, Serialize)]
pub struct Description {
    #[serde(flatten)]
    stack: Stack,
    /// By the short name of the function.
    cloud_settings: BTreeMap<String, FunctionSettings>,
    /// By the name of the schedule.
    schedule_settings: BTreeMap<String, ScheduleSettings>,
    /// Who may invoke which function: those of the template, and one for each HTTP route, which SAM
    /// adds.
    permissions: BTreeSet<Permission>,
}

/// What the cloud needs to know of a function, besides what is run here.
#[derive(Debug, Serialize)]
struct FunctionSettings {
    log_group: Option<String>,
    subnets: Vec<String>,
    security_groups: Vec<String>,
    kms_key: Option<String>,
    maximum_event_age_seconds: Option<u64>,
    maximum_retry_attempts: Option<u64>,
    /// ARN of what takes an asynchronous invocation that failed for good.
    on_failure: Option<String>,
}

/// The same of a schedule.
#[derive(Debug, Serialize)]
struct ScheduleSettings {
    time_zone: Option<String>,
    maximum_event_age_seconds: Option<u64>,
    role: Option<String>,
}

/// A statement of a function's resource policy.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Permission {
    function: String,
    action: String,
    principal: String,
    source: String,
}

impl Description {
    pub(super) fn of(stack: Stack, template: &Value, scope: &Scope<'_>) -> Result<Self, Located> {
        let mut cloud_settings = BTreeMap::new();
        let mut schedule_settings = BTreeMap::new();
        let names = short_names(template, scope)?;
        for (id, properties) in with_globals(template, scope) {
            let properties = Properties::within(&properties, scope);
            let located = |problem| (id.to_owned(), problem);
            let name = names.get(id).cloned().unwrap_or_default();
            cloud_settings.insert(name, function_settings(properties).map_err(located)?);
            schedule_settings.extend(schedules(properties).map_err(located)?);
        }
        let permissions = permissions(&stack, scope)?;
        Ok(Self { stack, cloud_settings, schedule_settings, permissions })
    }
}

fn function_settings(function: Properties<'_>) -> Result<FunctionSettings, Problem> {
    let scope = function.scope();
    let [logging, vpc, invoke] =
        [function.part("LoggingConfig")?, function.part("VpcConfig")?, function.part("EventInvokeConfig")?];
    let [logging, vpc, invoke] = [&logging, &vpc, &invoke].map(|part| Properties::within(part, scope));
    let destinations = invoke.part("DestinationConfig")?;
    let on_failure = Properties::within(&destinations, scope).part("OnFailure")?;
    Ok(FunctionSettings {
        log_group: logging.optional_text("LogGroup")?,
        subnets: vpc.texts("SubnetIds")?,
        security_groups: vpc.texts("SecurityGroupIds")?,
        kms_key: function.optional_text("KmsKeyArn")?,
        maximum_event_age_seconds: invoke.number("MaximumEventAgeInSeconds")?,
        maximum_retry_attempts: invoke.number("MaximumRetryAttempts")?,
        on_failure: Properties::within(&on_failure, scope).optional_text("Destination")?,
    })
}

fn schedules(function: Properties<'_>) -> Result<Vec<(String, ScheduleSettings)>, Problem> {
    let events = function.raw("Events").and_then(Value::as_object).into_iter().flatten();
    let schedules = events.filter(|(_, event)| event.get("Type").is_some_and(|kind| kind == "ScheduleV2"));
    schedules
        .map(|(_, event)| {
            let event = Properties::of(event, function.scope());
            let retry = event.part("RetryPolicy")?;
            let settings = ScheduleSettings {
                time_zone: event.optional_text("ScheduleExpressionTimezone")?,
                maximum_event_age_seconds: Properties::within(&retry, event.scope())
                    .number("MaximumEventAgeInSeconds")?,
                role: event.optional_text("RoleArn")?,
            };
            Ok((event.text("Name")?, settings))
        })
        .collect()
}

fn permissions(stack: &Stack, scope: &Scope<'_>) -> Result<BTreeSet<Permission>, Located> {
    let mut permissions = BTreeSet::new();
    for (id, resource) in scope.of_type("AWS::Lambda::Permission") {
        let properties = Properties::of(resource, scope);
        let permission = |properties: Properties<'_>| -> Result<Permission, Problem> {
            Ok(Permission {
                function: properties.text("FunctionName")?,
                action: properties.text("Action")?,
                principal: properties.text("Principal")?,
                source: properties.text("SourceArn")?,
            })
        };
        permissions.insert(permission(properties).map_err(|problem| (id.to_owned(), problem))?);
    }
    let api = scope.of_type("AWS::Serverless::HttpApi").next().map_or("ServerlessHttpApi", |(id, _)| id);
    let routes = stack.http_api.iter().flat_map(|http| &http.routes);
    permissions.extend(routes.filter_map(|route| route_permission(route, api, stack)));
    Ok(permissions)
}

fn route_permission(route: &HttpRoute, api: &str, stack: &Stack) -> Option<Permission> {
    let function = stack.functions.iter().find(|function| function.name == route.function)?;
    let method = if route.method == "ANY" { "*" } else { &route.method };
    // A `{parameter}` stands for anything.
    let segments = route.path.split('/').map(|segment| if segment.starts_with('{') { "*" } else { segment });
    let path = segments.collect::<Vec<_>>().join("/");
    Some(Permission {
        function: function.physical_name.clone(),
        action: "lambda:InvokeFunction".to_owned(),
        principal: "apigateway.amazonaws.com".to_owned(),
        source: stack.arns.route(api, method, &path),
    })
}
