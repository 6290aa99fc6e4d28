//! The documents say the same as the template and the code: routes, actions, events, problem types.
//!
//! template.yaml is read here as plain YAML, not by the local region's loader: what both would
//! misread in the same way would otherwise pass.

#![expect(clippy::unwrap_used, reason = "a document of another shape fails the test where it is read")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sojourn::core::problem::ProblemType;
use sojourn::identity::tokens::rotation::{JWKS_MAX_AGE, KEPT_AFTER_USE};
use sojourn::platform::outbox::EventType;
use sojourn::platform::telemetry::{Metric, NAMESPACE};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A YAML document as JSON. `!Ref X` becomes `{"!Ref": "X"}`.
fn yaml(file: &str) -> Value {
    fn plain(value: serde_yaml_ng::Value) -> Value {
        use serde_yaml_ng::Value as Yaml;
        match value {
            Yaml::Tagged(tagged) => json!({ (tagged.tag.to_string()): plain(tagged.value) }),
            Yaml::Mapping(map) => map
                .into_iter()
                .map(|(key, value)| (key.as_str().unwrap().to_owned(), plain(value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Yaml::Sequence(items) => items.into_iter().map(plain).collect::<Vec<_>>().into(),
            scalar => serde_json::to_value(scalar).unwrap(),
        }
    }
    plain(serde_yaml_ng::from_str(&fs::read_to_string(root().join(file)).unwrap()).unwrap())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// What starts a function, by the name of the function's folder.
type Triggers = BTreeMap<String, BTreeSet<String>>;

/// `GET /orders` for a route, `$connect` or `send` for a WebSocket route, `schedule` for a
/// schedule, `queue:` and its name for a queue, `stream:` and its table for a stream, `topic:Kafka`
/// for a topic of Kafka, `continuation` for a function that may invoke itself. A function without a
/// trigger is invoked directly.
fn triggers(template: &Value) -> Triggers {
    let resources = &template["Resources"];
    let mut triggers = Triggers::new();
    let mut names = BTreeMap::new();
    for (id, resource) in members(resources).filter(|(_, r)| r["Type"] == "AWS::Serverless::Function") {
        let name = text(&resource["Properties"]["CodeUri"]).rsplit('/').next().unwrap().to_owned();
        let of_function = triggers.entry(name.clone()).or_default();
        for (_, event) in members(&resource["Properties"]["Events"]) {
            of_function.insert(match text(&event["Type"]) {
                "HttpApi" => {
                    format!("{} {}", text(&event["Properties"]["Method"]), text(&event["Properties"]["Path"]))
                }
                "ScheduleV2" => "schedule".to_owned(),
                "SQS" => {
                    let queue = text(&event["Properties"]["Queue"]["!GetAtt"]);
                    format!("queue:{}", queue.trim_end_matches(".Arn"))
                }
                "DynamoDB" => {
                    // That of the stack's own table, or that of the global one with the same name.
                    let stream = text(&event["Properties"]["Stream"]["!If"][1]["!GetAtt"]);
                    format!("stream:{}", stream.trim_end_matches(".StreamArn"))
                }
                other => panic!("{id} has an event of type {other}, which this test does not know"),
            });
        }
        let own_name = format!("function:${{AWS::StackName}}-{name}");
        if resource["Properties"]["Policies"].to_string().contains(&own_name) {
            of_function.insert("continuation".to_owned());
        }
        names.insert(id.as_str(), name);
    }
    for (_, mapping) in members(resources).filter(|(_, r)| r["Type"] == "AWS::Lambda::EventSourceMapping") {
        let properties = &mapping["Properties"];
        let name = &names[text(&properties["FunctionName"]["!Ref"])];
        let queue =
            properties["EventSourceArn"]["!GetAtt"].as_str().map(|queue| queue.trim_end_matches(".Arn"));
        let trigger = queue.map_or_else(|| "topic:Kafka".to_owned(), |queue| format!("queue:{queue}"));
        triggers.get_mut(name).unwrap().insert(trigger);
    }
    for (id, route) in members(resources).filter(|(_, r)| r["Type"] == "AWS::ApiGatewayV2::Route") {
        let target = text(&route["Properties"]["Target"]["!Sub"]);
        let integration = target.trim_start_matches("integrations/${").trim_end_matches('}');
        let uri = text(&resources[integration]["Properties"]["IntegrationUri"]["!Sub"]);
        let function = names.iter().find(|(function, _)| uri.contains(&format!("${{{function}.Arn}}")));
        let (_, name) = function.unwrap_or_else(|| panic!("{id} leads to no function"));
        triggers.get_mut(name).unwrap().insert(text(&route["Properties"]["RouteKey"]).to_owned());
    }
    triggers
}

fn http_routes(triggers: &Triggers) -> BTreeSet<String> {
    triggers.values().flatten().filter(|trigger| trigger.contains(" /")).cloned().collect()
}

/// Every operation of openapi.yaml with its answers, references followed.
fn operations(openapi: &Value) -> BTreeMap<String, BTreeMap<u16, Value>> {
    let mut operations = BTreeMap::new();
    for (path, item) in members(&openapi["paths"]) {
        for (method, operation) in members(item).filter(|(key, _)| *key != "parameters") {
            let answers = members(&operation["responses"]).map(|(status, answer)| {
                let answer = answer["$ref"]
                    .as_str()
                    .map_or(answer, |target| openapi.pointer(target.trim_start_matches('#')).unwrap());
                (status.parse().unwrap(), answer.clone())
            });
            operations.insert(format!("{} {path}", method.to_uppercase()), answers.collect());
        }
    }
    operations
}

fn problem_type(slug: &str) -> Option<ProblemType> {
    ProblemType::ALL.iter().copied().find(|kind| kind.slug() == slug)
}

/// The problem types that a description names between backticks.
fn named_problems(description: &str) -> BTreeSet<&str> {
    description.split('`').skip(1).step_by(2).filter(|word| problem_type(word).is_some()).collect()
}

#[test]
fn openapi_describes_exactly_the_routes_of_the_template() {
    let described: BTreeSet<String> = operations(&yaml("openapi.yaml")).into_keys().collect();
    assert_eq!(described, http_routes(&triggers(&yaml("template.yaml"))));
}

#[test]
fn asyncapi_describes_exactly_the_actions_of_the_template() {
    let asyncapi = yaml("asyncapi.yaml");
    let at = |reference: &Value| {
        let mut target = reference;
        while let Some(next) = target["$ref"].as_str() {
            target = asyncapi.pointer(next.trim_start_matches('#')).unwrap();
        }
        target.clone()
    };
    let mut described = BTreeSet::new();
    for (_, operation) in members(&asyncapi["operations"]).filter(|(_, o)| o["action"] == "receive") {
        for message in operation["messages"].as_array().unwrap() {
            let payload = at(&at(message)["payload"]);
            described.insert(text(&payload["properties"]["action"]["const"]).to_owned());
        }
    }
    let template = yaml("template.yaml");
    let routes = triggers(&template).into_values().flatten();
    let no_action = |key: &str| {
        key.contains([' ', ':']) || key.starts_with('$') || key == "schedule" || key == "continuation"
    };
    let actions: BTreeSet<String> = routes.filter(|key| !no_action(key)).collect();
    assert_eq!(described, actions);
    assert!(
        triggers(&template)["ws-send"].contains("$default"),
        "what has no action must reach a function too"
    );
}

#[test]
fn asyncapi_describes_exactly_the_events_that_the_code_writes() {
    let asyncapi = yaml("asyncapi.yaml");
    let described = |channel: &str| -> BTreeSet<String> {
        let messages = members(&asyncapi["channels"][channel]["messages"]);
        let references = messages.map(|(_, message)| text(&message["$ref"]).trim_start_matches('#'));
        references.map(|at| text(&asyncapi.pointer(at).unwrap()["name"]).to_owned()).collect()
    };
    let written: BTreeSet<String> = EventType::ALL.iter().map(|kind| kind.as_str().to_owned()).collect();
    assert_eq!(described("events"), written);
    let announced: BTreeSet<String> =
        written.into_iter().filter(|kind| described("socket").contains(kind)).collect();
    let expected = ["export.failed", "export.ready", "order.cancelled", "order.paid", "order.placed"];
    assert_eq!(announced, expected.map(str::to_owned).into());
}

#[test]
fn every_error_answer_names_its_problem_types_and_they_have_its_status() {
    let mut seen = BTreeSet::new();
    for (operation, answers) in operations(&yaml("openapi.yaml")) {
        for (status, answer) in answers.into_iter().filter(|(status, _)| *status >= 400) {
            let description = text(&answer["description"]);
            let named = named_problems(description);
            assert!(!named.is_empty(), "{operation} {status} names no problem type");
            for slug in named {
                let kind = problem_type(slug).unwrap();
                assert_eq!(kind.status(), status, "{operation} names {slug} under {status}");
                seen.insert(slug.to_owned());
            }
            let content = &answer["content"]["application/problem+json"];
            assert!(content.is_object(), "{operation} {status} is not problem+json");
        }
    }
    // A handshake's refusals are no operation of either document; asyncapi.yaml's introduction
    // names them.
    let asyncapi = yaml("asyncapi.yaml");
    seen.extend(named_problems(text(&asyncapi["info"]["description"])).into_iter().map(str::to_owned));
    let all: BTreeSet<String> = ProblemType::ALL.iter().map(|kind| kind.slug().to_owned()).collect();
    assert_eq!(seen, all, "problem types that no document answers with, or that do not exist");
}

#[test]
fn every_problem_in_an_example_is_one_that_the_code_would_write() {
    fn visit(value: &Value, found: &mut Vec<Value>) {
        if value["type"].as_str().is_some_and(|kind| kind.starts_with("/problems/")) {
            found.push(value.clone());
        }
        match value {
            Value::Object(map) => map.values().for_each(|value| visit(value, found)),
            Value::Array(items) => items.iter().for_each(|value| visit(value, found)),
            _ => {}
        }
    }
    let mut examples = Vec::new();
    visit(&yaml("openapi.yaml"), &mut examples);
    assert!(examples.len() > 10, "only {} examples found", examples.len());
    for example in examples {
        let kind = problem_type(text(&example["type"]).trim_start_matches("/problems/")).unwrap();
        assert_eq!(example["title"], kind.title(), "{example}");
        assert_eq!(example["status"], kind.status(), "{example}");
    }
}

#[test]
fn every_problem_type_is_documented_and_no_other() {
    let slugs: BTreeSet<&str> = ProblemType::ALL.iter().map(|kind| kind.slug()).collect();
    let guide = fs::read_to_string(root().join("docs/problems.md")).unwrap();
    let anchors: BTreeSet<&str> = guide.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(anchors, slugs);
    for kind in ProblemType::ALL {
        let row = format!("| [{0}](#{0}) | {1} |", kind.slug(), kind.status());
        assert!(guide.contains(&row), "the table of docs/problems.md has no row {row}");
    }
    let openapi = yaml("openapi.yaml");
    let listed =
        openapi["components"]["schemas"]["Problem"]["properties"]["type"]["enum"].as_array().unwrap();
    let listed: BTreeSet<&str> =
        listed.iter().map(|kind| text(kind).trim_start_matches("/problems/")).collect();
    assert_eq!(listed, slugs);
}

/// Every event: function, file, content.
fn events() -> Vec<(String, PathBuf, Value)> {
    let mut events = Vec::new();
    for folder in
        fs::read_dir(root().join("events")).unwrap().map(Result::unwrap).filter(|e| e.path().is_dir())
    {
        for file in fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()) {
            let content = fs::read_to_string(&file).unwrap();
            let event = serde_json::from_str(&content).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            events.push((folder.file_name().into_string().unwrap(), file, event));
        }
    }
    events
}

/// The trigger that an event comes from; none for a direct invocation.
fn trigger_of(event: &Value) -> Option<String> {
    if event["scheduledTime"].is_string() {
        Some("schedule".to_owned())
    } else if event["continuation"].is_object() {
        Some("continuation".to_owned())
    } else if event["eventSource"] == "SelfManagedKafka" {
        Some("topic:Kafka".to_owned())
    } else if let Some(source) = event["Records"][0]["eventSourceARN"].as_str() {
        Some(match source.split_once(":table/") {
            Some((_, stream)) => format!("stream:{}", stream.split('/').next().unwrap()),
            None => format!("queue:{}", source.rsplit(':').next().unwrap()),
        })
    } else {
        event["requestContext"]["routeKey"].as_str().map(str::to_owned)
    }
}

#[test]
fn every_event_belongs_to_a_trigger_and_every_trigger_has_an_event() {
    let triggers = triggers(&yaml("template.yaml"));
    let mut covered: Triggers = BTreeMap::new();
    for (function, file, event) in events() {
        let expected = triggers.get(&function).unwrap_or_else(|| panic!("there is no function {function}"));
        let of_function = covered.entry(function).or_default();
        if let Some(trigger) = trigger_of(&event) {
            assert!(expected.contains(&trigger), "{} is of {trigger}", file.display());
            of_function.insert(trigger);
        } else {
            assert!(expected.is_empty(), "{} comes from no trigger", file.display());
        }
    }
    assert_eq!(covered, triggers);
}

#[test]
fn http_events_are_consistent_in_themselves() {
    for (_, file, event) in events().into_iter().filter(|(_, _, event)| event["version"] == "2.0") {
        let file = file.display();
        let (http, route) = (&event["requestContext"]["http"], text(&event["routeKey"]));
        assert_eq!(event["requestContext"]["routeKey"], route, "{file}");
        assert_eq!(http["path"], event["rawPath"], "{file}");
        let path: String = members(&event["pathParameters"])
            .fold(route.to_owned(), |path, (name, value)| path.replace(&format!("{{{name}}}"), text(value)));
        assert_eq!(path, format!("{} {}", text(&http["method"]), text(&event["rawPath"])), "{file}");
        let query: Vec<String> = members(&event["queryStringParameters"])
            .map(|(name, value)| format!("{name}={}", text(value)))
            .collect();
        assert_eq!(query.join("&"), text(&event["rawQueryString"]), "{file}");
        if let Some(body) = event["body"].as_str() {
            assert_eq!(event["headers"]["content-length"], body.len().to_string(), "{file}");
            assert!(serde_json::from_str::<Value>(body).is_ok(), "{file}");
        }
    }
}

#[test]
fn websocket_events_carry_the_event_type_of_their_route() {
    let sockets =
        events().into_iter().filter(|(_, _, event)| event["requestContext"]["connectionId"].is_string());
    for (_, file, event) in sockets {
        let context = &event["requestContext"];
        let expected = match text(&context["routeKey"]) {
            "$connect" => "CONNECT",
            "$disconnect" => "DISCONNECT",
            _ => "MESSAGE",
        };
        assert_eq!(context["eventType"], expected, "{}", file.display());
        assert_eq!(event["body"].is_string(), expected == "MESSAGE", "{}", file.display());
    }
}

/// A metric of ours as CloudWatch finds it: its name and all of its dimensions, or nothing is
/// found.
fn as_written(metric: Metric) -> (String, Vec<String>) {
    let dimensions = ["function", "region"].into_iter().chain(metric.dimension());
    (metric.name().to_owned(), dimensions.map(str::to_owned).collect())
}

fn all_written() -> BTreeSet<(String, Vec<String>)> {
    Metric::ALL.into_iter().map(as_written).collect()
}

#[test]
fn alarms_on_our_own_metrics_watch_metrics_that_exist() {
    let template = yaml("template.yaml");
    let alarms = members(&template["Resources"]).filter(|(_, r)| r["Properties"]["Namespace"] == NAMESPACE);
    let watched: BTreeSet<_> = alarms
        .map(|(_, alarm)| {
            let dimensions = alarm["Properties"]["Dimensions"].as_array().unwrap();
            let names = dimensions.iter().map(|dimension| text(&dimension["Name"]).to_owned()).collect();
            (text(&alarm["Properties"]["MetricName"]).to_owned(), names)
        })
        .collect();
    let needed = [Metric::JobsCompleted, Metric::Exports, Metric::OldestEventAge].map(as_written);
    assert!(watched.is_superset(&needed.into()), "{watched:?}");
    assert!(watched.is_subset(&all_written()), "{watched:?}");
}

/// Our own metrics on the dashboard: name and dimensions of each `SEARCH`.
fn on_the_dashboard(template: &Value) -> BTreeSet<(String, Vec<String>)> {
    let body = text(&template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["!Sub"]);
    let body: Value = serde_json::from_str(body).unwrap();
    let mut found = BTreeSet::new();
    for widget in body["widgets"].as_array().unwrap() {
        for metric in widget["properties"]["metrics"].as_array().unwrap() {
            let Some(expression) = metric[0]["expression"].as_str() else { continue };
            let schema = expression.split_once('{').unwrap().1.split_once('}').unwrap().0;
            let mut schema = schema.split(',').map(str::to_owned);
            if schema.next().as_deref() == Some(NAMESPACE) {
                let name = expression.split_once("MetricName=\"").unwrap().1.split_once('"').unwrap().0;
                found.insert((name.to_owned(), schema.collect()));
            }
        }
    }
    found
}

#[test]
fn the_dashboard_shows_metrics_that_exist_and_what_an_operator_asks_first() {
    let shown = on_the_dashboard(&yaml("template.yaml"));
    assert!(shown.is_subset(&all_written()), "{:?}", shown.difference(&all_written()));
    let needed = [
        Metric::OrdersPlaced,
        Metric::Payments,
        Metric::IdempotentReplays,
        Metric::IdempotencyMismatches,
        Metric::Deliveries,
        Metric::InboxStored,
        Metric::OldestEventAge,
        Metric::LockOutcomes,
        Metric::GoneConnections,
        Metric::Errors,
    ];
    for metric in needed.map(as_written) {
        assert!(shown.contains(&metric), "{metric:?} is not on the dashboard");
    }
}

#[test]
fn every_metric_is_recorded_somewhere() {
    fn sources(folder: &Path, code: &mut String) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                sources(&entry.path(), code);
            } else if entry.path().extension().is_some_and(|kind| kind == "rs")
                && entry.file_name() != "telemetry.rs"
            {
                code.push_str(&fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    let mut code = String::new();
    for folder in ["shared/src", "functions"] {
        sources(&root().join(folder), &mut code);
    }
    for metric in Metric::ALL {
        assert!(code.contains(&format!("Metric::{metric:?}")), "nothing records {metric:?}");
    }
}

fn alarms(template: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let alarms = members(&template["Resources"]).filter(|(_, r)| r["Type"] == "AWS::CloudWatch::Alarm");
    alarms.map(|(id, alarm)| (id, &alarm["Properties"]))
}

/// What an alarm watches: metric and dimensions.
fn watched(alarm: &Value) -> Vec<(&str, &Value)> {
    let added_up = alarm["Metrics"].as_array().into_iter().flatten();
    let stats = added_up.filter_map(|metric| metric.get("MetricStat")).map(|stat| &stat["Metric"]);
    let metrics = stats.chain(alarm.get("MetricName").map(|_| alarm));
    metrics.map(|metric| (text(&metric["MetricName"]), &metric["Dimensions"])).collect()
}

#[test]
fn no_alarm_adds_up_more_metrics_than_cloudwatch_allows() {
    /// "Amazon CloudWatch service quotas": metrics in the expression of an alarm.
    const METRICS_PER_ALARM: usize = 10;
    let template = yaml("template.yaml");
    for (id, alarm) in alarms(&template) {
        assert!((1..=METRICS_PER_ALARM).contains(&watched(alarm).len()), "{id}");
    }
}

#[test]
fn an_index_is_watched_wherever_its_table_is() {
    let template = yaml("template.yaml");
    let watched: BTreeSet<_> = alarms(&template)
        .flat_map(|(_, alarm)| watched(alarm))
        .map(|(metric, dimensions)| format!("{metric} {dimensions}"))
        .collect();
    let metric = |kind: &str, dimensions: Value| format!("{kind}ThrottleEvents {dimensions}");
    let mut indexes = 0;
    for (id, table) in members(&template["Resources"]).filter(|(_, r)| r["Type"] == "AWS::DynamoDB::Table") {
        let name = json!({"Name": "TableName", "Value": {"!Ref": id}});
        for kind in ["Read", "Write"] {
            let table_watched = watched.contains(&metric(kind, json!([name])));
            for index in table["Properties"]["GlobalSecondaryIndexes"].as_array().into_iter().flatten() {
                // CloudWatch counts what an index throttles under both names, and not under the
                // table's alone.
                let index = json!({"Name": "GlobalSecondaryIndexName", "Value": index["IndexName"]});
                let index_watched = watched.contains(&metric(kind, json!([name, index])));
                assert!(index_watched || !table_watched, "{kind}s of {id}, {index}");
                indexes += usize::from(index_watched);
            }
        }
    }
    assert!(indexes > 0);
}

#[test]
fn a_job_that_stops_is_noticed_and_one_that_has_not_begun_is_not() {
    let template = yaml("template.yaml");
    let jobs: Vec<_> =
        alarms(&template).filter(|(_, a)| a["MetricName"] == Metric::JobsCompleted.name()).collect();
    assert_eq!(jobs.len(), 3);
    for (id, alarm) in jobs {
        // Missing data is a state of its own, in which the alarm of a new stack begins: only a
        // change of state notifies.
        assert_eq!(alarm["TreatMissingData"], "missing", "{id}");
        assert!(!alarm["InsufficientDataActions"].is_null(), "{id} notifies nobody");
    }
}

#[test]
fn refused_handshakes_are_no_errors_of_the_websocket_api() {
    let template = yaml("template.yaml");
    let metrics: BTreeSet<_> =
        alarms(&template).flat_map(|(_, alarm)| watched(alarm)).map(|(metric, _)| metric).collect();
    // IntegrationError counts answers of 4xx as well.
    assert!(metrics.contains("ExecutionError") && !metrics.contains("IntegrationError"), "{metrics:?}");
}

#[test]
fn no_route_has_a_limit_that_one_client_could_use_up_for_all() {
    let template = yaml("template.yaml");
    let api = &template["Resources"]["HttpApi"]["Properties"];
    assert!(api["RouteSettings"].is_null(), "{}", api["RouteSettings"]);
    // "Amazon API Gateway quotas": what an account has in the regions where it is least. More fails
    // there.
    for settings in [api, &template["Resources"]["WebSocketStage"]["Properties"]] {
        let limits = &settings["DefaultRouteSettings"];
        assert_eq!(
            (&limits["ThrottlingRateLimit"], &limits["ThrottlingBurstLimit"]),
            (&2500.into(), &1250.into())
        );
    }
}

#[test]
fn this_machine_has_one_name() {
    // To a browser `localhost` and 127.0.0.1 are two sites, and a cookie of one is not sent to the
    // other.
    let documents =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/deployment.md", "docs/problems.md"];
    let interfaces = ["openapi.yaml", "asyncapi.yaml", "template.yaml", "samconfig.toml"];
    for file in documents.into_iter().chain(interfaces) {
        let content = fs::read_to_string(root().join(file)).unwrap();
        assert!(!content.contains("localhost"), "{file} says localhost for 127.0.0.1");
    }
    for (_, file, event) in events() {
        assert!(!event.to_string().contains("localhost"), "{}", file.display());
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let origins = &yaml("template.yaml")["Parameters"]["AllowedOrigins"]["Default"];
    assert!(readme.contains(text(origins)), "README.md does not say where pages are served: {origins}");
}

#[test]
fn every_alarm_is_explained() {
    let template = yaml("template.yaml");
    let guide = fs::read_to_string(root().join("docs/deployment.md")).unwrap();
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let explained: BTreeSet<&str> = rows.flat_map(|names| names.split([',', ' '])).collect();
    for (id, _) in alarms(&template) {
        assert!(explained.contains(id.trim_end_matches("Alarm")), "docs/deployment.md has no row for {id}");
    }
}

#[test]
fn the_runbook_of_a_rotation_waits_as_long_as_the_code_asks_for() {
    let runbook = fs::read_to_string(root().join("docs/deployment.md")).unwrap();
    for (name, wait) in [("JWKS_MAX_AGE", JWKS_MAX_AGE), ("KEPT_AFTER_USE", KEPT_AFTER_USE)] {
        let seconds = format!("{} seconds", wait.as_secs());
        let said = runbook.split("**Wait**").skip(1).any(|step| {
            let step = &step[..step.find("\n\n").unwrap()];
            step.contains(name) && step.contains(&seconds)
        });
        assert!(said, "{name} is {seconds}");
    }
}
