//! Traffic weights.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How traffic is split, in percent. The two sides always add up to 100, so only the canary's is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weights {
    canary: u8,
}

impl Weights {
    /// Everything to primary.
    pub const PRIMARY: Self = Self { canary: 0 };

    /// `canary` percent to the canary, the rest to primary; values above 100 count as 100.
    pub fn canary_percent(canary: u8) -> Self {
        Self { canary: canary.min(100) }
    }

    /// Percent that goes to the canary, 0 to 100.
    pub fn canary(self) -> u8 {
        self.canary
    }

    /// Percent that goes to primary, 0 to 100.
    pub fn primary(self) -> u8 {
        100 - self.canary
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "primary {} %, canary {} %", self.primary(), self.canary())
    }
}
