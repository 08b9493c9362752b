//! A Prometheus-compatible query endpoint over what the traffic proxy counted.
//!
//! [`Store`] keeps counters and samples them at a fixed step into bounded history; [`promql`] evaluates queries over it
//! exactly as Prometheus does, for the constructs in use; [`http`] speaks the HTTP API and the exposition format.

pub mod http;
pub mod promql;
mod sampler;
mod store;

pub use sampler::{SAMPLE_STEP, run as run_sampler, sample_step};
pub use store::{Labels, SeriesId, Store, StoreError};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The store as its writers and readers share it.
#[derive(Debug, Clone, Default)]
pub struct SharedStore(Arc<Mutex<Store>>);

impl SharedStore {
    /// Shares a store.
    pub fn new(store: Store) -> Self {
        Self(Arc::new(Mutex::new(store)))
    }

    /// Locks the store. Nothing awaits while holding it, and every write leaves it consistent, so a poisoned lock is
    /// taken as it is.
    pub fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
