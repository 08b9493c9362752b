//! A deleted Canary hands its target back: the target gets primary's size, then the route, then the apex Service. When
//! primary has drained, these two are left to the target, so that nobody who calls them notices. The other generated
//! objects are owned by the Canary: garbage collection takes them with it.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::api::CanarySpec;
use crate::api::annotations::{FINALIZER, FINALIZER_FLAGGER, MANAGER_SYNC};
use crate::model::Routing;
use crate::release::{Action, Readiness, RouteObserved};
use crate::router::{LiveRoutes, ServiceSet, Update, merge_update};
use crate::workload::{DeploymentView, left_to};

use super::act::{act, update_service};
use super::caches::{CanaryView, Tracked};
use super::hands::{ActError, Hands};
use super::observe::Look;

/// How far the hand-over is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HandOver {
    /// Something was written or is awaited, in words; a change wakes.
    Waiting(String),
    /// Proxies learn of what was written; look again then.
    Draining(Timestamp),
    /// The finalizer is gone.
    Done,
}

/// What is remembered of a hand-over between two looks; lost, it only takes longer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// Since when all traffic goes to the target's pods.
    handed_back: Option<Timestamp>,
    /// Since when it goes there without the objects that are about to go.
    left: Option<Timestamp>,
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

/// One step of the hand-over.
pub(super) async fn hand_over(
    look: &Look<'_>,
    hands: &mut Hands<'_>,
    progress: &mut Progress,
    drain: SignedDuration,
    now: Timestamp,
) -> Result<HandOver, ActError> {
    let (Some(target), Some(primary)) = (look.target(), look.primary()) else {
        // There is nothing to hand back, or nobody to hand it back to.
        drop_finalizers(look.canary, hands).await?;
        return Ok(HandOver::Done);
    };
    if let Some(reason) = scale_up(look, hands, &target, &primary).await? {
        return Ok(HandOver::Waiting(reason));
    }
    if !leads_to_target(look, hands).await? {
        return Ok(HandOver::Waiting(format!("traffic to be handed back to {}", target.name)));
    }
    let until = after(*progress.handed_back.get_or_insert(now), drain);
    if now < until {
        return Ok(HandOver::Draining(until));
    }
    if leave(look, hands).await? {
        progress.left = None;
        return Ok(HandOver::Waiting(format!("its service and route to be left to {}", target.name)));
    }
    let until = after(*progress.left.get_or_insert(now), drain);
    if now < until {
        return Ok(HandOver::Draining(until));
    }
    drop_finalizers(look.canary, hands).await?;
    Ok(HandOver::Done)
}

fn after(since: Timestamp, wait: SignedDuration) -> Timestamp {
    since.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// Gives the target primary's size; what it still waits for.
async fn scale_up(
    look: &Look<'_>,
    hands: &mut Hands<'_>,
    target: &DeploymentView,
    primary: &DeploymentView,
) -> Result<Option<String>, ActError> {
    let wanted = primary.replicas.max(look.target_minimum());
    if target.replicas < wanted {
        hands.size_target(&target.name, &target.resource_version, wanted).await?;
        return Ok(Some(format!("{} to be scaled up", target.name)));
    }
    Ok(match target.as_target(look.target_minimum()).readiness {
        Readiness::Ready => None,
        Readiness::Waiting(reason) | Readiness::Stalled(reason) => {
            Some(format!("{} to become ready, until then primary serves: {reason}", target.name))
        }
    })
}

/// Whether route and apex Service lead to the target; if not, one of them is written.
async fn leads_to_target(look: &Look<'_>, hands: &mut Hands<'_>) -> Result<bool, ActError> {
    let everything = Routing::candidate_percent(100);
    if let Some(request) = look.route_request() {
        let live = look.caches.routes_in(request.namespace);
        match look.router.read(&request, &live) {
            // Once left behind it is not ours any more.
            RouteObserved::Missing | RouteObserved::Unusable(_) => {}
            RouteObserved::Present { routing, current: true, .. } if routing == everything => {}
            // Where somebody writes it already as it shall be without the Canary, e.g. Git: our last word is the same.
            RouteObserved::Present { .. } => {
                act(&Action::Route(everything), look, hands).await?;
                return Ok(false);
            }
        }
    }
    let Some((name, update)) = apex_to_target(look) else { return Ok(true) };
    let (Update::Merge(body) | Update::Apply(body)) = &update;
    let wanted = body["spec"].clone();
    update_service(hands, &name, &wanted, update).await?;
    Ok(false)
}

/// Users must not notice that a Canary goes: apex Service and route stay, as the target's. `true` if something was written.
async fn leave(look: &Look<'_>, hands: &mut Hands<'_>) -> Result<bool, ActError> {
    let Some(request) = look.route_request() else { return Ok(false) };
    let heir = hands.get(Tracked::Deployment, request.target).await?;
    let mut wrote = false;
    let apex = look.caches.service(&look.key(request.service));
    if let Some(live) = apex.filter(|live| request.owner.controls(live)) {
        let references = references(look, hands, Tracked::Service, &live, &heir).await?;
        let version = &live["metadata"]["resourceVersion"];
        let patch = json!({"metadata": {"resourceVersion": version, "ownerReferences": references}});
        hands.merge(Tracked::Service, request.service, patch).await?;
        wrote = true;
    }
    let (kind, mut stays) = look.router.leave(&request);
    let route = LiveRoutes::get(&look.caches.routes_in(request.namespace), kind, request.service);
    if let Some(live) = route.filter(|live| request.owner.controls(live)) {
        let kind = Tracked::Route(kind);
        stays["metadata"]["ownerReferences"] = references(look, hands, kind, &live, &heir).await?;
        hands.merge(kind, request.service, merge_update(&live, &stays)).await?;
        wrote = true;
    }
    Ok(wrote)
}

/// The owners of an object that stays: instead of the Canary the target, unless Git names the object.
async fn references(
    look: &Look<'_>,
    hands: &Hands<'_>,
    kind: Tracked,
    live: &Value,
    heir: &Value,
) -> Result<Value, ActError> {
    let name = live["metadata"]["name"].as_str().unwrap_or_default();
    let whole = hands.get(kind, name).await?;
    let in_git = |entry: &Value| entry["manager"] == MANAGER_SYNC && entry["operation"] == "Apply";
    let is_in_git = whole["metadata"]["managedFields"].as_array().is_some_and(|all| all.iter().any(in_git));
    let owners = live["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    let others = owners.into_iter().filter(|owner| owner["uid"] != look.canary.owner.uid.as_str());
    Ok(others.chain((!is_in_git).then(|| left_to(heir))).collect())
}

/// What must change for the apex Service to select the target's pods; `None` if it does or is gone.
fn apex_to_target(look: &Look<'_>) -> Option<(String, Update)> {
    let (request, pair) = (look.route_request()?, look.pair()?);
    let live = look.caches.service(&look.key(request.service))?;
    Some((request.service.to_owned(), ServiceSet::hand_back(&request, pair.pods()?, &live)?))
}
