//! A WebSocket client.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Longest wait for a message that must come.
const RECEIVE_LIMIT: Duration = Duration::from_secs(20);

/// An open socket.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The subprotocol that the server chose.
    pub subprotocol: Option<String>,
}

impl Socket {
    /// Opens a socket as a browser does: the token travels as the second subprotocol.
    pub async fn open(url: &str, token: &str) -> Result<Self, Error> {
        Self::open_with(url, &[("sec-websocket-protocol", &format!("sojourn.v1, {token}"))]).await
    }

    /// Opens a socket with the given headers.
    pub async fn open_with(url: &str, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse()?);
        }
        let (stream, response) = connect_async(request).await?;
        Ok(Self { stream, subprotocol: subprotocol(&response) })
    }

    /// Sends a JSON message.
    pub async fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string()).await;
    }

    /// Sends a text frame as it is.
    pub async fn send_text(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.expect("the socket takes the message");
    }

    /// Sends a binary frame.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) {
        self.stream.send(Message::binary(bytes)).await.expect("the socket takes the message");
    }

    /// The next JSON message, which must come.
    pub async fn receive(&mut self) -> Value {
        serde_json::from_str(&self.receive_text().await).expect("messages are JSON")
    }

    /// The next message of this type. Others are passed over: the service tells a customer of each
    /// order, at its own time.
    pub async fn told(&mut self, kind: &str) -> Value {
        loop {
            let message = self.receive().await;
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// The next message as it comes, which it must.
    pub async fn receive_text(&mut self) -> String {
        let message =
            tokio::time::timeout(RECEIVE_LIMIT, self.next_text()).await.expect("a message comes in time");
        message.expect("the socket is open")
    }

    /// The messages that were posted to the socket and not received yet. Sends a ping, and tells
    /// what comes before its answer: a socket keeps the order.
    pub async fn waiting(&mut self) -> Vec<Value> {
        self.send(&json!({"action": "ping"})).await;
        let mut waiting = Vec::new();
        loop {
            let message = self.receive().await;
            if message["type"] == "pong" {
                return waiting;
            }
            waiting.push(message);
        }
    }

    /// Waits for the server to close; tells code and reason.
    pub async fn closed(&mut self) -> Option<CloseFrame> {
        let closing = async {
            loop {
                match self.stream.next().await {
                    Some(Ok(Message::Close(frame))) => return frame,
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        };
        tokio::time::timeout(RECEIVE_LIMIT, closing).await.expect("the server closes in time")
    }

    /// Says `message`, if that is still possible, and tells what comes until the server closes.
    pub async fn last_words(&mut self, message: &Value) -> Vec<Value> {
        if let Err(error) = self.stream.send(Message::text(message.to_string())).await {
            assert!(!matches!(error, Error::Capacity(_)), "the message is none: {error}");
        }
        let until_closed = async {
            let mut heard = Vec::new();
            while let Some(text) = self.next_json().await {
                heard.push(text);
            }
            heard
        };
        tokio::time::timeout(RECEIVE_LIMIT, until_closed).await.expect("the server closes in time")
    }

    /// Sends frames as fast as it can until the server closes, and tells what came until then, and
    /// the close.
    pub async fn flood(&mut self, frames: impl Iterator<Item = String>) -> (Vec<Value>, Option<CloseFrame>) {
        let (mut sink, mut source) = (&mut self.stream).split();
        let sending = async {
            for frame in frames {
                if sink.send(Message::text(frame)).await.is_err() {
                    return;
                }
            }
        };
        let hearing = async {
            let mut heard = Vec::new();
            loop {
                match source.next().await {
                    Some(Ok(Message::Text(text))) => {
                        heard.push(serde_json::from_str(&text).expect("messages are JSON"));
                    }
                    Some(Ok(Message::Close(frame))) => return (heard, frame),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return (heard, None),
                }
            }
        };
        let both = futures::future::join(sending, hearing);
        tokio::time::timeout(RECEIVE_LIMIT, both).await.expect("the server closes in time").1
    }

    /// Closes properly.
    pub async fn close(mut self) {
        self.stream.close(None).await.expect("the socket closes");
        while self.stream.next().await.is_some_and(|message| message.is_ok()) {}
    }

    /// Closes with a reason of one's own.
    pub async fn close_because(mut self, reason: &str) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: reason.into() };
        self.stream.close(Some(frame)).await.expect("the socket closes");
        while self.stream.next().await.is_some_and(|message| message.is_ok()) {}
    }

    async fn next_json(&mut self) -> Option<Value> {
        let text = self.next_text().await?;
        Some(serde_json::from_str(&text).expect("messages are JSON"))
    }

    async fn next_text(&mut self) -> Option<String> {
        loop {
            match self.stream.next().await? {
                Ok(Message::Text(text)) => return Some(text.as_str().to_owned()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

fn subprotocol(response: &Response) -> Option<String> {
    let header = response.headers().get("sec-websocket-protocol")?;
    header.to_str().ok().map(str::to_owned)
}
