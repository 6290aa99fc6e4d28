//! The keys that session payloads are sealed with, in the region's secrets: a JWK set (RFC 7517)
//! with `oct` keys for A256GCM (RFC 7518). The first seals, all of them open. They are made at the
//! region's first start and kept with its secrets.
//!
//! They rotate while the region runs, as in the cloud: the processes of functions that have read
//! the earlier set read the secret again when they meet the new key.
//!
//! Several regions have one set, as a secret that Secrets Manager replicates: what one sealed, the
//! others open.
//! 1. At the start the sets that the regions have kept are merged, the first region's first, and
//!    each region gets the result.
//! 2. A change reaches every region at once, also one that is down.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use local_region::services::secrets::{SecretError, Secrets};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::KeyError;

/// Why the sealing keys were not made or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealingKeysError {
    /// No new key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The secret can't be kept.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The secret holds something else.
    #[error("the secret {name} holds no set of sealing keys ({source})")]
    Damaged {
        name: String,
        /// Where and why. Not the text, which holds keys.
        source: serde_json::Error,
    },
}

/// The secrets that hold sealing keys. Every region has all of them, with the same values.
#[derive(Debug, Clone)]
pub(crate) struct SealingKeys {
    replicas: Vec<Arc<Secrets>>,
    names: BTreeSet<String>,
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
        // The kid stands in every sealed value, so it is short; a thumbprint of a secret is nothing
        // to publish anyway.
        let (mut kid, mut key) = ([0; 6], [0; 32]);
        for bytes in [kid.as_mut_slice(), &mut key] {
            rand::fill(bytes).map_err(|_| KeyError::Generate)?;
        }
        let [kid, k] = [kid.as_slice(), &key].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        Ok(Self { kty: "oct".to_owned(), alg: "A256GCM".to_owned(), kid, k })
    }
}

impl SealingKeys {
    /// Those in the secrets of these names, in all regions. A secret that has a value nowhere gets
    /// a set with one key.
    pub(crate) fn open(
        replicas: Vec<Arc<Secrets>>,
        names: BTreeSet<String>,
    ) -> Result<Self, SealingKeysError> {
        let all = Self { replicas, names };
        for name in &all.names {
            // What an earlier start made has sealed what the tables hold.
            let mut keys: Vec<Key> = Vec::new();
            for text in all.replicas.iter().filter_map(|secrets| secrets.get(name)) {
                for key in read(name, &text)?.keys {
                    if !keys.iter().any(|own| own.kid == key.kid) {
                        keys.push(key);
                    }
                }
            }
            if keys.is_empty() {
                keys.push(Key::generate()?);
            }
            all.put(name, &Set { keys })?;
        }
        Ok(all)
    }

    /// Puts a new key in front of the others. Tells the ids of all.
    pub(crate) fn rotate(&self) -> Result<Vec<String>, SealingKeysError> {
        self.change(|keys| {
            keys.insert(0, Key::generate()?);
            Ok(())
        })
    }

    /// Leaves only the key that seals. Tells its id.
    pub(crate) fn drop_earlier(&self) -> Result<Vec<String>, SealingKeysError> {
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
            let text = self.replicas.first().and_then(|secrets| secrets.get(name)).unwrap_or_default();
            let mut set = read(name, &text)?;
            change(&mut set.keys)?;
            self.put(name, &set)?;
            kids.extend(set.keys.into_iter().map(|key| key.kid));
        }
        Ok(kids)
    }

    fn put(&self, name: &str, set: &Set) -> Result<(), SealingKeysError> {
        let text = json!(set).to_string();
        for secrets in &self.replicas {
            if secrets.get(name).as_ref() != Some(&text) {
                secrets.put(name, &text)?;
            }
        }
        Ok(())
    }
}

fn read(name: &str, text: &str) -> Result<Set, SealingKeysError> {
    serde_json::from_str(text).map_err(|source| SealingKeysError::Damaged { name: name.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use local_region::services::Controls;
    use local_region::services::access::Access;

    const NAME: &str = "sealing";

    fn secrets() -> Arc<Secrets> {
        let address = "127.0.0.1:0".parse().unwrap();
        Arc::new(Secrets::start(address, None, Controls::new(Access::unrestricted())).unwrap())
    }

    fn open(replicas: &[&Arc<Secrets>]) -> SealingKeys {
        SealingKeys::open(replicas.iter().map(|one| Arc::clone(one)).collect(), [NAME.to_owned()].into())
            .unwrap()
    }

    #[test]
    fn a_new_key_goes_to_the_front_and_the_earlier_ones_stay_until_they_are_dropped() {
        let secrets = secrets();
        let keys = open(&[&secrets]);
        let second = keys.rotate().unwrap();
        let [new, old] = second.as_slice() else { panic!("two keys: {second:?}") };
        assert_ne!(new, old);
        assert_eq!(keys.rotate().unwrap()[1..], second);
        let last = keys.drop_earlier().unwrap();
        assert!(last.len() == 1 && !second.contains(&last[0]), "{last:?}");
        // A later start leaves them as they are.
        assert_eq!(open(&[&secrets]).drop_earlier().unwrap(), last);
    }

    #[test]
    fn all_regions_have_one_set_and_keep_what_each_had_before() {
        let [first, second] = [secrets(), secrets()];
        let alone = open(&[&second]).drop_earlier().unwrap();
        let before = open(&[&first]).drop_earlier().unwrap();
        let both = open(&[&first, &second]);
        assert_eq!(first.get(NAME), second.get(NAME));
        let rotated = both.rotate().unwrap();
        assert_eq!(rotated[1..], [before, alone].concat());
        assert_eq!(first.get(NAME), second.get(NAME));
    }
}
