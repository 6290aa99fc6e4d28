//! Cross-origin requests, answered by the gateway as an HTTP API with `CorsConfiguration` does.
//!
//! 1. A preflight (`OPTIONS` with `Origin` and `Access-Control-Request-Method`) never reaches a
//!    function: it gets `204`, with CORS headers if origin, method and headers are all allowed,
//!    without them if not.
//! 2. On every other answer the integration's CORS headers are replaced by the configured ones.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue,
    InvalidHeaderValue, ORIGIN,
};
use http::{Method, Response, StatusCode};
use http_body_util::Full;

use crate::template::model::Cors as Configuration;

const ALL: HeaderValue = HeaderValue::from_static("*");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// A `CorsConfiguration`, its header values made once.
#[derive(Debug)]
pub(super) struct Cors {
    origins: Vec<String>,
    methods: Vec<String>,
    headers: Vec<String>,
    preflight: Vec<(HeaderName, HeaderValue)>,
    actual: Vec<(HeaderName, HeaderValue)>,
}

impl Cors {
    pub(super) fn new(configuration: &Configuration) -> Result<Self, InvalidHeaderValue> {
        let Configuration { allow_origins, allow_methods, allow_headers, expose_headers, .. } = configuration;
        let mut preflight = Vec::new();
        let mut actual = Vec::new();
        if configuration.allow_credentials {
            preflight.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE));
            actual.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE));
        }
        for (name, list, target) in [
            (ACCESS_CONTROL_ALLOW_METHODS, allow_methods, &mut preflight),
            (ACCESS_CONTROL_EXPOSE_HEADERS, expose_headers, &mut actual),
        ] {
            if !list.is_empty() {
                target.push((name, HeaderValue::from_str(&list.join(","))?));
            }
        }
        if !allow_headers.is_empty() {
            preflight.push((ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_str(&allow_headers.join(","))?));
        }
        if let Some(max_age) = configuration.max_age {
            preflight.push((ACCESS_CONTROL_MAX_AGE, HeaderValue::from(max_age.as_secs())));
        }
        Ok(Self {
            origins: allow_origins.clone(),
            methods: allow_methods.clone(),
            headers: allow_headers.clone(),
            preflight,
            actual,
        })
    }

    /// The answer to a preflight; `None` if the request isn't one.
    pub(super) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        let origin = headers.get(ORIGIN)?;
        let wanted = headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| method == Method::OPTIONS)?;
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        if let Some(allowed) = self.allowed_origin(origin)
            && allows(&self.methods, wanted)
            && headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter().all(|list| allows(&self.headers, list))
        {
            response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            response.headers_mut().extend(self.preflight.iter().cloned());
        }
        Some(response)
    }

    /// Replaces the CORS headers of an answer to a request of `origin`, the request's `Origin`
    /// header.
    pub(super) fn replace(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        for name in [
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            ACCESS_CONTROL_ALLOW_HEADERS,
            ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_EXPOSE_HEADERS,
            ACCESS_CONTROL_MAX_AGE,
        ] {
            headers.remove(name);
        }
        if let Some(allowed) = origin.and_then(|origin| self.allowed_origin(origin)) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            headers.extend(self.actual.iter().cloned());
        }
    }

    /// `*`, or the origin itself if it is listed or has a listed scheme (`https://*`).
    fn allowed_origin(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        if self.origins.iter().any(|allowed| allowed == "*") {
            return Some(ALL);
        }
        let text = origin.to_str().ok()?;
        let matches = |allowed: &String| match allowed.strip_suffix("://*") {
            Some(scheme) => text.split_once("://").is_some_and(|(own, _)| own == scheme),
            None => allowed == text,
        };
        self.origins.iter().any(matches).then(|| origin.clone())
    }
}

/// Whether each name of a comma-separated list is among `allowed`, case aside.
fn allows(allowed: &[String], list: &HeaderValue) -> bool {
    let Ok(list) = list.to_str() else { return false };
    allowed.iter().any(|name| name == "*")
        || list.split(',').map(str::trim).all(|name| allowed.iter().any(|own| own.eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cors(origins: &[&str]) -> Cors {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Cors::new(&Configuration {
            allow_origins: list(origins),
            allow_methods: list(&["GET", "POST"]),
            allow_headers: list(&["authorization", "idempotency-key"]),
            expose_headers: list(&["etag"]),
            allow_credentials: true,
            max_age: Some(Duration::from_mins(5)),
        })
        .unwrap()
    }

    fn preflight(
        cors: &Cors,
        origin: &'static str,
        method: &'static str,
        headers: &'static str,
    ) -> HeaderMap {
        let request = HeaderMap::from_iter([
            (ORIGIN, HeaderValue::from_static(origin)),
            (ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static(method)),
            (ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static(headers)),
        ]);
        let response = cors.preflight(&Method::OPTIONS, &request).unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        response.into_parts().0.headers
    }

    #[test]
    fn an_allowed_preflight_says_what_is_allowed() {
        let headers =
            preflight(&cors(&["http://localhost:5173"]), "http://localhost:5173", "POST", "Idempotency-Key");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "http://localhost:5173");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_METHODS], "GET,POST");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_HEADERS], "authorization,idempotency-key");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(headers[ACCESS_CONTROL_MAX_AGE], "300");
    }

    #[test]
    fn a_preflight_for_anything_else_gets_no_cors_headers() {
        let cors = cors(&["http://localhost:5173"]);
        for (origin, method, headers) in [
            ("http://evil.example", "POST", "authorization"),
            ("http://localhost:5173", "DELETE", "authorization"),
            ("http://localhost:5173", "POST", "authorization, x-other"),
        ] {
            assert!(preflight(&cors, origin, method, headers).is_empty(), "{origin} {method} {headers}");
        }
    }

    #[test]
    fn origins_may_be_a_wildcard_or_a_scheme() {
        let origin = |listed, own| cors(&[listed]).allowed_origin(&HeaderValue::from_static(own));
        assert_eq!(origin("*", "http://a.example").unwrap(), "*");
        assert_eq!(origin("https://*", "https://a.example").unwrap(), "https://a.example");
        assert_eq!(origin("https://*", "http://a.example"), None);
    }

    #[test]
    fn an_options_request_that_is_no_preflight_goes_to_its_route() {
        let headers = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static("http://localhost:5173"))]);
        assert!(cors(&["*"]).preflight(&Method::OPTIONS, &headers).is_none());
    }
}
