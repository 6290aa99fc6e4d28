//! Several regions in one process: tokens and sealing keys are good in all, shared tables and files
//! replicate, messages cross, the front door leads past a region that is down, and such a region
//! takes nothing with it but what runs.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::operation::head_object::{HeadObjectError, HeadObjectOutput};
use aws_sdk_s3::types::ReplicationStatus;
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};
use sojourn_tests::{File, Options, Socket, TestRegion, TestRegions, binary, fresh_key};

/// The regions of samconfig.toml, and AWS's names of them.
const AWS: [(&str, &str); 3] =
    [("taiwan", "ap-east-2"), ("tokyo", "ap-northeast-1"), ("singapore", "ap-southeast-1")];

/// What three regions may keep in memory while no function runs.
const RESIDENT_LIMIT_BYTES: u64 = 600_000_000;

/// Longest wait for what takes a second: every test of the workspace shares the machine.
const PATIENCE: Duration = Duration::from_mins(1);

async fn three() -> TestRegions {
    TestRegions::start(&AWS.map(|(name, _)| name)).await
}

/// What `cargo dev -- <arguments>` says of `regions`. Meanwhile the test's own connections see what
/// happens to them.
async fn ask(regions: &TestRegions, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("sojourn-dev"));
    command.args(arguments).arg("--region-file").arg(regions.ready_file());
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

fn said(output: &Output) -> String {
    let [out, error] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    out + &error
}

/// What the start of regions is refused with.
fn refused(names: &str) -> String {
    let mut command = Command::new(binary("sojourn-dev"));
    command.args(["--no-build", "--regions", names]).current_dir(sojourn_tests::workspace());
    let output = command.output().unwrap();
    assert!(!output.status.success());
    said(&output)
}

async fn pids(region: &TestRegion) -> BTreeSet<u64> {
    region.processes().await.iter().filter_map(|process| process["pid"].as_u64()).collect()
}

fn is_alive(pid: u64) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Waits for what another region has to hear first.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "{what}: never");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether the region's own copy of the orders table has the order.
async fn has_order(region: &TestRegion, order_id: &str) -> bool {
    let get = region.dynamodb().get_item().table_name(region.table("OrdersTable")).consistent_read(true);
    let row = get.key("orderId", AttributeValue::S(order_id.to_owned())).send().await.unwrap();
    row.item.is_some()
}

/// What is told of the replication from one region to another.
async fn link(regions: &TestRegions, from: &str, to: &str) -> Value {
    let overview = regions.overview().await;
    let mut links = overview["links"].as_array().unwrap().iter();
    links.find(|link| link["from"] == from && link["to"] == to).unwrap().clone()
}

#[tokio::test]
async fn three_regions_start_together_and_each_is_in_an_aws_region_of_its_own() {
    let regions = three().await;
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", regions.process_id())).unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(pages * 4096 < RESIDENT_LIMIT_BYTES, "{pages} pages");

    let mut addresses = BTreeSet::new();
    for (name, aws) in AWS {
        let region = regions.region(name);
        assert_eq!(region.aws_region(), aws);
        let health = region.call("GET", "/health").send().await.expect(200);
        assert_eq!((&health.body["status"], &health.body["region"]), (&json!("ok"), &json!(aws)));
        addresses.insert(region.http_url().to_owned());

        let sqs = region.sqs();
        let queue = sqs.get_queue_url().queue_name("ExportsQueue").send().await.unwrap();
        let attributes = sqs.get_queue_attributes().queue_url(queue.queue_url.unwrap());
        let attributes = attributes.attribute_names(QueueAttributeName::QueueArn).send().await.unwrap();
        let arn = &attributes.attributes.unwrap()[&QueueAttributeName::QueueArn];
        assert_eq!(*arn, format!("arn:aws:sqs:{aws}:000000000000:ExportsQueue"));
    }
    assert_eq!(addresses.len(), AWS.len());
    let listed: Vec<_> = regions.list().await;
    let listed: Vec<_> = listed.iter().map(|one| (one["name"].as_str(), one["region"].as_str())).collect();
    assert_eq!(listed, AWS.map(|(name, aws)| (Some(name), Some(aws))), "in the order of the command");
}

