//! x

pub mod functions;
pub mod gateway;
pub mod schedules;
pub mod template {
    //! The stack that the region runs.
    pub mod model;
}
