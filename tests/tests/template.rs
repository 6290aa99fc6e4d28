//! What runs here is what the template says: nothing else names a route or a table.

use std::collections::{BTreeMap, BTreeSet};

use local_region::template::arn;
use local_region::template::global::GlobalStack;
use local_region::template::model::{DeleteMarkers, Function, Stack, Statement};
use local_region::template::{self, Context, GlobalTemplate};
use sojourn::core::env::{Env, Stage};
use sojourn::platform::tables::{self, TableScope};
use sojourn_tests::{Options, TestRegion, fresh_key, workspace};

const ROUTE: &str = "
        Status:
          Type: HttpApi
          Properties:
            ApiId: !Ref HttpApi
            Method: GET
            Path: /status/{part}
";

const TABLE: &str = "
  NotesTable:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions:
        - { AttributeName: noteId, AttributeType: S }
      KeySchema:
        - { AttributeName: noteId, KeyType: HASH }
";

#[tokio::test]
async fn a_route_and_a_table_are_there_once_the_template_has_them() {
    let template = std::fs::read_to_string(workspace().join("template.yaml")).unwrap();
    let health = "      Events:\n        Health:";
    assert_eq!(template.matches(health).count(), 1);
    let template = template.replace(health, &format!("      Events:{ROUTE}        Health:"));
    let template = template.replacen("\nResources:\n", &format!("\nResources:{TABLE}"), 1);
    // Inside of the workspace: the functions are those of the workspace that the template is in.
    let folder = tempfile::Builder::new().prefix("template-").tempdir_in(workspace().join("tests")).unwrap();
    let path = folder.path().join("template.yaml");
    std::fs::write(&path, template).unwrap();

    let plain = TestRegion::start().await;
    assert_eq!(plain.call("GET", "/status/now").send().await.expect(404).body["message"], "Not Found");

    let arguments = vec!["--template".to_owned(), path.display().to_string()];
    let region = TestRegion::start_with(Options { arguments, ..Options::default() }).await;
    let answer = region.call("GET", "/status/now").send().await.expect(404);
    // The function's own refusal, so the route led there.
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let table = region.dynamodb().describe_table().table_name("NotesTable").send().await.unwrap();
    assert_eq!(table.table().unwrap().key_schema()[0].attribute_name(), "noteId");
}

/// The template as a region with these parameters reads it.
#[expect(clippy::expect_used, reason = "a test stops where it fails")]
fn stack_with(parameters: &[(&str, &str)]) -> Stack {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let path = workspace().join("template.yaml");
    let parameters: BTreeMap<_, _> = parameters.iter().map(owned).collect();
    let names = parameters.get_key_value("GlobalTables");
    let shared = names.map_or_else(GlobalStack::default, |(name, value)| {
        let parameters = [(name.clone(), value.clone())].into();
        let global = GlobalTemplate { path: path.with_file_name("global.yaml"), parameters };
        global.load().expect("global.yaml is read")
    });
    let context = Context {
        arns: arn::local(),
        global_tables: shared.of_one_region(),
        parameters,
        http_url: "http://127.0.0.1:1".to_owned(),
        websocket_url: "ws://127.0.0.1:2".to_owned(),
        sqs_url: "http://127.0.0.1:3".to_owned(),
    };
    template::load(&path, &context).expect("the template is read")
}

#[test]
fn every_function_that_knows_the_sessions_table_is_told_where_its_copies_are() {
    let parameters = [
        ("TokenJwks", "{}"),
        ("SessionStore", "redis"),
        ("RedisUrl", "redis://redis:6379"),
        ("SessionCopyKey", "a key of the stack"),
        ("VpcSubnetIds", "subnet-1, subnet-2"),
        ("VpcSecurityGroupIds", "sg-1"),
    ];
    let stack = stack_with(&parameters);
    let with_sessions: Vec<_> = stack
        .functions
        .iter()
        .filter(|function| function.environment.contains_key("SESSIONS_TABLE"))
        .collect();
    assert!(with_sessions.len() > 3, "functions check sessions");
    for function in with_sessions {
        let told = ["SESSION_STORE", "REDIS_URL", "SESSION_COPY_KEY"]
            .map(|name| function.environment.get(name).map(String::as_str));
        let expected = [Some("redis"), Some("redis://redis:6379"), Some("a key of the stack")];
        assert_eq!(told, expected, "{}", function.name);
    }
}

