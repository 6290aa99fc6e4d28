//! Preferences, read and changed by their user.
//!
//! 1. The session's row and its user's token version are read in one call, the payload with them: the check
//!    ([`check`]) costs nothing of its own, and nothing is told or changed before it.
//! 2. A change is a merge patch on what was read. It is sealed as the next version and written on the condition that the
//!    version is still the one that was read and the session is not revoked.
//! 3. Somebody was faster: begin again at 1, after a wait with jitter, inside the request's deadline. So fifty patches of
//!    different members at once all count. With preconditions, the version that is now read is not the client's any more,
//!    and the patch is refused ([`PreferencesError::Stale`]).
//!
//! A payload that is not what was sealed for this session is not used for anything: its session counts as ended. Each
//! write seals with the first key, so a rotation needs nothing but time.

use super::{
    PayloadError, PayloadNotSealed, Preferences, PreferencesPatch, PreferencesRefused, Replaced,
    SessionError, SessionStore, check,
};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::precondition::{Current, Preconditions};
use crate::core::retry::Backoff;
use crate::identity::principal::Credential;
use crate::identity::seal::SealingKeys;

/// Why preferences are not told or not changed.
#[derive(Debug, thiserror::Error)]
pub enum PreferencesError {
    /// The session has ended (401), or the store failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The payload is not the session's own (401), or cannot be read (500).
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The payload cannot be written. 500.
    #[error(transparent)]
    NotSealed(#[from] PayloadNotSealed),
    /// The patch, or what came out of it, is too much. 413, 422.
    #[error(transparent)]
    Refused(#[from] PreferencesRefused),
    /// They are at another version than the client wants to change. 412.
    #[error("the preferences are at version {0}")]
    Stale(u64),
    /// Others were faster each time, until there was no time left. 503.
    #[error("too many change these preferences at once")]
    Contended,
}

/// Preferences at a version.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionedPreferences {
    /// What the user prefers.
    pub preferences: Preferences,
    /// Their entity tag's number.
    pub version: u64,
}

impl VersionedPreferences {
    /// What preconditions are held against. Every session has preferences.
    pub fn current(&self) -> Current {
        Current { version: self.version, exists: true }
    }
}

/// The preferences of callers' sessions.
#[derive(Debug)]
pub struct SessionPreferences {
    /// Where the sessions are.
    pub store: SessionStore,
    /// Open and seal their payloads.
    pub sealing_keys: SealingKeys,
    /// Tells whether a session has ended by itself.
    pub clock: SharedClock,
}

impl SessionPreferences {
    /// The preferences of the caller's session.
    pub async fn read(&self, caller: &Credential) -> Result<VersionedPreferences, PreferencesError> {
        let (id, user) = (caller.session_id(), caller.user_id());
        let (rows, payload) = self.store.rows().read_payload(id, user).await?;
        self.store.check_rows(caller, &rows).await?;
        let sealed = payload.ok_or(SessionError::Ended)?;
        let preferences = sealed.open(&self.sealing_keys, id, user).await?.preferences;
        Ok(VersionedPreferences { preferences, version: sealed.version })
    }

    /// Applies `patch` to the preferences of the caller's session, and gives what came out.
    pub async fn patch(
        &self,
        caller: &Credential,
        patch: &PreferencesPatch,
        preconditions: &Preconditions,
        deadline: Deadline,
    ) -> Result<VersionedPreferences, PreferencesError> {
        let (id, user) = (caller.session_id(), caller.user_id());
        let mut backoff = Backoff::within(deadline);
        loop {
            let (rows, payload) = self.store.rows().read_payload(id, user).await?;
            let now = self.clock.now();
            check(caller, &rows, now)?;
            let sealed = payload.ok_or(SessionError::Ended)?;
            if !preconditions.admit(Current { version: sealed.version, exists: true }) {
                return Err(PreferencesError::Stale(sealed.version));
            }
            let mut payload = sealed.open(&self.sealing_keys, id, user).await?;
            payload.preferences.merge(patch.clone())?;
            let next = payload.seal(&self.sealing_keys, id, user, sealed.version.saturating_add(1))?;
            match self.store.replace_payload(id, sealed.version, &next, now).await? {
                Replaced::Done => {
                    let preferences = payload.preferences;
                    return Ok(VersionedPreferences { preferences, version: next.version });
                }
                Replaced::Ended => return Err(SessionError::Ended.into()),
                Replaced::Overtaken if backoff.wait().await => {}
                Replaced::Overtaken => return Err(PreferencesError::Contended),
            }
        }
    }
}
