//! Raw counters become cells, where whoever counts sees both sides in one scrape.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::{Cell, Counts};

/// Observers that are followed: each is some kilobytes of an answer, and more say nothing more.
pub const OBSERVERS_MAX: usize = 32;

/// Which of the four counts a series belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The candidate's, or what serves.
    pub is_canary: bool,
    /// Failed requests.
    pub failed: bool,
}

/// A counter as it was stored: never a rate, never extrapolated.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Whose proxy or pod counts. All its series are sampled together.
    pub observer: String,
    /// Which of several copies of the same counters: whoever is scraped twice counts once.
    pub copy: String,
    /// Which kind of client is counted, where kinds may see the sides in other proportions.
    pub client: String,
    /// What is counted.
    pub part: Part,
    /// Samples, oldest first: milliseconds since the epoch, and the counter.
    pub points: Vec<(i64, f64)>,
}

/// What one look at the counters gives.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Looked {
    /// In the order of their ends.
    pub cells: Vec<Cell>,
    /// Time between two samples, in milliseconds: the median; 0 with fewer than two samples.
    pub step: i64,
    /// The newest sample, in milliseconds since the epoch.
    pub newest: Option<i64>,
    /// Observers that were followed.
    pub observers: Vec<String>,
    /// Observers that were left out, being too many.
    pub left_out: usize,
}

/// What a series gained up to each of its samples: to be added to the cell that ends there.
pub(super) struct Gained {
    pub(super) at: i64,
    pub(super) by: f64,
}

/// Cells of observers that see both sides at once. Only those of `known`, where any are.
///
/// An observer's first sample is a baseline. A series that is born while its observer already had a sample counts in full:
/// error series are born with their first failure.
pub fn paired(series: &[Series], known: &[String]) -> Looked {
    let series = single(series);
    let times = times(&series);
    let (observers, left_out) = followed(&series, &times, known);
    let mut cells: BTreeMap<(i64, &str), Cell> = BTreeMap::new();
    for one in series.iter().filter(|one| observers.contains(&one.observer)) {
        let Some(of_observer) = times.get(one.observer.as_str()) else { continue };
        for Gained { at, by } in gained(one, of_observer) {
            let Some(start) = of_observer.range(..at).next_back() else { continue };
            let cell =
                cells.entry((at, &one.observer)).or_insert_with(|| Cell::new(*start, at, Counts::default()));
            if let Some(counts) = cell.strata.first_mut() {
                count(counts, one.part, by);
            }
        }
    }
    Looked {
        cells: cells.into_values().collect(),
        step: step(&times),
        newest: times.values().filter_map(|times| times.last()).max().copied(),
        observers,
        left_out,
    }
}

pub(super) fn count(counts: &mut Counts, part: Part, by: f64) {
    let Part { is_canary, failed } = part;
    let (all, bad) = if is_canary {
        (&mut counts.canary, &mut counts.canary_failed)
    } else {
        (&mut counts.primary, &mut counts.primary_failed)
    };
    *all += by;
    if failed {
        *bad += by;
    }
}

/// One copy of each observer's counters.
pub(super) fn single(series: &[Series]) -> Vec<&Series> {
    let mut copies: BTreeMap<&str, &str> = BTreeMap::new();
    for one in series {
        let kept = copies.entry(&one.observer).or_insert(&one.copy);
        *kept = (*kept).min(&one.copy);
    }
    series.iter().filter(|one| copies.get(one.observer.as_str()) == Some(&one.copy.as_str())).collect()
}

/// When each observer was sampled.
pub(super) fn times<'a>(series: &[&'a Series]) -> BTreeMap<&'a str, BTreeSet<i64>> {
    let mut times: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    for one in series {
        times.entry(&one.observer).or_default().extend(one.points.iter().map(|(at, _)| at));
    }
    times
}

/// What a counter gained at each sample. A fall is a reset: what it shows then is new.
pub(super) fn gained(series: &Series, times: &BTreeSet<i64>) -> Vec<Gained> {
    let mut before = series.points.first().filter(|(at, _)| times.first() == Some(at)).map(|(_, value)| *value);
    let is_born = before.is_none();
    let mut all = Vec::with_capacity(series.points.len());
    for (at, value) in series.points.iter().skip(usize::from(!is_born)) {
        let by = match before {
            Some(before) if *value >= before => value - before,
            Some(_) | None => *value,
        };
        before = Some(*value);
        if by > 0.0 {
            all.push(Gained { at: *at, by });
        }
    }
    all
}

