//! The caller's identity: users, sessions, tokens, throttling, encryption of stored data, allowed
//! origins.
//!
//! Modules import only modules below them: `sign_in`, `users`, `sessions` and `throttle`, `seal`
//! and `tokens`, then the rest.

pub mod email;
pub mod origins;
pub mod principal;
pub mod seal;
pub mod secret;
pub mod sessions;
pub mod sign_in;
pub mod throttle;
pub mod tokens;
pub mod users;
