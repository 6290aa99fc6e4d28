//! The address for posts to the connections of a WebSocket API.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

/// Text that is not the address of a WebSocket API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a WebSocket API's address is ws://, wss://, http:// or https:// with a host")]
pub struct InvalidEndpoint;

/// `https://{api}.execute-api.{region}.amazonaws.com/{stage}`: `/@connections/{id}` is appended to
/// it.
///
/// Built from the address that clients connect to; only the scheme differs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct CallbackEndpoint(String);

impl CallbackEndpoint {
    /// The address without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CallbackEndpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let url = Url::parse(text).map_err(|_| InvalidEndpoint)?;
        let scheme = match url.scheme() {
            "ws" | "http" => "http",
            "wss" | "https" => "https",
            _ => return Err(InvalidEndpoint),
        };
        if !url.has_host() || url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidEndpoint);
        }
        let (_, rest) = text.split_once("://").ok_or(InvalidEndpoint)?;
        Ok(Self(format!("{scheme}://{}", rest.trim_end_matches('/'))))
    }
}

impl<'de> Deserialize<'de> for CallbackEndpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for CallbackEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_address_becomes_the_callback_address() {
        let made = |text: &str| text.parse::<CallbackEndpoint>().map(|e| e.to_string());
        assert_eq!(
            made("wss://abc.execute-api.ap-east-2.amazonaws.com/dev").unwrap(),
            "https://abc.execute-api.ap-east-2.amazonaws.com/dev"
        );
        assert_eq!(made("ws://127.0.0.1:3001/local/").unwrap(), "http://127.0.0.1:3001/local");
        assert_eq!(made("ftp://host/x"), Err(InvalidEndpoint));
        assert_eq!(made("ws://host/x?token=1"), Err(InvalidEndpoint));
        assert_eq!(made("abc"), Err(InvalidEndpoint));
    }
}
