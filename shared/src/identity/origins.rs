//! The web sites whose pages may open sockets, and change things with their visitors' cookies.

use crate::core::env::{ConfigError, Env};

/// An allow-list of origins (RFC 6454), such as `https://shop.example`.
///
/// A browser states its page's origin truthfully and lets no page change it; this keeps a foreign page from using its
/// visitor's credentials. A client that is no browser states none, and can't be kept from anything by this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedOrigins(Vec<String>);

impl AllowedOrigins {
    /// Reads `ALLOWED_ORIGINS`: exact origins, separated by commas.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        const ALLOWED_ORIGINS: &str = "ALLOWED_ORIGINS";
        let invalid = |reason: String| ConfigError::Invalid { variable: ALLOWED_ORIGINS, reason };
        let origins: Vec<String> =
            env.required(ALLOWED_ORIGINS)?.split(',').map(|origin| origin.trim().to_owned()).collect();
        for origin in &origins {
            let url = url::Url::parse(origin).map_err(|error| invalid(format!("{origin:?}: {error}")))?;
            if url.origin().ascii_serialization() != *origin {
                return Err(invalid(format!("{origin:?} is no origin: scheme, host and port only")));
            }
        }
        Ok(Self(origins))
    }

    /// Whether a request that states this origin, or none, may go on.
    pub fn allow(&self, origin: Option<&str>) -> bool {
        origin.is_none_or(|origin| self.list(origin))
    }

    /// Whether this very origin is on the list.
    pub fn list(&self, origin: &str) -> bool {
        self.0.iter().any(|allowed| allowed == origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(list: &str) -> Result<AllowedOrigins, ConfigError> {
        AllowedOrigins::from_env(&Env::of([("ALLOWED_ORIGINS", list)]))
    }

    #[test]
    fn only_the_very_origin_is_allowed() {
        let allowed = origins("https://shop.example, http://localhost:5173").unwrap();
        assert!(allowed.allow(Some("https://shop.example")) && allowed.allow(Some("http://localhost:5173")));
        for foreign in
            ["http://shop.example", "https://shop.example:8443", "https://shop.example.evil", "null"]
        {
            assert!(!allowed.allow(Some(foreign)), "{foreign}");
        }
    }

    #[test]
    fn who_states_no_origin_is_no_browser() {
        assert!(origins("https://shop.example").unwrap().allow(None));
    }

    #[test]
    fn what_no_browser_would_state_is_a_mistake_of_the_configuration() {
        for wrong in ["*", "shop.example", "https://shop.example/", "https://shop.example/path"] {
            assert!(origins(wrong).is_err(), "{wrong}");
        }
    }
}
