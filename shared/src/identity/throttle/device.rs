//! Devices that have signed in before ([device
//! cookies](https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies)).
//!
//! Anybody can use up an account's attempts by wrong guesses. A device that has signed in to the
//! account before has its own attempts, so strangers cannot lock its owner out.
//!
//! 1. Each sign-in returns a [`DeviceToken`]: the device's id and an expiry, sealed
//!    ([`crate::identity::seal`]) for the account's e-mail address. A device that shows its token
//!    keeps its id.
//! 2. At the next sign-in the device shows the token. If it opens for that address and has not
//!    expired, the attempt counts for the device and not for the account.
//!
//! A token is no credential: it opens no session and proves no password. A thief gains five guesses
//! in fifteen minutes, shared with its owner. A token of a removed sealing key is that of an
//! unknown device.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;

use crate::core::clock::SharedClock;
use crate::core::random::{self, NoEntropy};
use crate::core::redacted::Redacted;
use crate::identity::email::Email;
use crate::identity::seal::{SealError, SealingKeys};

/// The name of the cookie with the token. Because of the prefix, a browser refuses it from another
/// host, or over plain HTTP (RFC 6265bis, section 4.1.3).
pub const COOKIE: &str = "__Host-DEVICE";

/// How long a device is known after a sign-in. Longer than most absences, and shorter than the 400
/// days that browsers keep a cookie.
pub const DEVICE_LIFETIME: Duration = Duration::from_hours(180 * 24);

/// Size of an id: 128 bits are not guessable and never collide.
const ID_BYTES: usize = 16;

/// Size of a token's expiry: epoch seconds.
const END_BYTES: usize = 8;

/// Why no token could be made. 500.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No id.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// No seal.
    #[error("a device token cannot be sealed")]
    Sealing(#[from] SealError),
}

/// A device that has signed in to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownDevice([u8; ID_BYTES]);

/// A device's token, not validated. The client keeps it and cannot read it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct DeviceToken(Redacted<String>);

impl DeviceToken {
    /// A token from a client.
    pub fn new(text: String) -> Self {
        Self(Redacted::new(text))
    }

    /// The text, for the client.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The `Set-Cookie` value for browsers. No script can read it, and no other site's page sends
    /// it.
    pub fn cookie(&self) -> String {
        let max_age = DEVICE_LIFETIME.as_secs();
        format!("{COOKIE}={}; Max-Age={max_age}; Path=/; HttpOnly; Secure; SameSite=Strict", self.expose())
    }
}

/// Part of the key of the device's row.
impl fmt::Display for KnownDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// Makes and reads device tokens.
#[derive(Debug)]
pub struct DeviceTokens {
    pub keys: SealingKeys,
    pub clock: SharedClock,
}

impl DeviceTokens {
    /// A token for a device that has just signed in to the account of `email`: the same device as
    /// before, or a new one.
    pub fn issue(&self, device: Option<KnownDevice>, email: &Email) -> Result<DeviceToken, DeviceError> {
        let KnownDevice(id) = match device {
            Some(device) => device,
            None => KnownDevice(random::bytes()?),
        };
        let lifetime = i64::try_from(DEVICE_LIFETIME.as_secs()).unwrap_or(i64::MAX);
        let end = self.clock.now().as_second().saturating_add(lifetime);
        let plain = [id.as_slice(), &end.to_be_bytes()].concat();
        let sealed = self.keys.seal(&plain, &context(email))?;
        Ok(DeviceToken::new(URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// The device of this token, if it has signed in to the account of `email` before. Any invalid
    /// token is an unknown device, and no error.
    pub fn known(&self, token: &DeviceToken, email: &Email) -> Option<KnownDevice> {
        let sealed = URL_SAFE_NO_PAD.decode(token.expose()).ok()?;
        // Not `fetch`: made-up tokens would cause reads of the secret.
        let plain = self.keys.open(&sealed, &context(email)).ok()?;
        let (id, end) = plain.split_first_chunk::<ID_BYTES>()?;
        let end = i64::from_be_bytes(<[u8; END_BYTES]>::try_from(end).ok()?);
        (self.clock.now() < Timestamp::from_second(end).ok()?).then_some(KnownDevice(*id))
    }
}

/// The context of the seal, different from that of any other sealed value.
fn context(email: &Email) -> Vec<u8> {
    format!("device token\n{email}").into_bytes()
}
