//! Files in S3: links, uploads, exports. Clients transfer files directly to and from S3.

pub mod exports;
pub mod links;
pub mod uploads;
