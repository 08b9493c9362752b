//! What a Rollout says, field by field. What cannot be carried out as it is meant is an error with its path: nothing is
//! ignored in silence.

use std::time::Duration;

use serde_json::Value;

mod at;
mod blue_green;
mod canary;
mod istio;
mod workload;

use at::At;

pub use blue_green::{BlueGreen, BlueGreenPromotion};
pub use canary::{ByPods, Canary, CanaryScale, Shift, Step};
pub use istio::{DestinationRuleRef, RouteMatch, Shifted, VirtualServiceRef};
pub(crate) use workload::left;
pub use workload::{ScaleDown, WorkloadRef};

/// Argo Rollouts' defaults.
const REPLICAS: i32 = 1;
const HISTORY: usize = 10;
const PROGRESS_DEADLINE: u64 = 600;
const SCALE_DOWN_DELAY: u64 = 30;

/// A field that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct SpecError {
    /// `spec.strategy.canary.steps[0].setWeight`.
    pub path: String,
    /// What is wrong with it, and what helps.
    pub message: String,
}

/// A Rollout's spec, as far as the engine carries it out.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutSpec {
    /// How many pods serve.
    pub replicas: i32,
    /// Old ReplicaSets that are kept.
    pub history: usize,
    /// `minReadySeconds`.
    pub min_ready_seconds: u32,
    /// How long a side may take to become ready before that is said.
    pub progress_deadline: Duration,
    /// Whether a release ends for it.
    pub progress_deadline_abort: bool,
    /// Nothing goes on.
    pub paused: bool,
    /// `selector`.
    pub selector: Value,
    /// `template`.
    pub template: Value,
    /// A rollback among so many revisions skips its steps.
    pub rollback_window: Option<usize>,
    /// The workload whose template this is.
    pub workload: Option<WorkloadRef>,
    /// The strategy.
    pub strategy: Strategy,
}

/// How a revision comes to serve everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strategy {
    /// Step by step.
    Canary(Canary),
    /// All at once, by a Service.
    BlueGreen(BlueGreen),
}

/// What of a Rollout's surroundings is led by the engine, as far as the Rollout names it, whatever else it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The Services that are pointed.
    pub services: Vec<String>,
    /// The route that is shifted.
    pub route: Option<Shifted>,
}

impl Named {
    /// Reads a Rollout's `spec`.
    pub fn of(spec: &Value) -> Self {
        let strategy = &spec["strategy"];
        let fields = [
            ("canary", "stableService"),
            ("canary", "canaryService"),
            ("blueGreen", "activeService"),
            ("blueGreen", "previewService"),
        ];
        let services = fields.iter().filter_map(|(of, field)| strategy[of][field].as_str());
        Self { services: services.map(str::to_owned).collect(), route: Shifted::named(spec) }
    }
}

/// A Service that a Rollout names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceRef<'a> {
    /// Its name.
    pub name: &'a str,
    /// The field that says so.
    pub path: &'static str,
}

impl RolloutSpec {
    /// Reads a Rollout's `spec`.
    ///
    /// # Errors
    /// With the first field that cannot be carried out.
    pub fn read(spec: &Value) -> Result<Self, SpecError> {
        let spec = At { value: spec, path: "spec".to_owned() };
        spec.object(
            &[
                "replicas",
                "selector",
                "template",
                "minReadySeconds",
                "revisionHistoryLimit",
                "strategy",
                "paused",
                "progressDeadlineSeconds",
                "progressDeadlineAbort",
                "rollbackWindow",
                "workloadRef",
            ],
            // How long AnalysisRuns are kept.
            &["analysis"],
        )?;
        let (selector, template) = (spec.field("selector"), spec.field("template"));
        agrees(&selector, &template)?;
        let strategy = spec.field("strategy");
        let strategies = strategy.object(&["canary", "blueGreen"], &[])?;
        if strategies.values().filter(|strategy| !strategy.is_null()).count() != 1 {
            return strategy.problem(
                "Invalid value: Rollout has to have one of the following strategies: canary or blueGreen",
            );
        }
        let history = spec.field("revisionHistoryLimit").number(u32::try_from(HISTORY).unwrap_or(0))? as usize;
        let window = spec.field("rollbackWindow");
        if !window.is_absent() {
            window.object(&["revisions"], &[])?;
        }
        let (canary, blue_green) = (strategy.field("canary"), strategy.field("blueGreen"));
        let replicas: u32 = spec.field("replicas").number(REPLICAS.unsigned_abs())?;
        Ok(Self {
            replicas: i32::try_from(replicas).unwrap_or(i32::MAX),
            history,
            min_ready_seconds: spec.field("minReadySeconds").number(0)?,
            progress_deadline: spec.field("progressDeadlineSeconds").seconds(PROGRESS_DEADLINE)?,
            progress_deadline_abort: spec.field("progressDeadlineAbort").flag()?,
            paused: spec.field("paused").flag()?,
            selector: selector.value.clone(),
            template: template.value.clone(),
            workload: WorkloadRef::read(&spec.field("workloadRef"))?,
            rollback_window: window.field("revisions").optional::<u32>()?.map(|revisions| revisions as usize),
            strategy: if blue_green.is_absent() {
                Strategy::Canary(canary::read(&canary)?)
            } else {
                Strategy::BlueGreen(blue_green::read(&blue_green, history)?)
            },
        })
    }

