//! A Rollout becomes a [`Policy`].

use std::time::Duration;

use crate::analysis::{Keyed, Rounds};
use crate::model::{NamespacedName, Routing};
use crate::release::{Guards, Names, Policy, PolicyStep, Promotion};

use super::spec::{RolloutSpec, Step};

/// Time between two looks at what is waited for; nothing of a Rollout is asked yet.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long a side may take that no deadline ends: Argo Rollouts says that it is late, and waits on.
const NO_DEADLINE: Duration = Duration::from_secs(366 * 24 * 3600);

/// What proxies take to learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long a side is kept after it lost its requests.
    pub drain: Duration,
    /// How long a side must have been ready before it gets requests.
    pub settle: Duration,
}

/// Compiles. There is nothing left that could be refused: that is [`RolloutSpec::read`]'s.
pub fn compile(rollout: &NamespacedName, spec: &RolloutSpec, pace: Pace) -> Policy {
    let step = |step: &Step| match step {
        Step::SetWeight(percent) => PolicyStep::Route(Routing::candidate_percent(*percent)),
        Step::Pause(duration) => PolicyStep::Pause(*duration),
    };
    Policy {
        names: Names {
            canary: rollout.clone(),
            target: rollout.name.clone(),
            service: spec.canary.shifted.stable_service.clone(),
            provider: "istio".to_owned(),
        },
        interval: INTERVAL,
        progress_deadline: if spec.progress_deadline_abort { spec.progress_deadline } else { NO_DEADLINE },
        skip_analysis: false,
        suspended: spec.paused,
        steps: spec.canary.steps.iter().map(step).collect(),
        iterations: None,
        way_back: Vec::new(),
        stickiness: None,
        watch: Rounds {
            interval: INTERVAL,
            threshold: 1,
            checks: Keyed::default(),
            hooks: Keyed::default(),
            hold_limit: 0,
            min_samples: None,
        },
        hooks: Keyed::default(),
        promotion: Promotion::SwitchStable,
        drain: pace.drain,
        settle: pace.settle,
        guards: Guards::default(),
    }
}
