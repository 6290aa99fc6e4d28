//! The place that a client states.
//!
//! 1. `x-local-region-near: tokyo`; in a handshake also `?near=tokyo`, since pages cannot set
//!    headers there. The header goes before the parameter.
//! 2. Both are removed before the request is forwarded: a region behind DNS does not see them,
//!    either.
//! 3. A place that does not exist is refused with 400. Otherwise a typing mistake would send a
//!    client to a distant region without a notice.

use http::header::HeaderName;
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use percent_encoding::percent_decode_str;

use super::places::{Place, Places};

/// Where the client is.
pub const NEAR: HeaderName = HeaderName::from_static("x-local-region-near");

/// The same in the query of a handshake.
const PARAMETER: &str = "near";

/// A place that is not in the list.
#[derive(Debug, thiserror::Error)]
#[error("there is no place {named:?}; {NEAR} is one of {known}, or absent")]
pub(super) struct UnknownPlace {
    named: String,
    known: String,
}

/// Takes the place out of a request.
pub(super) fn take(
    request: &mut Parts,
    is_handshake: bool,
    places: &Places,
) -> Result<Option<Place>, UnknownPlace> {
    let parameter = if is_handshake { take_parameter(&mut request.uri) } else { None };
    let headers = request.headers.get_all(NEAR).iter();
    let header: Vec<_> = headers.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    let named = if header.is_empty() { parameter } else { Some(header.join(", ")) };
    let place = match named {
        None => None,
        Some(named) => match places.find(&named) {
            Some(place) => Some(place),
            None => return Err(UnknownPlace { named, known: places.names() }),
        },
    };
    request.headers.remove(NEAR);
    Ok(place)
}

/// Takes `near` out of the query; the rest stays as it was written.
fn take_parameter(uri: &mut Uri) -> Option<String> {
    let query = uri.query()?;
    let (near, rest): (Vec<_>, Vec<_>) = query.split('&').partition(|pair| name(pair) == PARAMETER);
    let value = near.last()?.split_once('=').map_or("", |(_, value)| value);
    let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
    let rest = rest.join("&");
    let mark = if rest.is_empty() { "" } else { "?" };
    let path_and_query: PathAndQuery = format!("{}{mark}{rest}", uri.path()).parse().ok()?;
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(path_and_query);
    // Only the query differs from a URI that was valid.
    *uri = Uri::from_parts(parts).ok()?;
    Some(value)
}

fn name(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn taken(uri: &str, header: Option<&str>, is_handshake: bool) -> (Result<Option<Place>, String>, Parts) {
        let mut request = Request::get(uri);
        if let Some(header) = header {
            request = request.header(NEAR, header);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let place = take(&mut parts, is_handshake, &places());
        (place.map_err(|unknown| unknown.to_string()), parts)
    }

    fn places() -> Places {
        Places::new(&["taiwan", "tokyo"])
    }

    #[test]
    fn the_place_is_taken_out_of_the_headers() {
        let (place, request) = taken("/orders?near=x", Some("tokyo"), false);
        assert_eq!(place.unwrap(), places().find("tokyo"));
        assert!(!request.headers.contains_key(NEAR));
        assert_eq!(request.uri, "/orders?near=x");
    }

    #[test]
    fn the_place_is_taken_out_of_a_handshakes_query_and_the_rest_stays_as_it_was() {
        for (uri, rest) in [
            ("/local?near=tokyo", "/local"),
            ("/local?a=%20b&near=tok%79o&near2=1&c", "/local?a=%20b&near2=1&c"),
            ("ws://a.example/local?near=tokyo&x=1", "ws://a.example/local?x=1"),
        ] {
            let (place, request) = taken(uri, None, true);
            assert_eq!(place.unwrap(), places().find("tokyo"), "{uri}");
            assert_eq!(request.uri, rest);
        }
        let (place, request) = taken("/local?nearer=1", None, true);
        assert_eq!((place.unwrap(), request.uri.to_string().as_str()), (None, "/local?nearer=1"));
    }

    #[test]
    fn the_header_goes_before_the_parameter() {
        let (place, request) = taken("/local?near=taiwan", Some("tokyo"), true);
        assert_eq!(place.unwrap(), places().find("tokyo"));
        assert_eq!(request.uri, "/local");
    }

    #[test]
    fn a_place_that_does_not_exist_is_refused_with_the_ones_that_do() {
        let (place, _) = taken("/", Some("tokio"), false);
        let expected =
            "there is no place \"tokio\"; x-local-region-near is one of taiwan, tokyo, singapore, or absent";
        assert_eq!(place.unwrap_err(), expected);
        assert!(taken("/?near=", None, true).0.is_err());
    }
}
