//! HTTP in and out: the one client of metrics and webhooks, the secrets that prove who calls, and the one way in which
//! requests are served.

mod address;
mod client;
mod secret;
mod serve;
mod token;

pub use address::{Address, AddressError};
pub use client::{HttpClients, HttpError, chain};
pub use secret::{Secret, SecretSource};
pub use serve::{serve, serve_streaming};
pub use token::OriginToken;
