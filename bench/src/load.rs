//! Requests per second through the whole region: gateway, Runtime API, function processes,
//! DynamoDB; and the processor time of each per request.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use sojourn_tests::{PASSWORD, TestRegion, fresh_key, order_of};

use crate::cpu::Threads;
use crate::stage::{Stage, product};
use crate::{Figures, at, row, section, sorted};

/// Connections of the load generator, with one request at a time each.
const CONNECTIONS: usize = 32;

type Http = Client<HttpConnector, Full<Bytes>>;
type Prepare = dyn Fn(u64) -> Request<Full<Bytes>> + Send + Sync;
type Learn = dyn Fn(&[u8]) + Send + Sync;

/// One kind of request.
pub(crate) struct Case {
    name: &'static str,
    status: u16,
    /// Builds the n-th request.
    prepare: Box<Prepare>,
    /// Processes each answer.
    learn: Box<Learn>,
}

impl Case {
    pub(crate) fn new(
        name: &'static str,
        status: u16,
        prepare: impl Fn(u64) -> Request<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        Self { name, status, prepare: Box::new(prepare), learn: Box::new(|_| {}) }
    }

    fn learning(self, learn: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        Self { learn: Box::new(learn), ..self }
    }
}

/// Measures each case.
pub(crate) async fn measure(region: &TestRegion, stage: &Stage, seconds: u64) -> Figures {
    let columns =
        ["requests/s", "median ms", "p99 ms", "client µs", "front µs", "functions µs", "DynamoDB µs"];
    section("Throughput, and processor time a request", &columns);
    let base = region.http_url().to_owned();
    let token = stage.customer.token.clone();
    let replayed = fresh_key();
    let order = {
        let (base, token) = (base.clone(), token.clone());
        move |key: &str, n: u64| {
            let body = order_of(&[(&product(usize::try_from(n).unwrap()), 1)]);
            Request::post(format!("{base}/orders"))
                .header("authorization", format!("Bearer {token}"))
                .header("content-type", "application/json")
                .header("idempotency-key", key)
                .body(Full::from(body.to_string()))
                .unwrap()
        }
    };
    let get = |path: String| move |_| Request::get(path.clone()).body(Full::default()).unwrap();
    let read = {
        let (url, token) = (format!("{base}/orders/{}", stage.order_id), token.clone());
        move |_| {
            let request = Request::get(&url).header("authorization", format!("Bearer {token}"));
            request.body(Full::default()).unwrap()
        }
    };
    let new_order = order.clone();
    let cases = [
        Case::new("GET /health", 200, get(format!("{base}/health"))),
        Case::new("GET /products/{id}", 200, get(format!("{base}/products/p0"))),
        Case::new("GET /orders/{id}", 200, read),
        Case::new("POST /orders (new)", 201, move |n| new_order(&fresh_key(), n)),
        Case::new("POST /orders (replay)", 201, move |_| order(&replayed, 0)),
        sign_in(&base, stage),
        refresh(&base, stage),
    ];

    let mut figures = Figures::new();
    for case in cases.map(Arc::new) {
        // The first second starts processes and opens connections; it is not counted.
        run(&case, Duration::from_secs(1)).await;
        let before = Threads::now(region).await;
        let load = run(&case, Duration::from_secs(seconds)).await;
        let cpu = Threads::now(region).await.spent_since(&before, load.requests());
        let (per_second, middle, p99) = (load.per_second(), at(&load.latencies, 50), at(&load.latencies, 99));
        let mut cells = vec![format!("{per_second:.0}"), format!("{middle:.2}"), format!("{p99:.2}")];
        let parts = [cpu.client, cpu.front, cpu.functions, cpu.dynamodb];
        cells.extend(parts.map(|micros| format!("{micros:.0}")));
        row(case.name, &cells);
        let figure = json!({"perSecond": per_second, "medianMs": middle, "p99Ms": p99, "cpuMicros": cpu});
        figures.insert(case.name.into(), figure);
    }
    figures
}

/// Sign-ins of as many accounts as there are connections, since each has five attempts at a time.
fn sign_in(base: &str, stage: &Stage) -> Case {
    let (url, people) = (format!("{base}/sessions"), stage.crowd.clone());
    Case::new("POST /sessions", 201, move |n| {
        let person = &people[usize::try_from(n).unwrap() % people.len()];
        let body = json!({"email": person.email, "password": PASSWORD});
        json_post(&url, &body)
    })
}

/// Refreshes, each with the token of an earlier answer.
fn refresh(base: &str, stage: &Stage) -> Case {
    let url = format!("{base}/sessions/refresh");
    let tokens: VecDeque<String> = stage.crowd.iter().map(|person| person.refresh_token.clone()).collect();
    let tokens = Arc::new(Mutex::new(tokens));
    let next = Arc::clone(&tokens);
    let case = Case::new("POST /sessions/refresh", 200, move |_| {
        let token = next.lock().unwrap().pop_front().expect("there are more tokens than connections");
        json_post(&url, &json!({"refreshToken": token}))
    });
    case.learning(move |answer| {
        let answer: Value = serde_json::from_slice(answer).unwrap();
        let token = answer["refreshToken"].as_str().unwrap().to_owned();
        tokens.lock().unwrap().push_back(token);
    })
}

pub(crate) fn json_post(url: &str, body: &Value) -> Request<Full<Bytes>> {
    let request = Request::post(url).header("content-type", "application/json");
    request.body(Full::from(body.to_string())).unwrap()
}

/// The results of a load run.
pub(crate) struct Load {
    elapsed: Duration,
    /// Milliseconds of every request, sorted.
    pub(crate) latencies: Vec<f64>,
}

impl Load {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn requests(&self) -> f64 {
        self.latencies.len() as f64
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.requests() / self.elapsed.as_secs_f64()
    }
}

/// Loads for `duration`.
pub(crate) async fn run(case: &Arc<Case>, duration: Duration) -> Load {
    let http: Http = Client::builder(TokioExecutor::new()).build(connector());
    let count = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let workers: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (http, case, count) = (http.clone(), Arc::clone(case), Arc::clone(&count));
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while began.elapsed() < duration {
                    let request = (case.prepare)(count.fetch_add(1, Ordering::Relaxed));
                    let sent = Instant::now();
                    let response = http.request(request).await.unwrap();
                    let answered = response.status();
                    let body = response.into_body().collect().await.unwrap().to_bytes();
                    assert_eq!(answered.as_u16(), case.status, "{}", String::from_utf8_lossy(&body));
                    latencies.push(sent.elapsed().as_secs_f64() * 1_000.0);
                    (case.learn)(&body);
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for worker in workers {
        latencies.extend(worker.await.unwrap());
    }
    Load { elapsed: began.elapsed(), latencies: sorted(latencies) }
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector
}
