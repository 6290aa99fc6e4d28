//! Requests built from the files in `events/`.

use std::time::Duration;

use serde_json::{Value, json};
use sojourn::core::deadline::{ANSWER_MARGIN, Deadline};
use sojourn::edge::http::HttpRequest;

/// The timeout of an invocation.
const TIMEOUT: Duration = Duration::from_secs(29);

/// An API Gateway event for a handler.
#[must_use = "a handler takes it"]
pub struct Event(Value);

impl Event {
    /// The event of a file.
    pub fn of(file: &str) -> Self {
        Self(serde_json::from_str(file).unwrap())
    }

    /// With an access token.
    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// With a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.0["headers"][name] = value.into();
        self
    }

    /// Without a header.
    pub fn without(mut self, header: &str) -> Self {
        self.0["headers"].as_object_mut().unwrap().remove(header);
        self
    }

    /// With a parameter in its path.
    pub fn path(mut self, name: &str, value: &str) -> Self {
        self.0["pathParameters"] = json!({name: value});
        self
    }

    /// With a parameter in its query.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.0["queryStringParameters"] = json!({name: value});
        self.0["rawQueryString"] = format!("{name}={value}").into();
        self
    }

    /// With a body.
    pub fn body(mut self, body: &str) -> Self {
        self.0["body"] = body.into();
        self
    }

    /// The event as a handler gets it.
    pub fn incoming(self) -> HttpRequest {
        let request = lambda_http::request::from_str(&self.0.to_string()).unwrap();
        HttpRequest::new(request, Deadline::after(TIMEOUT).earlier_by(ANSWER_MARGIN))
    }
}
