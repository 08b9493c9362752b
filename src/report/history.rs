//! What finished releases come to: the four figures that teams are measured by, from the lines of the record alone. Pure.
//!
//! - **deployments**: releases that all users got (`Succeeded`). A first revision is none, and neither is what was superseded.
//! - **lead time**: from the commit to the end of the release that brought it to all users.
//! - **change failure rate**: failed releases among those that ended either way. What was refused because it had failed before was
//!   not released again.
//! - **time to restore**: from the beginning of a failed release to its end, when all users are back on what was good.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::record::Line;
use crate::release::OutcomeKind;

/// Figures of a time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// The first moment that counts.
    pub since: Timestamp,
    /// The last.
    pub until: Timestamp,
    /// Releases that all users got.
    pub deployments: usize,
    /// The same, a week.
    pub deployments_a_week: f64,
    /// From commit to all users; `None` if no deployment's commit has a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead_time: Option<Spread>,
    /// Failed releases.
    pub failed: usize,
    /// Failed among those that failed or succeeded, from 0 to 1; `None` without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_failure_rate: Option<f64>,
    /// From a failed release's beginning until everybody was back on what was good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_restore: Option<Spread>,
    /// From a failure to the next deployment of that target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_next_deployment: Option<Spread>,
    /// Releases that a newer revision replaced, or that were withdrawn.
    pub superseded: usize,
    /// Commits that were refused because their revision had failed before.
    pub refused: usize,
}

/// How long something takes, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// How many were measured.
    pub of: usize,
    /// Half take no longer.
    pub median_seconds: i64,
    /// Nine of ten take no longer.
    pub p90_seconds: i64,
    /// None takes longer.
    pub longest_seconds: i64,
}

impl Spread {
    fn of(mut times: Vec<SignedDuration>) -> Option<Self> {
        times.sort_unstable();
        // The nearest rank: a time that something has taken.
        let rank = |tenths: usize| times.get((times.len() * tenths).div_ceil(10).saturating_sub(1));
        let seconds = |time: Option<&SignedDuration>| time.map(SignedDuration::as_secs);
        Some(Self {
            of: times.len(),
            median_seconds: seconds(rank(5))?,
            p90_seconds: seconds(rank(9))?,
            longest_seconds: seconds(times.last())?,
        })
    }
}

