//! Deliveries per second of one broadcast.

use std::time::Instant;

use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::json;
use sojourn_tests::{SOCKETS_PER_USER, Socket, TestRegion};

use crate::stage::Stage;
use crate::{Figures, at, row, section, sorted};

/// Sockets that are open.
const SOCKETS: usize = 1_000;
/// Broadcasts.
const ROUNDS: usize = 5;

/// Measures from sending the broadcast to the last socket's receipt.
pub(crate) async fn measure(region: &TestRegion, stage: &Stage) -> Figures {
    section("Broadcast", &["deliveries/s"]);
    // Fewer of each than a user may have open.
    assert!(stage.crowd.len() * SOCKETS_PER_USER >= SOCKETS);
    let mut sockets: Vec<Socket> = stream::iter(stage.crowd.iter().cycle().take(SOCKETS))
        .map(|customer| Socket::open(region.ws_url(), &customer.token))
        .buffer_unordered(20)
        .try_collect()
        .await
        .unwrap();
    let mut sender = region.socket(&stage.operator).await;
    let message = json!({"action": "send", "to": {"broadcast": true}, "type": "news", "body": {"n": 1}});
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        sender.send(&message).await;
        for socket in &mut sockets {
            socket.receive().await;
        }
        #[expect(clippy::cast_precision_loss, reason = "a thousand is exact")]
        rates.push(SOCKETS as f64 / began.elapsed().as_secs_f64());
        // The sender's own copy and the acknowledgement.
        sender.receive().await;
        sender.receive().await;
    }
    let rate = at(&sorted(rates), 50);
    row(&format!("{SOCKETS} sockets"), &[format!("{rate:.0}")]);
    Figures::from([(format!("{SOCKETS} sockets"), json!({"deliveriesPerSecond": rate}))])
}
