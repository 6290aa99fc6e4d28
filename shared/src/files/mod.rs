//! Files in S3: links, uploads, exports. No byte of a file that a client sends or reads passes a function.

pub mod exports;
pub mod links;
pub mod uploads;
