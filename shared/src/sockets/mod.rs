//! WebSocket connections, delivery to them, and the inbox of what no socket took.

pub mod connections;
pub mod delivery;
pub mod inbox;
