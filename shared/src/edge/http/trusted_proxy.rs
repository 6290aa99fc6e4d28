//! The client's network address behind a trusted proxy.
//!
//! API Gateway sees the address of the connection. Behind `CloudFront` that is an edge location,
//! and all its clients would share the limits of one address. So a `CloudFront` function passes the
//! client's address, and authenticates itself (docs/deployment.md has the function):
//!
//! 1. It sets the header `x-origin-verify` to a secret. `TRUSTED_PROXY_SECRET` contains the same
//!    secret, or two separated by a comma during a rotation.
//! 2. It overwrites the header `x-viewer-address` with the client's address. The header is trusted
//!    only together with the secret, since anybody can send it. One function sets both, so no
//!    set-up has the proxy's secret with an address chosen by the client.
//! 3. A request without the secret has bypassed the proxy. Its address is that of its connection,
//!    or it is refused, as `DIRECT_REQUESTS` says.
//!
//! Without `TRUSTED_PROXY_SECRET` the address is always that of the connection.

use std::net::IpAddr;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use super::HttpRequest;
use crate::core::env::{ConfigError, Env};
use crate::core::problem::{Problem, ProblemType};
use crate::core::redacted::Redacted;

/// The variable with the secret, or two of them.
const TRUSTED_PROXY_SECRET: &str = "TRUSTED_PROXY_SECRET";
/// The variable for requests that bypass the proxy.
const DIRECT_REQUESTS: &str = "DIRECT_REQUESTS";

/// The header with the proxy's secret.
const ORIGIN_VERIFY: &str = "x-origin-verify";
/// The header with the client's address.
const VIEWER_ADDRESS: &str = "x-viewer-address";

/// Shortest secret. Guessing it would allow choosing an address for each guess of a password.
const MIN_SECRET_CHARS: usize = 32;

/// What happens to a request that bypasses the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DirectRequests {
    /// It counts for the address of its connection.
    Accept,
    /// 403.
    Refuse,
}

/// A value that is neither `accept` nor `refuse`.
#[derive(Debug, thiserror::Error)]
#[error("it must be accept or refuse")]
struct InvalidDirectRequests;

impl FromStr for DirectRequests {
    type Err = InvalidDirectRequests;

    fn from_str(text: &str) -> Result<Self, InvalidDirectRequests> {
        match text {
            "accept" => Ok(Self::Accept),
            "refuse" => Ok(Self::Refuse),
            _ => Err(InvalidDirectRequests),
        }
    }
}

/// The proxy in front of the API, if there is one.
#[derive(Debug, Clone)]
pub struct TrustedProxy {
    /// Digests of the secrets: of equal length, so that comparing them takes the same time. Empty
    /// without a proxy.
    secrets: Vec<Redacted<Vec<u8>>>,
    direct: DirectRequests,
}

impl TrustedProxy {
    /// Reads `TRUSTED_PROXY_SECRET` and `DIRECT_REQUESTS`.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let direct = env.parse(DIRECT_REQUESTS)?;
        let secrets = env.optional(TRUSTED_PROXY_SECRET).unwrap_or_default();
        let secrets: Vec<&str> =
            secrets.split(',').map(str::trim).filter(|secret| !secret.is_empty()).collect();
        if secrets.iter().any(|secret| secret.chars().count() < MIN_SECRET_CHARS) {
            let reason = format!("a secret has {MIN_SECRET_CHARS} characters or more");
            return Err(ConfigError::Invalid { variable: TRUSTED_PROXY_SECRET, reason });
        }
        Ok(Self { secrets: secrets.into_iter().map(digest_of).collect(), direct })
    }

    /// The client's address, if it is known. 403 for a request that bypasses the proxy and must
    /// not.
    pub fn client_address(&self, request: &HttpRequest) -> Result<Option<IpAddr>, Problem> {
        let connection = request.source_address();
        if self.secrets.is_empty() {
            return Ok(connection);
        }
        if !self.proves(request.header(ORIGIN_VERIFY).unwrap_or_default()) {
            return match self.direct {
                DirectRequests::Accept => Ok(connection),
                DirectRequests::Refuse => Err(Problem::new(
                    ProblemType::DirectRequest,
                    "send the request to the shop's own address",
                )),
            };
        }
        let viewer = request.header(VIEWER_ADDRESS).and_then(|address| address.parse().ok());
        if viewer.is_none() {
            tracing::warn!("the proxy does not send the client's address: limits count for the proxy");
        }
        Ok(viewer.or(connection))
    }

    fn proves(&self, shown: &str) -> bool {
        let shown = digest_of(shown);
        // All are compared: the time does not tell which one matched.
        let is_shown =
            |secret: &&Redacted<Vec<u8>>| verify_slices_are_equal(secret.expose(), shown.expose()).is_ok();
        self.secrets.iter().filter(is_shown).count() > 0
    }
}

