//! API Gateway's two fronts: an HTTP API (payload format 2.0) and a WebSocket API with
//! `@connections`.
//!
//! Both turn a request into the event that API Gateway would send, invoke the route's function
//! through [`Invoke`](crate::functions::outcome::Invoke) and turn the outcome into what API Gateway
//! would answer. They do nothing else: events and answers are those of API Gateway.
//!
//! Left out, since the template can't ask for it: authorizers, stages of an HTTP API other than
//! `$default`, mapping templates, integrations other than Lambda proxies, access logs.

pub(crate) mod hop_by_hop;
pub mod http;
mod ids;
mod invocation;
pub(crate) mod listener;
mod origin;
mod request_size;
pub mod websocket;

/// `requestContext.apiId` of the HTTP API: its logical id, which is what `Ref` gives here.
pub const HTTP_API_ID: &str = "HttpApi";

/// `requestContext.apiId` of the WebSocket API: its logical id, which is what `Ref` gives here.
pub const WEBSOCKET_API_ID: &str = "WebSocketApi";
