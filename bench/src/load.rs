//! Requests per second through the whole region: gateway, Runtime API, function processes, DynamoDB.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use sojourn_tests::{TestRegion, fresh_key, order_of};

use crate::stage::{Stage, product};
use crate::{Figures, row, section};

/// Connections of the load generator, one request at a time each.
const CONNECTIONS: usize = 32;

type Http = Client<HttpConnector, Full<Bytes>>;
type Prepare = dyn Fn(u64) -> Request<Full<Bytes>> + Send + Sync;

/// Measures the four figures.
pub(crate) async fn measure(region: &TestRegion, stage: &Stage, seconds: u64) -> Figures {
    section("Throughput", &["requests/s", "median ms", "p99 ms"]);
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
    let new_order = order.clone();
    let cases: [(&str, u16, Arc<Prepare>); 4] = [
        ("GET /health", 200, Arc::new(get(format!("{base}/health")))),
        ("GET /products/{id}", 200, Arc::new(get(format!("{base}/products/p0")))),
        ("POST /orders (new)", 201, Arc::new(move |n| new_order(&fresh_key(), n))),
        ("POST /orders (replay)", 201, Arc::new(move |_| order(&replayed, 0))),
    ];

    let mut figures = Figures::new();
    for (name, status, prepare) in cases {
        // The first second starts processes and opens connections; it is not counted.
        run(&prepare, status, Duration::from_secs(1)).await;
        let (per_second, latencies) = run(&prepare, status, Duration::from_secs(seconds)).await;
        let (middle, p99) = (at(&latencies, 50), at(&latencies, 99));
        row(name, &[format!("{per_second:.0}"), format!("{middle:.2}"), format!("{p99:.2}")]);
        figures.insert(name.into(), json!({"perSecond": per_second, "medianMs": middle, "p99Ms": p99}));
    }
    figures
}

/// Loads for `duration`. Gives requests per second and every latency in milliseconds, sorted.
async fn run(prepare: &Arc<Prepare>, status: u16, duration: Duration) -> (f64, Vec<f64>) {
    let http: Http = Client::builder(TokioExecutor::new()).build_http();
    let count = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let workers: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (http, prepare, count) = (http.clone(), Arc::clone(prepare), Arc::clone(&count));
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while began.elapsed() < duration {
                    let request = prepare(count.fetch_add(1, Ordering::Relaxed));
                    let sent = Instant::now();
                    let response = http.request(request).await.unwrap();
                    let answered = response.status();
                    let body = response.into_body().collect().await.unwrap().to_bytes();
                    assert_eq!(
                        answered,
                        StatusCode::from_u16(status).unwrap(),
                        "{}",
                        String::from_utf8_lossy(&body)
                    );
                    latencies.push(sent.elapsed().as_secs_f64() * 1_000.0);
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for worker in workers {
        latencies.extend(worker.await.unwrap());
    }
    latencies.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let per_second = latencies.len() as f64 / began.elapsed().as_secs_f64();
    (per_second, latencies)
}

fn at(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100]
}
