//! The two APIs: `AWS::Serverless::HttpApi` and the `AWS::ApiGatewayV2` resources of the WebSocket
//! API.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::error::Problem;
use super::model::{Cors, HttpApi, HttpRoute, WebSocketApi, WebSocketRoute};
use super::properties::Properties;
use super::scope::{Located, Scope};

/// The stage's name where the template has no stage.
const DEFAULT_STAGE: &str = "local";

pub(super) fn http(scope: &Scope<'_>, routes: Vec<HttpRoute>) -> Result<Option<HttpApi>, Located> {
    let mut apis = scope.of_type("AWS::Serverless::HttpApi");
    let api = match (apis.next(), apis.next()) {
        (None, _) if routes.is_empty() => return Ok(None),
        // SAM makes an API where events name none.
        (None, _) => return Ok(Some(HttpApi { routes, cors: None })),
        (Some((id, resource)), None) => {
            let cors = cors(Properties::of(resource, scope)).map_err(|problem| (id.to_owned(), problem))?;
            HttpApi { routes, cors }
        }
        (Some(_), Some((second, _))) => return Err((second.to_owned(), one_only("a second HTTP API"))),
    };
    let mut seen = BTreeSet::new();
    for route in &api.routes {
        if !seen.insert((&route.method, &route.path)) {
            let what = format!("the route {} {} of two events", route.method, route.path);
            return Err((route.function.clone(), Problem::Unsupported { what, instead: "keep one of them" }));
        }
    }
    Ok(Some(api))
}

fn cors(api: Properties<'_>) -> Result<Option<Cors>, Problem> {
    // As a whole: SAM needs all of it behind one If where an origin comes from a parameter.
    let Some(configuration) = api.value("CorsConfiguration")? else { return Ok(None) };
    if !configuration.is_object() {
        return Err(Problem::Unsupported {
            what: "CorsConfiguration: true".to_owned(),
            instead: "list AllowOrigins, AllowMethods and AllowHeaders",
        });
    }
    let configuration = Properties::within(&configuration, api.scope());
    Ok(Some(Cors {
        allow_origins: configuration.texts("AllowOrigins")?,
        allow_methods: configuration.texts("AllowMethods")?,
        allow_headers: configuration.texts("AllowHeaders")?,
        expose_headers: configuration.texts("ExposeHeaders")?,
        allow_credentials: configuration.flag("AllowCredentials")?.unwrap_or(false),
        max_age: configuration.number("MaxAge")?.map(Duration::from_secs),
    }))
}

pub(super) fn websocket(
    scope: &Scope<'_>,
    functions: &BTreeMap<String, String>,
) -> Result<Option<WebSocketApi>, Located> {
    let mut api = None;
    for (id, resource) in scope.of_type("AWS::ApiGatewayV2::Api") {
        let located = |problem| (id.to_owned(), problem);
        let properties = Properties::of(resource, scope);
        if properties.text("ProtocolType").map_err(located)? != "WEBSOCKET" {
            let what = "an AWS::ApiGatewayV2::Api that is not a WEBSOCKET one".to_owned();
            return Err(located(Problem::Unsupported {
                what,
                instead: "use AWS::Serverless::HttpApi for HTTP",
            }));
        }
        if api.is_some() {
            return Err(located(one_only("a second WebSocket API")));
        }
        api = Some(WebSocketApi {
            route_selection_expression: properties.text("RouteSelectionExpression").map_err(located)?,
            routes: BTreeMap::new(),
            stage: stage(scope)?,
        });
    }
    let Some(mut api) = api else { return Ok(None) };
    let integrations = integrations(scope, functions)?;
    let responses = answered_routes(scope)?;
    for (id, resource) in scope.of_type("AWS::ApiGatewayV2::Route") {
        let (key, function) = route(Properties::of(resource, scope), &integrations)
            .map_err(|problem| (id.to_owned(), problem))?;
        api.routes.insert(key, WebSocketRoute { function, responds: responses.contains(id) });
    }
    Ok(Some(api))
}

fn route(
    route: Properties<'_>,
    integrations: &BTreeMap<String, String>,
) -> Result<(String, String), Problem> {
    let target = route.text("Target")?;
    let integration = target.strip_prefix("integrations/").unwrap_or(&target);
    match integrations.get(integration) {
        Some(function) => Ok((route.text("RouteKey")?, function.clone())),
        None => Err(Problem::UnknownName { name: target }),
    }
}

fn stage(scope: &Scope<'_>) -> Result<String, Located> {
    match scope.of_type("AWS::ApiGatewayV2::Stage").next() {
        None => Ok(DEFAULT_STAGE.to_owned()),
        Some((id, resource)) => {
            Properties::of(resource, scope).text("StageName").map_err(|problem| (id.to_owned(), problem))
        }
    }
}

/// Logical ids of integrations to short names of functions.
fn integrations(
    scope: &Scope<'_>,
    functions: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Located> {
    let mut found = BTreeMap::new();
    for (id, resource) in scope.of_type("AWS::ApiGatewayV2::Integration") {
        let located = |problem| (id.to_owned(), problem);
        let properties = Properties::of(resource, scope);
        let kind = properties.text("IntegrationType").map_err(located)?;
        let uri = properties.text("IntegrationUri").map_err(located)?;
        // arn:aws:apigateway:{region}:lambda:path/2015-03-31/functions/{ARN of the
        // function}/invocations
        let arn = uri.split_once("/functions/").map_or(uri.as_str(), |(_, rest)| rest);
        let function = functions.get(arn.trim_end_matches("/invocations"));
        if let ("AWS_PROXY", Some(function)) = (kind.as_str(), function) {
            found.insert(id.to_owned(), function.clone())
        } else {
            let what = format!("an integration of type {kind} with {uri}");
            let instead = "use AWS_PROXY with the ARN of a function of this template";
            return Err(located(Problem::Unsupported { what, instead }));
        };
    }
    Ok(found)
}

/// Logical ids of the routes that have a route response.
fn answered_routes(scope: &Scope<'_>) -> Result<BTreeSet<String>, Located> {
    let mut routes = BTreeSet::new();
    for (id, resource) in scope.of_type("AWS::ApiGatewayV2::RouteResponse") {
        let route =
            Properties::of(resource, scope).text("RouteId").map_err(|problem| (id.to_owned(), problem))?;
        routes.insert(route);
    }
    Ok(routes)
}

fn one_only(what: &str) -> Problem {
    Problem::Unsupported { what: what.to_owned(), instead: "keep one of each kind" }
}
