//! What a release can see at its traffic.

use super::evidence::LIMIT;

/// As [`super::Evidence`] has it.
const TOLERANCE: f64 = 1.25;
/// How far beyond the limit the expected evidence has to be, for most releases to get there.
const MARGIN: f64 = 4.0;
/// Least failures that a version that is seen has made, on average.
const FAILURES: f64 = 6.5;
/// Least ratio to what serves that is promised.
const RATIO: f64 = 2.0;
/// How often the answer is halved: finer than anybody reads.
const HALVINGS: usize = 60;

/// A time at one weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stage {
    /// Requests to both sides.
    pub requests: f64,
    /// The candidate's share of them.
    pub share: f64,
}

/// From which share of failed requests on a candidate is rolled back in most releases, beside one that fails `primary` of its own;
/// `None` if not even one that fails all.
pub fn seen_from(stages: &[Stage], primary: f64, noise: f64) -> Option<f64> {
    let wanted = noise * (LIMIT.ln() + MARGIN);
    let of_canary: f64 = stages.iter().map(|stage| stage.requests * stage.share).sum();
    if of_canary <= 0.0 || information(stages, primary, 1.0) < wanted {
        return None;
    }
    let (mut low, mut high) = (primary, 1.0);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if information(stages, primary, middle) < wanted { low = middle } else { high = middle }
    }
    let least = high.max(RATIO * primary).max(FAILURES / of_canary);
    (least <= 1.0).then_some(least)
}

/// The evidence that a candidate with this share of failures is expected to make.
fn information(stages: &[Stage], primary: f64, canary: f64) -> f64 {
    let of = |Stage { requests, share }: &Stage| {
        let failed = requests * (share * canary + (1.0 - share) * primary);
        let tolerated = TOLERANCE * share / (1.0 - share + TOLERANCE * share);
        if failed <= 0.0 {
            return 0.0;
        }
        let found = requests * share * canary / failed;
        if found <= tolerated {
            return 0.0;
        }
        let rest = if found < 1.0 { (1.0 - found) * ((1.0 - found) / (1.0 - tolerated)).ln() } else { 0.0 };
        failed * (found * (found / tolerated).ln() + rest)
    };
    stages.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_values() {
        let rows = [
            (1.0, 0.001, 1.0, 0.05925),
            (20.0, 0.001, 1.0, 0.00643),
            (20.0, 0.001, 3.5, 0.01441),
            (100.0, 0.001, 1.0, 0.00307),
            (100.0, 0.001, 3.5, 0.00530),
            (1000.0, 0.001, 1.0, 0.00200),
        ];
        for (per_second, primary, noise, expected) in rows {
            let stages: Vec<Stage> = [0.1, 0.2, 0.3, 0.4, 0.5]
                .into_iter()
                .map(|share| Stage { requests: 120.0 * per_second, share })
                .collect();
            let found = seen_from(&stages, primary, noise).unwrap_or_default();
            assert!((found - expected).abs() < 6e-6, "{per_second} rps: {found} is not {expected}");
        }
    }

    #[test]
    fn little_traffic_sees_nothing_and_it_says_so() {
        assert_eq!(seen_from(&[Stage { requests: 20.0, share: 0.1 }], 0.001, 1.0), None);
        assert_eq!(seen_from(&[], 0.001, 1.0), None);
    }
}
