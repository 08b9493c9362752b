//! HorizontalPodAutoscaler: keeps its target within `minReplicas` and `maxReplicas`.
//!
//! What a metrics server would tell is the share of their capacity that pods with one use; it stands for cpu and memory
//! alike. Where no pod has a capacity, utilisation stays `<unknown>`, as in a cluster without a metrics server, and within the
//! bounds the target's size is left alone.

mod recommendations;

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerSpec,
    HorizontalPodAutoscalerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::PostParams;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};

use crate::behaviour::Behaviour;

pub(super) use recommendations::Recommendations;
use recommendations::Windows;

use super::runner::Shared;
use super::watch::Change;
use super::{ControllerError, MANAGER};

/// How far from the wanted utilisation is near enough (kube-controller-manager's default).
const TOLERANCE: f64 = 0.1;
/// Pause between two looks at pods that say how busy they are; a real one is 15 s.
const LOOK: Duration = Duration::from_secs(1);
/// Why load alone changes a size.
const WITHIN: &str = "DesiredWithinRange";
/// `minReplicas` when it is not given.
const DEFAULT_MIN: i32 = 1;

/// Autoscalers whose target is the changed Deployment, if its size changed, or what its pods are.
pub(super) fn targeting(
    shared: &Shared,
    change: &Change<'_, Deployment>,
) -> Vec<ObjectRef<HorizontalPodAutoscaler>> {
    let sizes = |deployment: &Deployment| {
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let present = deployment.status.as_ref().and_then(|status| status.replicas);
        (wanted, present)
    };
    let template = |deployment: &&Deployment| deployment.spec.as_ref().map(|spec| spec.template.clone());
    let is_same_size = change.before.map(sizes) == change.after.map(sizes);
    if is_same_size && change.before.as_ref().map(template) == change.after.as_ref().map(template) {
        return Vec::new();
    }
    let Some(deployment) = change.after.or(change.before) else { return Vec::new() };
    let aims = |scaler: &HorizontalPodAutoscaler| {
        let target = scaler.spec.as_ref().map(|spec| &spec.scale_target_ref);
        scaler.namespace() == deployment.namespace()
            && target.is_some_and(|target| target.kind == "Deployment" && target.name == deployment.name_any())
    };
    shared.autoscalers.state_filter(aims).iter().map(|scaler| ObjectRef::from_obj(&**scaler)).collect()
}

/// What an autoscaler makes of its target's size. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// The target is at zero, which switches autoscaling off.
    Disabled,
    /// Outside the bounds.
    Resize { to: i32, reason: &'static str },
    /// Within the bounds, and as busy as wanted.
    Fits,
    /// Within the bounds, and no metric says anything else.
    Keep,
}

/// `busy`: how much of their capacity the target's pods use on average, if they say so.
fn decide(spec: &HorizontalPodAutoscalerSpec, replicas: i32, busy: Option<f64>) -> Decision {
    let min = spec.min_replicas.unwrap_or(DEFAULT_MIN);
    if replicas == 0 && min != 0 {
        Decision::Disabled
    } else if replicas > spec.max_replicas {
        Decision::Resize { to: spec.max_replicas, reason: "TooManyReplicas" }
    } else if replicas < min {
        Decision::Resize { to: min, reason: "TooFewReplicas" }
    } else {
        let Some(ratio) = busy.zip(wanted(spec)).map(|(busy, wanted)| busy / wanted) else {
            return Decision::Keep;
        };
        if (ratio - 1.0).abs() <= TOLERANCE {
            return Decision::Fits;
        }
        let size = (f64::from(replicas) * ratio).ceil().clamp(f64::from(min.max(1)), f64::from(spec.max_replicas));
        let to = size as i32;
        if to == replicas { Decision::Fits } else { Decision::Resize { to, reason: WITHIN } }
    }
}

/// The wanted utilisation as a share, of the first metric that names one.
fn wanted(spec: &HorizontalPodAutoscalerSpec) -> Option<f64> {
    let mut metrics = spec.metrics.iter().flatten();
    let utilisation = metrics.find_map(|metric| metric.resource.as_ref()?.target.average_utilization)?;
    (utilisation > 0).then(|| f64::from(utilisation) / 100.0)
}

