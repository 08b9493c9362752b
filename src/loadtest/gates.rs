//! Gates that people open and close, kept in memory: a restart closes them all.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Gates kept open at once; each is a canary that somebody opened by hand.
const OPEN_MAX: usize = 10_000;

/// Which gate of a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gate {
    /// Lets a release go on.
    Confirm,
    /// Asks for a rollback.
    Rollback,
}

#[derive(Debug, Default)]
pub(super) struct Gates(Mutex<BTreeSet<(Gate, String)>>);

impl Gates {
    pub(super) fn is_open(&self, gate: Gate, canary: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&(gate, canary.to_owned()))
    }

    /// Opens a gate; false when too many are open.
    pub(super) fn open(&self, gate: Gate, canary: &str) -> bool {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN_MAX {
            return false;
        }
        open.insert((gate, canary.to_owned()));
        true
    }

    pub(super) fn close(&self, gate: Gate, canary: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(gate, canary.to_owned()));
    }
}
