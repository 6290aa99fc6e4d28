//! WebSocket connections, delivery to them, and the inbox of undelivered messages.

pub mod connections;
pub mod delivery;
pub mod inbox;
