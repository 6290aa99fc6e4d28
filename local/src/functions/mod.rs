//! The functions of the stack, as processes.

pub mod outcome;
