//! The embedded cluster, traffic and metrics behind `serin demo` and `serin sandbox`.
//!
//! A test double with a contract, not a product: small, honest about its limits, never laxer than the real thing.

pub mod apiserver;
pub mod behaviour;
pub mod clock;
pub mod controllers;
pub mod crds;
pub mod load;
pub mod metrics;
pub mod repository;
pub mod traffic;
pub mod world;
