//! A limit on waiting entries, for services that report their number with a delay.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::AdapterSettings;
use crate::platform::telemetry::chain;

/// How old the number of waiting entries may be. In the meantime each process adds its own offers,
/// and does not see those of others or what was consumed.
pub const STALENESS: Duration = Duration::from_secs(2);

/// The last reported number, and the entries offered by this process since.
#[derive(Debug, Clone, Copy)]
struct Sample {
    taken: Instant,
    entries: u64,
}

/// Compares offers with the number of waiting entries, and updates that number every [`STALENESS`]
/// at most.
pub(super) struct SampledBound {
    limit: u64,
    last: Mutex<Option<Sample>>,
}

impl SampledBound {
    pub(super) fn new(terms: AdapterSettings) -> Self {
        Self { limit: terms.limit, last: Mutex::default() }
    }

    /// Whether there is room for `offered` more entries; if so, they are counted. `look` asks the
    /// service.
    ///
    /// If `look` fails, there is room: the limit protects costs, and an offer to a service that is
    /// down fails by itself.
    pub(super) async fn has_room<E: Error>(
        &self,
        offered: usize,
        look: impl Future<Output = Result<u64, E>>,
    ) -> bool {
        let mut last = self.last.lock().await;
        let fresh = last.filter(|sample| sample.taken.elapsed() < STALENESS);
        let mut sample = if let Some(sample) = fresh {
            sample
        } else {
            let entries = look.await.unwrap_or_else(|error| {
                tracing::warn!(error = chain(&error), "the number of waiting entries is unknown");
                0
            });
            Sample { taken: Instant::now(), entries }
        };
        let with_these = sample.entries.saturating_add(offered as u64);
        let has_room = with_these <= self.limit;
        if has_room {
            sample.entries = with_these;
        }
        *last = Some(sample);
        has_room
    }
}

impl fmt::Debug for SampledBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SampledBound").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{Ready, ready};
    use std::sync::atomic::{AtomicU32, Ordering};

    fn bound(limit: u64) -> SampledBound {
        SampledBound::new(AdapterSettings { limit, lease: Duration::from_mins(1) })
    }

    /// A look that finds so many.
    fn found(entries: u64) -> Ready<Result<u64, std::io::Error>> {
        ready(Ok(entries))
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_process_offers_counts_until_the_next_look() {
        let bound = bound(1_000);
        assert!(bound.has_room(500, found(0)).await);
        assert!(bound.has_room(500, found(0)).await);
        assert!(!bound.has_room(1, found(0)).await);
        tokio::time::advance(STALENESS).await;
        assert!(!bound.has_room(1, found(1_000)).await);
        tokio::time::advance(STALENESS).await;
        assert!(bound.has_room(1, found(999)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_fails_refuses_nobody_and_is_not_repeated_at_once() {
        let bound = bound(1_000);
        let looks = AtomicU32::new(0);
        for _ in 0..3 {
            let look = async {
                looks.fetch_add(1, Ordering::SeqCst);
                Err(std::io::Error::other("down"))
            };
            assert!(bound.has_room(1, look).await);
        }
        assert_eq!(looks.load(Ordering::SeqCst), 1);
    }
}
