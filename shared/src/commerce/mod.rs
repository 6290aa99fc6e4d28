//! The shop: catalogue, carts, orders, payments, cancellations, reports.

pub mod cancellation;
pub mod carts;
pub mod catalog;
pub mod orders;
pub mod payments;
pub mod reports;
