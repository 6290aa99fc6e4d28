//! AWS on one machine, without Docker: API Gateway (HTTP and WebSocket), Lambda, DynamoDB and its
//! streams, S3, SQS, SNS, `EventBridge`, Secrets Manager and schedules in one process, driven by a
//! SAM template. One region or several.
//!
//! The program `local-region` is [`cli`] and nothing else. A program with commands of its own uses
//! [`regions`] and the parts of [`cli`]. README.md says what is emulated, and where it differs from
//! AWS.

pub mod cli;
pub mod clock;
pub mod event_sources;
pub mod front_door;
pub mod functions;
pub mod gateway;
pub mod logs;
pub mod patterns;
pub mod region;
pub mod regions;
pub mod schedules;
pub mod services;
pub mod template;