#[test]
fn pages_that_may_call_the_api_may_use_presigned_urls_and_no_others() {
    let stack =
        stack_with(&[("TokenJwks", "{}"), ("AllowedOrigins", "https://shop.example,https://desk.example")]);
    let rules: Vec<_> = stack.buckets.iter().flat_map(|bucket| &bucket.cors).collect();
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0].allowed_origins, ["https://shop.example", "https://desk.example"]);
    assert_eq!(rules[0].allowed_methods, ["GET", "HEAD", "PUT"]);
    let api = stack.http_api.and_then(|api| api.cors).expect("the API has CORS settings");
    assert_eq!(rules[0].allowed_origins, api.allow_origins);
}

#[test]
fn functions_post_to_sockets_at_the_address_of_api_gateway_whatever_name_clients_use() {
    let stack = stack_with(&[
        ("TokenJwks", "{}"),
        ("Stage", "live"),
        ("WebSocketDomainName", "sockets.shop.example"),
        ("DomainCertificateArn", "arn:aws:acm:local:000000000000:certificate/1"),
    ]);
    let endpoints: Vec<_> = stack
        .functions
        .iter()
        .filter_map(|function| function.environment.get("WEBSOCKET_ENDPOINT"))
        .collect();
    assert!(!endpoints.is_empty());
    assert!(endpoints.iter().all(|endpoint| *endpoint == "ws://127.0.0.1:2/live"), "{endpoints:?}");
}

#[test]
fn a_live_stage_is_the_same_in_the_template_and_in_the_library() {
    let template = std::fs::read_to_string(workspace().join("template.yaml")).unwrap();
    let rule = format!("Fn::Contains: [[{}], !Ref Stage]", Stage::TRIALS.join(", "));
    assert_eq!(template.matches(&rule).count(), 1, "{rule}");
    let config = std::fs::read_to_string(workspace().join("samconfig.toml")).unwrap();
    for environment in ["taiwan", "tokyo", "singapore"] {
        let section = config.split(&format!("[{environment}.deploy.parameters]")).nth(1).unwrap();
        let stage = section.split("\"Stage=").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert_eq!(Stage::from_env(&Env::of([("STAGE", stage)])), Ok(Stage::Live), "{environment}");
    }
}

#[test]
fn another_revision_of_the_secrets_replaces_the_processes_of_every_function_that_reads_one() {
    let environments = ["1", "2"].map(|revision| {
        let stack = stack_with(&[("TokenJwks", "{}"), ("SecretsRevision", revision)]);
        stack.functions.into_iter().map(|function| (function.name, function.environment))
    });
    let [before, after] = environments;
    let reads_a_secret = |variable: &String| variable.ends_with("_SECRET") || variable == "REDIS_URL";
    let mut readers = 0;
    for ((name, before), (_, after)) in before.zip(after) {
        if before.keys().any(reads_a_secret) {
            readers += 1;
            assert_ne!(before, after, "{name}");
        }
    }
    assert!(readers > 3, "functions read secrets");
}

/// A stack that uses the global tables. A stream's label on a laptop is `local`.
const WITH_GLOBAL_TABLES: [(&str, &str); 5] = [
    ("GlobalTables", "shop"),
    ("AgreementRegions", "local,local"),
    ("OrdersStreamLabel", "local"),
    ("ProductsStreamLabel", "local"),
    ("OutboxStreamLabel", "local"),
];

#[test]
fn files_are_copied_to_the_buckets_of_the_peers_and_the_role_may_do_that_and_no_more() {
    let stack = stack_with(&[
        ("TokenJwks", "{}"),
        ("FileVersions", "on"),
        ("FirstPeerBucket", "files-tokyo"),
        ("SecondPeerBucket", "files-singapore"),
    ]);
    let replication = stack.buckets[0].replication.as_ref().expect("rules");
    let rules: BTreeSet<_> =
        replication.rules.iter().map(|rule| (rule.prefix.as_str(), rule.destination.as_str())).collect();
    let prefixes = ["exports/", "uploads/"];
    let peers = ["files-tokyo", "files-singapore"];
    let all = prefixes.into_iter().flat_map(|prefix| peers.map(|peer| (prefix, peer)));
    assert_eq!(rules, all.collect());
    assert!(replication.rules.iter().all(|rule| rule.delete_markers == DeleteMarkers::Copied));
    let written: Vec<_> = replication
        .policy
        .iter()
        .filter(|statement| statement.actions.iter().any(|action| action.starts_with("s3:Replicate")))
        .flat_map(|statement| &statement.resources)
        .collect();
    assert_eq!(written, ["arn:aws:s3:::files-tokyo/*", "arn:aws:s3:::files-singapore/*"]);
    assert!(stack_with(&[("TokenJwks", "{}")]).buckets[0].replication.is_none());
}

