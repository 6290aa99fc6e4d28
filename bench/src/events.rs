//! Latency from an order's commit to its event on the bus and its message on a socket, and event
//! throughput.

use std::time::Instant;

use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use sojourn::core::clock::{Clock, SystemClock};
use sojourn_tests::{Customer, Socket, TestRegion, fresh_key};

use crate::stage::{Stage, product};
use crate::{Figures, at, row, section, sorted};

/// Template.yaml's example of a consumer of the bus.
const QUEUE: &str = "OrderEventsQueue";
/// Orders that are timed, one after the other.
const TIMED: usize = 200;
/// Orders that are placed concurrently.
const AT_ONCE: usize = 1_000;
/// Clients that place them.
const CLIENTS: usize = 16;

/// Measures with a customer of its own, so that no other message arrives on the socket.
pub(crate) async fn measure(region: &TestRegion, stage: &Stage) -> Figures {
    section("Events", &["median ms", "p99 ms", "events/s"]);
    let customer = &stage.crowd[0];
    let mut socket = region.socket(customer).await;
    while !region.take_waiting(QUEUE).await.is_empty() {}

    let mut to_socket = Vec::with_capacity(TIMED);
    let mut to_bus = Vec::with_capacity(TIMED);
    for n in 0..TIMED {
        place(region, customer, n).await;
        let on_socket = async {
            let message = socket.receive().await;
            since(&message["sentAt"])
        };
        let on_bus = async {
            let envelopes = region.take_messages(QUEUE, |all| !all.is_empty()).await;
            since(&envelopes[0]["detail"]["occurredAt"])
        };
        let (socket_ms, bus_ms) = tokio::join!(on_socket, on_bus);
        to_socket.push(socket_ms);
        to_bus.push(bus_ms);
    }
    let mut figures = Figures::new();
    for (name, times) in [("commit to socket", to_socket), ("commit to a queue of the bus", to_bus)] {
        let times = sorted(times);
        let (median, p99) = (at(&times, 50), at(&times, 99));
        row(name, &[format!("{median:.1}"), format!("{p99:.1}"), String::new()]);
        figures.insert(name.to_owned(), json!({"medianMs": median, "p99Ms": p99}));
    }
    let rate = until_shown(region, customer, &mut socket).await;
    row("orders at once, to a socket", &[String::new(), String::new(), format!("{rate:.0}")]);
    figures.insert("orders at once, to a socket".to_owned(), json!({"eventsPerSecond": rate}));
    socket.waiting().await;
    figures
}

/// Events per second, from the first order to the last message.
async fn until_shown(region: &TestRegion, customer: &Customer, socket: &mut Socket) -> f64 {
    let began = Instant::now();
    let orders = stream::iter(0..AT_ONCE).map(|n| place(region, customer, n)).buffer_unordered(CLIENTS);
    let placed = orders.collect::<Vec<()>>();
    let shown = async {
        for _ in 0..AT_ONCE {
            socket.receive().await;
        }
    };
    tokio::join!(placed, shown);
    #[expect(clippy::cast_precision_loss, reason = "a thousand is exact")]
    let rate = AT_ONCE as f64 / began.elapsed().as_secs_f64();
    rate
}

async fn place(region: &TestRegion, customer: &Customer, n: usize) {
    region.order(customer, &fresh_key(), &[(&product(n), 1)]).await.expect(201);
}

/// Milliseconds since `instant`. The functions and this program read the same clock.
fn since(instant: &Value) -> f64 {
    let then: jiff::Timestamp = instant.as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
    SystemClock.now().duration_since(then).as_secs_f64() * 1_000.0
}
