//! The shop: catalogue, carts, orders, payments, reports.

pub mod carts;
pub mod catalog;
pub mod orders;
pub mod payments;
pub mod reports;
