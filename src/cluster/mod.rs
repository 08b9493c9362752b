//! Clients, discovery, compact caches, guarded writes and the lease.
//!
//! Everything passes one transport, which keeps watches from being begun anew at once and learns the API server's time. Reads
//! go through [`Cluster`] (each with a deadline), what is watched through [`Reflected`] (one stream per kind, shared),
//! and every change of the outside through [`Writer::effect`], which asks the lease first.

mod clock;
mod connect;
mod discovery;
mod explain;
mod kind;
mod lease;
mod lent;
mod reflected;
mod said;
mod transport;
mod watch;
mod writer;

pub use clock::{Clock, ServerTime};
pub use connect::{CALL_TIMEOUT, CallError, Cluster, ClusterError, ConnectOptions, call};
pub use discovery::{ResolveError, Resolved};
pub use explain::explain;
pub use kind::{ErrorKind, is_too_large, tests_hold};
pub use lease::{Claim, Lease, LeaseConfig, LeaseError};
pub use lent::{Lender, NotLent, Purpose, lends_to};
pub use reflected::{Listener, Reflected, SharedWatch, Wake};
pub use said::Said;
pub use watch::watch;
pub use writer::{EFFECT_TIMEOUT, EffectKind, EffectProbe, NoProbe, ProbeFuture, WriteError, Writer};
