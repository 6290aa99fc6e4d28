//! What the capabilities stand on: AWS, DynamoDB, Redis, queues, the outbox, telemetry.

pub mod aws;
pub mod dynamo;
pub mod outbox;
pub mod queue;
pub mod redis;
pub mod secrets_manager;
pub mod tables;
pub mod telemetry;
