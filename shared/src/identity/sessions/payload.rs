//! What a session keeps for its user and nobody else may read: the device's name and the preferences.
//!
//! The row holds it as JSON, sealed ([`crate::identity::seal`]) for the session, its user and the payload's version. So a payload
//! opens in its own row only, and an older one cannot be put back under the present version. Whoever can put back the
//! whole row as it once was is not noticed.

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

/// What a user calls a device, to recognise it in a list of sessions: 1 to [`Device::MAX_CHARS`] characters, none of them a
/// control character.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Device(String);

/// Text that cannot be a device's name.
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
    /// What the user calls the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// What the user prefers.
    #[serde(default)]
    pub preferences: Preferences,
}

/// A payload as the row has it.
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
    /// The key that it was sealed with is not there. 500.
    #[error("the payload of session {session_id} cannot be opened with the sealing keys that are there")]
    UnknownKey {
        session_id: SessionId,
        #[source]
        source: OpenError,
    },
    /// It is not what was sealed for this session at this version: the session is not to be trusted. 401.
    #[error("the payload of session {session_id} is not its own")]
    Foreign {
        /// In whose row it was.
        session_id: SessionId,
        /// How it was found out.
        #[source]
        source: OpenError,
    },
    /// It was sealed here and is no payload that this code knows. 500.
    #[error("the payload of session {session_id} cannot be read, at line {line} column {column}")]
    Unreadable {
        session_id: SessionId,
        /// Where reading stopped, from 1. Not serde's sentence, which may quote the payload.
        line: usize,
        /// Where reading stopped, from 1.
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
    /// Opens what was in the row of this session. If its key is a new one, the keys are read again.
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

    /// Opens it with the keys that are there.
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

/// What a seal is bound to. Ids have no line breaks, so no two payloads share these bytes; nor does whatever else may be
/// sealed with the same keys one day.
fn context(session_id: &SessionId, user_id: &UserId, version: u64) -> Vec<u8> {
    format!("session payload\n{session_id}\n{user_id}\n{version}").into_bytes()
}
