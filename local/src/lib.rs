//! A region on a laptop, or several: API Gateway, Lambda, DynamoDB, S3, SQS and schedules in one process, driven by template.yaml.

pub mod cli;
pub mod clock;
pub mod event_sources;
pub mod front_door;
pub mod functions;
pub mod gateway;
pub mod keys;
pub mod logs;
pub mod patterns;
pub mod region;
pub mod regions;
pub mod schedules;
pub mod services;
pub mod template;