#[tokio::test]
async fn an_order_arrives_in_every_region_unless_they_are_cut_off_and_once_they_are_not() {
    let regions = three().await;
    let tokyo = regions.region("tokyo");
    let operator = tokyo.operator().await;
    tokyo.stock(&operator, "lamp", 10).await;
    let customer = tokyo.customer().await;
    let place = async || {
        let order = tokyo.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201);
        assert_eq!(order.body["region"], "ap-northeast-1");
        order.text_of("orderId")
    };
    let first = place().await;
    for (name, region) in regions.all() {
        until(name, async || has_order(region, &first).await).await;
    }

    let cut = json!({"between": ["tokyo", "taiwan"]});
    regions.control("POST", "/partition").json(&cut).send().await.expect(204);
    let second = place().await;
    let (taiwan, singapore) = (regions.region("taiwan"), regions.region("singapore"));
    until("singapore", async || has_order(singapore, &second).await).await;
    assert!(!has_order(taiwan, &second).await, "it came across a cut");
    let cut_off = link(&regions, "tokyo", "taiwan").await;
    assert!(cut_off["pending"].as_u64() > Some(0) && cut_off["oldestMs"].is_u64(), "{cut_off}");
    regions.control("POST", "/heal").send().await.expect(204);
    until("taiwan", async || has_order(taiwan, &second).await).await;
    until("nothing pending", async || link(&regions, "tokyo", "taiwan").await["pending"] == 0).await;
}

#[tokio::test]
async fn a_cart_that_two_regions_change_while_they_are_cut_off_has_what_both_added_and_nothing_that_was_ordered()
 {
    let regions = three().await;
    let (tokyo, taiwan) = (regions.region("tokyo"), regions.region("taiwan"));
    let operator = taiwan.operator().await;
    taiwan.stock(&operator, "lamp", 10).await;
    let customer = tokyo.customer().await;
    let first = tokyo.fill_cart(&customer, &[("lamp", 1)]).await;
    assert_eq!(first.header("etag"), Some("\"ap-northeast-1.1\""));
    until("taiwan", async || taiwan.cart(&customer).await.header("etag") == first.header("etag")).await;

    regions
        .control("POST", "/partition")
        .json(&json!({"between": ["tokyo", "taiwan"]}))
        .send()
        .await
        .expect(204);
    tokyo.fill_cart(&customer, &[("lamp", 1), ("chair", 2)]).await;
    taiwan.order_cart(&customer, &fresh_key()).await.expect(201);
    taiwan.fill_cart(&customer, &[("desk", 3)]).await;
    regions.control("POST", "/heal").send().await.expect(204);

    let tag = "\"ap-east-2.2_ap-northeast-1.2\"";
    let mut carts = Vec::new();
    for (name, region) in regions.all() {
        until(name, async || region.cart(&customer).await.header("etag") == Some(tag)).await;
        // All rows come in one call.
        carts.push(region.in_rounds(&[1], region.cart(&customer)).await.body);
    }
    assert!(carts.iter().all(|cart| *cart == carts[0]), "{carts:?}");
    let mut lines = carts[0]["lines"].as_array().unwrap().clone();
    lines.sort_by_key(|line| line["productId"].to_string());
    assert_eq!(
        lines,
        [json!({"productId": "chair", "quantity": 2}), json!({"productId": "desk", "quantity": 3})]
    );

    let put = async |tag: &str| {
        let put = tokyo.call_as(&customer, "PUT", "/cart").header("if-match", tag);
        put.json(&json!({"lines": []})).send().await
    };
    let stale = put("\"ap-northeast-1.2\"").await.expect_problem(412, "stale-version");
    assert_eq!((stale.header("etag"), stale.body.get("version")), (Some(tag), None));
    put(tag).await.expect(200);
}

/// How an object is in the region's own bucket.
async fn object(region: &TestRegion, key: &str) -> Option<HeadObjectOutput> {
    let head = region.s3().head_object().bucket(region.bucket().await).key(key);
    match head.send().await {
        Ok(head) => Some(head),
        Err(error) => {
            assert!(error.as_service_error().is_some_and(HeadObjectError::is_not_found), "{error:?}");
            None
        }
    }
}

