//! The token signing keys of one region, across its restarts.
//!
//! 1. The first key signs, all keys verify. A region makes a key when it first starts, and keeps
//!    its keys with its data, in `token-signing-keys.json`: a JWK set of private keys.
//! 2. `cargo dev -- rotate-key --data DIR` puts a new key in front. From its next start on, the
//!    region signs with the new key and still accepts tokens of the earlier ones.
//! 3. `cargo dev -- drop-keys --data DIR` leaves only the signing key. From its next start on, the
//!    region refuses tokens of the other keys.
//!
//! A region reads its keys once, when it starts, and locks its data folder while it runs: both
//! commands refuse to change the keys of a running region. In the cloud a rotation has one more
//! step, because processes of two configurations run side by side there (docs/deployment.md).

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{KeyError, SigningKey};

/// The file name in the data folder.
const FILE_NAME: &str = "token-signing-keys.json";
/// Written first and then renamed to that, so that a crash leaves the old keys or the new ones.
const NEW_FILE_NAME: &str = "token-signing-keys.new";

/// A region's keys, of which there is always one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "JwkSet", into = "JwkSet")]
pub(crate) struct KeyRing {
    signing: SigningKey,
    earlier: Vec<SigningKey>,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
struct JwkSet {
    keys: Vec<SigningKey>,
}

impl TryFrom<JwkSet> for KeyRing {
    type Error = &'static str;

    fn try_from(set: JwkSet) -> Result<Self, Self::Error> {
        let mut keys = set.keys.into_iter();
        let signing = keys.next().ok_or("the set holds no key")?;
        Ok(Self { signing, earlier: keys.collect() })
    }
}

impl From<KeyRing> for JwkSet {
    fn from(KeyRing { signing, earlier }: KeyRing) -> Self {
        Self { keys: [vec![signing], earlier].concat() }
    }
}

impl KeyRing {
    /// With one new key.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        Ok(Self { signing: SigningKey::generate()?, earlier: Vec::new() })
    }

    /// The keys in `folder`, made if there are none.
    pub(crate) fn load_or_generate(folder: &Path) -> Result<Self, KeyError> {
        match Self::load(folder) {
            Err(KeyError::None { .. }) => {
                let ring = Self::generate()?;
                ring.save(folder)?;
                Ok(ring)
            }
            outcome => outcome,
        }
    }

    /// The keys in `folder`.
    pub(crate) fn load(folder: &Path) -> Result<Self, KeyError> {
        let path = folder.join(FILE_NAME);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| KeyError::Damaged { path, source }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(KeyError::None { folder: folder.to_owned() })
            }
            Err(source) => Err(KeyError::File { path, source }),
        }
    }

    /// Keeps them in `folder`, readable by the owner only, as private keys have to be.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), KeyError> {
        let (new, path) = (folder.join(NEW_FILE_NAME), folder.join(FILE_NAME));
        let failed = |path: PathBuf| move |source| KeyError::File { path, source };
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .and_then(|mut file| {
                file.write_all(json!(self).to_string().as_bytes())?;
                file.sync_all()
            })
            .map_err(failed(new.clone()))?;
        std::fs::rename(new, &path).map_err(failed(path))
    }

    /// These keys behind a new one.
    pub(crate) fn rotated(self) -> Result<Self, KeyError> {
        let earlier = JwkSet::from(self).keys;
        Ok(Self { signing: SigningKey::generate()?, earlier })
    }

    /// Only the one that signs.
    #[must_use]
    pub(crate) fn without_earlier(self) -> Self {
        Self { signing: self.signing, earlier: Vec::new() }
    }

    /// The one that signs.
    pub(crate) fn signing(&self) -> &SigningKey {
        &self.signing
    }

    /// Those that signed before, newest first.
    pub(crate) fn earlier(&self) -> &[SigningKey] {
        &self.earlier
    }

    /// The JWKS with the public halves.
    #[cfg(test)]
    pub(crate) fn public_jwks(&self) -> String {
        Self::public_jwks_of(std::slice::from_ref(self))
    }

    /// The JWKS with the public halves of all keys of all regions: what every verifying function
    /// gets, so that a token of one region is good in the others.
    pub(crate) fn public_jwks_of(regions: &[Self]) -> String {
        let all = regions.iter().flat_map(|ring| std::iter::once(&ring.signing).chain(&ring.earlier));
        json!({"keys": all.map(SigningKey::public_jwk).collect::<Vec<Value>>()}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn kids(ring: &KeyRing) -> Vec<String> {
        let jwks: Value = serde_json::from_str(&ring.public_jwks()).unwrap();
        jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_keys_are_the_same_after_a_restart_and_only_their_owner_can_read_them() {
        let folder = tempfile::tempdir().unwrap();
        let first = KeyRing::load_or_generate(folder.path()).unwrap();
        let second = KeyRing::load_or_generate(folder.path()).unwrap();
        assert_eq!(first.signing().private_jwk(), second.signing().private_jwk());
        let mode = std::fs::metadata(folder.path().join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!folder.path().join(NEW_FILE_NAME).exists());
    }

    #[test]
    fn a_new_key_signs_and_the_earlier_ones_stay_published_until_they_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let first = KeyRing::load_or_generate(folder.path()).unwrap();
        let second = first.clone().rotated().unwrap();
        second.clone().rotated().unwrap().save(folder.path()).unwrap();

        let third = KeyRing::load(folder.path()).unwrap();
        let new = third.signing().kid();
        assert!(new != first.signing().kid() && new != second.signing().kid());
        assert_eq!(kids(&third), [new, second.signing().kid(), first.signing().kid()]);
        assert_eq!(kids(&third.clone().without_earlier()), [new]);
    }

    #[test]
    fn a_published_set_holds_no_private_half() {
        let ring = KeyRing::generate().unwrap().rotated().unwrap();
        assert!(!ring.public_jwks().contains("\"d\""));
    }

    #[test]
    fn a_folder_without_keys_and_a_file_without_a_key_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(KeyRing::load(folder.path()), Err(KeyError::None { .. })));
        std::fs::write(folder.path().join(FILE_NAME), "{\"keys\":[]}").unwrap();
        assert!(matches!(KeyRing::load(folder.path()), Err(KeyError::Damaged { .. })));
    }
}
