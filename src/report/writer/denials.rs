//! Pushes that a remote denied: a hook, a protected branch, missing rights.
//!
//! Somebody has to change a setting, and may do so at once or never: the next try comes soon, the later ones less and less
//! often. What has something new to say (another tip, another outcome) is tried at once, whatever was denied before.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::after;

/// Wait after a first denial; doubled with each further one.
pub const DENIED_WAIT_FIRST: Duration = Duration::from_secs(30);
/// Longest wait after a denial: six pushes an hour are nobody's storm.
pub const DENIED_WAIT_MAX: Duration = Duration::from_mins(10);

/// What a push is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    /// The ref.
    pub(super) reference: String,
    /// Whose push it is: a Canary's rollback, or the record's.
    pub(super) who: String,
    /// What it has to say; another word is tried at once.
    pub(super) news: String,
}

/// A denied push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Denial {
    /// The remote's words.
    pub(super) reason: String,
    /// No further try before this.
    pub(super) until: Timestamp,
    news: String,
    tries: u32,
}

/// The denials that were not lifted yet, by ref and by whose push it was.
#[derive(Debug, Default)]
pub(super) struct Denials(BTreeMap<(String, String), Denial>);

/// The pause after a series of refusals.
pub(super) fn pause(refusals: u32) -> Duration {
    DENIED_WAIT_FIRST.saturating_mul(1 << refusals.saturating_sub(1).min(16)).min(DENIED_WAIT_MAX)
}

impl Denials {
    /// The denial for which a push is not tried now.
    pub(super) fn standing(&self, about: &About, now: Timestamp) -> Option<&Denial> {
        self.waiting(&about.reference, &about.who, now).filter(|denial| denial.news == about.news)
    }

    /// A denial whose pause is not over, whatever there may be to say by now.
    pub(super) fn waiting(&self, reference: &str, who: &str, now: Timestamp) -> Option<&Denial> {
        self.0.get(&(reference.to_owned(), who.to_owned())).filter(|denial| now < denial.until)
    }

    /// Whether the last push of this was denied, whenever that was.
    pub(super) fn was_denied(&self, reference: &str, who: &str) -> bool {
        self.0.contains_key(&(reference.to_owned(), who.to_owned()))
    }

    /// Notes a denial; when the next try is due.
    pub(super) fn note(&mut self, about: &About, reason: &str, now: Timestamp) -> Timestamp {
        let About { reference, who, news } = about.clone();
        let key = (reference, who);
        let tries = self.0.get(&key).map_or(0, |denial| denial.tries).saturating_add(1);
        let until = after(now, pause(tries));
        self.0.insert(key, Denial { reason: reason.to_owned(), until, news, tries });
        until
    }

    /// The push went through, or there is nothing to push any more.
    pub(super) fn lift(&mut self, reference: &str, who: &str) {
        self.0.remove(&(reference.to_owned(), who.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(news: &str) -> About {
        About { reference: "main".into(), who: "test/podinfo".into(), news: news.into() }
    }

    #[test]
    fn the_next_try_is_near_the_later_ones_far_and_news_is_tried_at_once() {
        let start: Timestamp = "2026-01-02T03:00:00Z".parse().unwrap();
        let mut denials = Denials::default();
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..7 {
            let until = denials.note(&about("a"), "protected", now);
            waits.push(until.duration_since(now).as_secs());
            assert!(denials.standing(&about("a"), now).is_some());
            assert!(denials.standing(&about("b"), now).is_none(), "another word");
            assert!(denials.standing(&about("a"), until).is_none(), "the pause is over");
            now = until;
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600]);
        denials.lift("main", "test/podinfo");
        assert_eq!(denials.note(&about("a"), "protected", now), after(now, DENIED_WAIT_FIRST));
    }
}
