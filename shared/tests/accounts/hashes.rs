//! Counts the passwords that a test's own thread has hashed or verified.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Where the computation is logged. That module logs nothing else.
const TARGET: &str = "sojourn::identity::users::password";

/// A count that goes on while this lives.
pub(crate) struct Hashes {
    counter: Counter,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Counter(Arc<AtomicU32>);

impl<S: Subscriber> Layer<S> for Counter {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == TARGET {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Begins to count.
pub(crate) fn count() -> Hashes {
    let counter = Counter::default();
    let guard = tracing_subscriber::registry().with(counter.clone()).set_default();
    Hashes { counter, _guard: guard }
}

impl Hashes {
    /// How many there were.
    pub(crate) fn so_far(&self) -> u32 {
        self.counter.0.load(Ordering::Relaxed)
    }
}
