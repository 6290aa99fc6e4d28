//! Asynchronous invocations (`InvocationType: Event`): accepted at once, run later, retried twice.
//!
//! Errors, crashes and timeouts are retried after [`limits::EVENT_RETRY_DELAYS`](super::limits::EVENT_RETRY_DELAYS);
//! throttling is waited out without counting. What fails for good is one line in the function's log; the destination that
//! the template names for it (`OnFailure`) gets nothing here.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::limits::{EVENTS_LIMIT, THROTTLED_PAUSE};
use super::outcome::Outcome;
use super::pool::Pool;

/// The asynchronous invocations under way.
#[derive(Default)]
pub struct Events(Mutex<JoinSet<()>>);

/// Too many asynchronous invocations are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyEvents;

impl Events {
    pub(super) fn accept(&self, pool: Arc<Pool>, payload: Bytes) -> Result<(), TooManyEvents> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        if running.len() >= EVENTS_LIMIT {
            return Err(TooManyEvents);
        }
        running.spawn(deliver(pool, payload));
        Ok(())
    }

    pub(super) async fn shut_down(&self) {
        let mut running = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        running.shutdown().await;
    }
}

async fn deliver(pool: Arc<Pool>, payload: Bytes) {
    let mut delays = pool.settings.event_retry_delays.clone().into_iter();
    loop {
        let outcome = pool.invoke(payload.clone()).await;
        match outcome {
            Outcome::Answered(_) => return,
            Outcome::Throttled => tokio::time::sleep(THROTTLED_PAUSE).await,
            failed => match delays.next() {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return dead_letter(&pool, &failed, payload).await,
            },
        }
    }
}

async fn dead_letter(pool: &Pool, failed: &Outcome, payload: Bytes) {
    let why = match failed {
        Outcome::FunctionError { payload } => String::from_utf8_lossy(payload).into_owned(),
        other => format!("{other:?}"),
    };
    let payload = String::from_utf8_lossy(&payload);
    pool.platform_log(format!("Asynchronous invocation lost after its retries ({why}): {payload}")).await;
}
