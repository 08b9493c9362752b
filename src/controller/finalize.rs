//! Finalizers, and what a deleted Canary leaves behind: apex Service and route stay and lead to the target, so that nobody
//! who calls them notices. The other generated objects are owned by the Canary: garbage collection takes them with it. When
//! what is done is the engine's decision.

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use serde_json::{Value, json};

use crate::api::CanarySpec;
use crate::api::annotations::{FINALIZER, FINALIZER_FLAGGER, MANAGER_SYNC};
use crate::cluster::{Cluster, ErrorKind, call};
use crate::release::Deleting;
use crate::router::{LiveRoutes, ServiceSet, Update, merge_update};
use crate::workload::left_to;

use super::act::update_service;
use super::caches::{CanaryView, Tracked};
use super::hands::{ActError, Hands};
use super::observe::Look;

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

/// What is seen of a Canary that is being deleted. Its namespace is asked for: nobody watches those.
pub(super) async fn deleting(look: &Look<'_>, cluster: &Cluster) -> Result<Deleting, ActError> {
    let name = &look.canary.key.namespace;
    let api: Api<Namespace> = Api::all(cluster.client());
    let namespace = match call(&format!("read Namespace {name}"), api.get_opt(name)).await {
        Ok(namespace) => namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()),
        // Whoever may not read it is told by its answers to writes.
        Err(error) if error.kind() == ErrorKind::Refused => false,
        Err(error) => return Err(error.into()),
    };
    let owned = |object: &Value| look.canary.owner.controls(object);
    let request = look.route_request(None);
    let service = request.as_ref().and_then(|request| look.caches.service(&look.key(request.service)));
    let leaves_route = request.is_some_and(|request| {
        let live = look.caches.routes_in(request.namespace);
        let mut routes = look.router.hand_back(&request).into_iter();
        routes.any(|(kind, _)| live.get(kind, request.service).is_some_and(|route| owned(&route)))
    });
    Ok(Deleting {
        with_namespace: namespace,
        copied: look.primary().is_none_or(|primary| primary.copied_from.is_some()),
        reachable: look.reaches_target(),
        led_back: apex_to_target(look).is_none(),
        left: !service.as_ref().is_some_and(owned) && !leaves_route,
    })
}

/// The apex Service leads to the target from here on.
pub(super) async fn lead_back(look: &Look<'_>, hands: &mut Hands<'_>) -> Result<(), ActError> {
    let Some((name, update)) = apex_to_target(look) else { return Ok(()) };
    let (Update::Merge(body) | Update::Apply(body)) = &update;
    let wanted = body["spec"].clone();
    update_service(hands, &name, &wanted, update).await
}

/// Users must not notice that a Canary goes: apex Service and route stay, as the target's.
pub(super) async fn leave(look: &Look<'_>, hands: &mut Hands<'_>) -> Result<(), ActError> {
    let Some(request) = look.route_request(None) else { return Ok(()) };
    let heir = hands.get(Tracked::Deployment, request.target).await?;
    let apex = look.caches.service(&look.key(request.service));
    if let Some(live) = apex.filter(|live| request.owner.controls(live)) {
        let references = references(look, hands, Tracked::Service, &live, &heir).await?;
        let version = &live["metadata"]["resourceVersion"];
        let patch = json!({"metadata": {"resourceVersion": version, "ownerReferences": references}});
        hands.merge(Tracked::Service, request.service, patch).await?;
    }
    for (kind, mut stays) in look.router.hand_back(&request) {
        let route = LiveRoutes::get(&look.caches.routes_in(request.namespace), kind, request.service);
        let Some(live) = route.filter(|live| request.owner.controls(live)) else { continue };
        let kind = Tracked::of(kind);
        stays["metadata"]["ownerReferences"] = references(look, hands, kind, &live, &heir).await?;
        hands.merge(kind, request.service, merge_update(&live, &stays)).await?;
    }
    Ok(())
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

/// What must change for the apex Service to select the target's pods; `None` if it does, is gone, or is somebody else's: what
/// this Canary never led is not its to lead anywhere.
fn apex_to_target(look: &Look<'_>) -> Option<(String, Update)> {
    let pair = look.pair()?;
    let request = look.route_request(Some(&pair))?;
    let (live, pods) = (look.caches.service(&look.key(request.service))?, request.pods?);
    let is_foreign = ServiceSet::refuse(&request, pods, &live).is_some() && !look.leads_to_former(&live);
    if is_foreign {
        return None;
    }
    Some((request.service.to_owned(), ServiceSet::hand_back(&request, pods, &live)?))
}
