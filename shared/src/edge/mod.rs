//! The edge: events of Lambda in, answers out. The only layer that knows them.

pub mod boot;
pub mod http;
mod invocation;
pub mod queue;
pub mod schedule;
pub mod websocket;