    /// The Services in front of what serves and of what is to serve next.
    pub fn services(&self) -> [Option<ServiceRef<'_>>; 2] {
        fn named<'a>(name: Option<&'a String>, path: &'static str) -> Option<ServiceRef<'a>> {
            name.map(|name| ServiceRef { name, path })
        }
        match &self.strategy {
            Strategy::Canary(canary) => {
                let (stable, candidate) = match &canary.shift {
                    Shift::Route(shifted) => (shifted.stable_service.as_ref(), shifted.canary_service.as_ref()),
                    Shift::Pods(by_pods) => (by_pods.stable_service.as_ref(), by_pods.canary_service.as_ref()),
                };
                [
                    named(stable, "spec.strategy.canary.stableService"),
                    named(candidate, "spec.strategy.canary.canaryService"),
                ]
            }
            Strategy::BlueGreen(blue_green) => [
                named(Some(&blue_green.active_service), "spec.strategy.blueGreen.activeService"),
                named(blue_green.preview_service.as_ref(), "spec.strategy.blueGreen.previewService"),
            ],
        }
    }

    /// The route that is shifted, if one is.
    pub fn shifted(&self) -> Option<&Shifted> {
        match &self.strategy {
            Strategy::Canary(Canary { shift: Shift::Route(shifted), .. }) => Some(shifted),
            Strategy::Canary(Canary { shift: Shift::Pods(_), .. }) | Strategy::BlueGreen(_) => None,
        }
    }

    /// The canary, if it is one.
    pub fn canary(&self) -> Option<&Canary> {
        match &self.strategy {
            Strategy::Canary(canary) => Some(canary),
            Strategy::BlueGreen(_) => None,
        }
    }

    /// How long what has served is kept.
    pub fn scale_down_delay(&self) -> Duration {
        match &self.strategy {
            Strategy::Canary(canary) => canary.scale_down_delay,
            Strategy::BlueGreen(blue_green) => blue_green.scale_down_delay,
        }
    }

    /// How many of those that are kept for that may be there at most.
    pub fn scale_down_limit(&self) -> Option<usize> {
        match &self.strategy {
            Strategy::Canary(canary) => canary.scale_down_limit,
            Strategy::BlueGreen(blue_green) => blue_green.scale_down_limit,
        }
    }

    /// How long an aborted revision is kept; `None`: until the next one.
    pub fn abort_scale_down_delay(&self) -> Option<Duration> {
        match &self.strategy {
            Strategy::Canary(canary) => canary.abort_scale_down_delay,
            Strategy::BlueGreen(blue_green) => blue_green.abort_scale_down_delay,
        }
    }
}

