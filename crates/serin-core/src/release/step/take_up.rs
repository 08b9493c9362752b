//! A target that another controller has led until now is taken up where that one left it: what serves is promoted, what was being
//! released goes on at its step, and what was aborted is not released by itself.

use jiff::Timestamp;

use crate::model::{Quarantined, ReleaseId, Revision, Routing};
use crate::release::attempt::{Release, Stage};
use crate::release::outcome::OutcomeKind;
use crate::release::policy::Policy;
use crate::release::state::{Phase, Promoted, State};

use super::analyse;

/// What another controller was doing with a revision that does not serve everybody.
#[derive(Debug, Clone, PartialEq)]
pub enum Led {
    /// It had given it up.
    Aborted,
    /// It was releasing it.
    Releasing {
        /// Index of the step.
        step: u32,
        /// What is shown.
        routing: Routing,
    },
}

/// The state of a target whose stable side runs `promoted`, while `revision` was on its way.
pub fn take_up(policy: &Policy, promoted: Revision, revision: Revision, led: Led, now: Timestamp) -> State {
    let id = ReleaseId::new(1, &revision.digest);
    let mut state = State::new(now);
    state.releases = 1;
    state.last_applied = Some(revision.digest.clone());
    state.promoted = Some(Promoted { revision: promoted, at: now });
    state.phase = match led {
        Led::Aborted => {
            state.quarantine.push(Quarantined { revision, release: id, rolled_back: None });
            Phase::Idle { last: OutcomeKind::Failed, since: now }
        }
        Led::Releasing { step, routing } => {
            let mut release = Release::new(id, revision, policy.plan(), routing, now);
            release.stage = Stage::Analysing;
            release.step = step;
            if release.is_exposed() {
                release.first_traffic = Some(now);
            }
            analyse::open_step(policy, &mut release, now);
            Phase::Releasing(Box::new(release))
        }
    };
    state
}
