//! What a session keeps for its user and nobody else may read: the device's name and the preferences.
//!
//! The row holds it as JSON, sealed ([`crate::seal`]) for the session, its user and the row's `version`. So a payload
//! opens in its own row only, and an older one cannot be put back under the present version. Whoever can put back the
//! whole row as it once was is not noticed.

use serde::{Deserialize, Serialize};

use super::Device;
use crate::ids::{SessionId, UserId};
use crate::seal::{OpenError, SealError, SealingKeys};

mod merge_patch;
mod preferences;
#[cfg(test)]
mod tests;

pub use preferences::{
    MAX_PREFERENCES_BYTES, MAX_PREFERENCES_DEPTH, Preferences, PreferencesPatch, PreferencesRefused,
};

/// The sealed part of a session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// What the user calls the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// What the user prefers.
    #[serde(default)]
    pub preferences: Preferences,
}

/// Whose payload it is, and which one.
#[derive(Debug, Clone, Copy)]
pub struct PayloadOf<'a> {
    /// The session.
    pub session_id: &'a SessionId,
    /// Its user.
    pub user_id: &'a UserId,
    /// The row's version: it rises with every payload.
    pub version: u64,
}

impl PayloadOf<'_> {
    /// What the seal is bound to. Ids have no line breaks, so no two payloads share these bytes; nor does anything else
    /// that is sealed with the same keys one day.
    fn context(self) -> Vec<u8> {
        format!("session payload\n{}\n{}\n{}", self.session_id, self.user_id, self.version).into_bytes()
    }
}

/// A payload cannot be sealed. 500.
#[derive(Debug, thiserror::Error)]
#[error("the payload of session {session_id} cannot be sealed")]
pub struct PayloadNotSealed {
    /// Whose payload.
    pub session_id: SessionId,
    /// Why not.
    #[source]
    pub source: SealError,
}

/// Why a payload cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Its key is not there, or it is not the payload of this session: each its own answer, see [`OpenError`].
    #[error("the payload of session {session_id} cannot be opened")]
    NotOpened {
        /// Whose payload.
        session_id: SessionId,
        /// Why not.
        #[source]
        source: OpenError,
    },
    /// It was sealed here and is no payload that this code knows. 500.
    #[error("the payload of session {session_id} cannot be read, at line {line} column {column}")]
    Unreadable {
        /// Whose payload.
        session_id: SessionId,
        /// Where reading stopped, from 1. Not serde's sentence, which may quote the payload.
        line: usize,
        /// Where reading stopped, from 1.
        column: usize,
    },
}

impl Payload {
    /// The bytes for the row.
    pub fn seal(&self, keys: &SealingKeys, of: PayloadOf<'_>) -> Result<Vec<u8>, PayloadNotSealed> {
        // Text keys and text, numbers, lists of them: nothing that JSON has no form for.
        let plain = serde_json::json!(self).to_string();
        keys.seal(plain.as_bytes(), &of.context())
            .map_err(|source| PayloadNotSealed { session_id: of.session_id.clone(), source })
    }

    /// The payload in the row's bytes.
    pub fn open(sealed: &[u8], keys: &SealingKeys, of: PayloadOf<'_>) -> Result<Self, PayloadError> {
        let plain = keys
            .open(sealed, &of.context())
            .map_err(|source| PayloadError::NotOpened { session_id: of.session_id.clone(), source })?;
        serde_json::from_slice(&plain).map_err(|error| PayloadError::Unreadable {
            session_id: of.session_id.clone(),
            line: error.line(),
            column: error.column(),
        })
    }
}
