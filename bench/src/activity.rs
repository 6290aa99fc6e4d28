//! `POST /activity` with the buffer in Redis and with the buffer in the process, side by side.
//!
//! Both runs do the same work: with Redis, `activity-writer` stores accepted events during the
//! load; with the buffer in the process, the API stores the events before it answers. So a ratio
//! above 1 means that clients do not wait for the storing any more, and `alone ms` of the buffers
//! is what the call to Redis adds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use http_body_util::Full;
use serde_json::json;
use sojourn::core::clock::{Clock, SystemClock};
use sojourn::core::date_time::rfc3339;
use sojourn_testing::RedisServer;
use sojourn_tests::{Options, TestRegion, fresh_key};

use crate::load::{Case, Load, run};
use crate::{Figures, at, row, section, sorted};

/// Events of a request: what a page of a shop collects before it sends.
const EVENTS: usize = 20;
/// The buffers take turns, so that other load of the machine affects both.
const ROUNDS: u32 = 3;
/// Load that is not counted: processes, connections.
const WARM_UP: Duration = Duration::from_secs(1);

/// Measures both for `seconds` each.
pub(crate) async fn measure(seconds: u64, profile: Option<&str>) -> Figures {
    let mut figures = Figures::new();
    let Some(redis) = RedisServer::start() else { return figures };
    section(
        &format!("POST /activity, {EVENTS} events a request"),
        &["requests/s", "events/s", "median ms", "p99 ms"],
    );
    let redis_url = format!("RedisUrl={}", redis.url());
    let buffers = [("memory", vec!["Buffer=memory"]), ("redis", vec!["Buffer=redis", &redis_url])];
    let mut stages = BTreeMap::new();
    for (name, parameters) in buffers {
        let arguments = parameters.into_iter().flat_map(|value| ["--parameter".to_owned(), value.to_owned()]);
        let options = Options {
            arguments: arguments.collect(),
            profile: profile.map(str::to_owned),
            ..Options::default()
        };
        let region = TestRegion::start_with(options).await;
        let case = Arc::new(post(&region).await);
        run(&case, WARM_UP).await;
        stages.insert(name, (region, case, Vec::new()));
    }
    for _ in 0..ROUNDS {
        for (region, case, loads) in stages.values_mut() {
            loads.push(load(region, case, Duration::from_secs(seconds) / ROUNDS).await);
        }
    }
    for (name, (_, _, loads)) in stages {
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let per_second = loads.iter().map(Load::per_second).sum::<f64>() / loads.len() as f64;
        let latencies = sorted(loads.into_iter().flat_map(|load| load.latencies).collect());
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let events = per_second * EVENTS as f64;
        let (median, p99) = (at(&latencies, 50), at(&latencies, 99));
        row(
            name,
            &[
                format!("{per_second:.0}"),
                format!("{events:.0}"),
                format!("{median:.2}"),
                format!("{p99:.2}"),
            ],
        );
        let figure = json!({"perSecond": per_second, "medianMs": median, "p99Ms": p99});
        figures.insert(name.to_owned(), figure);
    }
    figures
}

async fn post(region: &TestRegion) -> Case {
    let (url, token) = (format!("{}/activity", region.http_url()), region.customer().await.token);
    Case::new("POST /activity", 202, move |n| {
        let at = rfc3339(SystemClock.now());
        let event = |_| {
            let product = format!("p{}", n % 64);
            json!({"eventId": fresh_key(), "kind": "view", "productId": product, "at": at})
        };
        let body = json!({"events": (0..EVENTS).map(event).collect::<Vec<_>>()});
        Request::post(&url)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()))
            .unwrap()
    })
}

/// Loads, while the writer stores what waits.
async fn load(region: &TestRegion, case: &Arc<Case>, duration: Duration) -> Load {
    let is_over = AtomicBool::new(false);
    let loading = async {
        let load = run(case, duration).await;
        is_over.store(true, Ordering::Relaxed);
        load
    };
    let storing = async {
        while !is_over.load(Ordering::Relaxed) {
            region.invoke("activity-writer", &json!({"drain": {}})).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::join!(loading, storing).0
}
