//! An answer to a client as plain data: the edge sends it, and idempotency stores and replays it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Status, headers and JSON body of one answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    pub status: u16,
    /// Header names in lower case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// `Set-Cookie` values. Never stored: no reply with a cookie is replayed.
    #[serde(skip)]
    pub cookies: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// JSON text instead of `body`, sent unchanged: it contains text of another user. Never stored.
    #[serde(skip)]
    pub text: Option<String>,
}

impl Reply {
    /// An answer with a JSON body.
    pub fn json(status: u16, body: Value) -> Self {
        Self { status, headers: BTreeMap::new(), cookies: Vec::new(), body: Some(body), text: None }
    }

    /// An answer whose body is this JSON text.
    pub fn json_text(status: u16, text: String) -> Self {
        Self { text: Some(text), ..Self::empty(status) }
    }

    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: BTreeMap::new(), cookies: Vec::new(), body: None, text: None }
    }

    /// The body's text.
    pub fn content(&self) -> Option<Cow<'_, str>> {
        let text = self.text.as_deref().map(Cow::Borrowed);
        text.or_else(|| self.body.as_ref().map(|body| Cow::Owned(body.to_string())))
    }

    /// This answer with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.insert(name.to_ascii_lowercase(), value.into());
        self
    }

    /// This answer with one more cookie.
    #[must_use]
    pub fn cookie(mut self, cookie: impl Into<String>) -> Self {
        self.cookies.push(cookie.into());
        self
    }
}
