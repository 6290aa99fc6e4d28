//! A running local region.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use serde::Deserialize;
use serde_json::Value;

use crate::api::{Answer, Call};
use crate::process::{LocalProcess, Options};

/// Longest wait for a request that a rule is to hold.
const HOLD_LIMIT: Duration = Duration::from_secs(20);
/// Longest wait for messages of a queue: an event that fails for good is retried for seconds first.
const QUEUE_LIMIT: Duration = Duration::from_mins(1);
/// Longest wait for a line of the log.
const LOG_LIMIT: Duration = Duration::from_secs(20);

/// Parameters of a region whose customers may leave more unpaid than the template's defaults allow.
pub const MANY_ORDERS: [&str; 2] = ["UnpaidOrdersPerCustomer=1000000", "ReservedUnitsPerCustomer=1000000000"];

/// What a region writes when it is up.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ready {
    http: String,
    ws: String,
    lambda: String,
    dynamodb: String,
    s3: String,
    sqs: String,
    region: String,
    tables: BTreeMap<String, String>,
    access_key_id: String,
    secret_access_key: String,
}

/// A region of this test's own, or one of several. Stopped, with all its processes, when dropped
/// with the others.
#[derive(Debug)]
pub struct TestRegion {
    process: Arc<LocalProcess>,
    ready: Ready,
    http: reqwest::Client,
}

impl TestRegion {
    /// A region with empty tables, in memory.
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// A region whose customers may leave as many orders unpaid as a test places.
    pub async fn start_for_many_orders() -> Self {
        let arguments = MANY_ORDERS.iter().flat_map(|setting| ["--parameter", *setting]);
        let arguments = arguments.map(str::to_owned).collect();
        Self::start_with(Options { arguments, ..Options::default() }).await
    }

    /// A region started in a particular way.
    pub async fn start_with(options: Options) -> Self {
        let process = LocalProcess::start(options).await;
        let ready = serde_json::from_str(process.ready()).expect("the ready file is JSON");
        Self::of(Arc::new(process), ready)
    }

    /// One of the regions of `process`.
    pub(crate) fn of(process: Arc<LocalProcess>, ready: Ready) -> Self {
        Self { process, ready, http: plain_http() }
    }