/// The figures of what ended from `since` to `until`; each list is one target's, oldest first.
pub fn stats(targets: &[Vec<Line>], since: Timestamp, until: Timestamp) -> Stats {
    let counts = |line: &&Line| line.ended >= since && line.ended <= until;
    let all: Vec<&Line> = targets.iter().flatten().filter(counts).collect();
    let of =
        |kind: OutcomeKind| all.iter().copied().filter(move |line| line.outcome == kind && !line.is_refused());
    let (deployments, failed) = (of(OutcomeKind::Succeeded).count(), of(OutcomeKind::Failed).count());
    let weeks = until.duration_since(since).as_secs_f64() / (7.0 * 24.0 * 3600.0);
    // A date is what somebody wrote: what was committed after it was released has none.
    let lead =
        |line: &Line| line.committed.map(|at| line.ended.duration_since(at)).filter(|time| !time.is_negative());
    let next = |target: &Vec<Line>| -> Vec<SignedDuration> {
        let failures =
            target.iter().filter(counts).filter(|line| line.outcome == OutcomeKind::Failed && !line.is_refused());
        let good = |failure: &Line| {
            let mut later = target.iter().filter(|line| line.ended > failure.ended && line.ended <= until);
            later
                .find(|line| line.outcome == OutcomeKind::Succeeded)
                .map(|line| line.ended.duration_since(failure.ended))
        };
        failures.filter_map(good).collect()
    };
    let ended = deployments + failed;
    Stats {
        since,
        until,
        deployments,
        deployments_a_week: if weeks > 0.0 { deployments as f64 / weeks } else { 0.0 },
        lead_time: Spread::of(of(OutcomeKind::Succeeded).filter_map(lead).collect()),
        failed,
        change_failure_rate: (ended > 0).then(|| failed as f64 / ended as f64),
        time_to_restore: Spread::of(
            of(OutcomeKind::Failed).map(|line| line.ended.duration_since(line.started)).collect(),
        ),
        time_to_next_deployment: Spread::of(targets.iter().flat_map(next).collect()),
        superseded: of(OutcomeKind::Superseded).count() + of(OutcomeKind::Withdrawn).count(),
        refused: all.iter().filter(|line| line.is_refused()).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, ReleaseId};

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    fn line(number: u64, outcome: OutcomeKind, started: i64, took: i64, committed: Option<i64>) -> Line {
        let digest = Digest::of_canonical(&number.to_le_bytes());
        Line {
            ended: at(started + took),
            outcome,
            release: ReleaseId::new(number, &digest),
            started: at(started),
            commit: None,
            committed: committed.map(at),
        }
    }

    /// A year: two releases a week, every tenth fails and is followed by a good one two hours later; every fourth week one is
    /// superseded, every eighth one is refused.
    fn year() -> Vec<Line> {
        let mut lines = vec![line(0, OutcomeKind::Initialized, 0, 60, Some(-HOUR))];
        let mut number = 0;
        for week in 0..52 {
            for half in 0..2 {
                number += 1;
                let begin = week * 7 * DAY + half * 3 * DAY + DAY;
                let committed = Some(begin - 600);
                if number % 10 == 0 {
                    lines.push(line(number, OutcomeKind::Failed, begin, 300, committed));
                    lines.push(line(1000 + number, OutcomeKind::Succeeded, begin + 2 * HOUR, 300, committed));
                } else {
                    let took = if number % 5 == 0 { 50 * 60 } else { 20 * 60 };
                    lines.push(line(
                        number,
                        OutcomeKind::Succeeded,
                        begin,
                        took,
                        committed.filter(|_| number % 2 == 0),
                    ));
                }
            }
            if week % 4 == 0 {
                lines.push(line(2000 + number, OutcomeKind::Superseded, week * 7 * DAY + 6 * DAY, 60, None));
            }
            if week % 8 == 0 {
                lines.push(line(3000 + number, OutcomeKind::Failed, week * 7 * DAY + 6 * DAY + HOUR, 0, None));
            }
        }
        lines
    }

    #[test]
    fn a_year_of_releases_comes_to_what_was_put_into_it() {
        let stats = stats(&[year()], at(0), at(364 * DAY));
        // 104 in all, of which 10 fail, each followed by a good one.
        assert_eq!((stats.deployments, stats.failed, stats.superseded, stats.refused), (104, 10, 13, 7));
        assert!((stats.deployments_a_week - 2.0).abs() < 1e-9, "{}", stats.deployments_a_week);
        assert!((stats.change_failure_rate.unwrap() - 10.0 / 114.0).abs() < 1e-9);
        // Every second good one has the time of its commit, ten minutes before; those after a failure two hours ten and five.
        let lead = stats.lead_time.unwrap();
        assert_eq!((lead.of, lead.median_seconds), (42 + 10, 1800));
        assert_eq!((lead.p90_seconds, lead.longest_seconds), (2 * HOUR + 900, 2 * HOUR + 900));
        let restore = stats.time_to_restore.unwrap();
        assert_eq!((restore.of, restore.median_seconds, restore.longest_seconds), (10, 300, 300));
        let next = stats.time_to_next_deployment.unwrap();
        assert_eq!((next.of, next.median_seconds), (10, 2 * HOUR));
    }

    #[test]
    fn only_what_ended_in_the_time_counts() {
        let year = year();
        let last = stats(std::slice::from_ref(&year), at(350 * DAY), at(364 * DAY));
        assert_eq!((last.deployments, last.failed), (4, 0));
        let twice = stats(&[year.clone(), year], at(0), at(364 * DAY));
        assert_eq!((twice.deployments, twice.failed), (208, 20));
        assert_eq!(twice.time_to_next_deployment.unwrap().of, 20);
    }

    #[test]
    fn nothing_comes_to_nothing() {
        let none = stats(&[Vec::new()], at(0), at(DAY));
        assert_eq!((none.deployments, none.change_failure_rate, none.lead_time), (0, None, None));
        let future = line(1, OutcomeKind::Succeeded, 0, 60, Some(DAY));
        assert_eq!(stats(&[vec![future]], at(0), at(DAY)).lead_time, None, "a commit of tomorrow says nothing");
        assert!(stats(&[], at(0), at(0)).deployments_a_week.abs() < 1e-9);
    }
}
