//! How often identical versions would be rolled back, and how soon a bad one is: seeded releases, the table of `docs/comparison.md`.

use super::{Block, Cell, Counts, Evidence, Guard, Noise, noise};

/// Releases in each row.
const RELEASES: u64 = 2_000;
/// Most of them that a level of 1 % lets through, with what chance adds to 20 of 2,000.
const ALLOWED: u64 = 33;
/// Seconds between two samples.
const STEP: i64 = 15;

/// Numbers that look random and are the same each time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^= word >> 31;
        (word >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Events that come on average this often.
    fn poisson(&mut self, mean: f64) -> f64 {
        if mean > 60.0 {
            // Twelve uniform numbers are near enough to a normal one.
            let normal: f64 = (0..12).map(|_| self.unit()).sum::<f64>() - 6.0;
            return (mean + mean.sqrt() * normal).round().max(0.0);
        }
        let (mut count, mut left) = (0.0, self.unit());
        while left > (-mean).exp() {
            left *= self.unit();
            count += 1.0;
        }
        count
    }

    /// A clump of this mean size, at least one.
    fn clump(&mut self, mean: f64) -> f64 {
        let mut size = 1.0;
        while self.unit() > 1.0 / mean {
            size += 1.0;
        }
        size
    }
}

/// Something by the second of a release.
type BySecond = fn(i64) -> f64;

/// What happens in a release.
#[derive(Clone, Copy)]
struct World {
    /// Requests a second.
    rate: f64,
    /// Share that fails on the candidate and on what serves.
    fails: (f64, f64),
    /// Failures that come together.
    clump: f64,
    /// Seconds in all, over five weights.
    lasts: i64,
    /// A further share of failures of both sides, by the second, and load by the second.
    trouble: BySecond,
    load: BySecond,
    /// Seconds in which half of the candidate's requests fail, once, and of nobody else's.
    incident: Option<i64>,
}

const CALM: World = World {
    rate: 100.0,
    fails: (0.005, 0.005),
    clump: 1.0,
    lasts: 600,
    trouble: |_| 0.0,
    load: |_| 1.0,
    incident: None,
};

impl World {
    fn weight(&self, second: i64) -> f64 {
        let place = (second * 5 / self.lasts).clamp(0, 4);
        0.1 * (place + 1) as f64
    }

    /// Requests and failures of one side.
    fn side(&self, dice: &mut Dice, requests: f64, fails: f64, trouble: f64) -> (f64, f64) {
        let requests = dice.poisson(requests);
        let clumps = dice.poisson(requests * fails / self.clump);
        let mut failed = 0.0;
        if self.clump > 1.0 {
            let mut left = clumps;
            while left > 0.0 {
                failed += dice.clump(self.clump);
                left -= 1.0;
            }
        } else {
            failed = clumps;
        }
        failed += dice.poisson(requests * trouble);
        (requests, failed.min(requests))
    }

    /// One scrape; the incident, if there is one, began at this moment.
    fn cell(&self, dice: &mut Dice, start: i64, began: Option<f64>) -> Cell {
        let end = start + STEP;
        let seconds = STEP as f64;
        let (weight, load) = (self.weight(start), self.rate * (self.load)(start) * seconds);
        let trouble = (start..end).map(self.trouble).sum::<f64>() / seconds;
        let (canary, canary_failed) = self.side(dice, load * weight, self.fails.0, trouble);
        let (primary, primary_failed) = self.side(dice, load * (1.0 - weight), self.fails.1, trouble);
        let mut counts = Counts { canary, canary_failed, primary, primary_failed };
        if let (Some(lasts), Some(begins)) = (self.incident, began) {
            let within = (begins + lasts as f64).min(end as f64) - begins.max(start as f64);
            let failed = dice.poisson(self.rate * weight * 0.5 * within.max(0.0));
            counts.canary_failed = (counts.canary_failed + failed).min(canary);
        }
        Cell::new(start, end, counts)
    }

    /// When the release is rolled back, if it is.
    fn play(&self, seed: u64, noise: f64) -> Option<i64> {
        let mut dice = Dice::of(seed);
        let mut evidence = Evidence::since(0);
        let starts = (0..self.lasts).step_by(usize::try_from(STEP).unwrap_or(1));
        let began = self.incident.map(|_| 300.0 + STEP as f64 * dice.unit());
        starts.map(|start| self.cell(&mut dice, start, began)).find_map(|cell| {
            let end = cell.end;
            evidence.take(vec![cell], Guard::Scrape, noise).then_some(end)
        })
    }

    fn rolled_back(&self, noise: impl Fn(u64) -> f64) -> u64 {
        (0..RELEASES).filter(|seed| self.play(*seed, noise(*seed)).is_some()).count() as u64
    }

