//! The fixture function, ready to be invoked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use local_region::clock::SystemClock;
use local_region::functions::events::Destinations;
use local_region::functions::outcome::{Invoke, Outcome};
use local_region::functions::{FunctionSpec, Functions, Settings};
use local_region::logs::{Format, Logs};
use local_region::services::Controls;
use local_region::services::access::Access;
use local_region::services::sqs::Queues;
use local_region::template::model::{EventInvoke, Function, Queue, Stack, Statement};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::Value;

/// The queue of the fixture's `OnFailure`.
pub(crate) const DEAD: &str = "Dead";

pub(crate) struct Fixture {
    pub(crate) functions: Arc<Functions>,
    pub(crate) logs: Logs,
    pub(crate) queues: Arc<Queues>,
    pub(crate) controls: Controls,
}

/// `cargo test` builds the examples beside the tests.
pub(crate) fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples/fixture-function");
    assert!(path.exists(), "{} is missing: cargo build -p local-region --examples", path.display());
    path
}

pub(crate) fn start(settings: &Settings, timeout: Duration, init: &str) -> Fixture {
    start_with(settings, timeout, init, Setup::default())
}

/// What the template says of the fixture, besides its time-out.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) reserved_concurrency: Option<usize>,
    pub(crate) event_invoke: EventInvoke,
    pub(crate) policy: Vec<Statement>,
}

pub(crate) fn start_with(settings: &Settings, timeout: Duration, init: &str, setup: Setup) -> Fixture {
    let Setup { reserved_concurrency, event_invoke, policy } = setup;
    let environment = [
        ("AWS_LAMBDA_FUNCTION_NAME", "shop-fixture"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/shop-fixture"),
        ("FIXTURE_INIT", init),
    ];
    let spec = FunctionSpec {
        name: "fixture".to_owned(),
        physical_name: "shop-fixture".to_owned(),
        arn: "arn:aws:lambda:local:000000000000:function:shop-fixture".to_owned(),
        timeout,
        reserved_concurrency,
        event_invoke: event_invoke.clone(),
        binary: binary(),
        environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    };
    let logs = Logs::start(Format::Silent).unwrap();
    let queues = Arc::new(Queues::open(None, &[queue(DEAD)], SystemClock).unwrap());
    let function = Function {
        name: "fixture".to_owned(),
        physical_name: "shop-fixture".to_owned(),
        timeout,
        memory_mib: 128,
        code_uri: String::new(),
        handler: "bootstrap".to_owned(),
        environment: BTreeMap::new(),
        policy,
        reserved_concurrency,
        event_invoke,
    };
    let controls = Controls::new(Access::new(&Stack { functions: vec![function], ..Stack::default() }));
    let destinations = Destinations { queues: Arc::clone(&queues), access: Arc::clone(&controls.access) };
    let functions = Functions::new(vec![spec], settings, &logs, destinations);
    Fixture { functions, logs, queues, controls }
}

pub(crate) fn patient() -> Fixture {
    start(&Settings::default(), Duration::from_secs(20), "")
}

pub(crate) fn queue(name: &str) -> Queue {
    Queue {
        name: name.to_owned(),
        visibility_timeout: Duration::from_mins(1),
        delay: Duration::ZERO,
        retention: Duration::from_hours(1),
        receive_wait: Duration::ZERO,
        maximum_message_bytes: 64 * 1024,
        redrive: None,
    }
}

impl Fixture {
    pub(crate) async fn invoke(&self, event: Value) -> Outcome {
        self.functions.invoke("fixture", Bytes::from(event.to_string())).await
    }

    pub(crate) async fn answer(&self, event: Value) -> Value {
        match self.invoke(event).await {
            Outcome::Answered(payload) => serde_json::from_slice(&payload).unwrap(),
            other => panic!("not answered: {other:?}"),
        }
    }

    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition(self) {
            assert!(Instant::now() < deadline, "still not: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn logged(&self, part: &str) -> bool {
        self.logs.recent().iter().any(|line| line.text.contains(part))
    }
}

/// All at once, the results in order.
pub(crate) async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    futures.into_iter().collect::<FuturesOrdered<F>>().collect().await
}

pub(crate) fn pid(answer: &Value) -> i32 {
    i32::try_from(answer["pid"].as_i64().unwrap()).unwrap()
}

pub(crate) fn is_alive(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}
