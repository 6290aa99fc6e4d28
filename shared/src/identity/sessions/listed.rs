//! A session as its user sees it in a list.

use jiff::Timestamp;

use super::{Device, SealedPayload, Session, SessionRows, Standing};
use crate::core::ids::{SessionId, UserId};
use crate::identity::seal::SealingKeys;
use crate::platform::telemetry::chain;

/// A session in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSession {
    /// What it is checked with.
    pub rows: SessionRows,
    /// What only the keys open: the device's name.
    pub payload: SealedPayload,
}

impl ListedSession {
    /// Which session it is.
    pub(super) fn id(&self) -> Option<&SessionId> {
        self.rows.session.as_ref().map(|session| &session.id)
    }

    /// The session, unless it has ended.
    pub fn live(&self, user: &UserId, now: Timestamp) -> Option<&Session> {
        let session = self.rows.session.as_ref()?;
        let standing = self.rows.standing_of(&session.id, user, now);
        matches!(standing, Standing::Live { .. }).then_some(session)
    }

    /// What the user calls the device. A session whose payload cannot be opened is listed without it: its user may want to
    /// end that one in particular.
    pub async fn device(&self, keys: &SealingKeys) -> Option<Device> {
        let session = self.rows.session.as_ref()?;
        match self.payload.open(keys, &session.id, &session.user_id).await {
            Ok(payload) => payload.device,
            Err(error) => {
                tracing::error!(error = chain(&error), "a session is listed without its device");
                None
            }
        }
    }
}
