//! When to try again what could not be done. PURE.
//!
//! A pause doubles with every *try*: a pass for another reason (a commit, a Canary) that meets the same trouble leaves the
//! time of the next try as it is, and trouble that is new begins with the first pause.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::trigger;
use crate::model::ObjectRef;

/// What there is to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The cluster or Git could not be reached.
    Unreachable,
    /// Objects are on their way out, or the API server did not answer for some.
    Soon,
    /// Objects could not be applied: what they miss, e.g. a namespace, may come from elsewhere.
    Refused,
    /// Objects stay only because somebody reads them.
    Kept,
}

impl Why {
    /// The first pause and the longest.
    fn pauses(self) -> (Duration, Duration) {
        match self {
            Self::Unreachable | Self::Soon => (Duration::from_secs(2), Duration::from_secs(60)),
            Self::Refused => (Duration::from_secs(60), Duration::from_secs(600)),
            // Nobody waits for it, and every look lists the namespace's workloads.
            Self::Kept => (Duration::from_secs(60), Duration::from_secs(1800)),
        }
    }
}

/// The next try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Retry {
    at: Instant,
    why: Why,
    /// The objects that it is about.
    what: BTreeSet<ObjectRef>,
    pause: Duration,
}

impl Retry {
    /// The next try after a pass that left this.
    pub(super) fn after(previous: Option<&Self>, why: Why, what: BTreeSet<ObjectRef>, now: Instant) -> Self {
        let (first, max) = why.pauses();
        let known = previous.filter(|before| before.why == why && what.is_subset(&before.what));
        match known {
            Some(before) if now < before.at => Self { what, ..before.clone() },
            Some(before) => Self::new(why, what, (before.pause * 2).min(max), now),
            None => Self::new(why, what, first, now),
        }
    }

    fn new(why: Why, what: BTreeSet<ObjectRef>, pause: Duration, now: Instant) -> Self {
        Self { at: now + trigger::jittered(pause), why, what, pause }
    }

    /// When.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// Whether it is time.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at <= now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(names: &[&str]) -> BTreeSet<ObjectRef> {
        let id = |name: &&str| ObjectRef {
            group: String::new(),
            kind: "ConfigMap".into(),
            namespace: None,
            name: (*name).to_owned(),
        };
        names.iter().map(id).collect()
    }

    #[test]
    fn pauses_double_up_to_their_limit_and_begin_anew_with_new_trouble() {
        let mut now = Instant::now();
        let mut retry = Retry::after(None, Why::Refused, ids(&["a", "b"]), now);
        let mut pauses = vec![retry.pause.as_secs()];
        for _ in 0..5 {
            now = retry.at();
            // One that is settled meanwhile is no news.
            retry = Retry::after(Some(&retry), Why::Refused, ids(&["a"]), now);
            pauses.push(retry.pause.as_secs());
        }
        assert_eq!(pauses, [60, 120, 240, 480, 600, 600]);
        let news = Retry::after(Some(&retry), Why::Refused, ids(&["a", "c"]), now);
        assert_eq!((news.pause.as_secs(), news.is_due(now)), (60, false));
        assert_eq!(Retry::after(Some(&retry), Why::Unreachable, ids(&[]), now).pause.as_secs(), 2);
    }

    proptest! {
        /// However many passes there are for other reasons, tries come as if there were none.
        #[test]
        fn passes_between_tries_change_nothing(passes in prop::collection::vec(0_u64..900, 1..60)) {
            let start = Instant::now();
            let mut retry = Retry::after(None, Why::Refused, ids(&["a"]), start);
            let (mut now, mut tries) = (start, 0_u32);
            for gap in passes {
                now += Duration::from_secs(gap);
                let due = retry.is_due(now);
                let before = retry.clone();
                retry = Retry::after(Some(&retry), Why::Refused, ids(&["a"]), now);
                if due {
                    tries += 1;
                    prop_assert!(retry.pause == (before.pause * 2).min(Duration::from_secs(600)));
                } else {
                    prop_assert_eq!(&retry, &before);
                }
            }
            prop_assert!(retry.pause <= Duration::from_secs(60) * 2_u32.pow(tries.min(4)));
        }
    }
}
