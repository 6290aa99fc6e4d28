//! The caller's credentials: the access token, or the browser's cookie.

use aws_sdk_dynamodb::Client;
use lambda_http::http::{HeaderMap, Method};

use super::cookies::SessionCookies;
use crate::core::clock::SharedClock;
use crate::core::env::{ConfigError, Env};
use crate::core::problem::{Problem, ProblemType};
use crate::edge::header;
use crate::identity::origins::AllowedOrigins;
use crate::identity::principal::Credential;
use crate::identity::sessions::{CookieSettings, SessionCookie, SessionError, SessionStore};
use crate::identity::tokens::TokenVerifier;

/// Header of the access token.
pub(super) const AUTHORIZATION: &str = "authorization";

/// Reads the credentials of requests, and has the sessions to check them with.
///
/// `Authorization: Bearer` takes precedence over the cookie. A browser sends its cookie from pages
/// of any site, so a request that may change something and has only a cookie must also have an
/// allowed `Origin`: browsers send it with everything but plain navigation (RFC 6454, Fetch). This
/// adds to `SameSite=Lax`.
///
/// A credential is a claim until its session was checked: [`HttpRequest`](super::HttpRequest) has
/// the ways to a checked caller. Only if a request has several valid cookies, their sessions are
/// read here, to find the live one.
#[derive(Debug, Clone)]
pub struct Authenticator {
    verifier: TokenVerifier,
    origins: AllowedOrigins,
    cookie: CookieSettings,
    sessions: SessionStore,
}

impl Authenticator {
    /// Reads the variables of [`TokenVerifier::from_env`], [`AllowedOrigins::from_env`],
    /// [`CookieSettings::from_env`] and [`SessionStore::from_env`].
    pub fn from_env(dynamodb: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        Ok(Self {
            verifier: TokenVerifier::from_env(env, clock.clone())?,
            origins: AllowedOrigins::from_env(env)?,
            cookie: CookieSettings::from_env(env)?,
            sessions: SessionStore::from_env(dynamodb, env, clock)?,
        })
    }

    /// The sessions that callers are checked with.
    pub fn sessions(&self) -> &SessionStore {
        &self.sessions
    }

    /// How session cookies are set in browsers.
    pub fn cookie(&self) -> &CookieSettings {
        &self.cookie
    }

    /// The caller of a request with this method and these headers.
    pub(super) async fn credential(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Credential, Problem> {
        if headers.contains_key(AUTHORIZATION) {
            return self.bearer(headers);
        }
        let name = self.cookie.name();
        let SessionCookies::Present(cookies) = SessionCookies::read(headers, name) else {
            let detail = format!("an Authorization: Bearer header or the cookie {name} is required");
            return Err(unauthenticated(detail));
        };
        let origin = header::single(headers, "origin")?;
        if !method.is_safe() && !origin.is_some_and(|origin| self.origins.list(origin)) {
            let detail = "a change with the session cookie needs an allowed Origin";
            return Err(Problem::new(ProblemType::OriginNotAllowed, detail));
        }
        match &cookies[..] {
            [only] => Ok(only.credential()),
            several => self.live_one(several.iter().map(SessionCookie::credential)).await,
        }
    }

    /// The first of the credentials whose session is live.
    async fn live_one(&self, credentials: impl Iterator<Item = Credential>) -> Result<Credential, Problem> {
        for credential in credentials {
            match self.sessions.check(&credential).await {
                Ok(_) => return Ok(credential),
                Err(SessionError::Ended) => {}
                Err(error) => return Err(error.into()),
            }
        }
        tracing::info!("no session cookie is valid");
        Err(unauthenticated(format!("the cookie {} is not valid", self.cookie.name())))
    }

    fn bearer(&self, headers: &HeaderMap) -> Result<Credential, Problem> {
        if !shows_bearer(headers) {
            return Err(unauthenticated(
                "the Authorization header must be of the form: Bearer <access token>",
            ));
        }
        let credentials = header::single(headers, AUTHORIZATION)?.unwrap_or_default();
        let token = credentials.split_once(' ').map(|(_, token)| token.trim()).unwrap_or_default();
        self.verifier.verify(token).map_err(|reason| {
            tracing::info!(%reason, "access token refused");
            unauthenticated("the access token is invalid or has expired")
        })
    }
}

/// Whether the request has an access token, valid or not.
pub(super) fn shows_bearer(headers: &HeaderMap) -> bool {
    let credentials = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let scheme = credentials.and_then(|credentials| credentials.split_once(' ')).map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer"))
}

fn unauthenticated(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemType::Unauthenticated, detail)
}
