//! Credentials of a handshake.
//!
//! A browser can't set headers on a WebSocket, so its token is sent as a second subprotocol:
//! `Sec-WebSocket-Protocol: sojourn.v1, <access token>`. Other clients may send
//! `Authorization: Bearer <access token>`. A token is never in the URL, which is logged in many
//! places.

/// The supported subprotocol.
pub const SUBPROTOCOL: &str = "sojourn.v1";

/// Why a handshake has no credentials. All are 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Neither header has a token.
    #[error("offer the subprotocols {SUBPROTOCOL} and your access token, or send Authorization: Bearer")]
    NoToken,
    /// More than one value is offered beside the subprotocol.
    #[error("offer the subprotocol {SUBPROTOCOL} and exactly one access token")]
    Ambiguous,
}

/// The credentials of a handshake.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// The access token, unverified.
    pub token: &'a str,
    /// The subprotocol to echo: the server must choose one of those offered, or none if none was.
    pub subprotocol: Option<&'static str>,
}

impl<'a> Credentials<'a> {
    /// Reads the lines of `Sec-WebSocket-Protocol` and the `Authorization` header.
    ///
    /// Lists are split on commas and trimmed (RFC 6455, section 11.3.4). An offered token takes
    /// precedence over one in `Authorization`. Without `sojourn.v1` an offer is for another server:
    /// it is neither read nor echoed.
    pub fn of(offered: &[&'a str], authorization: Option<&'a str>) -> Result<Self, HandshakeError> {
        let offered: Vec<&str> = offered
            .iter()
            .flat_map(|line| line.split(','))
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .collect();
        if !offered.contains(&SUBPROTOCOL) {
            let token = bearer(authorization).ok_or(HandshakeError::NoToken)?;
            return Ok(Self { token, subprotocol: None });
        }
        let mut others = offered.into_iter().filter(|item| *item != SUBPROTOCOL);
        let token = match (others.next(), others.next()) {
            (Some(token), None) => token,
            (None, _) => bearer(authorization).ok_or(HandshakeError::NoToken)?,
            (Some(_), Some(_)) => return Err(HandshakeError::Ambiguous),
        };
        Ok(Self { token, subprotocol: Some(SUBPROTOCOL) })
    }
}

fn bearer(authorization: Option<&str>) -> Option<&str> {
    let (scheme, token) = authorization?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<'a>(
        offered: &[&'a str],
        authorization: Option<&'a str>,
    ) -> Result<(&'a str, Option<&'static str>), HandshakeError> {
        Credentials::of(offered, authorization)
            .map(|credentials| (credentials.token, credentials.subprotocol))
    }

    #[test]
    fn a_browsers_offer_is_read_and_only_the_subprotocol_echoed() {
        let expected = Ok(("a.b.c", Some("sojourn.v1")));
        assert_eq!(read(&["sojourn.v1, a.b.c"], None), expected);
        assert_eq!(read(&["a.b.c ,sojourn.v1"], None), expected);
        assert_eq!(read(&["sojourn.v1", "a.b.c"], None), expected, "a list may come in several lines");
    }

    #[test]
    fn a_bearer_may_offer_the_subprotocol_or_nothing() {
        assert_eq!(read(&[], Some("bearer a.b.c")), Ok(("a.b.c", None)));
        assert_eq!(read(&["sojourn.v1"], Some("Bearer a.b.c")), Ok(("a.b.c", Some("sojourn.v1"))));
        assert_eq!(
            read(&["graphql-ws"], Some("Bearer a.b.c")),
            Ok(("a.b.c", None)),
            "that is not ours to speak"
        );
    }

    #[test]
    fn without_one_clear_token_there_are_no_credentials() {
        assert_eq!(read(&[], None), Err(HandshakeError::NoToken));
        assert_eq!(read(&["sojourn.v1"], None), Err(HandshakeError::NoToken));
        assert_eq!(read(&["a.b.c"], None), Err(HandshakeError::NoToken), "no offer of ours");
        assert_eq!(read(&["sojourn.v1, a, b"], None), Err(HandshakeError::Ambiguous));
        assert_eq!(read(&[], Some("Basic dTpw")), Err(HandshakeError::NoToken));
        assert_eq!(read(&[], Some("Bearer ")), Err(HandshakeError::NoToken));
    }

    proptest! {
        #[test]
        fn white_space_and_order_never_matter(
            token in "[A-Za-z0-9_-]{1,40}\\.[A-Za-z0-9_-]{1,40}\\.[A-Za-z0-9_-]{1,40}",
            spaces in prop::collection::vec("[ \t]{0,3}", 4),
            token_first in any::<bool>(),
        ) {
            let (first, second) = if token_first { (&*token, SUBPROTOCOL) } else { (SUBPROTOCOL, &*token) };
            let line = format!("{}{first}{},{}{second}{}", spaces[0], spaces[1], spaces[2], spaces[3]);
            prop_assert_eq!(read(&[&line], None), Ok((&*token, Some(SUBPROTOCOL))));
        }

        #[test]
        fn no_header_makes_the_reader_panic_or_echo_what_was_not_offered(
            line in "\\PC{0,60}",
            authorization in prop::option::of("\\PC{0,40}"),
        ) {
            if let Ok((token, subprotocol)) = read(&[&line], authorization.as_deref()) {
                prop_assert!(!token.is_empty() && token != SUBPROTOCOL);
                prop_assert_eq!(subprotocol.is_some(), line.split(',').any(|item| item.trim() == SUBPROTOCOL));
            }
        }
    }
}
