//! The keys that session payloads are sealed with, in the region's secrets: a JWK set (RFC 7517) with `oct` keys for A256GCM
//! (RFC 7518). The first seals, all of them open. They are made at the region's first start and kept with its secrets.
//!
//! They rotate while the region runs, as in the cloud: the processes of functions that have read the earlier set read the
//! secret again when they meet the new key.

use std::sync::Arc;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::KeyError;
use crate::services::secrets::{SecretError, Secrets};

/// Why the sealing keys were not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum SealingKeysError {
    /// No new key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The secret can't be kept.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The secret holds something else.
    #[error("the secret {name} holds no set of sealing keys ({source})")]
    Damaged {
        /// Its name.
        name: String,
        /// Where and why. Not the text, which holds keys.
        source: serde_json::Error,
    },
}

/// The secrets of a region that hold sealing keys.
#[derive(Debug, Clone)]
pub struct SealingKeys {
    secrets: Arc<Secrets>,
    names: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Set {
    keys: Vec<Key>,
}

#[derive(Serialize, Deserialize)]
struct Key {
    kty: String,
    alg: String,
    kid: String,
    k: String,
}

impl Key {
    fn generate() -> Result<Self, KeyError> {
        // The kid stands in every sealed value, so it is short; a thumbprint of a secret is nothing to publish anyway.
        let (mut kid, mut key) = ([0; 6], [0; 32]);
        for bytes in [kid.as_mut_slice(), &mut key] {
            rand::fill(bytes).map_err(|_| KeyError::Generate)?;
        }
        let [kid, k] = [kid.as_slice(), &key].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        Ok(Self { kty: "oct".to_owned(), alg: "A256GCM".to_owned(), kid, k })
    }
}

impl SealingKeys {
    /// Those in the secrets of these names. A secret without a value gets a set with one key.
    pub fn open(secrets: Arc<Secrets>, names: Vec<String>) -> Result<Self, SealingKeysError> {
        for name in &names {
            // What an earlier start made has sealed what the tables hold.
            if secrets.get(name).is_none() {
                secrets.put(name, &json!(Set { keys: vec![Key::generate()?] }).to_string())?;
            }
        }
        Ok(Self { secrets, names })
    }

    /// Puts a new key in front of the others. Tells the ids of all.
    pub fn rotate(&self) -> Result<Vec<String>, SealingKeysError> {
        self.change(|keys| {
            keys.insert(0, Key::generate()?);
            Ok(())
        })
    }

    /// Leaves only the key that seals. Tells its id.
    pub fn drop_earlier(&self) -> Result<Vec<String>, SealingKeysError> {
        self.change(|keys| {
            keys.truncate(1);
            Ok(())
        })
    }

    fn change(
        &self,
        change: impl Fn(&mut Vec<Key>) -> Result<(), KeyError>,
    ) -> Result<Vec<String>, SealingKeysError> {
        let mut kids = Vec::new();
        for name in &self.names {
            let text = self.secrets.get(name).unwrap_or_default();
            let damaged = |source| SealingKeysError::Damaged { name: name.clone(), source };
            let mut set: Set = serde_json::from_str(&text).map_err(damaged)?;
            change(&mut set.keys)?;
            self.secrets.put(name, &json!(set).to_string())?;
            kids.extend(set.keys.into_iter().map(|key| key.kid));
        }
        Ok(kids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::Controls;
    use crate::services::access::Access;

    #[test]
    fn a_new_key_goes_to_the_front_and_the_earlier_ones_stay_until_they_are_dropped() {
        let address = "127.0.0.1:0".parse().unwrap();
        let secrets = Secrets::start(address, None, Controls::new(Access::unrestricted())).unwrap();
        let keys = SealingKeys::open(Arc::new(secrets), vec!["sealing".to_owned()]).unwrap();
        let second = keys.rotate().unwrap();
        let [new, old] = second.as_slice() else { panic!("two keys: {second:?}") };
        assert_ne!(new, old);
        assert_eq!(keys.rotate().unwrap()[1..], second);
        let last = keys.drop_earlier().unwrap();
        assert!(last.len() == 1 && !second.contains(&last[0]), "{last:?}");
        // A later start leaves them as they are.
        let again = SealingKeys::open(Arc::clone(&keys.secrets), keys.names.clone()).unwrap();
        assert_eq!(again.drop_earlier().unwrap(), last);
    }
}
