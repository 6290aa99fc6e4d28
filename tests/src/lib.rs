//! What the end-to-end tests and the benchmarks stand on: a region of their own, and clients that
//! speak HTTP and WebSocket to it.
//!
//! [`TestRegion::start`] builds the function binaries (once a process), starts `sojourn-dev` on
//! free ports with template.yaml, and stops it when dropped. Nothing here reaches into a function:
//! what a test knows it learned over the wire, or by reading the region's tables with the AWS SDK
//! as an operator would.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot set its stage stops there")]
#![expect(clippy::missing_panics_doc, reason = "everything here panics when the stage falls")]
#![expect(
    clippy::return_self_not_must_use,
    reason = "an expectation may be all that a test wants of an answer"
)]

mod api;
mod files;
mod process;
mod queues;
mod region;
mod regions;
mod rounds;
mod shop;
mod socket;

pub use api::{Answer, Call};
pub use files::{File, Sent};
pub use process::{Options, binary, workspace};
pub use region::{MANY_ORDERS, TestRegion};
pub use regions::TestRegions;
pub use shop::{Customer, PASSWORD, SOCKETS_PER_USER, fresh_key, order_of};
pub use socket::Socket;