    /// A call of the HTTP API, without credentials.
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::new(&self.http, method, &format!("{}{path}", self.ready.http))
    }

    /// A client that knows nothing of the region: for links that it gives away.
    pub fn plain_http(&self) -> &reqwest::Client {
        &self.http
    }

    /// AWS's name of the region.
    pub fn aws_region(&self) -> &str {
        &self.ready.region
    }

    /// The name of the table with this logical id.
    pub fn table(&self, logical_id: &str) -> &str {
        &self.ready.tables[logical_id]
    }

    /// Where the HTTP API is.
    pub fn http_url(&self) -> &str {
        &self.ready.http
    }

    /// Where the WebSocket API is.
    pub fn ws_url(&self) -> &str {
        &self.ready.ws
    }

    /// Process id of the region itself.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Invokes a function directly, as `aws lambda invoke` would.
    pub async fn invoke(&self, function: &str, event: &Value) -> Answer {
        self.invoke_with(&[], function, event).await
    }

    /// Invokes a function directly, with further headers.
    pub async fn invoke_with(&self, headers: &[(&str, &str)], function: &str, event: &Value) -> Answer {
        let url = format!("{}/2015-03-31/functions/{function}/invocations", self.ready.lambda);
        let call = Call::new(&self.http, "POST", &url).json(event);
        headers.iter().fold(call, |call, (name, value)| call.header(name, value)).send().await
    }

    /// Fires a schedule, for the slot at `at` (RFC 3339).
    pub async fn fire(&self, schedule: &str, at: &str) -> Answer {
        self.control("POST", "/fire").json(&serde_json::json!({"schedule": schedule, "at": at})).send().await
    }

    /// Kills all processes of a function, as `kill -9` does. Tells how many there were.
    pub async fn kill(&self, function: &str) -> u64 {
        let answer =
            self.control("POST", "/kill").json(&serde_json::json!({"function": function})).send().await;
        answer.body["killed"].as_u64().unwrap()
    }

    /// The function processes that run now, as `cargo dev -- ps` lists them.
    pub async fn processes(&self) -> Vec<Value> {
        let listed = self.control("GET", "/ps").send().await.expect(200);
        listed.body["processes"].as_array().expect("a list of processes").clone()
    }

    /// A call of the region's control interface.
    pub fn control(&self, method: &str, path: &str) -> Call {
        Call::new(&self.http, method, &format!("{}/_local-region{path}", self.ready.lambda))
    }

    /// Puts a fault in force: what goes wrong, to which requests. Tells its id.
    pub async fn fault(&self, rule: &Value) -> u64 {
        let answer = self.control("POST", "/faults").json(rule).send().await.expect(200);
        answer.body["id"].as_u64().unwrap()
    }

    /// Waits until a rule holds a request.
    pub async fn until_held(&self, rule: u64) {
        self.until_so_many_held(rule, 1).await;
    }

    /// Waits until a rule holds as many requests.
    pub async fn until_so_many_held(&self, rule: u64, number: u64) {
        let began = Instant::now();
        loop {
            let faults = self.control("GET", "/faults").send().await.expect(200);
            let all = faults.body["rules"].as_array().cloned().unwrap_or_default();
            if all.iter().any(|status| status["id"] == rule && status["held"].as_u64() >= Some(number)) {
                return;
            }
            assert!(began.elapsed() < HOLD_LIMIT, "fewer than {number} were held");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Takes a rule out of force; what it holds goes on.
    pub async fn lift(&self, rule: u64) {
        self.control("DELETE", &format!("/faults/{rule}")).send().await.expect(200);
    }

    /// Waits until a queue has `messages` visible messages, or more.
    pub async fn until_queued(&self, queue: &str, messages: u64) {
        let began = Instant::now();
        loop {
            let queues = self.control("GET", "/queues").send().await.expect(200);
            let named = queues.body.as_array().into_iter().flatten().find(|listed| listed["name"] == queue);
            if named.and_then(|listed| listed["visible"].as_u64()) >= Some(messages) {
                return;
            }
            assert!(began.elapsed() < QUEUE_LIMIT, "the queues hold {}", queues.text);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Makes everything that is in flight in a queue visible, as if its visibility timeout had
    /// passed.
    pub async fn redeliver(&self, queue: &str) {
        self.control("POST", &format!("/queues/{queue}/redeliver")).send().await.expect(200);
    }

    /// A call of an address that the service gave away, without anything of ours.
    pub fn follow(&self, url: &str) -> Call {
        Call::new(&self.http, "GET", url)
    }

    /// Begins to count the requests that functions make.
    pub async fn record(&self) {
        self.control("POST", "/usage").send().await.expect(200);
    }

    /// What was counted since [`TestRegion::record`].
    pub async fn usage(&self) -> Value {
        self.control("GET", "/usage").send().await.expect(200).body
    }

    /// What callers of that name did since [`TestRegion::record`]: `api-*`. Events of an order are
    /// published meanwhile.
    pub async fn usage_of(&self, callers: &str) -> Value {
        self.control("GET", &format!("/usage?caller={callers}")).send().await.expect(200).body
    }

    /// The region's tables, through the AWS SDK.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        self.dynamodb_signed_for(&self.ready.region)
    }

    /// The same by a client that believes to be in the AWS region `aws_region`.
    pub fn dynamodb_signed_for(&self, aws_region: &str) -> aws_sdk_dynamodb::Client {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(aws_region.to_owned()))
            .credentials_provider(self.credentials())
            .endpoint_url(&self.ready.dynamodb)
            .build();
        aws_sdk_dynamodb::Client::from_conf(config)
    }

    /// The region's buckets, through the AWS SDK.
    pub fn s3(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
            .region(Region::new(self.ready.region.clone()))
            .credentials_provider(self.credentials())
            .endpoint_url(&self.ready.s3)
            .force_path_style(true)
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    /// The region's queues, through the AWS SDK.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
            .region(Region::new(self.ready.region.clone()))
            .credentials_provider(self.credentials())
            .endpoint_url(&self.ready.sqs)
            .build();
        aws_sdk_sqs::Client::from_conf(config)
    }

    /// All that the region and its functions have logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The log, once it holds `text`: a function's lines come through a pipe, after its answer.
    pub async fn log_with(&self, text: &str) -> String {
        let began = Instant::now();
        loop {
            let log = self.log();
            if log.contains(text) {
                return log;
            }
            assert!(began.elapsed() < LOG_LIMIT, "the log never held {text:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops the region. Tells all that it and its functions have ever logged.
    pub fn stop(mut self) -> String {
        self.end();
        self.log()
    }

    /// The file that tells where the region is.
    pub fn ready_file(&self) -> PathBuf {
        self.process.ready_file()
    }

    /// Asks the region to stop and waits. It stops its functions by itself, and their last lines
    /// are in the log then.
    pub fn end(&mut self) {
        self.process.end();
    }

    fn credentials(&self) -> Credentials {
        Credentials::new(&self.ready.access_key_id, &self.ready.secret_access_key, None, None, "test")
    }
}

/// A client without proxies: a region is on this machine.
pub(crate) fn plain_http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}
