//! The front door, spoken to by real HTTP and WebSocket clients, before real servers that stand
//! where regions are.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails the test")]

mod bodies;
mod failover;
mod http;

mod regions;
mod support;
mod websocket;
