//! Who is calling: users, sessions, tokens, throttling, sealed data, allowed origins.

pub mod origins;
pub mod principal;
pub mod seal;
pub mod secret;
pub mod sessions;
pub mod throttle;
pub mod tokens;
pub mod users;
