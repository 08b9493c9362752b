//! A deleted Canary hands its target back: the target gets primary's size, then the route, then the apex Service; only when
//! all that has been seen and primary has drained may the generated objects go. They are owned by the Canary, so garbage
//! collection takes them with it.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::api::CanarySpec;
use crate::api::annotations::{FINALIZER, FINALIZER_FLAGGER};
use crate::model::Weights;
use crate::release::{Action, Readiness, RouteObserved};
use crate::router::ServiceSet;
use crate::workload::DeploymentView;

use super::act::act;
use super::caches::{CanaryView, Tracked};
use super::hands::{ActError, Hands};
use super::observe::Look;

/// How far the hand-over is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandOver {
    /// Something was written or is awaited; a change wakes.
    Waiting,
    /// Primary drains; look again then.
    Draining(Timestamp),
    /// The finalizer is gone.
    Done,
}

/// Finalizers that this controller answers for.
const FINALIZERS: [&str; 2] = [FINALIZER, FINALIZER_FLAGGER];

/// The finalizers that the Canary should carry and does not.
pub(super) fn missing_finalizers(canary: &CanaryView, spec: &CanarySpec) -> Vec<&'static str> {
    let wanted = [Some(FINALIZER), spec.revert_on_deletion.then_some(FINALIZER_FLAGGER)];
    let has = |wanted: &str| canary.finalizers.iter().any(|finalizer| finalizer == wanted);
    wanted.into_iter().flatten().filter(|wanted| !has(wanted)).collect()
}

/// Whether the Canary waits for us before it goes.
pub(super) fn has_finalizer(canary: &CanaryView) -> bool {
    canary.finalizers.iter().any(|finalizer| FINALIZERS.contains(&finalizer.as_str()))
}

/// Adds finalizers.
pub(super) async fn add_finalizers(
    canary: &CanaryView,
    hands: &mut Hands<'_>,
    missing: Vec<&'static str>,
) -> Result<(), ActError> {
    let mut finalizers = canary.finalizers.clone();
    finalizers.extend(missing.into_iter().map(str::to_owned));
    write_finalizers(canary, hands, finalizers).await
}

/// Drops the finalizers that this controller answers for.
pub(super) async fn drop_finalizers(canary: &CanaryView, hands: &mut Hands<'_>) -> Result<(), ActError> {
    let others = canary.finalizers.iter().filter(|finalizer| !FINALIZERS.contains(&finalizer.as_str()));
    write_finalizers(canary, hands, others.cloned().collect()).await
}

async fn write_finalizers(
    canary: &CanaryView,
    hands: &mut Hands<'_>,
    finalizers: Vec<String>,
) -> Result<(), ActError> {
    let patch = json!({"metadata": {"resourceVersion": canary.resource_version, "finalizers": finalizers}});
    hands.merge(Tracked::Canary, &canary.key.name, patch).await
}

/// One step of the hand-over; `handed_back` remembers since when everything leads to the target.
pub(super) async fn hand_over(
    look: &Look<'_>,
    hands: &mut Hands<'_>,
    handed_back: &mut Option<Timestamp>,
    drain: SignedDuration,
    now: Timestamp,
) -> Result<HandOver, ActError> {
    let (Some(target), Some(primary)) = (look.target(), look.primary()) else {
        // There is nothing to hand back, or nobody to hand it back to.
        drop_finalizers(look.canary, hands).await?;
        return Ok(HandOver::Done);
    };
    let wanted = primary.replicas.max(look.target_minimum());
    if target.replicas < wanted {
        hands.scale(&target.name, &target.resource_version, wanted).await?;
        return Ok(HandOver::Waiting);
    }
    match target.as_target(look.target_minimum()).readiness {
        Readiness::Ready => {}
        Readiness::Waiting(_) | Readiness::Stalled(_) => return Ok(HandOver::Waiting),
    }
    let everything = Weights::canary_percent(100);
    let observed = look.observe(Vec::new(), now);
    if let RouteObserved::Present { weights, .. } = observed.route
        && weights != everything
    {
        act(&Action::SetWeights(everything), look, hands).await?;
        return Ok(HandOver::Waiting);
    }
    if let Some((name, patch)) = apex_to_target(look, &target) {
        hands.merge(Tracked::Service, &name, patch).await?;
        return Ok(HandOver::Waiting);
    }
    let since = *handed_back.get_or_insert(now);
    let until = since.checked_add(drain).unwrap_or(Timestamp::MAX);
    if now < until {
        return Ok(HandOver::Draining(until));
    }
    drop_finalizers(look.canary, hands).await?;
    Ok(HandOver::Done)
}

/// What must change for the apex Service to select the target's pods; `None` if it does or is gone.
fn apex_to_target(look: &Look<'_>, target: &DeploymentView) -> Option<(String, Value)> {
    let label = target.label.as_ref().ok()?;
    let mut apex = look.services()?.apex;
    if let Some(selector) = apex.pointer_mut("/spec/selector") {
        *selector = json!({label.key.as_str(): label.value});
    }
    let name = apex["metadata"]["name"].as_str()?.to_owned();
    let live = look.caches.service(&look.key(&name))?;
    let patch = ServiceSet::update(&look.route_request()?, &apex, &live)?;
    Some((name, patch))
}
