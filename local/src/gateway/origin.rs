//! Where a request comes from, and the headers that API Gateway adds to say so.

use std::net::SocketAddr;

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::uri::{Authority, Uri};
use jiff::Timestamp;

use super::hop_by_hop;
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

/// A request that names no host, several, or none that a URL can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request has not exactly one valid Host")]
pub(crate) struct InvalidHost;

impl Origin {
    /// Reads the caller from the connection and the request.
    ///
    /// # Errors
    /// The request has not exactly one valid `Host`: RFC 9112, section 3.2, wants it refused with
    /// 400.
    pub(crate) fn of(peer: SocketAddr, target: &Uri, headers: &HeaderMap) -> Result<Self, InvalidHost> {
        Ok(Self {
            source_ip: peer.ip().to_string(),
            user_agent: headers.get(USER_AGENT).map(text_of).unwrap_or_default(),
            domain_name: host(target, headers)?.host().to_owned(),
        })
    }

    /// The first label of the domain name: the API's id in the cloud.
    pub(crate) fn domain_prefix(&self) -> &str {
        self.domain_name.split('.').next().unwrap_or_default()
    }
}

/// The one `Host`: a name or address that a URL can have, and no user. A target in absolute form
/// must have the same.
fn host(target: &Uri, headers: &HeaderMap) -> Result<Authority, InvalidHost> {
    let mut lines = headers.get_all(HOST).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return Err(InvalidHost) };
    let text = line.to_str().map_err(|_| InvalidHost)?;
    let host: Authority = text.parse().map_err(|_| InvalidHost)?;
    // `999.1.1.1` and `xn--` are names to HTTP and none to a URL, which functions make of it.
    let url = url::Url::parse(&format!("http://{text}/")).map_err(|_| InvalidHost)?;
    let is_host = !text.contains('@') && url.has_host();
    let is_target = target.authority().is_none_or(|target| *target == host);
    if is_host && is_target { Ok(host) } else { Err(InvalidHost) }
}

/// Makes of a client's headers what a function gets: without those of the connection, with
/// `X-Forwarded-*` and, unless the caller brought one, `X-Amzn-Trace-Id`.
pub(crate) fn forward(headers: &mut HeaderMap, origin: &Origin, port: u16, at: Timestamp) {
    hop_by_hop::remove(headers);
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

    fn parsed(target: &str, hosts: &[&'static str]) -> Result<Origin, InvalidHost> {
        let headers = hosts.iter().map(|host| (HOST, HeaderValue::from_static(host)));
        Origin::of(([127, 0, 0, 1], 9).into(), &target.parse().unwrap(), &headers.collect())
    }

    fn origin(host: &'static str) -> Origin {
        parsed("/", &[host]).unwrap()
    }

    #[test]
    fn a_request_has_exactly_one_host_and_it_can_stand_in_a_url() {
        for hosts in [&[] as &[_], &["a.example", "a.example"], &["a.example", "b.example"]] {
            assert_eq!(parsed("/", hosts).unwrap_err(), InvalidHost, "{hosts:?}");
        }
        for host in [
            "",
            " ",
            ":80",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a@b",
            "user:x@b",
            "[::1",
            "::1",
            "[::g]",
            "a:b:c",
            "a:99999",
            "a:x",
            "999.1.1.1",
            "1.2.3.4.5",
            "xn--",
            "%",
            "%zz",
            "a%00b",
            "a<b",
            "a\\b",
            "a^b",
        ] {
            assert_eq!(parsed("/", &[host]).unwrap_err(), InvalidHost, "{host:?}");
        }
    }

    #[test]
    fn a_target_in_absolute_form_names_the_same_host() {
        assert!(parsed("http://a.example/x", &["a.example"]).is_ok());
        assert!(parsed("http://b.example/x", &["a.example"]).is_err());
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
        forward(&mut headers, &origin("localhost:3000"), 3000, Timestamp::UNIX_EPOCH);
        assert_eq!(headers[FORWARDED_FOR], "198.51.100.7, 127.0.0.1");
        assert_eq!(headers[FORWARDED_PORT], "3000");
        assert_eq!(headers[TRACE_ID], "Root=1-5759e988-bd862e3fe1be46a994272793");
    }
}
