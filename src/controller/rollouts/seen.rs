//! A Rollout and all that it is made of, as the caches show it.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::model::Routing;
use crate::release::{Observed, Obstacle, Policy, RouteObserved, State, WorkloadObserved};
use crate::rollout::destination_rule;
use crate::rollout::services::{self, pointed_at};
use crate::rollout::sets::{self, Maker, Sides};
use crate::rollout::spec::{Canary, RolloutSpec, Shift, Strategy};
use crate::rollout::status::{self, Telling};
use crate::rollout::virtual_service::{Named, Shown};

use super::caches::RolloutView;
use super::look::differs;

/// A Rollout and all that it is made of, as the caches show it.
pub(super) struct Seen<'a> {
    pub(super) view: &'a RolloutView,
    pub(super) spec: RolloutSpec,
    /// Why what it says now cannot be carried out; `spec` is the last one that could.
    pub(super) invalid: Option<String>,
    /// What is kept of the spec.
    pub(super) kept: Value,
    pub(super) sides: Sides,
    pub(super) status: Value,
    pub(super) stable_service: Option<Value>,
    pub(super) canary_service: Option<Value>,
    /// The VirtualServices, in the order in which the Rollout names them.
    pub(super) routes: Vec<Option<Value>>,
    /// The DestinationRule.
    pub(super) rule: Option<Value>,
    pub(super) now: Timestamp,
}

