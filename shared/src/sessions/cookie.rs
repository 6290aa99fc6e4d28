//! The `SESSION` cookie, for browsers.
//!
//! It is not an access token: it lasts as long as the session does, a token fifteen minutes. No script can read it
//! (`HttpOnly`), it never travels in clear text (`Secure`), and other sites' requests carry it only when a user follows
//! a link (`SameSite=Lax`).
//!
//! 1. Its value is `<session id>.<user id>.<token version>.<roles joined by +>.<256 random bits, base64url>`. It says
//!    who is calling, so that a function's own reads need not wait for the session's row.
//! 2. What it says is believed only when the row holds the hash of the *whole* value: a changed role changes the hash.
//!    [`SessionCookie::principal`] is therefore a claim until [`standing`](super::standing) has seen the row, as every
//!    function does before it tells or changes anything.

use std::collections::BTreeSet;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::secret::{InvalidSecret, SecretHash};
use crate::ids::{SessionId, UserId};
use crate::random::{self, NoEntropy};
use crate::redacted::Redacted;
use crate::tokens::{Principal, Role};

/// The cookie's name.
pub const NAME: &str = "SESSION";

/// What both `Set-Cookie` values end with. A browser clears only what it is told of with the same attributes.
const ATTRIBUTES: &str = "Path=/; HttpOnly; Secure; SameSite=Lax";

/// Size of the random part, in bytes.
const RANDOM_BYTES: usize = 32;

/// The value of a cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCookie {
    session_id: SessionId,
    user_id: UserId,
    token_version: u64,
    roles: BTreeSet<Role>,
    random: Redacted<[u8; RANDOM_BYTES]>,
}

impl SessionCookie {
    /// A new cookie of a session.
    pub fn generate(
        session_id: SessionId,
        user_id: UserId,
        token_version: u64,
        roles: BTreeSet<Role>,
    ) -> Result<Self, NoEntropy> {
        Ok(Self { session_id, user_id, token_version, roles, random: Redacted::new(random::bytes()?) })
    }

    /// The text for the browser.
    pub fn expose(&self) -> String {
        let roles: Vec<&str> = self.roles.iter().map(|role| role.as_str()).collect();
        format!(
            "{}.{}.{}.{}.{}",
            self.session_id,
            self.user_id,
            self.token_version,
            roles.join("+"),
            URL_SAFE_NO_PAD.encode(self.random.expose())
        )
    }

    /// What is stored of it.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(digest(&SHA256, self.expose().as_bytes()).as_ref())
    }

    /// Who the cookie says is calling; proven by the session's row and by nothing else.
    pub fn principal(&self) -> Principal {
        Principal::claimed_by_cookie(
            self.user_id.clone(),
            self.session_id.clone(),
            self.token_version,
            self.roles.clone(),
            self.hash(),
        )
    }

    /// The `Set-Cookie` value that hands this to the browser until the session ends.
    pub fn issue(&self, session_end: Timestamp, now: Timestamp) -> String {
        let seconds_left = session_end.as_second().saturating_sub(now.as_second()).max(0);
        format!("{NAME}={}; Max-Age={seconds_left}; {ATTRIBUTES}", self.expose())
    }
}

/// The `Set-Cookie` value that makes a browser forget its cookie.
pub fn clear() -> String {
    format!("{NAME}=; Max-Age=0; {ATTRIBUTES}")
}

impl FromStr for SessionCookie {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or(InvalidSecret);
        let cookie = Self {
            session_id: part()?.parse().map_err(|_| InvalidSecret)?,
            user_id: part()?.parse().map_err(|_| InvalidSecret)?,
            token_version: part()?.parse().map_err(|_| InvalidSecret)?,
            roles: roles(part()?)?,
            random: random_part(part()?)?,
        };
        // One spelling only: the hash is of the text as we would write it.
        if cookie.expose() == text { Ok(cookie) } else { Err(InvalidSecret) }
    }
}

fn roles(text: &str) -> Result<BTreeSet<Role>, InvalidSecret> {
    text.split('+')
        .filter(|role| !role.is_empty())
        .map(|role| role.parse().map_err(|_| InvalidSecret))
        .collect()
}

fn random_part(text: &str) -> Result<Redacted<[u8; RANDOM_BYTES]>, InvalidSecret> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidSecret)?;
    bytes.try_into().map(Redacted::new).map_err(|_| InvalidSecret)
}
