//! One HTTP call and its answer.

use http::HeaderMap;
use local_region::gateway::http::CRASHED;
use serde_json::Value;

/// A call being put together.
#[derive(Debug)]
pub struct Call {
    request: reqwest::RequestBuilder,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body as JSON; `Null` when it is empty or is not JSON.
    pub body: Value,
    /// The body as it came.
    pub text: String,
}

impl Call {
    pub(crate) fn new(client: &reqwest::Client, method: &str, url: &str) -> Self {
        Self { request: client.request(method.parse().unwrap(), url) }
    }

    /// With an access token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// With an `Idempotency-Key`.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    /// With one more header.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        Self { request: self.request.header(name, value) }
    }

    /// With one more header of any octets.
    #[must_use]
    pub fn header_bytes(self, name: &str, value: &[u8]) -> Self {
        let value = http::HeaderValue::from_bytes(value).expect("a header holds these octets");
        Self { request: self.request.header(name, value) }
    }

    /// With a JSON body.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        Self { request: self.request.json(body) }
    }

    /// With a body that is sent as it is.
    #[must_use]
    pub fn text(self, body: impl Into<String>) -> Self {
        Self { request: self.request.body(body.into()) }
    }

    /// Sends it. A call that gets no answer at all fails the test.
    pub async fn send(self) -> Answer {
        self.try_send().await.expect("the call is answered")
    }

    /// Sends it; an error means that no answer came.
    pub async fn try_send(self) -> Result<Answer, reqwest::Error> {
        let response = self.request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or_default();
        Ok(Answer { status, headers, body, text })
    }
}

impl Answer {
    /// This answer, whose status must be `status`.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "unexpected answer: {}", self.text);
        self
    }

    /// This answer, which must be the gateway's for a function whose process died.
    #[track_caller]
    pub fn expect_crash(self) -> Self {
        let answer = self.expect(500);
        assert!(answer.headers.contains_key(CRASHED), "the function answered: {}", answer.text);
        answer
    }

    /// This answer, which must be problem+json of the given type.
    #[track_caller]
    pub fn expect_problem(self, status: u16, slug: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.text);
        assert_eq!(answer.body["type"], format!("/problems/{slug}"), "{}", answer.text);
        assert_eq!(answer.body["status"], status, "{}", answer.text);
        for member in ["title", "detail"] {
            assert!(answer.body[member].as_str().is_some_and(|text| !text.is_empty()), "{}", answer.text);
        }
        answer
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The `Set-Cookie` values.
    pub fn cookies(&self) -> Vec<&str> {
        self.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok()).collect()
    }

    /// A text member of the body, which must be there.
    #[track_caller]
    pub fn text_of(&self, member: &str) -> String {
        let value = self.body[member].as_str();
        value.unwrap_or_else(|| panic!("no {member} in {}", self.text)).to_owned()
    }
}
