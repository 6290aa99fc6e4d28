//! Where a request comes from, and the headers that API Gateway adds to say so.

use std::net::SocketAddr;

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use jiff::Timestamp;

use super::ids::trace_id;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// What `requestContext` says about a caller.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// The peer's address, without the port.
    pub(crate) source_ip: String,
    /// `User-Agent`, empty if there is none.
    pub(crate) user_agent: String,
    /// The `Host` header without its port.
    pub(crate) domain_name: String,
}

impl Origin {
    /// Reads the caller from the connection and the request's headers.
    pub(crate) fn of(peer: SocketAddr, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).map(text_of).unwrap_or_default();
        let host = text(HOST);
        // An IPv6 address keeps its colons: only what follows the bracket is a port.
        let end = host.rfind(':').filter(|colon| host.rfind(']').is_none_or(|bracket| bracket < *colon));
        Self {
            source_ip: peer.ip().to_string(),
            user_agent: text(USER_AGENT),
            domain_name: host[..end.unwrap_or(host.len())].to_owned(),
        }
    }

    /// The first label of the domain name: the API's id in the cloud.
    pub(crate) fn domain_prefix(&self) -> &str {
        self.domain_name.split('.').next().unwrap_or_default()
    }
}

/// Adds `X-Forwarded-*` and, unless the caller brought one, `X-Amzn-Trace-Id`.
pub(crate) fn add_forwarding_headers(headers: &mut HeaderMap, origin: &Origin, port: u16, at: Timestamp) {
    let chain = match headers.get(FORWARDED_FOR) {
        Some(earlier) => format!("{}, {}", text_of(earlier), origin.source_ip),
        None => origin.source_ip.clone(),
    };
    let mut set = |name, value: String| {
        // Text that came in as a header, addresses and digits: always a valid value.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set(FORWARDED_FOR, chain);
    set(FORWARDED_PORT, port.to_string());
    set(FORWARDED_PROTO, "http".to_owned());
    if !headers.contains_key(TRACE_ID)
        && let Ok(value) = HeaderValue::from_str(&trace_id(at))
    {
        headers.insert(TRACE_ID, value);
    }
}

/// A header's value as text. Bytes past ASCII are taken as UTF-8, what isn't UTF-8 is replaced.
pub(crate) fn text_of(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(host: &'static str) -> Origin {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
        Origin::of(([127, 0, 0, 1], 9).into(), &headers)
    }

    #[test]
    fn the_domain_name_is_the_host_without_its_port() {
        assert_eq!(origin("api.example.com:3000").domain_name, "api.example.com");
        assert_eq!(origin("api.example.com").domain_prefix(), "api");
        assert_eq!(origin("[::1]:3000").domain_name, "[::1]");
        assert_eq!(origin("[::1]").domain_name, "[::1]");
    }

    #[test]
    fn a_chain_of_proxies_is_continued_and_a_trace_id_kept() {
        let mut headers = HeaderMap::from_iter([
            (FORWARDED_FOR, HeaderValue::from_static("198.51.100.7")),
            (TRACE_ID, HeaderValue::from_static("Root=1-5759e988-bd862e3fe1be46a994272793")),
        ]);
        add_forwarding_headers(&mut headers, &origin("localhost:3000"), 3000, Timestamp::UNIX_EPOCH);
        assert_eq!(headers[FORWARDED_FOR], "198.51.100.7, 127.0.0.1");
        assert_eq!(headers[FORWARDED_PORT], "3000");
        assert_eq!(headers[TRACE_ID], "Root=1-5759e988-bd862e3fe1be46a994272793");
    }
}
