//! The session cookie, for browsers.
//!
//! Its name is `__Host-SESSION`: a browser accepts a cookie with this prefix only from the host
//! itself, over TLS, for all paths (RFC 6265bis, section 4.1.3.2), so a page of a sibling host
//! cannot replace it. A shop whose hosts share the cookie names their domain
//! (`SESSION_COOKIE_DOMAIN`); then the name is `SESSION`, and every host of the domain is trusted.
//!
//! It is not an access token: it lasts as long as the session, a token fifteen minutes. No script
//! can read it (`HttpOnly`), it is never sent in clear text (`Secure`), and other sites' requests
//! contain it only when a user follows a link (`SameSite=Lax`).
//!
//! 1. Its value is `<session id>.<user id>.<roles joined by +>.<256 random bits, base64url>`. It
//!    names the caller, so that a function's own reads need not wait for the session's row.
//! 2. The value is trusted only if the row contains the hash of the *whole* value: a changed role
//!    changes the hash. [`SessionCookie::credential`] is therefore a claim until
//!    [`check`](super::check) has read the row, which every function does before it shows or
//!    changes anything.
//! 3. A region without the row refuses the cookie (401). The page then sends its refresh token, if
//!    it has one. A refresh token contains the hash of the cookie, so the region writes the row and
//!    accepts the cookie from then on ([`crate::identity::sign_in`]). A browser without a refresh
//!    token waits for replication, about a second.

use std::collections::BTreeSet;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use crate::core::env::{ConfigError, Env};
use crate::core::ids::{SessionId, UserId};
use crate::core::random::{self, NoEntropy};
use crate::core::redacted::Redacted;
use crate::identity::principal::{Credential, Role};
use crate::identity::secret::{InvalidSecret, SecretHash};

/// The name of a cookie of one host.
const HOST_NAME: &str = "__Host-SESSION";
/// The name of a cookie that the hosts of a domain share.
const DOMAIN_NAME: &str = "SESSION";

/// The end of both `Set-Cookie` values. A browser deletes a cookie only if the attributes are the
/// same.
const ATTRIBUTES: &str = "Path=/; HttpOnly; Secure; SameSite=Lax";

/// How the cookie is set in browsers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CookieSettings {
    /// The hosts that get it; `None`: the host that sets it.
    domain: Option<String>,
}

impl CookieSettings {
    /// Reads `SESSION_COOKIE_DOMAIN`. Without it the cookie is the host's own.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        const SESSION_COOKIE_DOMAIN: &str = "SESSION_COOKIE_DOMAIN";
        let Some(domain) = env.optional(SESSION_COOKIE_DOMAIN) else { return Ok(Self::default()) };
        let is_label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if domain.split('.').count() < 2 || !domain.split('.').all(is_label) {
            let reason = "it is not a domain in lower case, such as shop.example".to_owned();
            return Err(ConfigError::Invalid { variable: SESSION_COOKIE_DOMAIN, reason });
        }
        Ok(Self { domain: Some(domain.to_owned()) })
    }

    /// The cookie's name.
    pub fn name(&self) -> &'static str {
        if self.domain.is_some() { DOMAIN_NAME } else { HOST_NAME }
    }

    /// The `Set-Cookie` value that sets `cookie` until the session ends.
    pub fn issue(&self, cookie: &SessionCookie, session_end: Timestamp, now: Timestamp) -> String {
        let seconds_left = session_end.as_second().saturating_sub(now.as_second()).max(0);
        self.set(&cookie.expose(), seconds_left)
    }

    /// The `Set-Cookie` value that deletes the cookie.
    pub fn clear(&self) -> String {
        self.set("", 0)
    }

    fn set(&self, value: &str, max_age_seconds: i64) -> String {
        let domain = self.domain.as_deref().map(|domain| format!("; Domain={domain}")).unwrap_or_default();
        format!("{}={value}; Max-Age={max_age_seconds}; {ATTRIBUTES}{domain}", self.name())
    }
}

/// Size of the random part, in bytes.
const RANDOM_BYTES: usize = 32;

/// The value of a cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCookie {
    session_id: SessionId,
    user_id: UserId,
    roles: BTreeSet<Role>,
    random: Redacted<[u8; RANDOM_BYTES]>,
}

impl SessionCookie {
    /// A new cookie of a session.
    pub fn generate(
        session_id: SessionId,
        user_id: UserId,
        roles: BTreeSet<Role>,
    ) -> Result<Self, NoEntropy> {
        Ok(Self { session_id, user_id, roles, random: Redacted::new(random::bytes()?) })
    }

    /// The text for the browser.
    pub fn expose(&self) -> String {
        let roles: Vec<&str> = self.roles.iter().map(|role| role.as_str()).collect();
        format!(
            "{}.{}.{}.{}",
            self.session_id,
            self.user_id,
            roles.join("+"),
            URL_SAFE_NO_PAD.encode(self.random.expose())
        )
    }

    /// The stored form.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(digest(&SHA256, self.expose().as_bytes()).as_ref())
    }

    /// The claimed caller; only the session's row proves it.
    pub fn credential(&self) -> Credential {
        Credential::of_cookie(self.user_id.clone(), self.session_id.clone(), self.roles.clone(), self.hash())
    }
}

impl FromStr for SessionCookie {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or(InvalidSecret);
        let cookie = Self {
            session_id: part()?.parse().map_err(|_| InvalidSecret)?,
            user_id: part()?.parse().map_err(|_| InvalidSecret)?,
            roles: roles(part()?)?,
            random: random_part(part()?)?,
        };
        // One spelling only: the hash is of the canonical text.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(domain: &str) -> Result<CookieSettings, ConfigError> {
        CookieSettings::from_env(&Env::of([("SESSION_COOKIE_DOMAIN", domain)]))
    }

    #[test]
    fn a_host_has_its_cookie_for_itself_unless_a_domain_shares_it() {
        let own = settings("").unwrap();
        assert_eq!(own, CookieSettings::default());
        assert_eq!(own.clear(), "__Host-SESSION=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax");
        let shared = settings("shop.example").unwrap();
        assert_eq!(
            shared.clear(),
            "SESSION=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax; Domain=shop.example"
        );
    }

    #[test]
    fn what_no_browser_takes_for_a_domain_is_a_mistake_of_the_configuration() {
        for wrong in
            [".shop.example", "shop", "Shop.example", "shop.example;", "https://shop.example", "a..b"]
        {
            assert!(settings(wrong).is_err(), "{wrong}");
        }
    }
}