impl Seen<'_> {
    pub(super) fn maker(&self) -> Maker<'_> {
        Maker {
            namespace: &self.view.key.namespace,
            name: &self.view.key.name,
            uid: &self.view.uid,
            selector: &self.spec.selector,
            template: &self.spec.template,
            digest: &self.view.digest,
            min_ready_seconds: self.spec.min_ready_seconds,
            desired: self.spec.replicas,
        }
    }

    /// The hash of the present template's set.
    pub(super) fn hash(&self) -> String {
        self.sides.current.as_ref().map_or_else(|| sets::hash(&self.view.digest), |set| set.hash.clone())
    }

    /// What the annotation says, as it is.
    pub(super) fn stored(&self) -> Value {
        json!(self.view.state)
    }

    /// What is new in the status.
    pub(super) fn news(&self, policy: &Policy, state: &State, observed: &Observed) -> Option<Value> {
        differs(&self.status, &self.projected(policy, state, observed))
    }

    /// What the status is to say.
    pub(super) fn projected(&self, policy: &Policy, state: &State, observed: &Observed) -> Value {
        let hash = self.hash();
        let telling = Telling {
            old: &self.status,
            generation: self.view.generation,
            spec: &self.spec,
            policy,
            sides: &self.sides,
            hash: &hash,
            state,
            obstacle: observed.obstacle.as_ref(),
            pointed: self.pointed(),
            weight: self.weight(),
            now: self.now,
        };
        status::project(&telling)
    }

    /// The live Services, and where each is to lead.
    pub(super) fn pointing(&self) -> [(Option<&Value>, Option<String>); 2] {
        let [_, live] = self.pointed();
        let [stable, candidate] = match &self.spec.strategy {
            Strategy::Canary(Canary { shift: Shift::Route(_), .. }) => {
                [services::stable(&self.sides), services::candidate(&self.sides, live, self.exposes())]
            }
            Strategy::Canary(Canary { shift: Shift::Pods(_), .. }) => services::by_pods(&self.sides),
            Strategy::BlueGreen(_) => services::blue_green(&self.sides, self.pointed()),
        };
        [(self.stable_service.as_ref(), stable), (self.canary_service.as_ref(), candidate)]
    }

    /// The hashes that both Services lead to.
    pub(super) fn pointed(&self) -> [Option<&str>; 2] {
        [&self.stable_service, &self.canary_service].map(|service| service.as_ref().and_then(pointed_at))
    }

    /// Whether nothing but pods shifts requests.
    pub(super) fn by_pods(&self) -> bool {
        self.spec.canary().is_some_and(|canary| matches!(canary.shift, Shift::Pods(_)))
    }

    pub(super) fn services_are_current(&self) -> bool {
        let name = &self.view.key.name;
        self.pointing().into_iter().all(|(live, wanted)| match (live, wanted) {
            (Some(live), Some(hash)) => services::point(live, &hash, name).is_none(),
            (Some(_) | None, _) => true,
        })
    }

    /// What keeps everything from going on, besides the spec itself.
    pub(super) fn obstacle(&self) -> Option<Obstacle> {
        let (name, template) = (&self.view.key.name, &self.spec.template);
        let live = [&self.stable_service, &self.canary_service];
        let refused = self.spec.services().into_iter().zip(live).find_map(|(service, live)| {
            let service = service?;
            services::refuse(live.as_ref(), service.name, service.path, name, template)
        });
        // What stops a release under way comes first.
        self.route_problem()
            .map(Obstacle::Route)
            .or_else(|| self.invalid.clone().map(Obstacle::Spec))
            .or_else(|| refused.map(Obstacle::Service))
    }

    pub(super) fn route_problem(&self) -> Option<String> {
        let shifted = self.spec.shifted()?;
        let rule = shifted.rule.as_ref().and_then(|named| destination_rule::refuse(self.rule.as_ref(), named));
        self.shown().err().or(rule)
    }

    pub(super) fn route(&self) -> RouteObserved {
        if self.spec.shifted().is_none() {
            let current = self.services_are_current();
            let shown = match &self.spec.strategy {
                // What pods show is counted by the engine.
                Strategy::Canary(_) => Some(0),
                Strategy::BlueGreen(_) => services::shown(&self.sides, self.pointed()[0]),
            };
            let routing = Routing::candidate_percent(shown.unwrap_or(0));
            return RouteObserved::Present { routing, current: current && shown.is_some(), unaccepted: None };
        }
        match self.shown() {
            Ok(shown) => RouteObserved::Present {
                routing: Routing::candidate_percent(shown.candidate),
                current: shown.current && self.services_are_current() && self.rule_patch().is_none(),
                unaccepted: None,
            },
            Err(problem) => RouteObserved::Unusable(problem),
        }
    }

    /// Percent that the routes show at the canary side, where some shift.
    pub(super) fn weight(&self) -> Option<u8> {
        self.spec.shifted()?;
        Some(self.shown().map_or(0, |shown| shown.candidate))
    }

    /// What the routes show together.
    fn shown(&self) -> Result<Shown, String> {
        let Some(shifted) = self.spec.shifted() else { return Err(String::new()) };
        let mut all: Option<Shown> = None;
        for (of, live) in shifted.virtual_services.iter().zip(&self.routes) {
            let Some(live) = live else {
                return Err(format!(
                    "spec.strategy.canary.trafficRouting.istio.virtualService.name: Invalid value: \"{name}\": \
                     virtualservice \"{name}\" not found",
                    name = of.name
                ));
            };
            let shown = Named { shifted, of }.read(live).map_err(|problem| problem.to_string())?;
            all = Some(all.map_or(shown, |all| all.with(shown)));
        }
        all.ok_or_else(String::new)
    }

    /// Whether users meet the canary side, as far as the routes show.
    fn exposes(&self) -> bool {
        self.shown().is_ok_and(|shown| shown.candidate > 0)
    }

    /// The hashes that the subsets of the DestinationRule are to lead to.
    pub(super) fn subsets(&self) -> [Option<String>; 2] {
        let named = self.spec.shifted().and_then(|shifted| shifted.rule.as_ref());
        let (Some(named), Some(rule)) = (named, &self.rule) else { return [None, None] };
        let [_, live] = destination_rule::pointed_at(rule, named);
        [services::stable(&self.sides), services::candidate(&self.sides, live, self.exposes())]
    }

    /// The patch that points the DestinationRule, if it has to be.
    pub(super) fn rule_patch(&self) -> Option<Value> {
        let named = self.spec.shifted()?.rule.as_ref()?;
        let [stable, candidate] = self.subsets();
        destination_rule::point(self.rule.as_ref()?, named, [stable.as_deref(), candidate.as_deref()])
    }

    /// The engine's target.
    pub(super) fn target(&self) -> WorkloadObserved {
        // Whichever of them says something new has another one.
        let generation = self.view.generation.saturating_add(self.view.workload_generation);
        let template = &self.view.digest;
        let target = if self.by_pods() {
            self.sides.target_by_pods(template, generation)
        } else {
            self.sides.target(template, generation)
        };
        WorkloadObserved { stamped: self.view.stamped.clone(), ..target }
    }
}
