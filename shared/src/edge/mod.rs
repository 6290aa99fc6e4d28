//! The edge: the only layer that knows Lambda's events and answers.

pub mod answers;
pub mod boot;
pub mod consumer;
pub mod direct;
mod header;
pub mod http;
mod invocation;
mod mapping;
pub mod queue;
pub mod schedule;
pub mod stream;
pub mod websocket;
