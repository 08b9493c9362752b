//! How much failures come together, from what primary's pods did before the release.
//!
//! A retry, a client that insists and a broken connection make one mishap several failures, and then the same evidence means less.
//! Measured is how many other failures come with a failure onto the *same pod*: what befalls all pods at once cancels, and so does
//! trouble of the whole.

use serde::{Deserialize, Serialize};

/// What is taken for the noise where nothing is known: failures in clumps of three.
pub const GUESS: f64 = 3.5;
/// History that is looked at, in seconds: what happens a few times a day is in it.
pub const HISTORY: u64 = 6 * 60 * 60;
/// Failures of primary from which on a shorter history tells as much.
pub const HISTORY_FAILURES: f64 = 200.0;
/// How many failures the prior is worth, and how many others it takes to come with them.
const PRIOR: (f64, f64) = (20.0, 40.0);
/// What is added because an estimate may be too low.
const MARGIN: f64 = 1.25;

/// Failures and requests of each pod in one stretch of time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Block(pub Vec<(f64, f64)>);

/// What is known of the noise. Frozen when a release begins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Noise {
    /// What the evidence is tempered by, at least 1.
    pub factor: f64,
    /// Primary's failures that it was made of.
    pub failures: f64,
    /// Seconds of history that it was made of.
    pub covered: u64,
    /// Pods of primary that were compared with each other; of one alone the clumps are not told from its bad times.
    pub pods: u32,
}

impl Noise {
    /// As the user says.
    pub fn said(factor: f64) -> Self {
        Self { factor: factor.max(1.0), failures: 0.0, covered: HISTORY, pods: 0 }
    }

    /// Nothing is known.
    pub fn guess() -> Self {
        Self { factor: GUESS, failures: 0.0, covered: 0, pods: 0 }
    }

    /// Whether it is more than a guess.
    pub fn is_known(&self, history: u64) -> bool {
        // The first and the last block may be missing.
        self.covered >= history - history / 50 || self.failures >= HISTORY_FAILURES
    }

    /// How many failures come together, about.
    pub fn clump(&self) -> f64 {
        1.0 + (self.factor - 1.0) / MARGIN
    }
}

/// The noise of two cuts of the same history: short blocks and long ones, whose clumps may last minutes.
pub fn noise(short: &[Block], long: &[Block], covered: u64) -> Noise {
    let failures: f64 = short.iter().flat_map(|block| &block.0).map(|(failed, _)| failed).sum();
    let pods = short.iter().map(|block| block.0.len()).max().unwrap_or_default();
    let companions = if pods > 1 { between_pods } else { over_time };
    let found = companions(short).max(companions(long)).max(0.0);
    let (worth, others) = PRIOR;
    let estimate = 1.0 + (found + others) / (failures + worth);
    let factor = 1.0 + MARGIN * (estimate - 1.0);
    Noise { factor, failures, covered, pods: u32::try_from(pods).unwrap_or(u32::MAX) }
}

/// Pairs of failures on the same pod, beyond those that chance puts there.
fn between_pods(blocks: &[Block]) -> f64 {
    let of = |Block(pods): &Block| {
        let (failed, all) = pods.iter().fold((0.0, 0.0), |(failed, all), (f, n)| (failed + f, all + n));
        if all <= 0.0 {
            return 0.0;
        }
        let same: f64 = pods.iter().map(|(_, n)| (n / all) * (n / all)).sum();
        if same >= 1.0 {
            return 0.0;
        }
        let pairs: f64 = pods.iter().map(|(f, _)| f * (f - 1.0)).sum();
        (pairs - failed * (failed - 1.0) * same) / (1.0 - same)
    };
    blocks.iter().map(of).sum()
}

/// One pod: its counts vary over time by more than chance. Safe, and blind after trouble, which varies, too.
fn over_time(blocks: &[Block]) -> f64 {
    let counts: Vec<f64> = blocks.iter().map(|block| block.0.iter().map(|(failed, _)| failed).sum()).collect();
    let failures: f64 = counts.iter().sum();
    if counts.len() < 2 || failures <= 0.0 {
        return 0.0;
    }
    let mean = failures / counts.len() as f64;
    let squares: f64 = counts.iter().map(|count| (count - mean) * (count - mean)).sum();
    let variance = squares / (counts.len() - 1) as f64;
    failures * (variance / mean - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(pods: &[(f64, f64)]) -> Block {
        Block(pods.to_vec())
    }

    #[test]
    fn the_published_example() {
        let short = [
            block(&[(5.0, 100.0), (0.0, 100.0), (1.0, 100.0)]),
            block(&[(0.0, 100.0), (4.0, 100.0), (0.0, 100.0)]),
            block(&[(1.0, 100.0), (1.0, 50.0), (1.0, 150.0)]),
        ];
        let long = [block(&[(6.0, 300.0), (5.0, 250.0), (2.0, 350.0)])];
        assert!((between_pods(&short) - (15.0 + 12.0 - 3.818_181_818)).abs() < 1e-8);
        assert!((between_pods(&long) + 1.457_943_925).abs() < 1e-8);
        let found = noise(&short, &long, 180);
        assert!((found.factor - 3.393_250_689).abs() < 1e-8, "{found:?}");
        assert!((found.clump() - 2.914_600_551).abs() < 1e-8);
    }

    #[test]
    fn without_history_it_is_the_guess_and_says_so() {
        let none = noise(&[], &[], 0);
        assert!((none.factor - GUESS).abs() < 1e-12 && !none.is_known(HISTORY));
        assert!(Noise::said(1.0).is_known(HISTORY));
        assert!(Noise { covered: 60, failures: 200.0, ..none }.is_known(HISTORY));
    }

    #[test]
    fn what_befalls_all_pods_is_no_noise_and_of_one_pod_it_is() {
        let calm = || block(&[(0.0, 100.0), (0.0, 100.0)]);
        let mut blocks = vec![block(&[(50.0, 100.0), (50.0, 100.0)])];
        blocks.extend((0..59).map(|_| calm()));
        assert!(noise(&blocks, &[], 3600).factor < 2.0);
        let mut alone = vec![block(&[(100.0, 200.0)])];
        alone.extend((0..59).map(|_| block(&[(0.0, 200.0)])));
        assert!(noise(&alone, &[], 3600).factor > 50.0);
    }
}
