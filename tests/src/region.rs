//! A running local region.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::api::{Answer, Call};

/// Longest wait for a region to be up. It takes well under a second; a loaded CI machine may take its time.
const START_LIMIT: Duration = Duration::from_mins(1);
/// Longest wait for a region to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Longest wait for a request that a rule is to hold.
const HOLD_LIMIT: Duration = Duration::from_secs(20);
/// Longest wait for messages of a queue: an event that fails for good is retried for seconds first.
const QUEUE_LIMIT: Duration = Duration::from_mins(1);
/// Longest wait for a line of the log.
const LOG_LIMIT: Duration = Duration::from_secs(20);
/// Lines of a failed test's region that are shown.
const LOG_LINES: usize = 60;

/// Parameters of a region whose customers may leave more unpaid than the template's defaults allow.
pub const MANY_ORDERS: [&str; 2] = ["UnpaidOrdersPerCustomer=1000000", "ReservedUnitsPerCustomer=1000000000"];

/// What a region writes when it is up.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    http: String,
    ws: String,
    lambda: String,
    dynamodb: String,
    s3: String,
    sqs: String,
    access_key_id: String,
    secret_access_key: String,
}

/// How a region is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Further arguments of `sojourn-local`.
    pub arguments: Vec<String>,
    /// Cargo's profile of the functions, which are built already; that of this test if absent.
    pub profile: Option<String>,
    /// Where it keeps its data; a temporary directory that goes with the region if absent.
    pub data: Option<PathBuf>,
}

/// A region of this test's own. Stopped, with all its processes, when dropped.
#[derive(Debug)]
pub struct TestRegion {
    process: Child,
    ready: Ready,
    directory: TempDir,
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
        build_functions();
        let directory = tempfile::tempdir().unwrap();
        let ready_file = directory.path().join("ready.json");
        let log = std::fs::File::create(directory.path().join("region.log")).unwrap();
        let mut command = Command::new(binaries().join("sojourn-local"));
        command
            .args(["--http", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--no-build", "--log", "json"])
            .args(["--ready-file".as_ref(), ready_file.as_os_str()])
            // Everybody here signs up from one address. A test of that limit sets it anew: the last value counts.
            .args(["--parameter", "SignUpsPerAddress=1000000"])
            .args(&options.arguments)
            .current_dir(workspace())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if let Some(data) = &options.data {
            command.args(["--data".as_ref(), data.as_os_str()]);
        }
        let profile = options.profile.as_deref().or(is_release().then_some("release"));
        if let Some(profile) = profile {
            command.args(["--profile", profile]);
        }
        let mut process = command.spawn().expect("sojourn-local starts");

        let began = Instant::now();
        let ready = loop {
            if let Ok(text) = std::fs::read_to_string(&ready_file) {
                break serde_json::from_str(&text).expect("the ready file is JSON");
            }
            let ended = process.try_wait().unwrap();
            if ended.is_some() || began.elapsed() > START_LIMIT {
                let log = std::fs::read_to_string(directory.path().join("region.log")).unwrap();
                panic!("the region did not start ({ended:?}):\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { process, ready, directory, http }
    }

    /// A call of the HTTP API, without credentials.
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::new(&self.http, method, &format!("{}{path}", self.ready.http))
    }

    /// A client that knows nothing of the region: for links that it gives away.
    pub fn plain_http(&self) -> &reqwest::Client {
        &self.http
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
        Call::new(&self.http, method, &format!("{}/_sojourn{path}", self.ready.lambda))
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

    /// Makes everything that is in flight in a queue visible, as if its visibility timeout had passed.
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

    /// The region's tables, through the AWS SDK.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("local"))
            .credentials_provider(self.credentials())
            .endpoint_url(&self.ready.dynamodb)
            .build();
        aws_sdk_dynamodb::Client::from_conf(config)
    }

    /// The region's buckets, through the AWS SDK.
    pub fn s3(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
            .region(Region::new("local"))
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
            .region(Region::new("local"))
            .credentials_provider(self.credentials())
            .endpoint_url(&self.ready.sqs)
            .build();
        aws_sdk_sqs::Client::from_conf(config)
    }

    /// All that the region and its functions have logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("region.log")).unwrap()
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
        self.directory.path().join("ready.json")
    }

    /// Asks the region to stop and waits. It stops its functions by itself, and their last lines are in the log then.
    pub fn end(&mut self) {
        if matches!(self.process.try_wait(), Ok(Some(_))) {
            return;
        }
        let asked = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        let began = Instant::now();
        while asked.is_ok() && began.elapsed() < STOP_LIMIT {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "drop is not async, and the region is another process"
            )]
            std::thread::sleep(Duration::from_millis(5));
        }
        self.process.kill().and_then(|()| self.process.wait()).expect("the region ends");
    }

    /// Shows the end of the log, for whoever reads why a test failed.
    #[expect(clippy::print_stdout, reason = "the output of a failed test is what its reader has")]
    fn show_log(&self) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        println!("--- end of the region's log ---");
        lines[lines.len().saturating_sub(LOG_LINES)..].iter().for_each(|line| println!("{line}"));
    }

    fn credentials(&self) -> Credentials {
        Credentials::new(&self.ready.access_key_id, &self.ready.secret_access_key, None, None, "test")
    }
}

impl Drop for TestRegion {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_log();
        }
        self.end();
    }
}

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Where cargo puts binaries of the profile that this test was built with.
fn binaries() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let directory = test.parent().unwrap();
    if directory.ends_with("deps") { directory.parent().unwrap().to_owned() } else { directory.to_owned() }
}

/// A binary of the workspace. Built once a [`TestRegion`] has been started.
pub fn binary(name: &str) -> PathBuf {
    binaries().join(name)
}

fn is_release() -> bool {
    binaries().ends_with("release")
}

/// Builds all binaries, once a process: `cargo test` alone does not build those of other packages.
fn build_functions() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--workspace", "--bins"]).current_dir(workspace());
        if is_release() {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo starts").success(), "the functions do not build");
    });
}
