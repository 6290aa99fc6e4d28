//! A handshake: origin, token, registration, session; then the answer that opens the socket.

use std::sync::Arc;

use sojourn::core::clock::SharedClock;
use sojourn::core::problem::{Problem, ProblemType};
use sojourn::core::reply::Reply;
use sojourn::edge::websocket::{Credentials, SocketEvent};
use sojourn::identity::origins::AllowedOrigins;
use sojourn::identity::sessions::SessionStore;
use sojourn::identity::tokens::TokenVerifier;
use sojourn::sockets::connections::{CallbackEndpoint, Connection, Registrar, admit};

/// What a handshake needs.
pub(crate) struct App {
    pub(crate) origins: AllowedOrigins,
    pub(crate) verifier: TokenVerifier,
    pub(crate) sessions: SessionStore,
    pub(crate) registrar: Registrar,
    pub(crate) region: String,
    pub(crate) endpoint: CallbackEndpoint,
    pub(crate) clock: SharedClock,
}

/// Answers after the connection is registered: a message may follow at once.
pub(crate) async fn handle(app: Arc<App>, incoming: SocketEvent) -> Result<Reply, Problem> {
    let origin = incoming.header("origin")?;
    if !app.origins.allow(origin) {
        let detail = format!("the origin {} may not open sockets", origin.unwrap_or_default());
        return Err(Problem::new(ProblemType::OriginNotAllowed, detail));
    }
    let offered = incoming.header_lines("sec-websocket-protocol");
    let credentials = Credentials::of(&offered, incoming.header("authorization")?)?;
    let credential = app.verifier.verify(credentials.token).map_err(|reason| {
        tracing::info!(%reason, "access token refused");
        Problem::new(ProblemType::Unauthenticated, "the access token is invalid or has expired")
    })?;
    let (key, region, endpoint) = (incoming.connection().clone(), app.region.clone(), app.endpoint.clone());
    let connection = Connection::opened_by(&credential, key, region, endpoint, app.clock.now());
    let deadline = incoming.deadline();
    admit(&app.registrar, &app.sessions, &connection, &credential, &app.clock, deadline).await?;
    tracing::info!(
        connection_id = connection.key.connection_id.as_str(),
        user_id = connection.user_id.as_str(),
        "connected"
    );

    let opened = Reply::empty(200);
    Ok(match credentials.subprotocol {
        Some(subprotocol) => opened.header("sec-websocket-protocol", subprotocol),
        None => opened,
    })
}
