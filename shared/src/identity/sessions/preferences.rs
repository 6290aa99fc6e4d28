//! Preferences: a small private JSON object whose members only the client interprets.
//!
//! A change is a JSON merge patch (RFC 7396), so that concurrent changes of different members both
//! succeed. Merging recurses as deep as the patch, so the depth of a patch is bounded.
//!
//! 1. The rows of the check and the payload are read in one call: the check ([`check`]) costs no
//!    call, and nothing is shown or changed before it.
//! 2. The patch is applied to what was read. The result is sealed as the next version and written
//!    on the condition that the version has not changed and the session has no end.
//! 3. If another write was faster, it starts again at 1, after a wait with jitter, within the
//!    request's deadline. So fifty concurrent patches of different members all succeed. With
//!    preconditions, the new version is not the client's any more, and the patch is refused
//!    ([`PreferencesError::Stale`]).
//!
//! A session whose payload has not arrived from another region has empty preferences at version 0.
//! If they are changed before it arrives, the change replaces it: the last writer of a payload in
//! two regions wins.
//!
//! A payload that was not sealed for this session is not used: its session counts as ended. Each
//! write seals with the first key, so a rotation only needs time.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Payload, PayloadError, Replaced, SealedPayload, SessionError, SessionStore, check};
use crate::core::deadline::Deadline;
use crate::core::precondition::{Current, EntityTag, Preconditions};
use crate::core::retry::Backoff;
use crate::identity::principal::Credential;
use crate::identity::seal::SealingKeys;

/// Most bytes of the preferences, and of a patch, as compact JSON. They are read and written as a
/// whole.
pub const MAX_PREFERENCES_BYTES: usize = 16 * 1024;
/// Deepest nesting of objects and arrays, the outermost included. Merging recurses.
pub const MAX_PREFERENCES_DEPTH: usize = 32;

/// The version of preferences whose payload has not arrived. The next one is
/// [`FIRST_VERSION`](super::FIRST_VERSION).
const NOT_ARRIVED: u64 = 0;

/// A user's preferences. `Debug` shows nothing of them.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Preferences(pub(super) Map<String, Value>);

/// A change of preferences, within the limits of size and depth. `Debug` shows nothing of it.
#[derive(Clone, PartialEq)]
pub struct PreferencesPatch(Map<String, Value>);

/// Why preferences cannot be changed in this way. 413, 422.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPreferences {
    /// The patch is too long.
    #[error("the patch has {0} bytes; at most {MAX_PREFERENCES_BYTES} are allowed")]
    PatchTooLarge(usize),
    #[error("the patch has more than {MAX_PREFERENCES_DEPTH} objects and arrays within each other")]
    PatchTooDeep,
    /// The result is too large.
    #[error("the preferences would have {0} bytes; at most {MAX_PREFERENCES_BYTES} are allowed")]
    TooLarge(usize),
}

impl PreferencesPatch {
    /// A patch with these members.
    pub fn new(members: Map<String, Value>) -> Result<Self, InvalidPreferences> {
        // The depth is checked first: the other check recurses.
        if !members.values().all(|value| is_within(value, MAX_PREFERENCES_DEPTH - 1)) {
            return Err(InvalidPreferences::PatchTooDeep);
        }
        match size_bytes(&members) {
            size if size > MAX_PREFERENCES_BYTES => Err(InvalidPreferences::PatchTooLarge(size)),
            _ => Ok(Self(members)),
        }
    }
}

impl Preferences {
    /// Applies a merge patch, or changes nothing.
    pub fn merge(&mut self, patch: PreferencesPatch) -> Result<(), InvalidPreferences> {
        let mut merged = Value::Object(self.0.clone());
        json_patch::merge(&mut merged, &Value::Object(patch.0));
        let size = merged.to_string().len();
        match merged {
            Value::Object(members) if size <= MAX_PREFERENCES_BYTES => {
                self.0 = members;
                Ok(())
            }
            _ => Err(InvalidPreferences::TooLarge(size)),
        }
    }

    /// The object, for its user.
    pub fn expose(&self) -> &Map<String, Value> {
        &self.0
    }
}

/// Its length as compact JSON.
fn size_bytes(members: &Map<String, Value>) -> usize {
    serde_json::json!(members).to_string().len()
}

/// Whether objects and arrays are nested at most `levels` deep.
fn is_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| is_within(item, levels - 1)),
        Value::Object(members) => levels > 0 && members.values().all(|member| is_within(member, levels - 1)),
        _ => true,
    }
}

impl fmt::Debug for Preferences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[preferences]")
    }
}

impl fmt::Debug for PreferencesPatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[patch]")
    }
}

/// Why preferences were not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum PreferencesError {
    /// The session has ended (401), or the store failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The payload is not the session's own (401), or cannot be read or written (500).
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The patch or its result is above a limit. 413, 422.
    #[error(transparent)]
    Refused(#[from] InvalidPreferences),
    /// The current version is not the one that the client wants to change. 412.
    #[error("the preferences are at version {0}")]
    Stale(u64),
    /// Other writes were faster until there was no time left. 503.
    #[error("too many change these preferences at once")]
    Contended,
}

/// Preferences at a version.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionedPreferences {
    pub preferences: Preferences,
    /// The number in their entity tag.
    pub version: u64,
}

impl VersionedPreferences {
    /// The state for preconditions. Every session has preferences.
    pub fn current(&self) -> Current {
        Current { tag: EntityTag::Version(self.version), exists: true }
    }
}

/// The preferences of callers' sessions.
#[derive(Debug)]
pub struct SessionPreferences {
    pub store: SessionStore,
    /// Open and seal the payloads.
    pub sealing_keys: SealingKeys,
}

impl SessionPreferences {
    /// The preferences of the caller's session.
    pub async fn read(&self, caller: &Credential) -> Result<VersionedPreferences, PreferencesError> {
        let (id, user) = (caller.session_id(), caller.user_id());
        let (rows, payload) = self.store.rows().read_payload(id, user).await?;
        self.store.check_rows(caller, &rows).await?;
        let (version, payload) = self.opened(caller, payload).await?;
        Ok(VersionedPreferences { preferences: payload.preferences, version })
    }

    /// The content of the payload, and its version.
    async fn opened(
        &self,
        caller: &Credential,
        payload: Option<SealedPayload>,
    ) -> Result<(u64, Payload), PayloadError> {
        let Some(sealed) = payload else { return Ok((NOT_ARRIVED, Payload::default())) };
        let payload = sealed.open(&self.sealing_keys, caller.session_id(), caller.user_id()).await?;
        Ok((sealed.version, payload))
    }

    /// Applies `patch` to the preferences of the caller's session, and returns the result.
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
            let now = self.store.now();
            let principal = check(caller, &rows, now)?;
            let (version, mut payload) = self.opened(caller, payload).await?;
            let current = Current { tag: EntityTag::Version(version), exists: true };
            if !preconditions.admit(&current) {
                return Err(PreferencesError::Stale(version));
            }
            payload.preferences.merge(patch.clone())?;
            let next = payload.seal(&self.sealing_keys, id, user, version.saturating_add(1))?;
            match self.store.replace_payload(&principal, &rows, &next, now).await? {
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