fn digest_of(secret: &str) -> Redacted<Vec<u8>> {
    Redacted::new(digest(&SHA256, secret.as_bytes()).as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::deadline::Deadline;
    use serde_json::json;
    use std::time::Duration;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const NEXT: &str = "fedcba9876543210fedcba9876543210";
    const EDGE: &str = "192.0.2.1";

    fn request(headers: &[(&str, &str)]) -> HttpRequest {
        let headers: serde_json::Map<_, _> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let event = json!({
            "version": "2.0", "routeKey": "POST /sessions", "rawPath": "/sessions", "rawQueryString": "",
            "headers": headers,
            "requestContext": {
                "routeKey": "POST /sessions", "stage": "$default", "timeEpoch": 0,
                "http": {"method": "POST", "path": "/sessions", "protocol": "HTTP/1.1", "sourceIp": EDGE},
            },
            "isBase64Encoded": false,
        });
        let request = lambda_http::request::from_str(&event.to_string()).unwrap();
        HttpRequest::new(request, Deadline::after(Duration::ZERO))
    }

    fn proxy(secret: &str, direct: &str) -> TrustedProxy {
        TrustedProxy::from_env(&Env::of([(TRUSTED_PROXY_SECRET, secret), (DIRECT_REQUESTS, direct)])).unwrap()
    }

    fn address_of(proxy: &TrustedProxy, secret: &str, viewer: &str) -> String {
        let request = request(&[(ORIGIN_VERIFY, secret), (VIEWER_ADDRESS, viewer)]);
        proxy.client_address(&request).unwrap().unwrap().to_string()
    }

    #[test]
    fn the_proxy_is_believed_with_its_secret_and_nobody_else() {
        let proxy = proxy(SECRET, "accept");
        assert_eq!(address_of(&proxy, SECRET, "198.51.100.10"), "198.51.100.10");
        for wrong in ["", NEXT, &SECRET[1..], &format!("{SECRET}, {SECRET}")] {
            assert_eq!(address_of(&proxy, wrong, "198.51.100.10"), EDGE, "{wrong:?}");
        }
        assert_eq!(proxy.client_address(&request(&[])).unwrap(), EDGE.parse().ok());
    }

    #[test]
    fn without_a_secret_no_header_changes_the_address() {
        let proxy = proxy("", "refuse");
        assert_eq!(address_of(&proxy, "", "198.51.100.10"), EDGE);
    }

    #[test]
    fn while_one_secret_follows_another_both_are_good() {
        let proxy = proxy(&format!("{SECRET}, {NEXT}"), "refuse");
        for secret in [SECRET, NEXT] {
            assert_eq!(address_of(&proxy, secret, "198.51.100.10"), "198.51.100.10");
        }
    }

    #[test]
    fn a_request_around_the_proxy_is_refused_where_that_is_wanted() {
        let problem = proxy(SECRET, "refuse").client_address(&request(&[])).unwrap_err();
        assert_eq!(problem.kind, ProblemType::DirectRequest);
    }

    #[test]
    fn what_is_no_address_counts_for_the_proxys_own() {
        let proxy = proxy(SECRET, "accept");
        assert_eq!(address_of(&proxy, SECRET, "2001:db8::1"), "2001:db8::1");
        for text in ["", "somebody", "198.51.100.10:46532", "198.51.100.10, 203.0.113.7"] {
            assert_eq!(address_of(&proxy, SECRET, text), EDGE, "{text}");
        }
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused_and_not_shown() {
        let env = Env::of([(TRUSTED_PROXY_SECRET, "hunter2"), (DIRECT_REQUESTS, "accept")]);
        let error = TrustedProxy::from_env(&env).unwrap_err().to_string();
        assert!(error.contains(TRUSTED_PROXY_SECRET) && !error.contains("hunter2"), "{error}");
        let wrong = Env::of([(DIRECT_REQUESTS, "maybe")]);
        assert!(TrustedProxy::from_env(&wrong).unwrap_err().to_string().contains(DIRECT_REQUESTS));
        assert!(!format!("{:?}", proxy(SECRET, "accept")).contains(SECRET));
    }
}
