//! What a Rollout says, field by field. What cannot be carried out as it is meant is an error with its path: nothing is
//! ignored in silence.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::api::duration;
use crate::model::Digest;

/// Argo Rollouts' defaults.
const REPLICAS: i32 = 1;
const HISTORY: usize = 10;
const PROGRESS_DEADLINE: u64 = 600;
const SCALE_DOWN_DELAY: u64 = 30;
/// Most steps: each is a value of the state that is compared at every look.
const STEPS_MAX: usize = 1_000;

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
    /// The strategy.
    pub canary: Canary,
}

/// A canary with a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// What shifts its traffic.
    pub shifted: Shifted,
    /// The steps.
    pub steps: Vec<Step>,
    /// Tells one list of steps from another.
    pub steps_hash: String,
    /// How long what has served is kept.
    pub scale_down_delay: Duration,
    /// How long an aborted revision is kept; `None`: until the next one.
    pub abort_scale_down_delay: Option<Duration>,
}

/// What shifts a Rollout's traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shifted {
    /// The Service in front of what serves.
    pub stable_service: String,
    /// The Service in front of what is to serve.
    pub canary_service: String,
    /// The user's VirtualService, of the Rollout's namespace.
    pub virtual_service: String,
    /// Its routes that are shifted; the only one without names.
    pub routes: Vec<String>,
}

impl Shifted {
    /// What a Rollout names, whatever else it says.
    pub fn named(spec: &Value) -> Option<Self> {
        let canary = &spec["strategy"]["canary"];
        let route = &canary["trafficRouting"]["istio"]["virtualService"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let routes = route["routes"].as_array().into_iter().flatten();
        Some(Self {
            stable_service: text(&canary["stableService"])?,
            canary_service: text(&canary["canaryService"])?,
            virtual_service: text(&route["name"])?,
            routes: routes.filter_map(text).collect(),
        })
    }
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Percent of the requests.
    SetWeight(u8),
    /// Wait; without a duration until somebody promotes.
    Pause(Option<Duration>),
}

/// A value with its path.
struct At<'a> {
    value: &'a Value,
    path: String,
}

/// What does not say anything.
const NOTHING: &Value = &Value::Null;

impl<'a> At<'a> {
    fn field(&self, key: &str) -> At<'a> {
        At { value: self.value.get(key).unwrap_or(NOTHING), path: format!("{}.{key}", self.path) }
    }

    fn problem<T>(&self, message: impl Into<String>) -> Result<T, SpecError> {
        Err(SpecError { path: self.path.clone(), message: message.into() })
    }

    fn is_absent(&self) -> bool {
        self.value.is_null()
    }

    /// An object of which these fields are carried out, and these have no effect here with Argo Rollouts either.
    fn object(&self, known: &[&str], without_effect: &[&str]) -> Result<&'a Map<String, Value>, SpecError> {
        let Some(map) = self.value.as_object() else { return self.problem("Required value") };
        let unknown = map.iter().find(|(key, value)| {
            !value.is_null() && !known.contains(&key.as_str()) && !without_effect.contains(&key.as_str())
        });
        match unknown {
            None => Ok(map),
            Some((key, _)) => self.field(key).problem("Forbidden: Serin does not carry this out yet; remove it"),
        }
    }

    fn text(&self) -> Result<String, SpecError> {
        match self.value.as_str() {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            Some(_) | None => self.problem("Required value"),
        }
    }

    fn number<T: TryFrom<i64>>(&self, default: T) -> Result<T, SpecError> {
        if self.is_absent() {
            return Ok(default);
        }
        match self.value.as_i64().and_then(|number| T::try_from(number).ok()) {
            Some(number) => Ok(number),
            None => self.problem(format!("Invalid value: {}: must be a number that is not negative", self.value)),
        }
    }

    fn seconds(&self, default: u64) -> Result<Duration, SpecError> {
        let seconds = self.number(u32::try_from(default).unwrap_or(u32::MAX))?;
        Ok(Duration::from_secs(u64::from(seconds)))
    }

    fn flag(&self) -> Result<bool, SpecError> {
        match self.value {
            Value::Null => Ok(false),
            Value::Bool(flag) => Ok(*flag),
            other => self.problem(format!("Invalid value: {other}: must be true or false")),
        }
    }

    fn items(&self) -> Vec<At<'a>> {
        let items = self.value.as_array().into_iter().flatten().enumerate();
        items.map(|(index, value)| At { value, path: format!("{}[{index}]", self.path) }).collect()
    }
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
            ],
            // How long AnalysisRuns are kept.
            &["analysis"],
        )?;
        let (selector, template) = (spec.field("selector"), spec.field("template"));
        agrees(&selector, &template)?;
        let strategy = spec.field("strategy");
        strategy.object(&["canary"], &[])?;
        let replicas: u32 = spec.field("replicas").number(REPLICAS.unsigned_abs())?;
        Ok(Self {
            replicas: i32::try_from(replicas).unwrap_or(i32::MAX),
            history: spec.field("revisionHistoryLimit").number(u32::try_from(HISTORY).unwrap_or(0))? as usize,
            min_ready_seconds: spec.field("minReadySeconds").number(0)?,
            progress_deadline: spec.field("progressDeadlineSeconds").seconds(PROGRESS_DEADLINE)?,
            progress_deadline_abort: spec.field("progressDeadlineAbort").flag()?,
            paused: spec.field("paused").flag()?,
            selector: selector.value.clone(),
            template: template.value.clone(),
            canary: canary(&strategy.field("canary"))?,
        })
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

