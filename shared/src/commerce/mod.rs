//! The shop: catalogue, carts, orders, payments, cancellations, reports, activity.

pub mod activity;
pub mod cancellation;
pub mod carts;
pub mod catalog;
pub mod invalidation;
pub mod orders;
pub mod payments;
pub mod reconciliation;
pub mod reports;
