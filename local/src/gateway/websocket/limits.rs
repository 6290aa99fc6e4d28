//! The limits of a WebSocket API. Tests can shorten the long ones.

use std::time::Duration;

/// What a connection may do. [`Limits::default`] is API Gateway's.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest message in either direction, in bytes (quota "WebSocket message size", 128 KB).
    /// Beyond: close 1009, or 413 for a post.
    pub message_bytes: usize,
    /// Largest frame from a client, in bytes (quota "WebSocket frame size", 32 KB). Beyond: close
    /// 1009.
    pub frame_bytes: usize,
    /// No frame in either direction for this long: close 1001 (quota "Idle connection timeout", 10
    /// minutes).
    pub idle: Duration,
    /// Close 1001 after this long in any case (quota "Connection duration", 2 hours).
    pub lifetime: Duration,
    /// How long a function may take to answer (quota "Integration timeout", 29 s).
    pub integration: Duration,
    /// Messages of one connection that are with functions at the same time. At the limit its socket
    /// isn't read, so a client that sends faster is slowed down. API Gateway doesn't publish its
    /// number.
    pub concurrent_messages: usize,
    /// Messages that wait for one client to read them. At the limit a post gets 429. API Gateway
    /// doesn't publish its number.
    pub outgoing_messages: usize,
    /// A client that doesn't read for this long while a message waits is taken for dead: disconnect
    /// status 1006.
    pub write_stall: Duration,
    /// How long a closing handshake may take before the TCP connection is cut.
    pub close_handshake: Duration,
    /// Client connections, pending ones and callers of `@connections` included: each costs a file
    /// descriptor.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 128 * 1024,
            frame_bytes: 32 * 1024,
            idle: Duration::from_mins(10),
            lifetime: Duration::from_hours(2),
            integration: Duration::from_secs(29),
            concurrent_messages: 8,
            outgoing_messages: 256,
            write_stall: Duration::from_secs(30),
            close_handshake: Duration::from_secs(1),
            connections: 4096,
        }
    }
}
