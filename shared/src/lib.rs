//! Sojourn: the capabilities of a commerce backend that remembers nothing between two requests.
//!
//! Each module is one capability: its protocol (the module's own documentation), its types, its port, and its
//! adapters. Dependencies point inward: the domain names neither an AWS SDK nor `lambda_http`; only the modules
//! called `dynamo`, `s3`, `sqs`, `gateway`, `lambda`, [`secrets_manager`], [`http`], [`websocket`], [`queue`] and [`jobs`] do.

// What the shop does.
pub mod carts;
pub mod catalog;
pub mod connections;
pub mod delivery;
pub mod exports;
pub mod files;
pub mod idempotency;
pub mod jobs;
pub mod lock;
pub mod orders;
pub mod origins;
pub mod outbox;
pub mod payments;
pub mod reports;
pub mod seal;
pub mod sessions;
pub mod throttle;
pub mod tokens;
pub mod uploads;
pub mod users;

// What everything is made of.
pub mod clock;
pub mod csv;
pub mod cursor;
pub mod date_time;
pub mod deadline;
pub mod env;
pub mod ids;
pub mod json;
pub mod money;
pub mod precondition;
pub mod problem;
pub mod random;
pub mod redacted;
pub mod reply;
pub mod retry;
pub mod shards;

// Where it meets AWS, and Redis.
pub mod aws;
pub mod boot;
pub mod dynamo;
pub mod http;
mod invocation;
pub mod queue;
pub mod redis;
pub mod secrets_manager;
pub mod tables;
pub mod telemetry;
pub mod websocket;
