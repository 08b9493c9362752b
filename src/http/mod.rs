//! HTTP in and out: the one client of metrics and webhooks, and the one way in which requests are served.

mod address;
mod client;
mod serve;

pub use address::{Address, AddressError};
pub use client::{HttpClients, HttpError, chain};
pub use serve::{serve, serve_streaming};
