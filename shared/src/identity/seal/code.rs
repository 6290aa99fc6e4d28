//! Message authentication codes: proof that a holder of the sealing keys wrote a text, for texts
//! that are not secret.
//!
//! A code is HMAC-SHA256 (RFC 2104) over the text. Its key is derived from a sealing key by HKDF
//! (RFC 5869), so that every region with the same sealing keys can verify it without a further
//! secret. The first sealing key signs; all of them verify.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::envelope::Kid;
use super::{InvalidCiphertext, OpenError, SealingKeys};
use crate::core::redacted::Redacted;

/// Size of a code, in bytes.
const CODE_BYTES: usize = 32;

/// A code, and the id of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    kid: Kid,
    bytes: Redacted<[u8; CODE_BYTES]>,
}

impl Code {
    /// The text form: the key's id and the code, each in base64url, separated by a dot.
    pub fn expose(&self) -> String {
        format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(self.kid.as_str()),
            URL_SAFE_NO_PAD.encode(self.bytes.expose())
        )
    }

    /// Parses the output of [`Self::expose`], without verifying it.
    pub fn read(kid: &str, bytes: &str) -> Option<Self> {
        let kid = Kid::new(String::from_utf8(URL_SAFE_NO_PAD.decode(kid).ok()?).ok()?)?;
        let bytes = URL_SAFE_NO_PAD.decode(bytes).ok()?.try_into().ok()?;
        Some(Self { kid, bytes: Redacted::new(bytes) })
    }
}

impl SealingKeys {
    /// The code of `text`, with the first key.
    pub fn sign(&self, text: &str) -> Code {
        let keys = self.present();
        let key = keys.first();
        let mut bytes = [0; CODE_BYTES];
        bytes.copy_from_slice(hmac::sign(key.code_key(), text.as_bytes()).as_ref());
        Code { kid: key.kid().clone(), bytes: Redacted::new(bytes) }
    }

    /// Refuses a code that is not the code of `text`. Reads the keys again if its key is unknown.
    pub async fn verify(&self, text: &str, code: &Code) -> Result<(), OpenError> {
        match self.verify_with_present(text, code) {
            Err(OpenError::UnknownKey(kid)) if self.fetch(&kid).await => self.verify_with_present(text, code),
            outcome => outcome,
        }
    }

    fn verify_with_present(&self, text: &str, code: &Code) -> Result<(), OpenError> {
        let keys = self.present();
        let key = keys.by_kid(code.kid.as_str());
        let key = key.ok_or_else(|| OpenError::UnknownKey(code.kid.as_str().to_owned()))?;
        hmac::verify(key.code_key(), text.as_bytes(), code.bytes.expose())
            .map_err(|_| OpenError::Refused(InvalidCiphertext::Tag))
    }
}
