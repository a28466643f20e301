//! The stores.

mod smoke;
