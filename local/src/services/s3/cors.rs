//! A bucket's `CorsConfiguration`: the origins whose pages may call S3 from a browser.
//!
//! 1. A preflight (`OPTIONS`) is answered here, unsigned as it is: 200 with what the first rule
//!    that fits origin, method and headers allows, 403 if none does.
//! 2. Every other answer, errors too, gets the headers of the first rule that fits its request's
//!    origin and method; or none, and the browser keeps the answer from the page.
//!
//! Not the rules of an HTTP API (`gateway::http::cors`): there is one, it answers 204 either way,
//! and its wildcards are others.

use std::collections::HashMap;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue,
    ORIGIN, VARY,
};
use http::{Method, Uri};

use crate::services::access::{Case, matches};
use crate::template::model::{Bucket, CorsRule};

/// What of a request the answer depends on.
const VARIES_WITH: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Headers, Access-Control-Request-Method");

/// The rules of all buckets.
pub(super) struct Cors {
    rules: HashMap<String, Vec<CorsRule>>,
}

/// What becomes of a preflight.
pub(super) enum Preflight {
    Allowed(HeaderMap),
    Forbidden,
    /// It has no origin or no method.
    Incomplete,
}

/// What a page wants of a bucket.
pub(super) struct Wish {
    bucket: String,
    origin: HeaderValue,
    method: HeaderValue,
}

impl Cors {
    pub(super) fn new(buckets: &[Bucket]) -> Self {
        Self { rules: buckets.iter().map(|bucket| (bucket.name.clone(), bucket.cors.clone())).collect() }
    }

    pub(super) fn preflight(&self, uri: &Uri, headers: &HeaderMap) -> Preflight {
        let method = headers.get(ACCESS_CONTROL_REQUEST_METHOD).cloned();
        let Some(wish) = method.and_then(|method| Wish::of(uri, method, headers)) else {
            return Preflight::Incomplete;
        };
        let Some(names) = requested(headers) else { return Preflight::Incomplete };
        let fits = |rule: &&CorsRule| {
            let allowed =
                |name: &String| rule.allowed_headers.iter().any(|own| matches(own, name, Case::Ignored));
            wish.fits(rule) && names.iter().all(allowed)
        };
        let Some(rule) = self.rules(&wish).iter().find(fits) else { return Preflight::Forbidden };
        let mut headers = wish.allowed(rule);
        insert(&mut headers, ACCESS_CONTROL_ALLOW_HEADERS, &names);
        Preflight::Allowed(headers)
    }

    /// The headers of an answer to anything but a preflight.
    pub(super) fn actual(&self, wish: &Wish) -> HeaderMap {
        let rule = self.rules(wish).iter().find(|rule| wish.fits(rule));
        rule.map(|rule| wish.allowed(rule)).unwrap_or_default()
    }

    fn rules(&self, wish: &Wish) -> &[CorsRule] {
        self.rules.get(&wish.bucket).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Wish {
    /// Of a request that isn't a preflight; `None` unless a page made it.
    pub(super) fn of_request(uri: &Uri, method: &Method, headers: &HeaderMap) -> Option<Self> {
        Self::of(uri, HeaderValue::from_str(method.as_str()).ok()?, headers)
    }

    fn of(uri: &Uri, method: HeaderValue, headers: &HeaderMap) -> Option<Self> {
        let bucket = uri.path().split('/').nth(1)?.to_owned();
        Some(Self { bucket, origin: headers.get(ORIGIN)?.clone(), method })
    }

    fn fits(&self, rule: &CorsRule) -> bool {
        let origin = self.origin.to_str().unwrap_or_default();
        rule.allowed_origins.iter().any(|own| matches(own, origin, Case::Kept))
            && rule.allowed_methods.iter().any(|own| self.method == own.as_str())
    }

    fn allowed(&self, rule: &CorsRule) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if rule.allowed_origins.iter().any(|own| own == "*") {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.origin.clone());
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        insert(&mut headers, ACCESS_CONTROL_ALLOW_METHODS, &rule.allowed_methods);
        insert(&mut headers, ACCESS_CONTROL_EXPOSE_HEADERS, &rule.exposed_headers);
        if let Some(max_age) = rule.max_age {
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(max_age.as_secs()));
        }
        headers.insert(VARY, VARIES_WITH);
        headers
    }
}

/// The names in `Access-Control-Request-Headers`, in lower case; `None` if they are no text.
fn requested(headers: &HeaderMap) -> Option<Vec<String>> {
    let lists = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter().map(|list| list.to_str().ok());
    let lists = lists.collect::<Option<Vec<_>>>()?;
    let names =
        lists.into_iter().flat_map(|list| list.split(',')).map(|name| name.trim().to_ascii_lowercase());
    Some(names.filter(|name| !name.is_empty()).collect())
}

/// A list that no header can hold is a mistake in the template that browsers tell by refusing.
fn insert(headers: &mut HeaderMap, name: HeaderName, list: &[String]) {
    if !list.is_empty()
        && let Ok(value) = HeaderValue::from_str(&list.join(", "))
    {
        headers.insert(name, value);
    }
}
