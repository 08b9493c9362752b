//! What an onlooker remembers of a world: enough to judge what the engine decides without asking the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serin_core::analysis::{Key, Verdict, judge};
use serin_core::model::{Digest, ReleaseId, Routing};
use serin_core::release::{Answer, Observed, Question, RouteObserved, Stage, State};

use super::world::World;

/// Something that an onlooker heard: in which order, and when.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Heard {
    pub(crate) place: u64,
    pub(crate) at: Timestamp,
    /// A hook accepted, a check passed.
    pub(crate) good: bool,
    /// When it did so last.
    pub(crate) good_at: Option<Timestamp>,
}

impl Heard {
    fn after(before: Option<&Self>, place: u64, at: Timestamp, good: bool) -> Self {
        let good_at = if good { Some(at) } else { before.and_then(|before| before.good_at) };
        Self { place, at, good, good_at }
    }
}

/// What has been, as far as it counts for the release under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// Counts looks, so that what comes at the same moment has an order.
    place: u64,
    release: Option<ReleaseId>,
    /// Somebody has edited the policy since the last look.
    pub(crate) edited: bool,
    /// When it was edited last.
    pub(crate) edited_at: Option<Timestamp>,
    /// What hooks and checks said last.
    pub(crate) hooks: BTreeMap<Key, Heard>,
    pub(crate) checks: BTreeMap<Key, Heard>,
    /// When each check was asked last.
    pub(crate) asked: BTreeMap<Key, Timestamp>,
    /// What the router shows, and since when.
    shown: Option<Routing>,
    pub(crate) shown_since: Option<Timestamp>,
    /// Since when users have met the candidate, however.
    pub(crate) exposed_since: Option<Timestamp>,
    /// The look in which the present routing was meant.
    pub(crate) meant_at: u64,
    /// The present step, and since when.
    step: u32,
    pub(crate) step_since: Option<Timestamp>,
    /// Shortest and longest interval that the policy has had since the routing was shown.
    pub(crate) shortest: Duration,
    pub(crate) longest: Duration,
    /// What the target was while users met it in this analysis.
    pub(crate) met: BTreeSet<Digest>,
    /// The release was seen to begin.
    pub(crate) whole: bool,
    /// Somebody has left out the analysis of this release.
    pub(crate) skipped: bool,
}

impl History {
    /// Somebody asks.
    pub(crate) fn asked(&mut self, question: &Question, now: Timestamp) {
        if let Question::Metric { key, .. } = question {
            self.asked.insert(key.check.clone(), now);
        }
    }

    /// Somebody answers.
    pub(crate) fn heard(&mut self, question: &Question, answer: &Answer, now: Timestamp) {
        let place = self.place;
        match (question, answer) {
            (Question::Metric { key, check, .. }, Answer::Metric(_, measured)) => {
                let good = judge(&measured.reading, &check.condition).0 == Verdict::Pass;
                let heard = Heard::after(self.checks.get(&key.check), place, now, good);
                self.checks.insert(key.check.clone(), heard);
            }
            (Question::Hook { key, .. }, Answer::Hook(_, reply)) => {
                let heard = Heard::after(self.hooks.get(&key.hook), place, now, reply.accepted);
                self.hooks.insert(key.hook.clone(), heard);
            }
            (
                Question::Metric { .. }
                | Question::Hook { .. }
                | Question::Requests { .. }
                | Question::Providers { .. }
                | Question::Compare { .. }
                | Question::History { .. },
                _,
            ) => {}
        }
    }

    /// What is seen before anything is decided.
    pub(crate) fn see(&mut self, world: &World, observed: &Observed) {
        self.place += 1;
        if self.edited {
            self.edited_at = Some(world.now);
        }
        let shown = match &observed.route {
            RouteObserved::Present { routing, .. } => Some(routing.clone()),
            RouteObserved::Missing | RouteObserved::Unusable(_) => None,
        };
        if self.shown != shown {
            let exposed = |routing: &Option<Routing>| routing.as_ref().is_some_and(Routing::exposes);
            if !exposed(&shown) {
                self.exposed_since = None;
            } else if !exposed(&self.shown) {
                self.exposed_since = Some(world.now);
            }
            self.shown = shown;
            self.shown_since = Some(world.now);
            (self.shortest, self.longest) = (Duration::MAX, Duration::ZERO);
        }
        self.shortest = self.shortest.min(world.policy.watch.interval);
        self.longest = self.longest.max(world.policy.watch.interval);
        let release = world.state.release();
        let analyses =
            release.is_some_and(|release| matches!(release.stage, Stage::Analysing | Stage::ConfirmingPromotion));
        if let (true, Some(target)) = (analyses && world.has_traffic(), &observed.target) {
            self.met.insert(target.digest.clone());
        }
        self.skipped |= world.policy.skip_analysis || release.is_some_and(|release| release.skip);
    }

    /// What has been decided.
    pub(crate) fn note(&mut self, world: &World, decided: &State) {
        self.edited = false;
        let Some(after) = decided.release() else {
            *self = self.between();
            return;
        };
        let before = world.state.release().filter(|before| before.id == after.id);
        if self.release.as_ref() != Some(&after.id) {
            let whole = world.state.release().is_none();
            *self = Self { release: Some(after.id.clone()), whole, ..self.between() };
        }
        if before.is_none_or(|before| before.routing != after.routing) {
            self.meant_at = self.place;
        }
        if matches!(after.stage, Stage::ScalingUp { .. } | Stage::Preparing) {
            // It begins, or begins again.
            self.met.clear();
        }
        if self.step_since.is_none() || self.step != after.step {
            (self.step, self.step_since) = (after.step, Some(world.now));
        }
        self.skipped |= after.skip;
    }

    /// What of it outlasts a release.
    fn between(&self) -> Self {
        let Self { place, edited_at, shown, shown_since, exposed_since, shortest, longest, .. } = self.clone();
        let meant_at = place;
        Self {
            place,
            edited_at,
            shown,
            shown_since,
            exposed_since,
            shortest,
            longest,
            meant_at,
            ..Self::default()
        }
    }

    /// The clock is set back.
    pub(crate) fn set_back(&mut self, by: Duration) {
        let heard = self.hooks.values_mut().chain(self.checks.values_mut());
        let heard = heard.flat_map(|heard| std::iter::once(&mut heard.at).chain(&mut heard.good_at));
        let asked = self.asked.values_mut();
        let points = [&mut self.edited_at, &mut self.shown_since, &mut self.exposed_since, &mut self.step_since];
        for at in heard.chain(asked).chain(points.into_iter().flatten()) {
            *at -= by;
        }
    }
}
