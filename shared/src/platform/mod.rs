//! Infrastructure of all capabilities: AWS, DynamoDB, Redis, a cache, queues, buffers, streams,
//! topics, the event bus, the outbox, telemetry.

pub mod aws;
pub mod buffer;
pub mod cache;
pub mod dynamo;
pub mod outbox;
pub mod publish;
pub mod queue;
pub mod redis;
pub mod secrets_manager;
pub mod stream;
pub mod tables;
pub mod telemetry;