/// The pods have the labels by which they are selected.
fn agrees(selector: &At<'_>, template: &At<'_>) -> Result<(), SpecError> {
    let labels = &template.value["metadata"]["labels"];
    template.object(&["metadata", "spec"], &[])?;
    let wanted = selector.field("matchLabels");
    let Some(wanted_labels) = wanted.value.as_object().filter(|labels| !labels.is_empty()) else {
        return wanted.problem("Required value: the pods of a Rollout are selected by their labels");
    };
    let missing = wanted_labels.iter().find(|(key, value)| labels.get(key.as_str()) != Some(*value));
    match missing {
        None => Ok(()),
        Some((key, _)) => At { value: labels, path: format!("{}.metadata.labels", template.path) }
            .problem(format!("Invalid value: `selector` does not match the template's label {key}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The seed's Rollout with other steps.
    pub(crate) fn seed(steps: Value) -> Value {
        json!({
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": {"app": "istio-rollout"}},
            "template": {
                "metadata": {"labels": {"app": "istio-rollout"}},
                "spec": {"containers": [{"name": "istio-rollout", "image": "argoproj/rollouts-demo:blue"}]},
            },
            "strategy": {"canary": {
                "canaryService": "istio-rollout-canary", "stableService": "istio-rollout-stable",
                "trafficRouting": {"istio": {"virtualService": {"name": "istio-rollout", "routes": ["primary"]}}},
                "steps": steps,
            }},
        })
    }

    fn seconds(seconds: u64) -> Step {
        Step::Pause(Some(Duration::from_secs(seconds)))
    }

    #[test]
    fn the_seed_is_read_with_argos_defaults() {
        let steps = json!([
            {"setWeight": 10}, {"pause": {}}, {"pause": {"duration": 20}}, {"pause": {"duration": "20"}},
            {"pause": {"duration": "1m30s"}}, {"setWeight": 100}, {"pause": {"duration": 0}}
        ]);
        let spec = RolloutSpec::read(&seed(steps)).unwrap();
        assert_eq!((spec.replicas, spec.history, spec.paused), (1, 2, false));
        assert_eq!(spec.progress_deadline, Duration::from_secs(600));
        assert_eq!(spec.scale_down_delay(), Duration::from_secs(30));
        assert_eq!(spec.abort_scale_down_delay(), Some(Duration::from_secs(30)));
        let expected = [
            Step::SetWeight(10),
            Step::Pause(None),
            seconds(20),
            seconds(20),
            seconds(90),
            Step::SetWeight(100),
            seconds(0),
        ];
        assert_eq!(spec.canary().unwrap().steps, expected);
    }

    #[test]
    fn what_is_not_carried_out_is_refused_by_its_field() {
        let refused = |change: &dyn Fn(&mut Value)| {
            let mut spec = seed(json!([{"setWeight": 10}]));
            change(&mut spec);
            RolloutSpec::read(&spec).unwrap_err().path
        };
        let canary = |field: &'static str, value: Value| {
            refused(&move |spec: &mut Value| spec["strategy"]["canary"][field] = value.clone())
        };
        assert_eq!(refused(&|spec| spec["strategy"] = json!({"canary": {}, "blueGreen": {}})), "spec.strategy");
        let blue_green = |field: &'static str, value: Value| {
            refused(&move |spec: &mut Value| {
                spec["strategy"] = json!({"blueGreen": {"activeService": "a", "previewService": "p"}});
                spec["strategy"]["blueGreen"][field] = value.clone();
            })
        };
        assert_eq!(blue_green("previewService", json!("a")), "spec.strategy.blueGreen.activeService");
        assert_eq!(blue_green("prePromotionAnalysis", json!({})), "spec.strategy.blueGreen.prePromotionAnalysis");
        let limit = "spec.strategy.blueGreen.scaleDownDelayRevisionLimit";
        assert_eq!(blue_green("scaleDownDelayRevisionLimit", json!(3)), limit);
        assert_eq!(refused(&|spec| spec["workloadRef"] = json!({})), "spec.workloadRef.kind");
        assert_eq!(canary("analysis", json!({})), "spec.strategy.canary.analysis");
        assert_eq!(canary("dynamicStableScale", json!(true)), "spec.strategy.canary.dynamicStableScale");
        assert_eq!(canary("stableService", json!("")), "spec.strategy.canary.stableService");
        assert_eq!(canary("stableService", json!("istio-rollout-canary")), "spec.strategy.canary.stableService");
        assert_eq!(canary("maxSurge", json!("many")), "spec.strategy.canary.maxSurge");
        assert_eq!(canary("trafficRouting", json!({"nginx": {}})), "spec.strategy.canary.trafficRouting.nginx");
        let step = |step: Value| canary("steps", json!([step]));
        assert_eq!(step(json!({"analysis": {}})), "spec.strategy.canary.steps[0].analysis");
        assert_eq!(step(json!({"setWeight": 101})), "spec.strategy.canary.steps[0].setWeight");
        assert_eq!(step(json!({})), "spec.strategy.canary.steps[0]");
        assert_eq!(step(json!({"setWeight": 1, "pause": {}})), "spec.strategy.canary.steps[0]");
        for duration in [json!(-1), json!("soon"), json!("-3s"), json!(true)] {
            let path = step(json!({"pause": {"duration": duration}}));
            assert_eq!(path, "spec.strategy.canary.steps[0].pause.duration");
        }
        let selector = refused(&|spec| spec["selector"] = json!({"matchLabels": {"app": "other"}}));
        assert_eq!(selector, "spec.template.metadata.labels");
    }
}
