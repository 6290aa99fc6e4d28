//! The region on a laptop: API Gateway, Lambda, DynamoDB, S3 and schedules in one process, driven by template.yaml.

pub mod functions;
pub mod logs;
pub mod services;
pub mod template;
