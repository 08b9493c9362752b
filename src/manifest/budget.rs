//! What reading one file may cost: a small file must not cost much, whoever wrote it.

use std::time::{Duration, Instant};

/// Most values of one file, aliases expanded: far above a big CRD bundle (50,000), and it stops alias bombs.
const VALUES_MAX: usize = 300_000;
/// Most text of one file, aliases expanded, in bytes: three times the largest file that is read.
const TEXT_BYTES_MAX: usize = 16 << 20;
/// Longest that one file may take. The cost is linear, and the largest file takes a tenth of this on a slow machine: what
/// takes longer is a machine in trouble, or a mistake of ours.
const TIME_MAX: Duration = Duration::from_secs(20);

/// What is left of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    values: usize,
    bytes: usize,
    until: Instant,
}

/// What ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Exhausted {
    #[error("more than {VALUES_MAX} values, aliases expanded")]
    Values,
    #[error("more than {} MiB of text, aliases expanded", TEXT_BYTES_MAX >> 20)]
    Bytes,
    #[error("reading it took longer than {} s", TIME_MAX.as_secs())]
    Time,
}

/// What part of a file costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) values: usize,
    pub(super) bytes: usize,
}

impl Budget {
    /// For one file, from now on.
    pub(super) fn of_a_file() -> Self {
        Self { values: VALUES_MAX, bytes: TEXT_BYTES_MAX, until: Instant::now() + TIME_MAX }
    }

    /// Takes the cost of what is about to be kept.
    pub(super) fn take(&mut self, cost: Cost) -> Result<(), Exhausted> {
        self.values = self.values.checked_sub(cost.values).ok_or(Exhausted::Values)?;
        self.bytes = self.bytes.checked_sub(cost.bytes).ok_or(Exhausted::Bytes)?;
        if Instant::now() > self.until { Err(Exhausted::Time) } else { Ok(()) }
    }

    /// What has been taken since `before`.
    pub(super) fn since(&self, before: &Self) -> Cost {
        Cost { values: before.values - self.values, bytes: before.bytes - self.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_cost_runs_out_by_itself() {
        let cost = |values, bytes| Cost { values, bytes };
        let mut budget = Budget::of_a_file();
        let before = budget;
        assert_eq!(budget.take(cost(VALUES_MAX, TEXT_BYTES_MAX)), Ok(()));
        assert_eq!(budget.since(&before), cost(VALUES_MAX, TEXT_BYTES_MAX));
        assert_eq!({ budget }.take(cost(1, 0)), Err(Exhausted::Values));
        assert_eq!({ budget }.take(cost(0, 1)), Err(Exhausted::Bytes));
        assert_eq!({ budget }.take(cost(usize::MAX, usize::MAX)), Err(Exhausted::Values));
        let mut late = Budget { until: Instant::now() - Duration::from_secs(1), ..before };
        assert_eq!(late.take(cost(0, 0)), Err(Exhausted::Time));
    }
}
