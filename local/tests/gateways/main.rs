//! Gateways and schedules, spoken to by real HTTP and WebSocket clients. Where Lambda is in the
//! region, a script records the events and answers them, so that every kind of outcome can be had
//! on demand.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails the test")]

mod event_sources;
mod http;
mod kafka_sources;
mod management;
mod schedules;
mod stream_sources;
mod support;
mod websocket;
