//! `ledger/<namespace>/<name>.tsv`: one line for each finished release, for as long back as anybody asks.
//!
//! A line is what figures are made of, and no more: the files of the history tell the rest of the last few.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::wire::FinishedRecord;
use crate::model::{CommitId, ReleaseId};
use crate::release::{Outcome, OutcomeKind};

/// Lines kept of a target: a year of a release a day, in some 50 kB.
pub(super) const LINES_MAX: usize = 400;
/// The first line, for people.
const HEADER: &str = "# ended\toutcome\trelease\tstarted\tcommit\tcommitted\n";
/// What is not known.
const NONE: &str = "-";

/// A finished release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it ended.
    pub ended: Timestamp,
    /// How.
    pub outcome: OutcomeKind,
    /// Which.
    pub release: ReleaseId,
    /// When it began.
    pub started: Timestamp,
    /// What brought it, if it came from Git.
    pub commit: Option<CommitId>,
    /// When that was committed, as the commit says.
    pub committed: Option<Timestamp>,
}

impl Line {
    pub(super) fn of(outcome: &Outcome, committed: Option<Timestamp>) -> Self {
        let Outcome { release, kind, revision, started, ended, .. } = outcome;
        Self {
            ended: whole(*ended),
            outcome: *kind,
            release: release.clone(),
            started: whole(*started),
            commit: revision.commit.clone(),
            committed: committed.map(whole),
        }
    }

    /// What an earlier version recorded.
    pub fn of_record(record: &FinishedRecord) -> Self {
        Self {
            ended: whole(record.ended),
            outcome: record.outcome,
            release: record.release.clone(),
            started: whole(record.started),
            commit: record.revision.commit.clone(),
            committed: record.committed.map(whole),
        }
    }

    /// Whether it never ran: its revision had failed before.
    pub fn is_refused(&self) -> bool {
        self.outcome == OutcomeKind::Failed && self.started == self.ended
    }

    fn read(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split('\t').collect();
        let [ended, outcome, release, started, commit, committed] = fields[..] else { return None };
        let outcome = ENDS.into_iter().find(|kind| word(*kind) == outcome)?;
        Some(Self {
            ended: ended.parse().ok()?,
            outcome,
            release: release.parse().ok()?,
            started: started.parse().ok()?,
            commit: commit.parse().ok(),
            committed: committed.parse().ok(),
        })
    }

    fn write(&self) -> String {
        let Self { ended, outcome, release, started, commit, committed } = self;
        let commit = commit.as_ref().map_or(NONE, CommitId::as_str);
        let committed = committed.map_or_else(|| NONE.to_owned(), |at| at.to_string());
        format!("{ended}\t{}\t{release}\t{started}\t{commit}\t{committed}\n", word(*outcome))
    }
}

/// Lines count seconds.
fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Every way in which a release ends.
const ENDS: [OutcomeKind; 5] = [
    OutcomeKind::Initialized,
    OutcomeKind::Succeeded,
    OutcomeKind::Failed,
    OutcomeKind::Superseded,
    OutcomeKind::Withdrawn,
];

fn word(kind: OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Initialized => "Initialized",
        OutcomeKind::Succeeded => "Succeeded",
        OutcomeKind::Failed => "Failed",
        OutcomeKind::Superseded => "Superseded",
        OutcomeKind::Withdrawn => "Withdrawn",
    }
}

/// Reads a ledger, oldest first; what is no line is left out.
pub(super) fn read(bytes: &[u8]) -> Vec<Line> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().filter(|line| !line.starts_with('#')).filter_map(Line::read).collect()
}

/// Writes one, without the oldest of too many.
pub(super) fn write(mut lines: Vec<Line>) -> Vec<u8> {
    lines.sort_by(|a, b| (a.ended, a.release.as_str()).cmp(&(b.ended, b.release.as_str())));
    lines.dedup_by(|a, b| a.ended == b.ended && a.release == b.release);
    let surplus = lines.len().saturating_sub(LINES_MAX);
    let mut text = HEADER.to_owned();
    for line in lines.iter().skip(surplus) {
        // Writing to a string cannot fail.
        write!(text, "{}", line.write()).unwrap_or_default();
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    fn line(second: i64, outcome: OutcomeKind) -> Line {
        let at = |second| Timestamp::from_second(1_767_225_600 + second).unwrap();
        let digest = Digest::of_canonical(second.to_string().as_bytes());
        Line {
            ended: at(second),
            outcome,
            release: ReleaseId::new(2, &digest),
            started: at(second - 60),
            commit: Some("a".repeat(40).parse().unwrap()),
            committed: None,
        }
    }

    #[test]
    fn what_is_written_is_read_in_order_and_the_oldest_go() {
        let lines: Vec<Line> =
            (0..500).rev().map(|day| line(day * 86_400, ENDS[day as usize % ENDS.len()])).collect();
        let read = read(&write(lines.clone()));
        assert_eq!(read.len(), LINES_MAX);
        assert_eq!(read.last(), lines.first());
        assert!(read.is_sorted_by_key(|line| line.ended));
        assert_eq!(super::read(&write([read.clone(), read.clone()].concat())), read, "nothing is doubled");
    }

    #[test]
    fn what_is_no_line_is_left_out() {
        let mut bytes = write(vec![line(0, OutcomeKind::Failed)]);
        bytes.extend(b"yesterday\tFailed\n\xff\xfe\n");
        assert_eq!(read(&bytes), [line(0, OutcomeKind::Failed)]);
    }
}