/// The observers that are followed, busiest first, and how many are not. Those that were chosen stay chosen.
pub(super) fn followed(
    series: &[&Series],
    times: &BTreeMap<&str, BTreeSet<i64>>,
    known: &[String],
) -> (Vec<String>, usize) {
    let mut busy: BTreeMap<&str, f64> = times.keys().map(|observer| (*observer, 0.0)).collect();
    for one in series {
        let Some(times) = times.get(one.observer.as_str()) else { continue };
        let gained: f64 = gained(one, times).iter().map(|gained| gained.by).sum();
        *busy.entry(&one.observer).or_default() += gained;
    }
    let mut new: Vec<(&str, f64)> =
        busy.into_iter().filter(|(observer, _)| known.iter().all(|known| known != observer)).collect();
    new.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(other.0)));
    let places = OBSERVERS_MAX.saturating_sub(known.len());
    let left_out = new.len().saturating_sub(places);
    let chosen = new.into_iter().take(places).map(|(observer, _)| observer.to_owned());
    (known.iter().cloned().chain(chosen).collect(), left_out)
}

/// The median time between two samples of an observer.
pub(super) fn step(times: &BTreeMap<&str, BTreeSet<i64>>) -> i64 {
    let mut gaps: Vec<i64> = Vec::new();
    for of_observer in times.values() {
        gaps.extend(of_observer.iter().zip(of_observer.iter().skip(1)).map(|(before, after)| after - before));
    }
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(observer: &str, is_canary: bool, failed: bool, points: &[(i64, f64)]) -> Series {
        let (observer, copy, client) = (observer.to_owned(), String::new(), String::new());
        Series { observer, copy, client, part: Part { is_canary, failed }, points: points.to_vec() }
    }

    fn counts(canary: f64, canary_failed: f64, primary: f64, primary_failed: f64) -> Counts {
        Counts { canary, canary_failed, primary, primary_failed }
    }

    #[test]
    fn an_error_series_that_is_born_counts_in_full_and_the_first_sample_is_a_baseline() {
        let all = [
            series("a", false, false, &[(0, 1000.0), (15, 1100.0), (30, 1200.0)]),
            series("a", true, false, &[(15, 6.0), (30, 10.0)]),
            series("a", true, true, &[(30, 4.0)]),
        ];
        let looked = paired(&all, &[]);
        assert_eq!(
            looked.cells,
            [Cell::new(0, 15, counts(6.0, 0.0, 100.0, 0.0)), Cell::new(15, 30, counts(8.0, 4.0, 100.0, 0.0))]
        );
        assert_eq!((looked.step, looked.newest), (15, Some(30)));
    }

    #[test]
    fn a_proxy_that_restarts_and_a_series_that_is_evicted_lose_nothing_else() {
        let all = [
            series("a", false, false, &[(0, 1000.0), (15, 40.0), (30, 90.0)]),
            // Evicted at 15, born again.
            series("a", true, true, &[(0, 7.0), (30, 2.0)]),
        ];
        assert_eq!(
            paired(&all, &[]).cells,
            [Cell::new(0, 15, counts(0.0, 0.0, 40.0, 0.0)), Cell::new(15, 30, counts(2.0, 2.0, 50.0, 0.0))]
        );
    }

    #[test]
    fn who_is_scraped_twice_counts_once_and_observers_are_apart() {
        let mut twice = vec![
            series("a", false, false, &[(0, 0.0), (15, 50.0)]),
            series("b", false, false, &[(4, 0.0), (19, 70.0)]),
            series("b", true, true, &[(19, 3.0)]),
        ];
        let once = paired(&twice, &[]);
        let copies: Vec<Series> = twice
            .iter()
            .map(|one| Series {
                copy: "replica-1".to_owned(),
                points: one.points.iter().map(|(at, value)| (at + 1, *value)).collect(),
                ..one.clone()
            })
            .collect();
        twice.extend(copies);
        assert_eq!(paired(&twice, &[]).cells, once.cells);
        assert_eq!(
            once.cells,
            [Cell::new(0, 15, counts(0.0, 0.0, 50.0, 0.0)), Cell::new(4, 19, counts(3.0, 3.0, 70.0, 0.0))]
        );
    }

    #[test]
    fn the_busiest_observers_are_followed_and_stay_so() {
        let of = |number: i32| {
            let name = format!("pod-{number:02}");
            series(&name, false, false, &[(0, 0.0), (15, f64::from(number))])
        };
        let all: Vec<Series> = (1..=40).map(of).collect();
        let looked = paired(&all, &[]);
        assert_eq!((looked.observers.len(), looked.left_out, looked.cells.len()), (32, 8, 32));
        assert!(!looked.observers.contains(&"pod-08".to_owned()));
        let again = paired(&[of(1), of(9), of(50)], &looked.observers);
        assert_eq!((again.cells.len(), again.left_out), (1, 2), "chosen before traffic, not by it");
    }
}