fn canary(canary: &At<'_>) -> Result<Canary, SpecError> {
    canary.object(
        &[
            "stableService",
            "canaryService",
            "steps",
            "trafficRouting",
            "scaleDownDelaySeconds",
            "abortScaleDownDelaySeconds",
        ],
        // With a router both sides have the pods that they need.
        &["maxSurge", "maxUnavailable"],
    )?;
    let (stable, candidate) = (canary.field("stableService"), canary.field("canaryService"));
    let routing = canary.field("trafficRouting");
    if routing.is_absent() {
        return routing.problem("Required value: Serin shifts a Rollout's traffic by a VirtualService so far");
    }
    routing.object(&["istio"], &[])?;
    let istio = routing.field("istio");
    istio.object(&["virtualService"], &[])?;
    let virtual_service = istio.field("virtualService");
    virtual_service.object(&["name", "routes"], &[])?;
    let name = virtual_service.field("name");
    let virtual_name = name.text()?;
    if virtual_name.contains('.') {
        return name.problem(format!(
            "Invalid value: \"{virtual_name}\": a VirtualService of another namespace is not shifted yet"
        ));
    }
    let (stable_service, canary_service) = (stable.text()?, candidate.text()?);
    if stable_service == canary_service {
        return stable.problem(format!(
            "Invalid value: \"{stable_service}\": This rollout uses the same service for the stable and canary services, \
             but two different services are required."
        ));
    }
    let steps = canary.field("steps");
    let read = steps.items().iter().map(step).collect::<Result<Vec<Step>, _>>()?;
    if read.len() > STEPS_MAX {
        return steps.problem(format!("Too many: {}: must have at most {STEPS_MAX} items", read.len()));
    }
    let abort = canary.field("abortScaleDownDelaySeconds").seconds(SCALE_DOWN_DELAY)?;
    Ok(Canary {
        shifted: Shifted {
            stable_service,
            canary_service,
            virtual_service: virtual_name,
            routes: virtual_service.field("routes").items().iter().map(At::text).collect::<Result<_, _>>()?,
        },
        steps: read,
        steps_hash: Digest::of_canonical(steps.value.to_string().as_bytes()).short().to_owned(),
        scale_down_delay: canary.field("scaleDownDelaySeconds").seconds(SCALE_DOWN_DELAY)?,
        abort_scale_down_delay: (!abort.is_zero()).then_some(abort),
    })
}

fn step(step: &At<'_>) -> Result<Step, SpecError> {
    let map = step.object(&["setWeight", "pause"], &[])?;
    if map.values().filter(|value| !value.is_null()).count() != 1 {
        return step.problem("Invalid value: Step must have one of the following set: setWeight or pause");
    }
    let (weight, pause) = (step.field("setWeight"), step.field("pause"));
    if weight.is_absent() {
        return self::pause(&pause).map(Step::Pause);
    }
    let percent = weight.value.as_i64().and_then(|percent| u8::try_from(percent).ok());
    match percent.filter(|percent| *percent <= 100) {
        Some(percent) => Ok(Step::SetWeight(percent)),
        None => weight.problem(format!(
            "Invalid value: {}: SetWeight needs to be between 0 and max weight 100",
            weight.value
        )),
    }
}

/// A number of seconds, such a number as text, or a Go duration.
fn pause(pause: &At<'_>) -> Result<Option<Duration>, SpecError> {
    pause.object(&["duration"], &[])?;
    let duration = pause.field("duration");
    let read = match duration.value {
        Value::Null => return Ok(None),
        Value::Number(seconds) => seconds.as_u64().map(Duration::from_secs),
        Value::String(text) => match text.parse::<u64>() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => duration::parse(text).ok(),
        },
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    match read {
        Some(read) => Ok(Some(read)),
        None => duration.problem(format!(
            "Invalid value: {}: Duration needs to be a number of seconds or a duration such as 30s or 1m30s, and not \
             negative",
            duration.value
        )),
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
        assert_eq!(spec.canary.scale_down_delay, Duration::from_secs(30));
        assert_eq!(spec.canary.abort_scale_down_delay, Some(Duration::from_secs(30)));
        let expected = [
            Step::SetWeight(10),
            Step::Pause(None),
            seconds(20),
            seconds(20),
            seconds(90),
            Step::SetWeight(100),
            seconds(0),
        ];
        assert_eq!(spec.canary.steps, expected);
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
        assert_eq!(refused(&|spec| spec["strategy"] = json!({"blueGreen": {}})), "spec.strategy.blueGreen");
        assert_eq!(refused(&|spec| spec["workloadRef"] = json!({})), "spec.workloadRef");
        assert_eq!(canary("analysis", json!({})), "spec.strategy.canary.analysis");
        assert_eq!(canary("dynamicStableScale", json!(true)), "spec.strategy.canary.dynamicStableScale");
        assert_eq!(canary("stableService", json!("")), "spec.strategy.canary.stableService");
        assert_eq!(canary("stableService", json!("istio-rollout-canary")), "spec.strategy.canary.stableService");
        assert_eq!(canary("trafficRouting", Value::Null), "spec.strategy.canary.trafficRouting");
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
