//! The cost of the session check in a read: the same order read by the same code, once alone and
//! once together with the session's rows in one call, alternating, so that other load of the
//! machine affects both.

use std::time::{Duration, Instant};

use serde_json::json;
use sojourn::commerce::orders::dynamo::DynamoOrders;
use sojourn::core::clock;
use sojourn::core::deadline::Deadline;
use sojourn::core::env::Env;
use sojourn::identity::sessions::{SessionCookie, SessionStore};
use sojourn::platform::tables;
use sojourn_tests::TestRegion;

use crate::stage::Stage;
use crate::{Figures, at, row, section, sorted};

/// Reads of each kind.
const READS: usize = 2_000;
/// Longest that one may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures both kinds.
pub(crate) async fn measure(region: &TestRegion, stage: &Stage) -> Figures {
    section("Reading an order, one at a time", &["median ms", "p99 ms"]);
    let env = Env::of(tables::ALL.iter().map(|table| (table.variable, table.logical_id)));
    let dynamodb = region.dynamodb();
    let orders = DynamoOrders::from_env(dynamodb.clone(), &env).unwrap();
    let sessions = SessionStore::from_env(dynamodb.clone(), &env, clock::system()).unwrap();
    let caller =
        stage.customer.cookie.split_once('=').unwrap().1.parse::<SessionCookie>().unwrap().credential();
    let user = stage.customer.user_id.parse().unwrap();
    let deadline = || Deadline::after(PATIENCE);
    let order = stage.order_id.parse().unwrap();

    let (mut alone, mut checked) = (Vec::with_capacity(READS), Vec::with_capacity(READS));
    for _ in 0..READS {
        let began = Instant::now();
        let read = orders.order(&user, &order).alone(&dynamodb, deadline());
        read.await.unwrap().expect("the order is there");
        alone.push(began.elapsed().as_secs_f64() * 1_000.0);

        let began = Instant::now();
        let read = orders.order(&user, &order);
        let read = sessions.check_with_row(&caller, read, deadline());
        read.await.unwrap().1.expect("the order is there");
        checked.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    let mut figures = Figures::new();
    for (name, times) in [("without the check", sorted(alone)), ("with the check", sorted(checked))] {
        let (middle, p99) = (at(&times, 50), at(&times, 99));
        row(name, &[format!("{middle:.3}"), format!("{p99:.3}")]);
        figures.insert(name.into(), json!({"medianMs": middle, "p99Ms": p99}));
    }
    figures
}
