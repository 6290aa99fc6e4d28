//! The `SESSION` cookie, for browsers.
//!
//! Its value is a [`SessionSecret`], not the access token: the cookie lasts as long as the session does, a token
//! fifteen minutes. No script can read it (`HttpOnly`), it never travels in clear text (`Secure`), and other sites'
//! requests carry it only when a user follows a link (`SameSite=Lax`).

use jiff::Timestamp;

use super::{Session, SessionSecret};

/// The cookie's name.
pub const NAME: &str = "SESSION";

/// The `Set-Cookie` value that hands `secret` to the browser until the session ends.
pub fn issue(session: &Session, secret: &SessionSecret, now: Timestamp) -> String {
    let seconds_left = session.expires_at.as_second().saturating_sub(now.as_second()).max(0);
    format!("{NAME}={}; Path=/; Max-Age={seconds_left}; HttpOnly; Secure; SameSite=Lax", secret.expose())
}
