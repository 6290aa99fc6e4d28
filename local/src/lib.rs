//! x

pub mod functions;
pub mod gateway;
pub mod schedules;
pub mod template;
