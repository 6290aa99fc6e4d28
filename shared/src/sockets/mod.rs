//! WebSocket connections and delivery to them.

pub mod connections;
pub mod delivery;
