//! One message: select its route, invoke the function, and choose the answer to the client.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::connections::Connection;
use super::event::{self, Happened};
use super::handshake::error_body;
use super::{DEFAULT, WebSocketFront};
use crate::functions::outcome::Invoke;
use crate::gateway::ids::short_id;
use crate::gateway::invocation::{self, Integration};
use crate::template::model::WebSocketRoute;

/// The part of a proxy response that a route response sends. The status isn't sent: a socket has no
/// place for it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(borrow, default)]
    body: Option<Cow<'a, str>>,
    #[serde(default)]
    is_base64_encoded: bool,
}

impl<I: Invoke> WebSocketFront<I> {
    /// Handles one message and returns the frame to send back, if any.
    pub(super) async fn message(&self, connection: &Connection, text: &str) -> Option<Utf8Bytes> {
        let error = |message, request_id: &str| {
            Some(Utf8Bytes::from(error_body(message, &connection.id, request_id).to_string()))
        };
        let Some((key, route)) = self.select(text) else { return error("Forbidden", &short_id()) };
        let written = match event::write(connection, &self.api.stage, &key, &Happened::Message { body: text })
        {
            Ok(written) => written,
            Err(failure) => {
                tracing::error!(%failure, "a message event could not be written");
                return error("Internal server error", &short_id());
            }
        };
        let ended =
            invocation::invoke(&*self.functions, &route.function, written.json, self.limits.integration)
                .await;
        match ended {
            Integration::Answered(_) if !route.responds => None,
            Integration::Answered(payload) => {
                let fits = |frame: &Option<Utf8Bytes>| {
                    frame.as_ref().is_none_or(|frame| frame.len() <= self.limits.message_bytes)
                };
                body(&payload).filter(fits).unwrap_or_else(|| {
                    tracing::warn!(
                        function = route.function,
                        "the function's answer is no response, or is too large"
                    );
                    error("Internal server error", &written.request_id)
                })
            }
            Integration::GatewayTimedOut => error("Endpoint request timed out", &written.request_id),
            Integration::Failed
            | Integration::Crashed
            | Integration::Throttled
            | Integration::EventTooLarge => error("Internal server error", &written.request_id),
        }
    }

    fn select(&self, text: &str) -> Option<(String, &WebSocketRoute)> {
        let selected = self.selection.select(text).and_then(|key| Some((self.route(&key)?, key)));
        match selected {
            Some((route, key)) => Some((key, route)),
            None => self.route(DEFAULT).map(|route| (DEFAULT.to_owned(), route)),
        }
    }
}

/// `None` if the payload is no response; `Some(None)` if it has nothing to send.
#[expect(clippy::option_option, reason = "a response without a body is not the same as no response")]
fn body(payload: &[u8]) -> Option<Option<Utf8Bytes>> {
    let answer: Answer<'_> = serde_json::from_slice(payload).ok()?;
    let text = match answer.body {
        Some(body) if answer.is_base64_encoded => {
            String::from_utf8(STANDARD.decode(body.as_bytes()).ok()?).ok()?
        }
        Some(body) => body.into_owned(),
        None => String::new(),
    };
    Some((!text.is_empty()).then(|| text.into()))
}
