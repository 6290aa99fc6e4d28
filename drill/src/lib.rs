//! The drill: measures what customers lose when a region dies.
//!
//! 1. *Prepare* ([`shop`]): an operator, products, stock in every region, customers who are signed
//!    in on two devices.
//! 2. *Load* ([`customer`], [`socket`]): each customer orders, pays, cancels, fills a cart, sends
//!    messages, uploads files, asks for exports and revokes sessions, through the front door.
//!    Clients behave correctly ([`client`]): they repeat a request with the same key until it is
//!    answered, refresh their token, and reconnect their socket. Acknowledgements are recorded in
//!    the [`journal`]. Each customer has an address of its own, so that the front door keeps a DNS
//!    answer for each. Meanwhile [`sampling`] records replication and health.
//! 3. *Break*: a region goes down after a third of the time, and comes back after two thirds.
//! 4. *Settle*: the load ends, and the drill waits until replication is complete.
//! 5. *Check* ([`check`]): the journal is compared with the tables of every region. Each promise
//!    has a count of violations. [`outage`] says how long customers were without service, and how
//!    long they would be on AWS.
//! 6. *Report* ([`report`]): a table, `report.json`, and a page with the time line.
//!
//! Limits: addresses other than 127.0.0.1 are this machine's on Linux only.
//!
//! The drill knows the regions as an operator does: the HTTP and WebSocket APIs, the AWS APIs, and
//! the control API of the local region.

pub mod check;
pub mod client;
pub mod customer;
pub mod journal;
pub mod local;
pub mod outage;
pub mod report;
pub mod run;
pub mod sampling;
pub mod shop;
pub mod socket;
pub mod world;

pub use local::LocalRegions;
pub use report::Report;
pub use run::{DrillError, Outage, Settings, run};
pub use world::World;
