//! Chance that can be had again: everything random follows from one number.

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// Throws that follow from a seed.
pub(crate) struct Dice(TestRng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        // The algorithm does not take a seed of nothing but zeros.
        let seed: Vec<u8> = [seed, !seed].into_iter().flat_map(u64::to_le_bytes).collect();
        Self(TestRng::from_seed(RngAlgorithm::XorShift, &seed))
    }

    /// From `low` up to, and without, `high`.
    pub(crate) fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.next_u64() % (high - low)
    }

    /// Whether one of `many` throws hits.
    pub(crate) fn one_in(&mut self, many: u64) -> bool {
        self.within(0, many) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        let index = usize::try_from(self.within(0, all.len() as u64)).unwrap_or_default();
        all[index].clone()
    }

    /// One of these, each as likely as its weight says.
    pub(crate) fn weighed<T: Clone>(&mut self, all: &[(u64, T)]) -> T {
        let mut left = self.within(0, all.iter().map(|(weight, _)| weight).sum());
        for (weight, one) in all {
            if left < *weight {
                return one.clone();
            }
            left -= weight;
        }
        all[0].1.clone()
    }
}