#[tokio::test]
async fn a_file_and_its_deletion_arrive_in_every_region_unless_they_are_cut_off() {
    let regions = three().await;
    let [taiwan, tokyo, singapore] = AWS.map(|(name, _)| regions.region(name));
    let customer = taiwan.customer().await;
    for (between, region) in [("tokyo", tokyo), ("singapore", singapore)] {
        let is_known = async || region.call_as(&customer, "GET", "/uploads").send().await.status == 200;
        until(between, is_known).await;
    }
    let cut = json!({"between": ["taiwan", "tokyo"]});
    regions.control("POST", "/partition").json(&cut).send().await.expect(204);

    let file = File::text("journey.txt", "from Taipei to Hualien");
    let upload = taiwan.upload(&customer, &file).await;
    let key = format!("uploads/{}/{}/file", customer.user_id, &upload.text_of("uploadId")[4..]);
    let source = object(taiwan, &key).await.unwrap();
    until("singapore", async || object(singapore, &key).await.is_some()).await;
    assert!(object(tokyo, &key).await.is_none(), "it came across a cut");
    let overview = regions.overview().await;
    assert!(overview["copies"].as_u64() > Some(0), "{overview}");
    let status = async |region| object(region, &key).await.unwrap().replication_status;
    assert_eq!(status(taiwan).await, Some(ReplicationStatus::Pending));

    regions.control("POST", "/heal").send().await.expect(204);
    let path = format!("/uploads/{}", upload.text_of("uploadId"));
    // Its announcement arrives before its completion.
    let is_ready = async || tokyo.call_as(&customer, "GET", &path).send().await.body["status"] == "READY";
    until("its row in tokyo", is_ready).await;
    until("tokyo", async || object(tokyo, &key).await.is_some()).await;
    let copy = object(tokyo, &key).await.unwrap();
    assert_eq!((copy.version_id, copy.e_tag), (source.version_id, source.e_tag));
    assert_eq!(copy.replication_status, Some(ReplicationStatus::Replica));
    until("both", async || status(taiwan).await == Some(ReplicationStatus::Completed)).await;
    // The region's own link leads to the region's own bucket.
    let read = tokyo.call_as(&customer, "GET", &path).send().await.expect(200);
    let link = read.text_of("downloadUrl");
    assert!(link.contains("sojourn-filesbucket-ap-northeast-1/"), "{link}");
    assert_eq!(tokyo.follow(&link).send().await.expect(200).text, "from Taipei to Hualien");

    let delete = taiwan.s3().delete_object().bucket(taiwan.bucket().await).key(&key);
    delete.send().await.unwrap();
    for (name, region) in regions.all() {
        until(name, async || object(region, &key).await.is_none()).await;
    }
}

#[tokio::test]
async fn a_message_reaches_a_socket_in_another_region() {
    let regions = three().await;
    let (taiwan, tokyo) = (regions.region("taiwan"), regions.region("tokyo"));
    let customer = taiwan.customer().await;
    until("tokyo", async || tokyo.call_as(&customer, "GET", "/orders").send().await.status == 200).await;
    let mut there = Socket::open(tokyo.ws_url(), &customer.token).await.unwrap();
    let mut here = Socket::open(taiwan.ws_url(), &customer.token).await.unwrap();
    let message =
        json!({"action": "send", "to": {"userId": customer.user_id}, "type": "chat.message", "body": {}});
    here.send(&message).await;
    there.told("chat.message").await;
}

#[tokio::test]
async fn the_front_door_leads_to_the_nearest_region_and_past_one_that_is_down() {
    let regions = three().await;
    let answered_by = async || {
        let http = reqwest::Client::new().get(format!("{}/health", regions.front()));
        // While a region dies, connections break.
        let answer = http
            .header("x-local-region-near", "tokyo")
            .send()
            .await
            .ok()
            .filter(|answer| answer.status() == 200)?;
        Some(answer.headers()["x-local-region"].to_str().unwrap().to_owned())
    };
    until("tokyo", async || answered_by().await.as_deref() == Some("tokyo")).await;
    regions.down("tokyo").await;
    until("another region", async || answered_by().await.is_some_and(|region| region != "tokyo")).await;
    let health = async || regions.list().await.iter().map(|one| one["healthy"].clone()).collect::<Vec<_>>();
    assert_eq!(health().await, [true, false, true]);
    regions.up("tokyo").await;
    until("tokyo again", async || answered_by().await.as_deref() == Some("tokyo")).await;
    assert_eq!(health().await, [true, true, true]);
    let failover = regions.overview().await["failover"].clone();
    assert_eq!(failover, json!({"hereMs": 3_000, "inTheCloudMs": 96_000}));
}

