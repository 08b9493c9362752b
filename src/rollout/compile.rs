//! A Rollout becomes a [`Policy`].

use std::time::Duration;

use crate::analysis::{Keyed, Rounds};
use crate::model::{NamespacedName, Routing};
use crate::release::{Guards, Names, Policy, PolicyStep, Promotion, Size, Sizing};

use super::spec::{BlueGreen, BlueGreenPromotion, Canary, CanaryScale, RolloutSpec, Shift, Step, Strategy};

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
    let (provider, sizing, drain) = match &spec.strategy {
        Strategy::Canary(Canary { shift: Shift::Route(_), .. }) => ("istio", Sizing::ByShare, pace.drain),
        // Those that lose their share are gone.
        Strategy::Canary(Canary { shift: Shift::Pods(by_pods), .. }) => {
            ("pods", Sizing::Pods(by_pods.updates), Duration::ZERO)
        }
        Strategy::BlueGreen(_) => ("service", Sizing::ByShare, pace.drain),
    };
    let [stable, _] = spec.services();
    Policy {
        names: Names {
            canary: rollout.clone(),
            target: rollout.name.clone(),
            service: stable.map_or(rollout.name.as_str(), |service| service.name).to_owned(),
            provider: provider.to_owned(),
        },
        interval: INTERVAL,
        progress_deadline: if spec.progress_deadline_abort { spec.progress_deadline } else { NO_DEADLINE },
        skip_analysis: false,
        suspended: spec.paused,
        steps: match &spec.strategy {
            Strategy::Canary(canary) => canary.steps.iter().map(step).collect(),
            Strategy::BlueGreen(blue_green) => steps_of(blue_green),
        },
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
        comparison: None,
        hooks: Keyed::default(),
        promotion: Promotion::SwitchStable,
        sizing,
        drain,
        settle: pace.settle,
        guards: Guards::default(),
    }
}

/// One step each, so that Argo's index of a step is the engine's.
fn step(step: &Step) -> PolicyStep {
    match step {
        Step::SetWeight(percent) => PolicyStep::Route(Routing::candidate_percent(*percent)),
        Step::Pause(duration) => PolicyStep::Pause(*duration),
        Step::SetCanaryScale(scale) => PolicyStep::Size(match scale {
            CanaryScale::Replicas(replicas) => Size::Pods(*replicas),
            CanaryScale::Weight(percent) => Size::Percent(*percent),
            CanaryScale::MatchTrafficWeight => Size::Share,
        }),
    }
}

/// What is to serve next is there whole, or as much of it as is to be seen before; then users are led to it.
fn steps_of(blue_green: &BlueGreen) -> Vec<PolicyStep> {
    let whole = PolicyStep::Size(Size::Percent(100));
    let first = blue_green.preview_replicas.map_or(whole.clone(), |pods| PolicyStep::Size(Size::Pods(pods)));
    let pause = match blue_green.promotion {
        BlueGreenPromotion::AtOnce => None,
        BlueGreenPromotion::After(duration) => Some(PolicyStep::Pause(Some(duration))),
        BlueGreenPromotion::Asked => Some(PolicyStep::Pause(None)),
    };
    let everybody = PolicyStep::Route(Routing::candidate_percent(100));
    let rest = blue_green.preview_replicas.map(|_| whole);
    [Some(first), pause, rest, Some(everybody)].into_iter().flatten().collect()
}