/// One pass over one autoscaler.
pub(super) async fn reconcile(
    scaler: Arc<HorizontalPodAutoscaler>,
    shared: Arc<Shared>,
) -> Result<Action, ControllerError> {
    let (Some(spec), Some(namespace)) = (&scaler.spec, scaler.namespace()) else {
        return Ok(Action::await_change());
    };
    let scale = match get_scale(spec, &namespace, &shared).await {
        Ok(scale) => scale,
        Err(Missing::Target(message)) => {
            let failed = [("AbleToScale", "False", "FailedGetScale", message)];
            write(
                &scaler,
                &namespace,
                Outcome { conditions: &failed, current: None, desired: 0, scaled: false },
                &shared,
            )
            .await?;
            return Ok(Action::await_change());
        }
        Err(Missing::Api(error)) => return Err(error.into()),
    };
    let replicas = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
    let busy = busy(&scale, &namespace, &shared);
    let decision = settled(decide(spec, replicas, busy), &scaler, replicas, &shared);
    if let Decision::Resize { to, reason: _ } = decision {
        put_scale(spec, &namespace, scale.clone(), to, &shared).await?;
    }
    let current = scale.status.as_ref().map(|status| status.replicas);
    let conditions = conditions_of(decision);
    let outcome = match decision {
        Decision::Disabled => Outcome { conditions: &conditions, current, desired: 0, scaled: false },
        Decision::Resize { to, reason: _ } => {
            Outcome { conditions: &conditions, current, desired: to, scaled: true }
        }
        Decision::Keep | Decision::Fits => {
            Outcome { conditions: &conditions, current, desired: replicas, scaled: false }
        }
    };
    write(&scaler, &namespace, outcome, &shared).await?;
    let looks_again = replicas > 0 && is_measured(spec, &namespace, &shared);
    Ok(if looks_again { Action::requeue(LOOK) } else { Action::await_change() })
}

/// What load asks for waits until it has asked long enough; bounds do not wait.
fn settled(decision: Decision, scaler: &HorizontalPodAutoscaler, replicas: i32, shared: &Shared) -> Decision {
    let asked = match decision {
        Decision::Fits => replicas,
        Decision::Resize { to, reason: WITHIN } => to,
        Decision::Disabled | Decision::Keep | Decision::Resize { .. } => return decision,
    };
    let (key, windows) = (ObjectRef::from_obj(scaler), Windows::of(scaler));
    match shared.recommendations.settle(key, windows, replicas, asked, Instant::now()) {
        to if to == replicas => Decision::Fits,
        to => Decision::Resize { to, reason: WITHIN },
    }
}

/// Whether the target's pods say how busy they are, as soon as they are asked anything.
fn is_measured(spec: &HorizontalPodAutoscalerSpec, namespace: &str, shared: &Shared) -> bool {
    let name = &spec.scale_target_ref.name;
    let template = match spec.scale_target_ref.kind.as_str() {
        "Deployment" => {
            let found = shared.deployments.get(&ObjectRef::new(name).within(namespace));
            found.and_then(|found| serde_json::to_value(&found.spec.as_ref()?.template).ok())
        }
        _ => {
            let found = shared.sets.get(&ObjectRef::new(name).within(namespace));
            found.and_then(|found| serde_json::to_value(found.spec.as_ref()?.template.as_ref()?).ok())
        }
    };
    template.is_some_and(|template| Behaviour::of(&template).capacity > 0)
}

/// The average load of the target's ready pods that say so.
fn busy(scale: &Scale, namespace: &str, shared: &Shared) -> Option<f64> {
    let selector = scale.status.as_ref()?.selector.as_deref()?;
    let wanted: Vec<(&str, &str)> = selector.split(',').filter_map(|pair| pair.split_once('=')).collect();
    let now = Instant::now();
    let pods = shared.pods.state_filter(|pod| {
        pod.namespace().as_deref() == Some(namespace)
            && super::objects::ready_since(pod).is_some()
            && wanted.iter().all(|(key, value)| pod.labels().get(*key).is_some_and(|own| own == value))
    });
    let loads: Vec<f64> =
        pods.iter().filter_map(|pod| shared.loads.of(pod.status.as_ref()?.pod_ip.as_deref()?, now)).collect();
    (!loads.is_empty()).then(|| loads.iter().sum::<f64>() / loads.len() as f64)
}

