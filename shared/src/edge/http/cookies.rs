//! Cookies of a request. Only those of this service are read.
//!
//! Pages of one site share their cookies, and other scripts (analytics, consent banners) may write
//! any bytes into theirs, including non-ASCII ones (RFC 6265, section 5.4, sends them unchanged).
//! `lambda_http` joins all cookies to one header, and drops all if a single one is invalid; so
//! [`keep_readable`] removes those before.

use lambda_http::http::{HeaderMap, HeaderValue, header::COOKIE};
use lambda_http::request::LambdaRequest;

use crate::identity::sessions::SessionCookie;

/// Most session cookies of one request that are read. A browser sends one, or several if the shop
/// sets them for a domain and an older one of a single host is left. Each costs a read.
pub(super) const MAX_SESSION_COOKIES: usize = 4;

/// Removes the cookies that are not valid in a header. Those of this service are ASCII.
pub(super) fn keep_readable(event: &mut LambdaRequest) {
    if let LambdaRequest::ApiGatewayV2(event) = event
        && let Some(cookies) = &mut event.cookies
    {
        cookies.retain(|cookie| HeaderValue::from_str(cookie).is_ok());
    }
}

/// The session cookies of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SessionCookies {
    Absent,
    /// Valid session cookies, without duplicates, [`MAX_SESSION_COOKIES`] at most; none if no
    /// cookie is valid.
    Present(Vec<SessionCookie>),
}

impl SessionCookies {
    /// The cookies with this name.
    pub(super) fn read(headers: &HeaderMap, name: &str) -> Self {
        let pairs =
            headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
        let mut values = pairs.filter_map(|pair| value_of(pair.trim_ascii(), name)).peekable();
        if values.peek().is_none() {
            return Self::Absent;
        }
        let mut found: Vec<SessionCookie> = Vec::new();
        for cookie in values.filter_map(|value| std::str::from_utf8(value).ok()?.parse().ok()) {
            if found.len() < MAX_SESSION_COOKIES && !found.contains(&cookie) {
                found.push(cookie);
            }
        }
        Self::Present(found)
    }
}

fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lambda_http::Request;
    use serde_json::json;

    use super::*;
    use crate::core::ids;

    fn fresh() -> SessionCookie {
        let ids = ids::random();
        SessionCookie::generate(ids.next(), ids.next(), BTreeSet::new()).unwrap()
    }

    /// The session cookies of an event with these cookies.
    fn of_event(cookies: &[String]) -> SessionCookies {
        let event = json!({
            "version": "2.0", "routeKey": "GET /", "rawPath": "/", "rawQueryString": "", "headers": {},
            "cookies": cookies, "isBase64Encoded": false,
            "requestContext": {"stage": "$default", "timeEpoch": 0, "http": {"method": "GET", "path": "/"}},
        });
        let mut event: LambdaRequest = serde_json::from_str(&event.to_string()).unwrap();
        keep_readable(&mut event);
        SessionCookies::read(Request::from(event).headers(), "SESSION")
    }

    fn pair(cookie: &SessionCookie) -> String {
        format!("SESSION={}", cookie.expose())
    }

    #[test]
    fn cookies_of_others_hide_none_of_ours_whatever_they_hold() {
        let ours = fresh();
        let others = [
            "_ga=caf\u{e9}",
            "name=\u{5f35}",
            "x=\u{fffd}",
            "a=\u{1}",
            "empty",
            "=",
            "b=\"c;d\"",
            "SESSIONS=1",
        ];
        for other in others.map(str::to_owned) {
            for cookies in [vec![other.clone(), pair(&ours)], vec![pair(&ours), other.clone()]] {
                assert_eq!(of_event(&cookies), SessionCookies::Present(vec![ours.clone()]), "{other:?}");
            }
            assert_eq!(of_event(&[other]), SessionCookies::Absent);
        }
    }

    #[test]
    fn octets_beyond_ascii_are_passed_over_in_a_header_as_well() {
        let ours = fresh();
        let line = [b"_ga=\xe9\xff; ".as_slice(), pair(&ours).as_bytes(), b";x=\xe5\xbc"].concat();
        let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_bytes(&line).unwrap())]);
        assert_eq!(SessionCookies::read(&headers, "SESSION"), SessionCookies::Present(vec![ours]));
    }

    #[test]
    fn those_of_the_form_are_candidates_once_each_and_not_without_end() {
        let (one, other) = (fresh(), fresh());
        let cookies = [pair(&one), "SESSION=hunter2".to_owned(), pair(&other), pair(&one)];
        assert_eq!(of_event(&cookies), SessionCookies::Present(vec![one, other]));
        assert_eq!(of_event(&["SESSION=hunter2".to_owned()]), SessionCookies::Present(Vec::new()));
        let many: Vec<String> = (0..10).map(|_| pair(&fresh())).collect();
        let SessionCookies::Present(found) = of_event(&many) else { panic!("they are there") };
        assert_eq!(found.len(), MAX_SESSION_COOKIES);
    }
}