    /// The noise as it is measured before a release: six hours of three pods of primary.
    fn measured(&self, seed: u64) -> Noise {
        let mut dice = Dice::of(seed + 1_000_000);
        let minute = |world: &Self, dice: &mut Dice| {
            Block(
                (0..3)
                    .map(|_| world.side(dice, world.rate * 20.0, world.fails.1, 0.0))
                    .map(|(n, f)| (f, n))
                    .collect(),
            )
        };
        let short: Vec<Block> = (0..360).map(|_| minute(self, &mut dice)).collect();
        let sum = |blocks: &[Block]| {
            let pod = |pod: usize| {
                blocks
                    .iter()
                    .filter_map(|block| block.0.get(pod))
                    .fold((0.0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1))
            };
            Block((0..3).map(pod).collect())
        };
        let long: Vec<Block> = short.chunks(10).map(sum).collect();
        noise(&short, &long, super::HISTORY)
    }
}

#[test]
fn identical_versions_with_independent_failures_are_rolled_back_once_in_a_hundred_releases_at_most() {
    for (rate, share) in
        [(1.0, 0.02), (10.0, 0.005), (100.0, 0.0002), (100.0, 0.005), (100.0, 0.05), (1000.0, 0.001)]
    {
        let world = World { rate, fails: (share, share), ..CALM };
        let rolled_back = world.rolled_back(|_| 1.0);
        assert!(rolled_back <= ALLOWED, "{rate} rps, {share}: {rolled_back} of {RELEASES}");
    }
}

#[test]
fn failures_in_clumps_are_tempered_by_what_was_measured() {
    for (clump, lasts) in [(3.0, 600), (10.0, 600), (30.0, 600), (10.0, 3600)] {
        let world = World { clump, lasts, ..CALM };
        let measured: Vec<f64> = (0..20).map(|seed| world.measured(seed).factor).collect();
        let of = |seed: u64| measured.get((seed % 20) as usize).copied().unwrap_or(1.0);
        let rolled_back = world.rolled_back(of);
        assert!(rolled_back <= ALLOWED, "clumps of {clump}: {rolled_back} of {RELEASES}");
        // Untempered they are told apart from nothing.
        assert!(lasts > 600 || world.rolled_back(|_| 1.0) > ALLOWED, "clumps of {clump} prove that it is needed");
    }
}

#[test]
fn what_befalls_both_versions_rolls_back_neither() {
    let troubles: [(&str, BySecond, BySecond); 6] = [
        ("20 s at 20 %", |second| if (200..220).contains(&second) { 0.2 } else { 0.0 }, |_| 1.0),
        ("20 s at 100 %", |second| if (200..220).contains(&second) { 1.0 } else { 0.0 }, |_| 1.0),
        ("120 s at 100 %", |second| if (200..320).contains(&second) { 1.0 } else { 0.0 }, |_| 1.0),
        ("at each weight", |second| if second % 120 < 15 { 0.3 } else { 0.0 }, |_| 1.0),
        ("rising to 5 %", |second| 0.05 * second as f64 / 600.0, |second| 1.0 + second as f64 / 200.0),
        (
            "in bursts",
            |second| if second % 90 < 15 { 0.05 } else { 0.0 },
            |second| if second % 90 < 15 { 5.0 } else { 0.5 },
        ),
    ];
    for (name, trouble, load) in troubles {
        let world = World { trouble, load, fails: (0.001, 0.001), ..CALM };
        let rolled_back = world.rolled_back(|_| 1.0);
        assert!(rolled_back <= ALLOWED, "{name}: {rolled_back} of {RELEASES}");
    }
}

/// The exceptions, with their figures: where nothing is known of the noise, and one incident on the candidate's pod.
#[test]
fn the_exceptions_are_what_the_table_says() {
    let incident = World { incident: Some(2), rate: 50.0, fails: (0.001, 0.001), ..CALM };
    let rolled_back = incident.rolled_back(|_| 1.0);
    assert!((1..=RELEASES * 7 / 100).contains(&rolled_back), "incident: {rolled_back} of {RELEASES}");
    let fresh = World { clump: 30.0, lasts: 3600, ..CALM };
    let rolled_back = fresh.rolled_back(|_| super::GUESS);
    assert!((ALLOWED..=RELEASES * 14 / 100).contains(&rolled_back), "fresh: {rolled_back} of {RELEASES}");
}

#[test]
fn a_bad_version_is_back_after_two_scrapes_and_a_small_regression_is_seen_where_there_is_traffic() {
    let held = |rate, canary| World { rate, fails: (canary, 0.001), lasts: 600, ..CALM };
    let median = |world: World| {
        let mut ends: Vec<i64> = (0..RELEASES).map(|seed| world.play(seed, 1.0).unwrap_or(i64::MAX)).collect();
        ends.sort_unstable();
        ends.get(ends.len() / 2).copied().unwrap_or_default()
    };
    assert_eq!(median(held(20.0, 0.5)), 2 * STEP);
    assert!(median(held(20.0, 0.05)) <= 75);
    assert!(median(held(100.0, 0.05)) <= 3 * STEP);
    // 0.1 % becomes 0.3 %: no fixed limit sees that. The issue's own figure is 70 % at 100 requests a second.
    let seen = held(100.0, 0.003).rolled_back(|_| 1.0);
    assert!((RELEASES * 55 / 100..=RELEASES * 85 / 100).contains(&seen), "{seen} of {RELEASES}");
}
