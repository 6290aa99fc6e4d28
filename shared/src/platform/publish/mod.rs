//! Publishing in batches: events to an EventBridge bus, messages to SNS topics.
//!
//! `PutEvents` and `PublishBatch` answer 200 even if they published nothing. Each entry of a call
//! has its own result, so both adapters return one [`EntryOutcome`] per entry, in the order of the
//! entries.
//!
//! A call that fails as a whole has failed for each entry. There is one exception: a call that is
//! refused for its form may have one malformed entry. Then each entry is sent in a call of its own,
//! and the malformed one is refused alone.

use std::error::Error;
use std::future::Future;

use crate::platform::telemetry::chain;

mod bus;
mod topics;

pub use bus::{BusEvent, EventBus, MAX_BUS_BYTES};
pub use topics::{MAX_TOPIC_BYTES, TopicEntry, Topics};

/// Most entries of one call, for both services.
pub const MAX_ENTRIES: usize = 10;

/// What happened to one entry of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryOutcome {
    /// The service has stored it.
    Published,
    /// It was not published, or that is unknown. A retry may succeed.
    Failed(String),
    /// No retry can succeed: the entry is too large or malformed.
    Refused(String),
}

/// Why a whole call failed.
struct CallFailed {
    reason: String,
    is_for_its_form: bool,
}

impl CallFailed {
    /// `refusals` are the error codes of a call with an invalid entry.
    fn new(error: &(dyn Error + 'static), code: Option<&str>, refusals: &[&str]) -> Self {
        Self { reason: chain(error), is_for_its_form: code.is_some_and(|code| refusals.contains(&code)) }
    }

    fn outcome(self) -> EntryOutcome {
        if self.is_for_its_form {
            EntryOutcome::Refused(self.reason)
        } else {
            EntryOutcome::Failed(self.reason)
        }
    }
}

/// Sends `entries` in one call. If the service refuses the call as malformed, sends each in a call
/// of its own.
async fn send<'a, T, F>(entries: &[&'a T], call: impl Fn(Vec<&'a T>) -> F) -> Vec<EntryOutcome>
where
    F: Future<Output = Result<Vec<EntryOutcome>, CallFailed>>,
{
    let failed = match call(entries.to_vec()).await {
        Ok(outcomes) => return outcomes,
        Err(failed) => failed,
    };
    if !failed.is_for_its_form || entries.len() == 1 {
        return vec![failed.outcome(); entries.len()];
    }
    let mut outcomes = Vec::with_capacity(entries.len());
    for entry in entries {
        let outcome = match call(vec![entry]).await {
            Ok(mut outcomes) => outcomes.pop().unwrap_or_else(unanswered),
            Err(failed) => failed.outcome(),
        };
        outcomes.push(outcome);
    }
    outcomes
}

/// An entry without a result.
fn unanswered() -> EntryOutcome {
    EntryOutcome::Failed("the answer has no result for the entry".to_owned())
}
