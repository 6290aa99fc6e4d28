//! Who is calling: from the access token, or from the browser's cookie.

use lambda_http::http::{HeaderMap, Method};

use crate::clock::SharedClock;
use crate::env::{ConfigError, Env};
use crate::origins::AllowedOrigins;
use crate::problem::{Problem, ProblemType};
use crate::sessions::{SessionCookie, cookie};
use crate::tokens::{Principal, TokenVerifier};

/// Reads the credentials of requests.
///
/// `Authorization: Bearer` counts before the cookie. A browser sends its cookie whoever wrote the page, so that a request which
/// may change something and has nothing but a cookie must state an allowed `Origin` as well: browsers state it truthfully
/// with everything but plain navigation (RFC 6454, Fetch), and `SameSite=Lax` is not the only line of defence.
#[derive(Debug, Clone)]
pub struct Authenticator {
    verifier: TokenVerifier,
    origins: AllowedOrigins,
}

impl Authenticator {
    /// Reads what [`TokenVerifier::from_env`] and [`AllowedOrigins::from_env`] read.
    pub fn from_env(env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        Ok(Self { verifier: TokenVerifier::from_env(env, clock)?, origins: AllowedOrigins::from_env(env)? })
    }

    /// The caller of a request with this method and these headers.
    pub(super) fn principal(&self, method: &Method, headers: &HeaderMap) -> Result<Principal, Problem> {
        if let Some(header) = text(headers, "authorization") {
            return self.bearer(header);
        }
        let Some(cookie) = session_cookie(headers) else {
            return Err(unauthenticated("an Authorization: Bearer header or the SESSION cookie is required"));
        };
        if !method.is_safe() && !text(headers, "origin").is_some_and(|origin| self.origins.list(origin)) {
            let detail = "a change by cookie needs the Origin of a page that is allowed to make it";
            return Err(Problem::new(ProblemType::OriginNotAllowed, detail));
        }
        match cookie.parse::<SessionCookie>() {
            Ok(cookie) => Ok(cookie.principal()),
            Err(reason) => {
                tracing::info!(%reason, "cookie refused");
                Err(unauthenticated("the SESSION cookie is not valid"))
            }
        }
    }

    fn bearer(&self, header: &str) -> Result<Principal, Problem> {
        let token = match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => {
                return Err(unauthenticated(
                    "the Authorization header must be of the form: Bearer <access token>",
                ));
            }
        };
        self.verifier.verify(token).map_err(|reason| {
            tracing::info!(%reason, "access token refused");
            unauthenticated("the access token is not valid, or no longer")
        })
    }
}

/// A header's value. One that is not ASCII is there, and counts as empty.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

/// The value of the cookie. Of two with this name the first one counts: browsers send the more specific one first.
fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = text(headers, "cookie")?.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == cookie::NAME).map(|(_, value)| value).next()
}

fn unauthenticated(detail: &str) -> Problem {
    Problem::new(ProblemType::Unauthenticated, detail)
}
