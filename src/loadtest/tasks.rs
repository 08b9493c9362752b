//! Background commands: at most one for each canary and command.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Background commands at once: one load test for each of that many canaries loads a machine fully.
const RUNNING_MAX: usize = 64;

type Key = (String, String);

#[derive(Debug, Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<BTreeSet<Key>>>);

/// What became of an attempt to start.
#[derive(Debug)]
pub(super) enum Start {
    /// Go ahead; the slot is free again when the permit is dropped.
    Go(Permit),
    /// The same command already runs for this canary.
    Running,
    /// Too many commands run.
    Full,
}

/// The right to run one command.
#[derive(Debug)]
pub(super) struct Permit {
    tasks: Tasks,
    key: Key,
}

impl Tasks {
    pub(super) fn start(&self, canary: String, command: String) -> Start {
        let key = (canary, command);
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if running.contains(&key) {
            return Start::Running;
        }
        if running.len() >= RUNNING_MAX {
            return Start::Full;
        }
        running.insert(key.clone());
        Start::Go(Permit { tasks: self.clone(), key })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.tasks.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