#[tokio::test]
async fn a_request_goes_to_the_region_that_it_is_signed_for_and_nowhere_while_the_two_are_cut_off() {
    let regions = three().await;
    let (taiwan, tokyo) = (regions.region("taiwan"), regions.region("tokyo"));
    // The locks table is regional: each region has one of this name.
    let put = |client: aws_sdk_dynamodb::Client, name: &str| {
        let put = client.put_item().table_name(taiwan.table("LocksTable"));
        put.item("lockName", AttributeValue::S(name.to_owned())).send()
    };
    let has = async |region: &TestRegion, name: &str| {
        let get = region.dynamodb().get_item().table_name(region.table("LocksTable"));
        get.key("lockName", AttributeValue::S(name.to_owned())).send().await.unwrap().item.is_some()
    };
    put(taiwan.dynamodb_signed_for("ap-northeast-1"), "in tokyo").await.unwrap();
    assert!(has(tokyo, "in tokyo").await && !has(taiwan, "in tokyo").await);

    let cut = json!({"between": ["taiwan", "tokyo"]});
    regions.control("POST", "/partition").json(&cut).send().await.expect(204);
    let lost = put(taiwan.dynamodb_signed_for("ap-northeast-1"), "lost");
    assert!(tokio::time::timeout(Duration::from_secs(1), lost).await.is_err(), "it was answered");
    put(taiwan.dynamodb_signed_for("ap-southeast-1"), "in singapore").await.unwrap();
    regions.control("POST", "/heal").send().await.expect(204);
    assert!(!has(tokyo, "lost").await && has(regions.region("singapore"), "in singapore").await);

    let refused = tokyo.dynamodb_signed_for("eu-west-1").list_tables().send().await.unwrap_err();
    let refused = format!("{:?}", refused.into_service_error());
    assert!(refused.contains("InvalidSignatureException"), "{refused}");
    assert!(refused.contains("Credential should be scoped to a valid region."), "{refused}");
}

#[tokio::test]
async fn an_address_has_one_account_whichever_regions_it_signs_up_in_and_whichever_are_lost() {
    let regions = three().await;
    let sign_up = async |name: &str, address: &str| {
        let account = json!({"email": address, "password": "correct horse battery staple"});
        regions.region(name).call("POST", "/users").json(&account).send().await
    };
    for round in 0..3 {
        let address = format!("ann{round}@example.com");
        let [one, other, third] = AWS.map(|(name, _)| sign_up(name, &address));
        let (one, other, third) = tokio::join!(one, other, third);
        let mut statuses = [one.status, other.status, third.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409], "round {round}");
    }
    // Tokyo is Taiwan's first replica of the agreement table.
    regions.down("tokyo").await;
    sign_up("taiwan", "bob@example.com").await.expect(201);
    sign_up("singapore", "bob@example.com").await.expect_problem(409, "email-taken");
    // Nobody is left to ask, and Taiwan decides nothing by itself.
    regions.down("singapore").await;
    sign_up("taiwan", "carl@example.com").await.expect_problem(503, "unavailable");
    regions.up("singapore").await;
    sign_up("taiwan", "carl@example.com").await.expect(201);
}

#[tokio::test]
async fn the_daily_report_is_made_once_in_the_world_also_when_the_region_that_made_it_is_lost() {
    let regions = three().await;
    let slot = "2026-11-20T02:00:00Z";
    let fire = async |name: &str| {
        let answer = regions.region(name).fire("daily-report", slot).await.expect(200);
        answer.body["outcome"].as_str().unwrap().to_owned()
    };
    let (one, other, third) = tokio::join!(fire("taiwan"), fire("tokyo"), fire("singapore"));
    let mut outcomes = [one, other, third];
    outcomes.sort();
    assert_eq!(outcomes, ["alreadyDone", "alreadyDone", "completed"]);
    regions.down("tokyo").await;
    assert_eq!(fire("taiwan").await, "alreadyDone");
}

#[tokio::test]
async fn a_token_of_one_region_verifies_in_the_others() {
    let regions = three().await;
    let (taiwan, tokyo) = (regions.region("taiwan"), regions.region("tokyo"));
    let customer = taiwan.customer().await;
    let foreign = TestRegion::start().await.customer().await;

    let published = |region: &TestRegion| region.call("GET", "/.well-known/jwks.json");
    let [here, there] = [published(taiwan).send().await, published(tokyo).send().await];
    assert_eq!(here.body["keys"].as_array().unwrap().len(), AWS.len());
    assert_eq!(here.body, there.body);

    // A token that does not verify is refused before anything is read.
    let refused = tokyo.in_rounds(&[], tokyo.call_as(&foreign, "GET", "/orders").send()).await;
    refused.expect_problem(401, "unauthenticated");
    // The session has to arrive first.
    until("tokyo", async || tokyo.call_as(&customer, "GET", "/orders").send().await.status == 200).await;
}

