//! A customer's socket, kept open: when it is lost, the client reconnects and resends what was not
//! acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::client::Client;
use crate::journal::Journal;

/// The type of the drill's messages.
pub const MESSAGE_TYPE: &str = "drill.message";
/// A message that is not acknowledged within this time is sent again, with its id.
const RESEND: Duration = Duration::from_secs(3);
/// Pause before the client connects again.
const RECONNECT: Duration = Duration::from_millis(300);
/// Longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A message to send.
#[derive(Debug)]
pub struct OutgoingMessage {
    /// The receiver's user id.
    pub to: String,
    /// Its number, unique within the drill.
    pub number: u64,
}

type Stream = WebSocketStream<TcpStream>;

/// The state of a socket.
pub struct Socket {
    url: String,
    client: Arc<Client>,
    journal: Arc<Journal>,
    letters: mpsc::UnboundedReceiver<OutgoingMessage>,
    /// Sent and not acknowledged: number and receiver by message id.
    open: BTreeMap<String, (u64, String)>,
    /// Ids of messages that were shown.
    known: BTreeSet<String>,
}

impl Socket {
    /// A socket that is not connected yet, and the sender of its message channel.
    pub fn new(
        url: &str,
        client: Arc<Client>,
        journal: Arc<Journal>,
    ) -> (Self, mpsc::UnboundedSender<OutgoingMessage>) {
        let (send, letters) = mpsc::unbounded_channel();
        let socket = Self {
            url: url.to_owned(),
            client,
            journal,
            letters,
            open: BTreeMap::new(),
            known: BTreeSet::new(),
        };
        (socket, send)
    }

    /// Stays connected until `is_over` is true and everything sent was acknowledged, or `limit` has
    /// passed since.
    pub async fn run(mut self, mut is_over: watch::Receiver<bool>, limit: Duration) -> BTreeSet<String> {
        let mut ends = is_over.clone();
        let end = async move {
            while !*ends.borrow_and_update() && ends.changed().await.is_ok() {}
            tokio::time::sleep(limit).await;
        };
        let connected = async {
            loop {
                let used = self.client.tokens().await.access;
                match tokio::time::timeout(HANDSHAKE, connect(&self.url, &self.client, &used)).await {
                    Ok(Ok(stream)) => {
                        if self.serve(stream, &mut is_over).await {
                            return;
                        }
                    }
                    Ok(Err(Error::Http(answer))) if matches!(answer.status().as_u16(), 401 | 403) => {
                        // The client counts a session that is gone.
                        self.client.renew(&used).await.ok();
                    }
                    Ok(Err(_)) | Err(_) => {}
                }
                tokio::time::sleep(RECONNECT).await;
            }
        };
        tokio::select! {
            () = connected => {}
            () = end => {}
        }
        self.known
    }

    /// Serves a connection until it is lost. Returns true if all messages are acknowledged and the
    /// drill is over.
    async fn serve(&mut self, mut stream: Stream, is_over: &mut watch::Receiver<bool>) -> bool {
        let mut resend = tokio::time::interval(RESEND);
        loop {
            if *is_over.borrow() && self.open.is_empty() && self.letters.is_empty() {
                stream.close(None).await.ok();
                // Messages that arrive before the other side closes are still shown.
                while let Some(Ok(frame)) = stream.next().await {
                    self.hear(&frame);
                }
                return true;
            }
            tokio::select! {
                frame = stream.next() => match frame {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return false,
                    Some(Ok(frame)) => self.hear(&frame),
                },
                Some(OutgoingMessage { to, number }) = self.letters.recv() => {
                    let id = ulid::Ulid::generate().to_string();
                    self.journal.message_sent(number, &to);
                    let frame = frame(&id, &to, number);
                    self.open.insert(id, (number, to));
                    if stream.send(frame).await.is_err() {
                        return false;
                    }
                },
                // The first tick is immediate: it resends the open messages of an earlier
                // connection.
                _ = resend.tick() => {
                    for (id, (number, to)) in &self.open {
                        if stream.send(frame(id, to, *number)).await.is_err() {
                            return false;
                        }
                    }
                },
                _ = is_over.changed() => {},
            }
        }
    }

    fn hear(&mut self, frame: &Message) {
        let Message::Text(text) = frame else { return };
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        let id = message["messageId"].as_str().unwrap_or_default();
        match message["type"].as_str() {
            Some("ack") => {
                if let Some((number, _)) = self.open.remove(id) {
                    self.journal.message_acknowledged(number);
                }
            }
            Some(MESSAGE_TYPE) => show(&self.journal, &mut self.known, &message),
            _ => {}
        }
    }
}

/// Shows a message to its receiver, unless its id is known.
pub fn show(journal: &Journal, known: &mut BTreeSet<String>, message: &Value) {
    let id = message["messageId"].as_str().unwrap_or_default().to_owned();
    if let Some(number) = message["body"]["number"].as_u64()
        && known.insert(id)
    {
        journal.message_shown(number);
    }
}

fn frame(id: &str, to: &str, number: u64) -> Message {
    let frame = json!({
        "action": "send", "messageId": id, "to": {"userId": to}, "type": MESSAGE_TYPE, "body": {"number": number},
    });
    Message::text(frame.to_string())
}

/// Connects from the client's own address, as its requests do.
async fn connect(url: &str, client: &Client, token: &str) -> Result<Stream, Error> {
    let mut request = url.into_client_request()?;
    request.headers_mut().insert("x-local-region-near", client.near().parse()?);
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let door = request.uri().authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let door: SocketAddr = door.parse().map_err(io::Error::other)?;
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((client.address(), 0)))?;
    let stream = socket.connect(door).await?;
    Ok(client_async(request, stream).await?.0)
}
