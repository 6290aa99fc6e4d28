//! Route matching with API Gateway's precedence.
//!
//! Of the routes that match path *and* method, the most specific wins:
//! 1. a full match before a greedy one (`{name+}`), and both before `$default`;
//! 2. of two full or two greedy matches, the one with a literal where the other has a variable,
//!    from the left;
//! 3. the method itself before `ANY`.
//!
//! Paths are compared after percent-decoding, as an HTTP API does: `%2F` separates segments like
//! `/`. A variable takes one segment, a greedy one at least one; neither takes nothing. `/orders`
//! and `/orders/` are different paths.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use http::Method;

use crate::template::model::HttpRoute;

/// The route for requests without another route.
const DEFAULT: &str = "$default";
const ANY: &str = "ANY";

/// The routes of an API, the most specific first.
#[derive(Debug)]
pub struct Routes {
    routes: Vec<Route>,
}

/// One route, parsed.
#[derive(Debug)]
pub(crate) struct Route {
    /// As the event names it: `POST /orders/{orderId}/cancel`, or `$default`.
    pub(crate) key: String,
    /// Short name of the function.
    pub(crate) function: String,
    method: Option<Method>,
    pattern: Pattern,
}

#[derive(Debug, PartialEq, Eq)]
enum Pattern {
    Path { segments: Vec<Segment>, greedy: Option<String> },
    Default,
}

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Variable(String),
}

/// `pathParameters`, decoded.
pub(crate) type PathParameters<'a> = BTreeMap<&'a str, String>;

/// Why a route of the template can't be served.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RouteError {
    /// Not a method of HTTP.
    #[error("route `{method} {path}`: `{method}` is not a method")]
    Method { method: String, path: String },
    /// The path doesn't start with `/`, or a greedy variable isn't its end.
    #[error("route `{path}`: a path starts with `/` and may end, only end, with one `{{name+}}`")]
    Path { path: String },
    /// Two routes have one key.
    #[error("route `{key}` is there twice")]
    Twice { key: String },
}

impl Routes {
    /// Parses and orders the routes.
    pub fn new(routes: &[HttpRoute]) -> Result<Self, RouteError> {
        let mut routes = routes.iter().map(Route::parse).collect::<Result<Vec<_>, _>>()?;
        routes.sort_by(Route::by_precedence);
        for (index, route) in routes.iter().enumerate() {
            if routes[..index].iter().any(|earlier| earlier.key == route.key) {
                return Err(RouteError::Twice { key: route.key.clone() });
            }
        }
        Ok(Self { routes })
    }

    /// The route that takes `method` on `path` (percent-decoded), with its path parameters.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<(&Route, PathParameters<'_>)> {
        self.routes
            .iter()
            .filter(|route| route.method.as_ref().is_none_or(|own| own == method))
            .find_map(|route| Some((route, route.pattern.matches(path)?)))
    }
}

impl Route {
    fn parse(route: &HttpRoute) -> Result<Self, RouteError> {
        let function = route.function.clone();
        if route.path == DEFAULT {
            return Ok(Self { key: DEFAULT.into(), function, method: None, pattern: Pattern::Default });
        }
        let method = match route.method.as_str() {
            ANY => None,
            name => Some(
                Method::from_bytes(name.as_bytes())
                    .map_err(|_| RouteError::Method { method: name.to_owned(), path: route.path.clone() })?,
            ),
        };
        let pattern =
            Pattern::parse(&route.path).ok_or_else(|| RouteError::Path { path: route.path.clone() })?;
        Ok(Self { key: format!("{} {}", route.method, route.path), function, method, pattern })
    }

    fn by_precedence(left: &Self, right: &Self) -> Ordering {
        left.pattern
            .rank()
            .cmp(&right.pattern.rank())
            .then(left.method.is_none().cmp(&right.method.is_none()))
    }
}

