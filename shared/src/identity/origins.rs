//! The web sites whose pages may open sockets and make changes with cookies.

use crate::core::env::{ConfigError, Env};

/// An allow-list of origins (RFC 6454), such as `https://shop.example`.
///
/// A browser sends the origin of its page and no page can change it, so another site's page cannot
/// use its visitor's credentials. A client that is not a browser sends no origin and is not
/// restricted by this.
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
                return Err(invalid(format!("{origin:?} is not an origin: scheme, host and port only")));
            }
        }
        Ok(Self(origins))
    }

    /// Whether a request with this origin, or without one, is allowed.
    pub fn allow(&self, origin: Option<&str>) -> bool {
        origin.is_none_or(|origin| self.list(origin))
    }

    /// Whether this origin is on the list.
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