#[expect(clippy::expect_used, reason = "a test stops where it fails")]
fn function<'a>(stack: &'a Stack, name: &str) -> &'a Function {
    stack.functions.iter().find(|function| function.name == name).expect("it is in the template")
}

/// What a function may do with resources whose ARN contains `part`, by AWS's name of the resource.
fn may(stack: &Stack, name: &str, part: &str) -> BTreeSet<(String, String)> {
    let pairs = |statement: &Statement| {
        let resources = statement.resources.clone();
        let pair = move |action: String| {
            resources.clone().into_iter().map(move |resource| (resource, action.clone()))
        };
        statement.actions.clone().into_iter().flat_map(pair)
    };
    function(stack, name)
        .policy
        .iter()
        .flat_map(pairs)
        .filter(|(resource, _)| resource.contains(part))
        .collect()
}

#[test]
fn uploads_and_exports_reach_the_files_of_peers_with_which_they_share_the_table_and_no_more() {
    let peers = [
        ("TokenJwks", "{}"),
        ("FileVersions", "on"),
        ("FirstPeerRegion", "tokyo"),
        ("FirstPeerBucket", "files-1"),
        ("SecondPeerRegion", "singapore"),
    ];
    let stack = stack_with(&[&WITH_GLOBAL_TABLES[..], &peers].concat());
    let of = |name: &str, part: &str| may(&stack, name, part);
    let told = |stack: &Stack, name: &str| function(stack, name).environment["PEER_BUCKETS"].clone();
    for name in ["api-uploads", "api-exports"] {
        assert_eq!(told(&stack, name), "tokyo=files-1", "a peer without a bucket is none");
        assert!(of(name, ":singapore:").is_empty());
    }
    let pairs = |resource: &str, actions: &[&str]| {
        actions.iter().map(|action| (resource.to_owned(), (*action).to_owned())).collect::<BTreeSet<_>>()
    };
    let table = "arn:aws:dynamodb:tokyo:000000000000:table/shop-uploads";
    let rows = ["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:UpdateItem"];
    assert_eq!(of("api-uploads", ":tokyo:"), pairs(table, &rows));
    let final_objects = ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"];
    let incoming = [&final_objects[..], &["s3:AbortMultipartUpload"]].concat();
    let mut objects = pairs("arn:aws:s3:::files-1", &["s3:ListBucket"]);
    objects.extend(pairs("arn:aws:s3:::files-1/incoming/*", &incoming));
    objects.extend(pairs("arn:aws:s3:::files-1/uploads/*", &final_objects));
    assert_eq!(of("api-uploads", "files-1"), objects);
    assert_eq!(of("api-exports", "files-1"), pairs("arn:aws:s3:::files-1/exports/*", &["s3:GetObject"]));
    for name in stack.functions.iter().map(|function| function.name.as_str()) {
        let reaches = !of(name, "files-1").is_empty();
        assert_eq!(reaches, ["api-uploads", "api-exports"].contains(&name), "{name}");
    }

    // Without shared tables no row tells of another region's file.
    let alone = stack_with(&peers);
    for name in ["api-uploads", "api-exports"] {
        assert_eq!(told(&alone, name), "");
        assert!(may(&alone, name, "files-1").is_empty() && may(&alone, name, ":tokyo:").is_empty());
    }
}

fn logical_ids(scopes: &[TableScope]) -> BTreeSet<&'static str> {
    let tables = tables::ALL.iter().filter(|table| scopes.contains(&table.scope));
    tables.map(|table| table.logical_id).collect()
}

