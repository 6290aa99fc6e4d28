//! Authenticated encryption of stored data (*sealing*): only holders of a key can read, create,
//! change or move a value.
//!
//! Access to a table therefore does not allow reading sealed values or passing one value off as
//! another.
//!
//! 1. The plain bytes are compressed with gzip (RFC 1952) if that makes them shorter.
//! 2. They are encrypted with AES-256-GCM (NIST SP 800-38D), under the first of the [`SealingKeys`]
//!    and a random nonce.
//! 3. The envelope around them is, in this order:
//!
//!    | bytes | |
//!    |---|---|
//!    | 1 | format: 1 |
//!    | 1 | flags: bit 0 says gzip, the others are 0 |
//!    | 1 | length of the key's id |
//!    | … | the key's id, UTF-8 |
//!    | 12 | nonce |
//!    | … | ciphertext |
//!    | 16 | tag |
//!
//! 4. The tag also covers the envelope up to the nonce, and a *context* that is not stored: the
//!    identity of the row that the value belongs to, which the caller knows. So a value opens in
//!    its own row and nowhere else.
//! 5. Opening uses the key that the envelope names. An unknown key ([`OpenError::UnknownKey`]) is
//!    an operator's mistake; an invalid value ([`OpenError::Refused`]) is an attack or a damaged
//!    row.
//!
//! Rotation: the new key is put before the old one. Running processes use the old key until they
//! meet a value of the new one, and then read the keys again ([`SealingKeys::fetch`]). The old key
//! is removed when no value uses it any more.
//!
//! [`SealingKeys::sign`] authenticates a text without encrypting it ([`Code`]).
//!
//! Limits: with random nonces a key is good for 2^32 values (SP 800-38D, section 8.3), 136 years at
//! one a second. The length of a value is visible. An old value cannot be told from a new one,
//! unless the context contains a version.

use std::io::Read;

use aws_lc_rs::aead::{Aad, Nonce};
use flate2::Compression;
use flate2::bufread::{GzDecoder, GzEncoder};

use envelope::{Encoding, Envelope};

mod code;
mod envelope;
mod keys;
#[cfg(test)]
mod tests;

pub use code::Code;
pub use keys::{InvalidKeys, REREAD_INTERVAL, SealingKeys};

/// Most plain bytes of one value. Sixteen sealed values fit into a DynamoDB item even if none of
/// them shrinks. The limit also bounds what a small gzip value can inflate to.
pub const MAX_PLAIN_BYTES: usize = 24 * 1024;

/// Why something cannot be sealed. 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is longer than [`MAX_PLAIN_BYTES`].
    #[error("{0} bytes are more than can be sealed")]
    TooLarge(usize),
    /// The cryptographic library refused: it had no randomness for the nonce.
    #[error("the cryptographic library refused to seal")]
    Cipher,
}

/// Why something cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Its key is not in the set: removed too early, or not read yet ([`SealingKeys::fetch`]). 500.
    #[error("it was sealed with the key {0:?}, which is not among the sealing keys")]
    UnknownKey(String),
    /// It was not sealed here for this context.
    #[error("it was not sealed here: {0}")]
    Refused(InvalidCiphertext),
}

/// Why a value is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCiphertext {
    /// Too short, or of an unknown format.
    #[error("its envelope is not valid")]
    Envelope,
    /// Changed, cut, sealed with another key, or moved here from another row.
    #[error("its tag does not verify")]
    Tag,
    /// The sealed bytes are not gzip, or inflate to more than [`MAX_PLAIN_BYTES`].
    #[error("it does not inflate to a value of a permitted size")]
    Gzip,
}

impl SealingKeys {
    /// Seals `plain` for `context`, with the first key.
    pub fn seal(&self, plain: &[u8], context: &[u8]) -> Result<Vec<u8>, SealError> {
        if plain.len() > MAX_PLAIN_BYTES {
            return Err(SealError::TooLarge(plain.len()));
        }
        let (packing, mut body) = match gzip(plain) {
            Some(shorter) => (Encoding::Gzip, shorter),
            None => (Encoding::Plain, plain.to_vec()),
        };
        let keys = self.present();
        let key = keys.first();
        let header = envelope::header(packing, key.kid());
        let covered = [header.as_slice(), context].concat();
        let nonce = key
            .cipher()
            .seal_in_place_append_tag(Aad::from(covered), &mut body)
            .map_err(|_| SealError::Cipher)?;
        Ok([header.as_slice(), nonce.as_ref(), body.as_slice()].concat())
    }

    /// Opens a value that was sealed for `context`, with the key that it names.
    pub fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, OpenError> {
        let Envelope { header, packing, kid, nonce, body } =
            envelope::read(sealed).ok_or(OpenError::Refused(InvalidCiphertext::Envelope))?;
        let keys = self.present();
        let key = keys.by_kid(kid).ok_or_else(|| OpenError::UnknownKey(kid.to_owned()))?;
        let covered = [header, context].concat();
        let mut body = body.to_vec();
        let plain = key
            .cipher()
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(covered), &mut body)
            .map_err(|_| OpenError::Refused(InvalidCiphertext::Tag))?;
        match packing {
            Encoding::Plain => Ok(plain.to_vec()),
            Encoding::Gzip => gunzip(plain).ok_or(OpenError::Refused(InvalidCiphertext::Gzip)),
        }
    }
}

/// Gzipped, if that is shorter.
fn gzip(plain: &[u8]) -> Option<Vec<u8>> {
    let mut gzipped = Vec::new();
    GzEncoder::new(plain, Compression::default()).read_to_end(&mut gzipped).ok()?;
    (gzipped.len() < plain.len()).then_some(gzipped)
}

/// Inflated, if it is gzip and stays within [`MAX_PLAIN_BYTES`]. No more than that is ever in
/// memory.
fn gunzip(gzipped: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let bound = u64::try_from(MAX_PLAIN_BYTES).unwrap_or(u64::MAX);
    // One byte more, to tell a value of just that size from a longer one.
    GzDecoder::new(gzipped).take(bound.saturating_add(1)).read_to_end(&mut plain).ok()?;
    (plain.len() <= MAX_PLAIN_BYTES).then_some(plain)
}
