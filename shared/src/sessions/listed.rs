//! A session as its user sees it in a list.

use super::{Device, SealedPayload, SessionRows};
use crate::seal::SealingKeys;
use crate::telemetry::chain;

/// A session in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSession {
    /// What it is checked with.
    pub rows: SessionRows,
    /// What only the keys open: the device's name.
    pub payload: SealedPayload,
}

impl ListedSession {
    /// What the user calls the device. A session whose payload cannot be opened is listed without it: its user may want to
    /// end that one in particular.
    pub fn device(&self, keys: &SealingKeys) -> Option<Device> {
        let session = self.rows.session.as_ref()?;
        match self.payload.open(keys, &session.id, &session.user_id) {
            Ok(payload) => payload.device,
            Err(error) => {
                tracing::error!(error = chain(&error), "a session is listed without its device");
                None
            }
        }
    }
}