impl Pattern {
    fn parse(path: &str) -> Option<Self> {
        let mut segments = Vec::new();
        let mut greedy = None;
        for part in path.strip_prefix('/')?.split('/') {
            if greedy.is_some() {
                return None;
            }
            match part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) => match name.strip_suffix('+') {
                    Some(name) => greedy = Some(name.to_owned()),
                    None => segments.push(Segment::Variable(name.to_owned())),
                },
                None => segments.push(Segment::Literal(part.to_owned())),
            }
        }
        Some(Self::Path { segments, greedy })
    }

    /// Smaller is more specific. A greedy match ranks by its segments too; of two, the longer
    /// literal prefix wins.
    fn rank(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Path { segments, greedy } => {
                let mut ranks: Vec<u8> = segments
                    .iter()
                    .map(|segment| u8::from(matches!(segment, Segment::Variable(_))))
                    .collect();
                ranks.push(2);
                (u8::from(greedy.is_some()), ranks)
            }
            Self::Default => (2, Vec::new()),
        }
    }

    fn matches(&self, path: &str) -> Option<PathParameters<'_>> {
        let Self::Path { segments, greedy } = self else { return Some(BTreeMap::new()) };
        let mut rest = Some(path.strip_prefix('/')?);
        let mut parameters = BTreeMap::new();
        for segment in segments {
            let (part, tail) = match rest?.split_once('/') {
                Some((part, tail)) => (part, Some(tail)),
                None => (rest?, None),
            };
            match segment {
                Segment::Literal(literal) if literal == part => {}
                Segment::Variable(name) if !part.is_empty() => {
                    parameters.insert(name.as_str(), part.to_owned());
                }
                _ => return None,
            }
            rest = tail;
        }
        match (greedy, rest) {
            (None, None) => Some(parameters),
            (Some(name), Some(rest)) if !rest.is_empty() => {
                parameters.insert(name, rest.to_owned());
                Some(parameters)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(keys: &[&str]) -> Result<Routes, RouteError> {
        let routes: Vec<_> = keys
            .iter()
            .map(|key| {
                let (method, path) = key.split_once(' ').unwrap_or(("ANY", key));
                HttpRoute { method: method.into(), path: path.into(), function: (*key).into() }
            })
            .collect();
        Routes::new(&routes)
    }

    fn found(routes: &Routes, method: &Method, path: &str) -> Option<String> {
        routes.find(method, path).map(|(route, _)| route.key.clone())
    }

    /// The example of "Working with routes for HTTP APIs" in the developer guide, in no helpful
    /// order.
    #[test]
    fn precedence_follows_the_developer_guide() {
        let routes = routes(&[
            "$default",
            "ANY /{proxy+}",
            "GET /pets/{proxy+}",
            "GET /pets/dog/{id}",
            "GET /pets/dog/1",
        ])
        .unwrap();
        let get = |path| found(&routes, &Method::GET, path).unwrap();
        assert_eq!(get("/pets/dog/1"), "GET /pets/dog/1");
        assert_eq!(get("/pets/dog/2"), "GET /pets/dog/{id}");
        assert_eq!(get("/pets/cat/1"), "GET /pets/{proxy+}");
        assert_eq!(get("/stores/1"), "ANY /{proxy+}");
        assert_eq!(found(&routes, &Method::POST, "/pets/dog/1").unwrap(), "ANY /{proxy+}");
        assert_eq!(get("/"), "$default");
    }

    #[test]
    fn a_route_for_another_method_does_not_hide_a_less_specific_one() {
        let routes = routes(&["DELETE /sessions/current", "GET /sessions/{sessionId}"]).unwrap();
        assert_eq!(
            found(&routes, &Method::GET, "/sessions/current").as_deref(),
            Some("GET /sessions/{sessionId}")
        );
        assert_eq!(found(&routes, &Method::PUT, "/sessions/current"), None);
    }

    #[test]
    fn the_method_itself_goes_before_any() {
        let routes = routes(&["ANY /orders", "POST /orders"]).unwrap();
        assert_eq!(found(&routes, &Method::POST, "/orders").as_deref(), Some("POST /orders"));
        assert_eq!(found(&routes, &Method::PUT, "/orders").as_deref(), Some("ANY /orders"));
    }

    #[test]
    fn variables_take_one_segment_and_greedy_ones_the_rest() {
        let routes = routes(&["GET /orders/{orderId}", "GET /files/{path+}"]).unwrap();
        let (_, parameters) = routes.find(&Method::GET, "/orders/ord 1").unwrap();
        assert_eq!(parameters, BTreeMap::from([("orderId", "ord 1".to_owned())]));
        let (_, parameters) = routes.find(&Method::GET, "/files/a/b/").unwrap();
        assert_eq!(parameters, BTreeMap::from([("path", "a/b/".to_owned())]));
        for path in ["/orders", "/orders/", "/orders/1/2", "/files", "/files/", "", "orders/1"] {
            assert_eq!(found(&routes, &Method::GET, path), None, "{path}");
        }
    }

    #[test]
    fn a_route_that_cannot_be_served_is_named() {
        assert_eq!(routes(&["GET /a/{x+}/b"]).unwrap_err(), RouteError::Path { path: "/a/{x+}/b".into() });
        assert_eq!(routes(&["GET a"]).unwrap_err(), RouteError::Path { path: "a".into() });
        assert_eq!(routes(&["GET /a", "GET /a"]).unwrap_err(), RouteError::Twice { key: "GET /a".into() });
        assert!(matches!(routes(&["G(T /a"]).unwrap_err(), RouteError::Method { .. }));
    }
}
