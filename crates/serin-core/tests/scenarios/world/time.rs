//! How the world goes on: decide, persist, act, until nothing changes; and time that passes.

use std::time::Duration;

use serin_core::release::{Action, Persist, Side, Step};

use super::{Round, World};
use crate::properties::{self, Broken, Moment, Property};

/// Most rounds until nothing changes any more.
const ROUNDS_MAX: usize = 100;

impl World {
    /// Decides and acts until nothing changes.
    pub(crate) fn settle(&mut self, mut note: impl FnMut(&Round)) {
        // What was asked earlier may be answered together with whatever else has changed.
        self.answer();
        for _ in 0..ROUNDS_MAX {
            if self.gone {
                self.wake = None;
                return;
            }
            if self.has_traffic() {
                self.last_traffic = Some(self.now);
            }
            if self.share_of_primary() > 0 || self.apex == Some(Side::Stable) {
                self.last_on_primary = Some(self.now);
            }
            let Some(decided) = self.decide() else { continue };
            let stepped = decided.state != self.state;
            self.state = decided.state.clone();
            self.note_demand();
            self.wake = decided.wake;
            let round = Round { now: self.now, step: decided };
            note(&round);
            self.stepped += usize::from(stepped);
            if stepped && round.step.persist == Persist::Now {
                self.persisted += 1;
                self.saved = self.state.clone();
            }
            let acted = self.carry_out_all(&round.step.actions, stepped);
            let answered = self.answer();
            // Pods take longer than everything else, so their not being ready is seen.
            let busy = stepped | acted | answered | self.sync();
            if !busy && !self.progress() {
                self.judge_traffic();
                return;
            }
        }
        self.breaks(Property::Lasting, "the world does not settle".to_owned());
    }

    /// What is decided now, with what there is to say against it; `None` if it was decided on something old.
    fn decide(&mut self) -> Option<Step> {
        let observed = self.observe();
        let decided = (self.engine.step)(&self.policy, &observed, self.state.clone(), self.now);
        if std::mem::take(&mut self.conflict) {
            return None;
        }
        let again = (self.engine.step)(&self.policy, &observed, decided.state.clone(), self.now);
        let is_new = self.broken.iter().all(|broken| broken.property != Property::Lasting);
        if is_new && (again.state != decided.state || again.actions != decided.actions) {
            self.breaks(Property::Lasting, format!("not idempotent:\n{decided:#?}\nthen\n{again:#?}"));
        }
        let mut history = std::mem::take(&mut self.history);
        history.see(self, &observed);
        let moment =
            Moment { world: self, observed: &observed, before: &self.state, step: &decided, history: &history };
        let broken = properties::judge(&moment);
        history.note(self, &decided.state);
        self.history = history;
        for Broken { property, what } in broken {
            self.breaks(property, what);
        }
        Some(decided)
    }

    /// Whether anything has changed. A process that dies takes with it what it has not done yet.
    fn carry_out_all(&mut self, actions: &[Action], stepped: bool) -> bool {
        let dies = stepped && self.die_after == Some(self.stepped);
        let lost = if stepped { self.dies_after_effects.take() } else { None };
        let effects = if dies { Some(0) } else { lost };
        let acted = self.act(&actions[..effects.map_or(actions.len(), |effects| effects.min(actions.len()))]);
        if effects.is_some() {
            self.crash();
        }
        acted || effects.is_some()
    }

    /// The clock is set back; what the world remembers of the past is as long ago as before.
    pub(crate) fn set_back(&mut self, by: Duration) {
        self.now -= by;
        self.last_traffic = self.last_traffic.map(|at| at - by);
        self.last_on_primary = self.last_on_primary.map(|at| at - by);
        self.history.set_back(by);
        // Whoever waits hears of it.
        self.wake = Some(self.now);
    }

    /// Lets time pass, stopping at every wake-up on the way.
    pub(crate) fn advance(&mut self, duration: Duration, mut note: impl FnMut(&Round)) {
        let end = self.now + duration;
        self.settle(&mut note);
        while let Some(wake) = self.wake.filter(|wake| *wake <= end) {
            self.now = wake;
            self.settle(&mut note);
        }
        self.now = end;
        self.settle(&mut note);
    }
}
