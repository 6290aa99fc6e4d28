//! The bytes of an envelope, as documented in the parent module.

use aws_lc_rs::aead::NONCE_LEN;

/// The only format so far. Another layout or cipher gets another number.
const FORMAT: u8 = 1;
/// The flag of [`Encoding::Gzip`].
const GZIP: u8 = 1;

/// The encoding of the sealed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// The plain bytes.
    Plain,
    /// The plain bytes, gzipped.
    Gzip,
}

/// A parsed envelope.
pub(super) struct Envelope<'a> {
    /// The bytes before the nonce.
    pub(super) header: &'a [u8],
    pub(super) packing: Encoding,
    pub(super) kid: &'a str,
    pub(super) nonce: [u8; NONCE_LEN],
    /// Ciphertext and tag.
    pub(super) body: &'a [u8],
}

/// The bytes before the nonce.
pub(super) fn header(packing: Encoding, kid: &Kid) -> Vec<u8> {
    let flags = match packing {
        Encoding::Plain => 0,
        Encoding::Gzip => GZIP,
    };
    [&[FORMAT, flags, kid.length()], kid.as_str().as_bytes()].concat()
}

/// Parses an envelope, without verifying it.
pub(super) fn read(sealed: &[u8]) -> Option<Envelope<'_>> {
    let (&[format, flags, kid_length], rest) = sealed.split_first_chunk()?;
    let packing = match (format, flags) {
        (FORMAT, 0) => Encoding::Plain,
        (FORMAT, GZIP) => Encoding::Gzip,
        _ => return None,
    };
    let (kid, rest) = rest.split_at_checked(usize::from(kid_length))?;
    let header = sealed.get(..sealed.len().checked_sub(rest.len())?)?;
    let (nonce, body) = rest.split_first_chunk()?;
    Some(Envelope { header, packing, kid: str::from_utf8(kid).ok()?, nonce: *nonce, body })
}

/// A key's id: 1 to 255 bytes, since its length is stored in one byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kid(String);

impl Kid {
    /// The id, unless it is too long or empty.
    pub(super) fn new(text: String) -> Option<Self> {
        (1..=usize::from(u8::MAX)).contains(&text.len()).then_some(Self(text))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn length(&self) -> u8 {
        u8::try_from(self.0.len()).unwrap_or(u8::MAX)
    }
}