#[tokio::test]
async fn the_keys_that_seal_sessions_are_one_set_through_a_rotation_in_any_region() {
    let regions = three().await;
    let kids = async |name: &str, change: &str| {
        let path = format!("/sealing-keys/{change}");
        regions.region(name).control("POST", &path).send().await.expect(200).body["kids"].clone()
    };
    let first = kids("taiwan", "rotate").await;
    let second = kids("singapore", "rotate").await;
    assert_eq!(second.as_array().unwrap()[1..], *first.as_array().unwrap());
    assert_eq!(kids("tokyo", "drop").await, json!([second[0]]));
    assert_eq!(kids("taiwan", "drop").await, json!([second[0]]));
}

#[tokio::test]
async fn a_region_that_is_down_refuses_and_its_processes_are_dead() {
    let regions = three().await;
    let (taiwan, tokyo) = (regions.region("taiwan"), regions.region("tokyo"));
    let customer = taiwan.customer().await;
    let mut socket = Socket::open(taiwan.ws_url(), &customer.token).await.unwrap();
    let elsewhere = tokyo.customer().await;
    let rule = json!({"match": {"service": "dynamodb", "caller": "api-carts"}, "effect": {"kind": "hold", "when": "before"}});
    let rule = taiwan.fault(&rule).await;
    let held = tokio::spawn(taiwan.call_as(&customer, "GET", "/cart").try_send());
    taiwan.until_held(rule).await;
    let dead = pids(taiwan).await;
    assert!(!dead.is_empty() && dead.iter().all(|pid| is_alive(*pid)), "{dead:?}");

    let down = regions.down("taiwan").await;
    assert_eq!(down.body["condition"], "down");
    assert!(!dead.iter().any(|pid| is_alive(*pid)), "{dead:?}");
    assert!(held.await.unwrap().is_err(), "a request that had begun gets no answer");
    assert_eq!(socket.closed().await, None, "no close frame either");
    for attempt in 0..3 {
        let answer = taiwan.call("GET", "/health").try_send().await;
        assert!(answer.is_err(), "attempt {attempt} was answered");
    }
    assert!(Socket::open(taiwan.ws_url(), &customer.token).await.is_err());
    assert!(taiwan.control("GET", "/ps").try_send().await.is_err());
    assert!(taiwan.dynamodb().list_tables().send().await.is_err());
    assert!(taiwan.s3().list_buckets().send().await.is_err());
    assert!(taiwan.sqs().get_queue_url().queue_name("ExportsQueue").send().await.is_err());
    // Down already: nothing happens.
    regions.down("taiwan").await;

    tokyo.call_as(&elsewhere, "GET", "/orders").send().await.expect(200);
    let conditions: Vec<Value> = regions.list().await.iter().map(|one| one["condition"].clone()).collect();
    assert_eq!(conditions[0], "down");
    assert!(conditions[1]["up"]["processes"].as_u64() > Some(0), "{conditions:?}");
}

#[tokio::test]
async fn a_region_that_comes_back_is_where_it_was_and_has_what_it_had() {
    let regions = three().await;
    let taiwan = regions.region("taiwan");
    let operator = taiwan.operator().await;
    taiwan.stock(&operator, "lamp", 10).await;
    let customer = taiwan.customer().await;
    let key = fresh_key();
    let order = taiwan.order(&customer, &key, &[("lamp", 1)]).await.expect(201);
    let sqs = taiwan.sqs();
    let queue = sqs.get_queue_url().queue_name("OrderEventsDeadLetterQueue").send().await.unwrap();
    sqs.send_message().queue_url(queue.queue_url.unwrap()).message_body("kept").send().await.unwrap();
    let bucket = taiwan.s3().list_buckets().send().await.unwrap().buckets.unwrap().remove(0).name.unwrap();
    let put = taiwan.s3().put_object().bucket(&bucket).key("kept").body(b"kept".to_vec().into());
    put.send().await.unwrap();

    for _ in 0..2 {
        regions.down("taiwan").await;
        let up = regions.up("taiwan").await;
        assert_eq!(up.body["condition"]["up"]["processes"], 0);
        // The session and the order are there, and the token that was signed before is good.
        let path = format!("/orders/{}", order.text_of("orderId"));
        let read = taiwan.call_as(&customer, "GET", &path).send().await.expect(200);
        assert_eq!(read.body["orderId"], order.body["orderId"]);
        let replay = taiwan.order(&customer, &key, &[("lamp", 1)]).await.expect(201);
        assert_eq!(replay.header("idempotent-replayed"), Some("true"));
        taiwan.until_queued("OrderEventsDeadLetterQueue", 1).await;
        taiwan.s3().head_object().bucket(&bucket).key("kept").send().await.unwrap();
        // What runs by itself runs again: streams are read, events published, sockets told.
        let mut socket = Socket::open(taiwan.ws_url(), &customer.token).await.unwrap();
        taiwan.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201);
        socket.told("order.placed").await;
        socket.close().await;
    }
    // Up already: nothing happens.
    regions.up("taiwan").await;
}

