//! Token signing keys: a new pair for the cloud, and rotation of a local region's own.

use std::path::Path;

use local_region::cli::print;
use local_region::region::DataFolder;

use crate::cli::DevError;
use crate::keys::{KeyError, KeyRing, SigningKey};

/// Prints both halves, each with where it goes. The private one is for a secret store and nothing
/// else.
pub(crate) fn generate() -> Result<(), DevError> {
    let key = SigningKey::generate()?;
    print(&format!(
        "The private key, for the secret TokenSigningKeySecret of the stack:\n{}\n\n\
         The public keys, for the SSM parameter that TokenJwks names (every region lists the keys of all):\n{}",
        key.private_jwk(),
        key.public_jwks()
    ))?;
    Ok(())
}

/// Has the next start of the region with this data sign with a new key.
pub(crate) fn rotate(data: &Path) -> Result<(), DevError> {
    let ring = change(data, KeyRing::rotated)?;
    print(&format!(
        "From its next start on the region signs with {}, and accepts what was signed with {}.",
        ring.signing().kid(),
        kids(&ring).join(", ")
    ))?;
    Ok(())
}

/// Has the next start of the region with this data accept only what the present key signed.
pub(crate) fn drop_earlier(data: &Path) -> Result<(), DevError> {
    let ring = change(data, |ring| Ok(ring.without_earlier()))?;
    print(&format!("From its next start on the region accepts only what {} signed.", ring.signing().kid()))?;
    Ok(())
}

/// Changes the keys of a region that does not run.
fn change(
    data: &Path,
    change: impl FnOnce(KeyRing) -> Result<KeyRing, KeyError>,
) -> Result<KeyRing, DevError> {
    // Before the folder is taken, which would make it: a mistyped one stays unmade.
    KeyRing::load(data)?;
    let folder = DataFolder::open(data)?;
    let ring = change(KeyRing::load(folder.path())?)?;
    ring.save(folder.path())?;
    Ok(ring)
}

fn kids(ring: &KeyRing) -> Vec<&str> {
    ring.earlier().iter().map(SigningKey::kid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_region_that_runs_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let ring = KeyRing::load_or_generate(folder.path()).unwrap();
        let running = DataFolder::open(folder.path()).unwrap();
        assert!(matches!(rotate(folder.path()), Err(DevError::Data(_))));
        assert!(matches!(drop_earlier(folder.path()), Err(DevError::Data(_))));
        drop(running);
        let after = KeyRing::load(folder.path()).unwrap();
        assert_eq!(after.public_jwks(), ring.public_jwks());
    }

    #[test]
    fn a_folder_that_is_no_regions_is_neither_made_nor_filled() {
        let folder = tempfile::tempdir().unwrap();
        let mistyped = folder.path().join("dat");
        for refused in [rotate(&mistyped), drop_earlier(&mistyped), rotate(folder.path())] {
            assert!(matches!(refused, Err(DevError::Key(KeyError::None { .. }))));
        }
        assert!(!mistyped.exists());
    }
}