#[test]
fn a_stack_with_global_tables_makes_the_regional_ones_only_and_names_no_other() {
    let stack = stack_with(&[&WITH_GLOBAL_TABLES[..], &[("TokenJwks", "{}")]].concat());
    let (shared, own): (Vec<_>, Vec<_>) =
        stack.tables.iter().partition(|table| table.name.starts_with("shop-"));
    for (listed, scopes) in
        [(own, &[TableScope::Regional][..]), (shared, &[TableScope::Global, TableScope::Agreed])]
    {
        let listed: BTreeSet<&str> = listed.iter().map(|table| table.logical_id.as_str()).collect();
        assert_eq!(listed, logical_ids(scopes));
    }

    // What functions are told, and what they may touch, is one of these tables.
    let names: BTreeSet<&str> = stack.tables.iter().map(|table| table.name.as_str()).collect();
    let mut told = BTreeSet::new();
    for function in &stack.functions {
        for table in tables::ALL {
            let Some(name) = function.environment.get(table.variable) else { continue };
            assert!(names.contains(name.as_str()), "{}: {name}", function.name);
            told.insert(name.as_str());
        }
        for resource in function.policy.iter().flat_map(|statement| &statement.resources) {
            let Some((_, path)) = resource.split_once(":table/") else { continue };
            let name = path.split('/').next().unwrap_or(path);
            assert!(names.contains(name), "{}: {resource}", function.name);
        }
    }
    assert_eq!(told, names, "each table has a function that uses it");
    let streams: BTreeSet<&str> = stack.stream_sources.iter().map(|source| source.table.as_str()).collect();
    assert_eq!(streams, BTreeSet::from(["shop-orders", "shop-outbox", "shop-products"]));
}

#[test]
fn the_environments_of_regions_name_the_tables_of_the_global_one_and_each_has_a_replica() {
    let config = std::fs::read_to_string(workspace().join("samconfig.toml")).unwrap();
    let section = |name: &str| config.split(&format!("[{name}.parameters]")).nth(1).unwrap();
    let value = |name: &str, start: &str| {
        let rest = section(name).split(start).nth(1).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let global = template::load_global(&workspace().join("global.yaml"), &Context::default()).unwrap();
    let names = value("global.deploy", "\"GlobalTables=");
    let mut regions = BTreeSet::new();
    for environment in ["taiwan", "tokyo", "singapore"] {
        assert_eq!(value(&format!("{environment}.deploy"), "\"GlobalTables="), names, "{environment}");
        let region = value(&format!("{environment}.global"), "region = \"");
        let replicas = global.replicas_in(&region);
        assert!(replicas.iter().all(|table| table.name.starts_with(&format!("{names}-"))), "{region}");
        assert!(replicas.len() >= logical_ids(&[TableScope::Global]).len(), "{region}");
        regions.insert(region);
    }
    // The one where it is deployed comes first: CloudFormation makes the tables there.
    let first = value("global.deploy", "region = \"");
    for table in &global.tables {
        assert_eq!(table.replicas[0], first, "{}", table.table.name);
        assert!(table.replicas.iter().all(|region| regions.contains(region)), "{}", table.table.name);
    }
}

#[tokio::test]
async fn a_region_on_global_tables_serves_an_order_and_publishes_its_event() {
    let parameters = WITH_GLOBAL_TABLES
        .iter()
        .flat_map(|(name, value)| ["--parameter".to_owned(), format!("{name}={value}")]);
    let region =
        TestRegion::start_with(Options { arguments: parameters.collect(), ..Options::default() }).await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 3).await;
    let customer = region.customer().await;
    let order = region.order(&customer, &fresh_key(), &[("lamp", 2)]).await.expect(201);

    let rows = region.dynamodb().scan().table_name("shop-orders").send().await.unwrap();
    let mut ids = rows.items().iter().filter_map(|row| row["orderId"].as_s().ok());
    assert!(ids.any(|id| *id == order.text_of("orderId")));
    let listed = region.dynamodb().list_tables().send().await.unwrap();
    assert!(!listed.table_names().contains(&"OrdersTable".to_owned()), "{:?}", listed.table_names());
    let has_order = |messages: &[serde_json::Value]| {
        messages.iter().any(|message| message.to_string().contains(&order.text_of("orderId")))
    };
    let events = region.take_messages("OrderEventsQueue", has_order).await;
    assert!(has_order(&events), "{events:?}");
}
