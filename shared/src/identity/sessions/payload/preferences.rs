//! Preferences: a JSON object whose members are the client's own affair, small, and private.
//!
//! They are changed by merge patches (RFC 7396): two devices, or two tabs, that change different members both succeed.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::merge_patch::merge_members;

/// Most bytes of the preferences, and of a patch, as compact JSON. They are read and written as a whole each time.
pub const MAX_PREFERENCES_BYTES: usize = 16 * 1024;
/// Most objects and arrays within each other, the outermost included. Preferences have a few; merging recurses.
pub const MAX_PREFERENCES_DEPTH: usize = 32;

/// What a user prefers. `Debug` shows nothing of it.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Preferences(pub(super) Map<String, Value>);

/// A change to preferences, of a permitted size and depth. `Debug` shows nothing of it.
#[derive(Clone, PartialEq)]
pub struct PreferencesPatch(Map<String, Value>);

/// Why preferences cannot become this. 413, 422.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PreferencesRefused {
    /// The patch is too long.
    #[error("the patch has {0} bytes; at most {MAX_PREFERENCES_BYTES} are taken")]
    PatchTooLarge(usize),
    /// The patch is too deep.
    #[error("the patch has more than {MAX_PREFERENCES_DEPTH} objects and arrays within each other")]
    PatchTooDeep,
    /// What came out would be too long to keep.
    #[error("the preferences would have {0} bytes; at most {MAX_PREFERENCES_BYTES} are kept")]
    TooLarge(usize),
}

impl PreferencesPatch {
    /// A patch with these members.
    pub fn new(members: Map<String, Value>) -> Result<Self, PreferencesRefused> {
        // Depth first: what comes after recurses.
        if !members.values().all(|value| is_within(value, MAX_PREFERENCES_DEPTH - 1)) {
            return Err(PreferencesRefused::PatchTooDeep);
        }
        match size_bytes(&members) {
            size if size > MAX_PREFERENCES_BYTES => Err(PreferencesRefused::PatchTooLarge(size)),
            _ => Ok(Self(members)),
        }
    }
}

impl Preferences {
    /// Applies a merge patch, or leaves everything as it was.
    pub fn merge(&mut self, patch: PreferencesPatch) -> Result<(), PreferencesRefused> {
        let mut members = self.0.clone();
        merge_members(&mut members, patch.0);
        match size_bytes(&members) {
            size if size > MAX_PREFERENCES_BYTES => Err(PreferencesRefused::TooLarge(size)),
            _ => {
                self.0 = members;
                Ok(())
            }
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

/// Whether there are at most `levels` objects and arrays within each other.
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
