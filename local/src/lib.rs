//! The region on a laptop: API Gateway, Lambda, DynamoDB, S3, SQS and schedules in one process, driven by template.yaml.

pub mod cli;
pub mod clock;
pub mod event_sources;
pub mod functions;
pub mod gateway;
pub mod keys;
pub mod logs;
pub mod region;
pub mod schedules;
pub mod services;
pub mod template;
