//! Raw counters become cells where each pod counts for itself: the sides are sampled at different moments.
//!
//! A counter is taken to grow evenly between two samples, and what both sides got is compared in windows of a fixed grid, up to
//! where every pod that serves has been sampled.

use std::collections::BTreeMap;

use super::cells::{Gained, Looked, Series, count, followed, gained, single, step, times};
use super::evidence::{Cell, Counts};

/// A window of the grid, in milliseconds: shorter than the time between samples, so that trouble ends where it ended.
const WINDOW: i64 = 5_000;
/// A pod without a sample for this many times the usual wait, in halves, does not serve any more.
const GONE: i64 = 5;

/// Cells of pods that count for themselves, from `since` on; windows last `1 / speed` of what they usually do.
pub fn windowed(series: &[Series], known: &[String], since: i64, speed: f64) -> Looked {
    let window = grid(speed);
    let series = single(series);
    let times = times(&series);
    let (observers, left_out) = followed(&series, &times, known);
    let step = step(&times);
    let newest = times.values().filter_map(|times| times.last()).max().copied();
    let mut looked = Looked { cells: Vec::new(), step, newest, observers, left_out };
    let serving = times
        .iter()
        .filter(|(observer, _)| looked.observers.iter().any(|known| known == *observer))
        .filter_map(|(_, times)| times.last())
        .filter(|last| newest.is_some_and(|newest| newest - **last <= step.saturating_mul(GONE) / 2));
    let Some(horizon) = serving.min().copied() else { return looked };
    let first = since.div_euclid(window) + 1;
    let last = horizon.div_euclid(window);
    let mut cells: BTreeMap<i64, BTreeMap<&str, Counts>> = BTreeMap::new();
    for one in series.iter().filter(|one| looked.observers.contains(&one.observer)) {
        let Some(times) = times.get(one.observer.as_str()) else { continue };
        for Gained { at, by } in gained(one, times) {
            let Some(start) = times.range(..at).next_back() else { continue };
            spread((*start, at), by, window, |number, by| {
                if (first..=last).contains(&number) {
                    let counts = cells.entry(number).or_default().entry(&one.client).or_default();
                    count(counts, one.part, by);
                }
            });
        }
    }
    looked.cells = cells
        .into_iter()
        .map(|(number, strata)| Cell {
            start: (number - 1) * window,
            end: number * window,
            strata: strata.into_values().collect(),
        })
        .collect();
    looked
}

/// The length of a window in milliseconds.
#[expect(clippy::cast_possible_truncation, reason = "milliseconds of a few seconds")]
pub(super) fn grid(speed: f64) -> i64 {
    ((WINDOW as f64 / speed.max(1.0)) as i64).max(1)
}

/// Spreads what was gained in a stretch evenly over the windows of the grid that it touches; windows are numbered by their ends.
fn spread((start, end): (i64, i64), by: f64, window: i64, mut to: impl FnMut(i64, f64)) {
    let length = (end - start) as f64;
    let mut from = start;
    while from < end {
        let number = from.div_euclid(window) + 1;
        let until = (number * window).min(end);
        to(number, by * (until - from) as f64 / length);
        from = until;
    }
}

#[cfg(test)]
mod tests {
    use super::super::cells::Part;
    use super::*;

    fn series(observer: &str, is_canary: bool, failed: bool, points: &[(i64, f64)]) -> Series {
        let (observer, copy, client) = (observer.to_owned(), String::new(), String::new());
        Series { observer, copy, client, part: Part { is_canary, failed }, points: points.to_vec() }
    }

    #[test]
    fn both_sides_are_counted_over_the_same_moments_whenever_they_were_sampled() {
        let all = [
            series("primary", false, false, &[(0, 0.0), (15_000, 150.0), (30_000, 300.0)]),
            series("canary", true, false, &[(4_000, 0.0), (19_000, 15.0), (34_000, 30.0)]),
            series("canary", true, true, &[(19_000, 15.0)]),
        ];
        let looked = windowed(&all, &[], 4_000, 1.0);
        let ends: Vec<i64> = looked.cells.iter().map(|cell| cell.end).collect();
        assert_eq!(ends, [5_000, 10_000, 15_000, 20_000, 25_000, 30_000], "up to where both were sampled");
        let of = |number: usize| looked.cells[number].strata[0];
        assert_eq!(of(1), Counts { canary: 10.0, canary_failed: 5.0, primary: 50.0, primary_failed: 0.0 });
        let Counts { canary, canary_failed, .. } = of(3);
        assert!((canary - 9.0).abs() < 1e-9 && (canary_failed - 4.0).abs() < 1e-9, "{canary} {canary_failed}");
        assert_eq!((looked.step, looked.newest), (15_000, Some(34_000)));
    }

    #[test]
    fn a_pod_that_is_gone_holds_nobody_up() {
        let all = [
            series("old", false, false, &[(0, 0.0), (15_000, 150.0)]),
            series("primary", false, false, &[(0, 0.0), (15_000, 150.0), (30_000, 300.0), (60_000, 600.0)]),
        ];
        assert_eq!(windowed(&all, &[], 0, 1.0).cells.last().map(|cell| cell.end), Some(60_000));
    }
}
