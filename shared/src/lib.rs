//! Sojourn: the capabilities of a commerce backend that keeps no state in its processes.
//!
//! The folders are layers. A module imports from its own layer and from the layers below it, never
//! upward and never in a circle; `tests/layers.rs` checks that. From top to bottom:
//!
//! | layer | what |
//! |---|---|
//! | [`edge`] | Lambda's events in, answers out: HTTP, WebSocket, schedules, queues, streams |
//! | [`relay`] | publishing of the outbox's events |
//! | [`files`] | links, uploads, exports |
//! | [`sockets`] | the connection registry, delivery, inboxes |
//! | [`commerce`] | catalogue, carts, orders, payments, reports |
//! | [`coordination`] | idempotency keys, locks, processing of backlogs, regions |
//! | [`identity`] | users, sessions, tokens, throttling, encryption |
//! | [`platform`] | AWS, DynamoDB, Redis, queues, streams, topics, the event bus, the outbox, telemetry |
//! | [`core`] | ids, money, time, errors and other values; no I/O |
//!
//! Each module is one capability: its protocol (the module's documentation), its types and its
//! adapters. Only the modules called `dynamo`, `s3`, `sqs`, `gateway`, `lambda`, [`platform`] and
//! [`edge`] name an AWS SDK; only [`edge`] names `lambda_http`.

pub mod commerce;
pub mod coordination;
pub mod core;
pub mod edge;
pub mod files;
pub mod identity;
pub mod platform;
pub mod relay;
pub mod sockets;
