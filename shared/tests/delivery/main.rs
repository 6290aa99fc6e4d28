//! Delivery through the real SDK to an HTTP endpoint that answers as `@connections` does, messages
//! from their acceptance to the sockets, and the sockets' end.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage stops there")]

mod closing;
mod consumer;
mod gateway_double;
mod hops;
mod inbox;
mod messages;
mod stage;