type Condition = (&'static str, &'static str, &'static str, String);

fn conditions_of(decision: Decision) -> Vec<Condition> {
    let able = |reason, message: &str| ("AbleToScale", "True", reason, message.to_owned());
    let got = "the HPA controller was able to get the target's current scale";
    match decision {
        Decision::Disabled => vec![
            able("SucceededGetScale", got),
            (
                "ScalingActive",
                "False",
                "ScalingDisabled",
                "scaling is disabled since the replica count of the target is zero".to_owned(),
            ),
        ],
        Decision::Resize { to, reason } => vec![
            able("SucceededRescale", &format!("the HPA controller was able to update the target scale to {to}")),
            (
                "ScalingLimited",
                "True",
                reason,
                format!("the desired replica count was brought to its bound of {to}"),
            ),
        ],
        Decision::Fits => vec![
            able("ReadyForNewScale", "recommended size matches current size"),
            (
                "ScalingActive",
                "True",
                "ValidMetricFound",
                "the HPA was able to successfully calculate a replica count from cpu resource utilization"
                    .to_owned(),
            ),
        ],
        Decision::Keep => vec![
            able("SucceededGetScale", got),
            (
                "ScalingActive",
                "False",
                "FailedGetResourceMetric",
                "the HPA was unable to compute the replica count: this cluster has no metrics server".to_owned(),
            ),
        ],
    }
}

enum Missing {
    Target(String),
    Api(kube::Error),
}

async fn get_scale(
    spec: &HorizontalPodAutoscalerSpec,
    namespace: &str,
    shared: &Shared,
) -> Result<Scale, Missing> {
    let target = &spec.scale_target_ref;
    let client = shared.client.clone();
    let answer = match target.kind.as_str() {
        "Deployment" => Api::<Deployment>::namespaced(client, namespace).get_scale(&target.name).await,
        "ReplicaSet" => Api::<ReplicaSet>::namespaced(client, namespace).get_scale(&target.name).await,
        kind => {
            return Err(Missing::Target(format!("the sandbox scales Deployments and ReplicaSets, not {kind}")));
        }
    };
    answer.map_err(|error| match error {
        kube::Error::Api(status) if status.is_not_found() => Missing::Target(format!(
            "the HPA controller was unable to get the target's current scale: {}",
            status.message
        )),
        error => Missing::Api(error),
    })
}

/// The scale carries the version it was read at, so a size set meanwhile is not overwritten.
async fn put_scale(
    spec: &HorizontalPodAutoscalerSpec,
    namespace: &str,
    mut scale: Scale,
    to: i32,
    shared: &Shared,
) -> Result<(), ControllerError> {
    scale.spec.get_or_insert_default().replicas = Some(to);
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let (target, client) = (&spec.scale_target_ref, shared.client.clone());
    if target.kind == "Deployment" {
        Api::<Deployment>::namespaced(client, namespace).replace_scale(&target.name, &params, &scale).await?;
    } else {
        Api::<ReplicaSet>::namespaced(client, namespace).replace_scale(&target.name, &params, &scale).await?;
    }
    Ok(())
}

struct Outcome<'a> {
    conditions: &'a [Condition],
    current: Option<i32>,
    desired: i32,
    scaled: bool,
}

async fn write(
    scaler: &HorizontalPodAutoscaler,
    namespace: &str,
    outcome: Outcome<'_>,
    shared: &Shared,
) -> Result<(), ControllerError> {
    let Outcome { conditions, current, desired, scaled } = outcome;
    let now = shared.clock.stamp();
    let before = scaler.status.clone().unwrap_or_default();
    let mut status = HorizontalPodAutoscalerStatus {
        conditions: before.conditions.clone(),
        current_metrics: None,
        current_replicas: current.filter(|replicas| *replicas != 0),
        desired_replicas: desired,
        last_scale_time: if scaled { Some(now.clone()) } else { before.last_scale_time.clone() },
        observed_generation: before.observed_generation,
    };
    for condition in conditions {
        set_condition(status.conditions.get_or_insert_default(), condition, &now);
    }
    if scaler.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let mut next = scaler.clone();
    next.status = Some(status);
    let api: Api<HorizontalPodAutoscaler> = Api::namespaced(shared.client.clone(), namespace);
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    api.replace_status(&scaler.name_any(), &params, &next).await?;
    Ok(())
}

fn set_condition(all: &mut Vec<HorizontalPodAutoscalerCondition>, next: &Condition, now: &Time) {
    let (kind, status, reason, message) = next;
    let current = all.iter_mut().find(|condition| condition.type_ == *kind);
    let since = match &current {
        Some(current) if current.status == *status => current.last_transition_time.clone(),
        Some(_) | None => Some(now.clone()),
    };
    let next = HorizontalPodAutoscalerCondition {
        type_: (*kind).to_owned(),
        status: (*status).to_owned(),
        reason: Some((*reason).to_owned()),
        message: Some(message.clone()),
        last_transition_time: since,
    };
    match current {
        Some(current) => *current = next,
        None => all.push(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_and_zero_switches_it_off() {
        let spec = HorizontalPodAutoscalerSpec {
            min_replicas: Some(2),
            max_replicas: 4,
            ..HorizontalPodAutoscalerSpec::default()
        };
        assert_eq!(decide(&spec, 0, None), Decision::Disabled);
        assert_eq!(decide(&spec, 1, None), Decision::Resize { to: 2, reason: "TooFewReplicas" });
        assert_eq!(decide(&spec, 3, None), Decision::Keep);
        assert_eq!(decide(&spec, 3, Some(0.9)), Decision::Keep);
        assert_eq!(decide(&spec, 5, None), Decision::Resize { to: 4, reason: "TooManyReplicas" });
    }

    #[test]
    fn load_sizes_the_target_within_its_bounds() {
        let spec: HorizontalPodAutoscalerSpec = serde_json::from_value(serde_json::json!({
            "minReplicas": 2, "maxReplicas": 10, "scaleTargetRef": {"kind": "Deployment", "name": "podinfo"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 50}}}],
        }))
        .unwrap();
        let within = WITHIN;
        assert_eq!(decide(&spec, 2, Some(1.2)), Decision::Resize { to: 5, reason: within });
        assert_eq!(decide(&spec, 4, Some(0.52)), Decision::Fits);
        assert_eq!(decide(&spec, 4, Some(0.0)), Decision::Resize { to: 2, reason: within });
        assert_eq!(decide(&spec, 9, Some(5.0)), Decision::Resize { to: 10, reason: within });
        assert_eq!(decide(&spec, 4, None), Decision::Keep);
    }
}
