//! What somebody should know although nothing is kept from Git by it: told for a while, then gone.

use std::time::Duration;

use jiff::Timestamp;

use super::{Condition, after};

/// How long a notice is told: long enough for whoever looks at conditions, and as long as its Event lives.
const TOLD_FOR: Duration = Duration::from_hours(1);
/// Notices that are told at a time; whoever writes thousands of forged records is told of by the first ones.
const NOTICES_MAX: usize = 20;

/// The notices that are told.
#[derive(Debug, Default)]
pub(super) struct Notices(Vec<(Condition, Timestamp)>);

impl Notices {
    /// Tells one, or goes on telling it.
    pub(super) fn tell(&mut self, condition: Condition, now: Timestamp) {
        self.0.retain(|(known, _)| *known != condition);
        if self.0.len() < NOTICES_MAX {
            self.0.push((condition, after(now, TOLD_FOR)));
        }
    }

    /// Adds those that are still told; when the first of them ends.
    pub(super) fn add_to(&mut self, conditions: &mut Vec<Condition>, now: Timestamp) -> Option<Timestamp> {
        self.0.retain(|(_, until)| now < *until);
        conditions.extend(self.0.iter().map(|(condition, _)| condition.clone()));
        self.0.iter().map(|(_, until)| *until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(message: &str) -> Condition {
        Condition { canary: None, reason: "RecordMoved", message: message.into(), passing: false }
    }

    #[test]
    fn a_notice_ends_by_itself_and_many_are_few() {
        let start: Timestamp = "2026-01-02T03:00:00Z".parse().unwrap();
        let mut notices = Notices::default();
        for number in 0..100 {
            notices.tell(notice(&number.to_string()), start);
            notices.tell(notice("0"), start);
        }
        let mut told = Vec::new();
        let end = notices.add_to(&mut told, start).unwrap();
        assert_eq!((told.len(), end), (NOTICES_MAX, after(start, TOLD_FOR)));
        told.clear();
        assert_eq!((notices.add_to(&mut told, end), told.len()), (None, 0));
    }
}
