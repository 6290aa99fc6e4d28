//! Values that every layer uses: ids, money, time, errors. Nothing here does I/O.

pub mod bounded;
pub mod clock;
pub mod csv;
pub mod cursor;
pub mod date_time;
pub mod deadline;
pub mod env;
pub mod error_type;
pub mod ids;
pub mod json;
pub mod money;
pub mod precondition;
pub mod problem;
pub mod random;
pub mod redacted;
pub mod reply;
pub mod retry;
pub mod shards;
