//! template.yaml, read.

pub mod model;