#[tokio::test]
async fn names_that_samconfig_does_not_have_and_names_that_stand_twice_are_refused() {
    drop(TestRegion::start().await);
    let unknown = refused("taiwan,kyoto");
    assert!(
        unknown.contains("no environment kyoto with a region; there are: dev, singapore, taiwan, tokyo"),
        "{unknown}"
    );
    let alone = refused("taiwan");
    assert!(
        alone.contains("sojourn-live-agreement has replicas in ap-northeast-1 and ap-southeast-1 only"),
        "{alone}"
    );
    assert!(refused("tokyo,tokyo").contains("the region tokyo is named twice"));
}

#[tokio::test]
async fn the_command_line_lists_breaks_and_mends_regions_and_asks_one_of_them() {
    let regions = TestRegions::start(&["taiwan", "tokyo"]).await;
    regions.region("tokyo").call("GET", "/products").send().await.expect(200);
    let of_taiwan = said(&ask(&regions, &["ps", "--region", "taiwan"]).await);
    let of_tokyo = said(&ask(&regions, &["ps", "--region", "tokyo"]).await);
    assert!(!of_taiwan.contains("api-catalog") && of_tokyo.contains("api-catalog"), "{of_taiwan}{of_tokyo}");
    let unnamed = ask(&regions, &["ps"]).await;
    assert!(!unnamed.status.success() && said(&unnamed).contains("choose one with --region: taiwan, tokyo"));

    assert!(said(&ask(&regions, &["region", "down", "tokyo"]).await).contains("tokyo is down"));
    let listed = said(&ask(&regions, &["region", "ls"]).await);
    let line = |name: &str| listed.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("taiwan").contains(" up    healthy ") && line("tokyo").contains(" down "), "{listed}");
    assert!(said(&ask(&regions, &["region", "up", "tokyo"]).await).contains("tokyo is up at http://"));
    regions.region("tokyo").call("GET", "/health").send().await.expect(200);
    let unknown = ask(&regions, &["region", "down", "kyoto"]).await;
    assert!(
        !unknown.status.success()
            && said(&unknown).contains("there is no region kyoto; there are taiwan, tokyo")
    );
}

#[tokio::test]
async fn regions_keep_their_data_apart_and_have_it_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["taiwan", "tokyo"];
    let start = || {
        TestRegions::start_with(
            &names,
            Options { data: Some(folder.path().to_owned()), ..Options::default() },
        )
    };
    let regions = start().await;
    let tokyo = regions.region("tokyo");
    let customer = tokyo.customer().await;
    let bucket = tokyo.bucket().await;
    // No rule copies the first one. The second one is on its way when the regions end.
    for key in ["incoming/kept", "uploads/late"] {
        let put = tokyo.s3().put_object().bucket(&bucket).key(key).body(b"kept".to_vec().into());
        put.send().await.unwrap();
    }
    regions.end();
    drop(regions);
    for name in names {
        assert!(folder.path().join(name).join("dynamodb.sqlite3").is_file(), "{name}");
    }
    let regions = start().await;
    let (taiwan, tokyo) = (regions.region("taiwan"), regions.region("tokyo"));
    tokyo.call_as(&customer, "GET", "/orders").send().await.expect(200);
    assert!(object(tokyo, "incoming/kept").await.is_some());
    assert!(object(taiwan, "incoming/kept").await.is_none());
    until("the file in taiwan", async || object(taiwan, "uploads/late").await.is_some()).await;
    let is_known = async || taiwan.call_as(&customer, "GET", "/orders").send().await.status == 200;
    until("the session in taiwan", is_known).await;
}

#[tokio::test]
async fn web_pages_cannot_break_regions() {
    let regions = TestRegions::start(&["tokyo"]).await;
    let call = regions.control("POST", "/tokyo/down").header("origin", "https://shop.example");
    assert_eq!(call.send().await.status, 403);
    regions.region("tokyo").call("GET", "/health").send().await.expect(200);
}
