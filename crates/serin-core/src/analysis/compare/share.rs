//! The candidate's observed share of the requests, against the one that the route says.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::evidence::{Cell, kept};

/// Requests below which nothing is said.
const REQUESTS_MIN: f64 = 200.0;
/// How far chance may take the share: this many standard deviations.
const DEVIATIONS: f64 = 5.0;
/// How far it may be away in any case, of itself: rounds of a load balancer and retries do that.
const BAND: f64 = 0.5;

/// What is kept of counts: thousandths.
const DIGITS: f64 = 1e3;

/// What was seen since the route has been what it is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// The candidate's share, of 1, as the route says; 0 while it says none.
    wanted: f64,
    /// Since when, in milliseconds since the epoch.
    since: i64,
    canary: f64,
    all: f64,
}

impl Share {
    /// Counts what lies after the route was shown. Whoever reaches the candidate only, as a load tester does, does not come by it.
    pub(super) fn follow(&mut self, wanted: Option<(f64, Timestamp)>, cells: &[Cell], counted: i64) {
        let Some((wanted, since)) = wanted else {
            *self = Self::default();
            return;
        };
        let since = since.as_millisecond();
        if (self.wanted, self.since) != (wanted, since) {
            *self = Self { wanted, since, ..Self::default() };
        }
        for counts in
            cells.iter().filter(|cell| cell.start >= since && cell.end > counted).flat_map(|it| &it.strata)
        {
            if counts.primary > 0.0 {
                self.canary = kept(self.canary + counts.canary, DIGITS);
                self.all = kept(self.all + counts.canary + counts.primary, DIGITS);
            }
        }
    }

    /// How the share differs from the wanted one, in words, if it does by more than chance and habit.
    pub fn differs(&self) -> Option<String> {
        let Self { wanted, since: _, canary, all } = *self;
        if wanted <= 0.0 || all < REQUESTS_MIN {
            return None;
        }
        let share = canary / all;
        let chance = DEVIATIONS * (wanted * (1.0 - wanted) / all).sqrt();
        let is_off = (share - wanted).abs() > chance.max(BAND * wanted.min(1.0 - wanted));
        is_off.then(|| {
            format!(
                "the canary gets {:.1} % of {} requests and should get {:.0} %: the mesh has taken the route and does not follow it",
                100.0 * share,
                all.round(),
                100.0 * wanted
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::evidence::Counts;
    use super::*;

    fn seen(canary: f64, primary: f64) -> Option<String> {
        let counts = Counts { canary, canary_failed: 0.0, primary, primary_failed: 0.0 };
        let cells = [Cell::new(15_000, 30_000, counts), Cell::new(0, 15_000, Counts { canary: 5e3, ..counts })];
        let mut share = Share::default();
        share.follow(Some((0.1, Timestamp::from_millisecond(15_000).unwrap())), &cells, 0);
        share.differs()
    }

    #[test]
    fn a_mesh_that_does_not_follow_the_route_is_told_and_chance_is_not() {
        assert!(
            seen(0.0, 300.0).unwrap().starts_with("the canary gets 0.0 % of 300 requests and should get 10 %")
        );
        assert!(seen(150.0, 150.0).is_some());
        for (canary, primary) in [(30.0, 270.0), (45.0, 255.0), (16.0, 284.0), (0.0, 100.0)] {
            assert_eq!(seen(canary, primary), None, "{canary} of {primary}");
        }
        assert_eq!(seen(4_000.0, 0.0), None, "a load tester");
    }
}
