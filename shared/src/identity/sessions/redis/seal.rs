//! The proof that a function of this deployment made a copy.
//!
//! Without it, write access to Redis would allow creating a session of any user.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::core::env::{ConfigError, Env};

/// Between the code and the content. base64url does not contain it.
const SEPARATOR: u8 = b'.';

/// The key that all functions of a deployment share.
#[derive(Clone)]
pub struct CopyKey(hmac::Key);

impl CopyKey {
    /// The variable with the key.
    pub const VARIABLE: &'static str = "SESSION_COPY_KEY";
    /// Shortest key, in characters: 16 bytes as hexadecimal digits.
    const MIN_CHARS: usize = 32;

    /// The key of `SESSION_COPY_KEY`.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let text = env.required(Self::VARIABLE)?;
        if text.len() < Self::MIN_CHARS {
            let reason =
                format!("it has at least {} characters; `openssl rand -hex 32` makes one", Self::MIN_CHARS);
            return Err(ConfigError::Invalid { variable: Self::VARIABLE, reason });
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes())))
    }

    /// `content` under the name `name`, with its code: HMAC-SHA256 over both, as base64url, before
    /// the content.
    pub(super) fn seal(&self, name: &str, content: &[u8]) -> Vec<u8> {
        let code = URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, &signed(name, content)));
        [code.as_bytes(), &[SEPARATOR], content].concat()
    }

    /// The content that was sealed under this name. `None` if it was not sealed with this key and
    /// name.
    pub(super) fn open<'a>(&self, name: &str, value: &'a [u8]) -> Option<&'a [u8]> {
        let middle = value.iter().position(|byte| *byte == SEPARATOR)?;
        let (code, content) = (&value[..middle], &value[middle + 1..]);
        let code = URL_SAFE_NO_PAD.decode(code).ok()?;
        hmac::verify(&self.0, &signed(name, content), &code).ok()?;
        Some(content)
    }
}

/// The bytes that are signed. Names have no line breaks, so no two pairs have the same bytes.
fn signed(name: &str, content: &[u8]) -> Vec<u8> {
    [name.as_bytes(), b"\n", content].concat()
}

impl fmt::Debug for CopyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[key]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> CopyKey {
        CopyKey::from_env(&Env::of([(CopyKey::VARIABLE, text)])).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_under_its_own_name_and_key_only() {
        let (ours, other) = (key(&"a".repeat(32)), key(&"b".repeat(32)));
        let sealed = ours.seal("one", b"content. with a dot");
        assert_eq!(ours.open("one", &sealed), Some(b"content. with a dot".as_slice()));
        assert_eq!(ours.open("other", &sealed), None);
        assert_eq!(other.open("one", &sealed), None);
        for position in 0..sealed.len() {
            let mut tampered = sealed.clone();
            tampered[position] ^= 1;
            assert_eq!(ours.open("one", &tampered), None, "at {position}");
        }
        for nothing in ["", ".", "content", ".content"] {
            assert_eq!(ours.open("one", nothing.as_bytes()), None, "{nothing}");
        }
    }

    #[test]
    fn a_short_key_is_refused_without_repeating_it() {
        let error = CopyKey::from_env(&Env::of([(CopyKey::VARIABLE, "s3cret")])).unwrap_err().to_string();
        assert!(error.contains(CopyKey::VARIABLE) && !error.contains("s3cret"), "{error}");
        assert_eq!(format!("{:?}", key(&"s3cret".repeat(8))), "[key]");
    }
}
