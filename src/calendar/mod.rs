//! The calendar: when releases of new revisions may begin. Pure; the time is an argument.
//!
//! A window begins when its cron line says so, by the wall clock of its time zone, and lasts as long as its duration says, by the
//! time that passes. Where the wall clock jumps over a beginning, the window begins as much later as the clock jumped; where the
//! wall clock shows a beginning twice, it begins at the first.

mod compile;
mod cron_line;
mod window;

#[cfg(test)]
mod tests;

use jiff::Timestamp;

pub use compile::{WindowProblem, compile};
pub use cron_line::{CronError, CronLine};
pub use window::{Window, WindowError, WindowKind};

/// Ends and beginnings that are looked at for the next time that releases may begin: a year of daily windows.
const EDGES_MAX: usize = 800;
/// Windows that are named.
const NAMED_MAX: usize = 3;

/// Whether releases may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// They may.
    Open,
    /// They may not.
    Closed {
        /// For which windows, in words.
        reason: String,
        /// When they may; `None` if that is more than a year away.
        until: Option<Timestamp>,
    },
}

/// What several lists of windows say together: each has to be open. In a list a freeze closes; without one any `allow` opens, and
/// a list without an `allow` is open.
pub fn standing(lists: &[&[Window]], now: Timestamp) -> Standing {
    let Some(reason) = closed_by(lists, now) else { return Standing::Open };
    Standing::Closed { reason, until: opens(lists, now) }
}

/// What closes, in words.
fn closed_by(lists: &[&[Window]], now: Timestamp) -> Option<String> {
    let frozen = lists.iter().flat_map(|list| list.iter());
    let frozen = frozen.filter(|window| window.kind() == WindowKind::Freeze && window.is_on(now));
    let frozen: Vec<String> = frozen.map(ToString::to_string).collect();
    if !frozen.is_empty() {
        return Some(format!("frozen by {}", named(&frozen)));
    }
    lists.iter().find_map(|list| {
        let allowed = list.iter().filter(|window| window.kind() == WindowKind::Allow);
        let outside: Vec<String> = allowed.clone().map(ToString::to_string).collect();
        let is_inside = outside.is_empty() || allowed.into_iter().any(|window| window.is_on(now));
        (!is_inside).then(|| format!("outside {}", named(&outside)))
    })
}

fn named(windows: &[String]) -> String {
    let more = windows.len().saturating_sub(NAMED_MAX);
    let first: Vec<&str> = windows.iter().take(NAMED_MAX).map(String::as_str).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", first.join(", "))
}

/// The first time from `now` on at which every list is open.
fn opens(lists: &[&[Window]], now: Timestamp) -> Option<Timestamp> {
    let mut at = now;
    for _ in 0..EDGES_MAX {
        let edges = lists.iter().flat_map(|list| list.iter()).filter_map(|window| window.next_edge(at));
        at = edges.min()?;
        if at.duration_since(now) > window::HORIZON {
            return None;
        }
        if closed_by(lists, at).is_none() {
            return Some(at);
        }
    }
    None
}
