//! The private data of a session: the device's name and the preferences.
//!
//! The row stores it as JSON, sealed ([`crate::identity::seal`]) for the session, its user and the
//! payload's version. So a payload opens in its own row only, and an older one is not accepted
//! under the current version. Restoring the whole row to an earlier state is not detected.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use super::Preferences;
use crate::core::ids::{SessionId, UserId};
use crate::identity::seal::{OpenError, SealError, SealingKeys};

#[cfg(test)]
mod tests;

/// The version of a session's first payload. Each write is the next one.
pub const FIRST_VERSION: u64 = 1;

/// The user's name for a device in the list of sessions: 1 to [`Device::MAX_CHARS`] characters,
/// without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Device(String);

/// Text that is not a device's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a device name has 1 to {} characters, none of them a control character", Device::MAX_CHARS)]
pub struct InvalidDevice;

impl Device {
    /// Longest name, in characters.
    pub const MAX_CHARS: usize = 100;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Device {
    type Err = InvalidDevice;

    fn from_str(text: &str) -> Result<Self, InvalidDevice> {
        let name = text.trim();
        let length = name.chars().count();
        if (1..=Self::MAX_CHARS).contains(&length) && !name.chars().any(char::is_control) {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidDevice)
        }
    }
}

impl<'de> Deserialize<'de> for Device {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The sealed part of a session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// The user's name for the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    #[serde(default)]
    pub preferences: Preferences,
}

/// A payload as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedPayload {
    /// Rises with each write. The seal is bound to it.
    pub version: u64,
    pub bytes: Vec<u8>,
}

/// Why a payload cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// It cannot be sealed. 500.
    #[error("the payload of session {session_id} cannot be sealed")]
    NotSealed {
        session_id: SessionId,
        #[source]
        source: SealError,
    },
    /// The key that it was sealed with is unknown. 500.
    #[error("the payload of session {session_id} cannot be opened with the sealing keys that are there")]
    UnknownKey {
        session_id: SessionId,
        #[source]
        source: OpenError,
    },
    /// It was not sealed for this session at this version: the session is not trusted. 401.
    #[error("the payload of session {session_id} is not its own")]
    Foreign {
        /// The session of the row.
        session_id: SessionId,
        #[source]
        source: OpenError,
    },
    /// It was sealed here, and its JSON is not known to this version of the code. 500.
    #[error("the payload of session {session_id} cannot be read, at line {line} column {column}")]
    Unreadable {
        session_id: SessionId,
        /// Position of the error, from 1. serde's message may quote the payload.
        line: usize,
        column: usize,
    },
}

impl Payload {
    /// Seals it for the row of this session at this version.
    pub fn seal(
        &self,
        keys: &SealingKeys,
        session_id: &SessionId,
        user_id: &UserId,
        version: u64,
    ) -> Result<SealedPayload, PayloadError> {
        let plain = serde_json::json!(self).to_string();
        match keys.seal(plain.as_bytes(), &context(session_id, user_id, version)) {
            Ok(bytes) => Ok(SealedPayload { version, bytes }),
            Err(source) => Err(PayloadError::NotSealed { session_id: session_id.clone(), source }),
        }
    }
}

impl SealedPayload {
    /// Opens the payload of this session's row. Reads the keys again if its key is unknown.
    pub async fn open(
        &self,
        keys: &SealingKeys,
        session_id: &SessionId,
        user_id: &UserId,
    ) -> Result<Payload, PayloadError> {
        match self.open_with(keys, session_id, user_id) {
            Err(PayloadError::UnknownKey { source: OpenError::UnknownKey(kid), .. })
                if keys.fetch(&kid).await =>
            {
                self.open_with(keys, session_id, user_id)
            }
            outcome => outcome,
        }
    }

    /// Opens it with the current keys.
    fn open_with(
        &self,
        keys: &SealingKeys,
        session_id: &SessionId,
        user_id: &UserId,
    ) -> Result<Payload, PayloadError> {
        let session_id = session_id.clone();
        let plain = match keys.open(&self.bytes, &context(&session_id, user_id, self.version)) {
            Ok(plain) => plain,
            Err(source @ OpenError::UnknownKey(_)) => {
                return Err(PayloadError::UnknownKey { session_id, source });
            }
            Err(source @ OpenError::Refused(_)) => return Err(PayloadError::Foreign { session_id, source }),
        };
        serde_json::from_slice(&plain).map_err(|error| PayloadError::Unreadable {
            session_id,
            line: error.line(),
            column: error.column(),
        })
    }
}

impl fmt::Debug for SealedPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedPayload").field("version", &self.version).finish_non_exhaustive()
    }
}

/// The context of the seal. Ids have no line breaks, so that no two payloads, and no other sealed
/// values, have the same context.
fn context(session_id: &SessionId, user_id: &UserId, version: u64) -> Vec<u8> {
    format!("session payload\n{session_id}\n{user_id}\n{version}").into_bytes()
}
