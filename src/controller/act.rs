//! Carries out the engine's actions. No choices are left here: an action that is done already is a no-op, one that finds
//! something else than it expects is refused, and both follow again from the state.

use serde_json::Value;

use crate::api::annotations::{REVISION, WRITTEN};
use crate::manifest::template_digest;
use crate::model::{Digest, Frozen, Revision, Routing};
use crate::release::{Action, Side};
use crate::router::{Change, Pods, RouteRequest, ServiceSet, Update, merge_update};
use crate::workload::{
    DeploymentView, LAST_GOOD_LABEL, PrimaryPlan, copy_to_primary, last_good, last_good_name, new_primary,
    restore_primary, stored_target_template, stored_template,
};

use super::caches::Tracked;
use super::finalize;
use super::hands::{ActError, Hands};
use super::observe::Look;

/// Carries out one action.
pub(super) async fn act(action: &Action, look: &Look<'_>, hands: &mut Hands<'_>) -> Result<(), ActError> {
    match action {
        Action::CreatePrimary { expect, replicas } => create_primary(look, hands, expect, *replicas).await,
        Action::EnsurePrimaryAutoscaler { floor } => ensure_primary_autoscaler(look, hands, *floor).await,
        Action::HoldTarget { minimum } => hold_target(look, hands, *minimum).await,
        Action::EnsureServices { apex } => ensure_services(look, hands, *apex).await,
        Action::Route(routing) => route(look, hands, routing).await,
        Action::Scale { side, replicas } => scale(look, hands, *side, *replicas).await,
        Action::StoreLastGood { expect } => store_last_good(look, hands, expect).await,
        Action::CopyToPrimary { expect } => copy(look, hands, &expect.digest).await,
        Action::RestorePrimary { expect } => restore(look, hands, expect).await,
        Action::ReturnTemplate { expect } => return_template(look, hands, expect).await,
        Action::ReachTarget => reach_target(look, hands).await,
        Action::LeadBack => finalize::lead_back(look, hands).await,
        Action::Leave => finalize::leave(look, hands).await,
        Action::LetGo => finalize::drop_finalizers(look.canary, hands).await,
        Action::DropFormer { workload } => match look.former().filter(|former| former.name == *workload) {
            Some(former) => hands.delete(Tracked::Deployment, workload, former.resource_version.clone()).await,
            None => Ok(()),
        },
        Action::SwitchStable { .. } => Err(ActError::Refused(
            "switching ReplicaSets is not supported: a Canary promotes by copying to its primary".to_owned(),
        )),
    }
}

fn target(look: &Look<'_>) -> Result<std::sync::Arc<DeploymentView>, ActError> {
    look.target().ok_or_else(|| ActError::Changed(format!("Deployment {} is gone", look.spec.target_ref.name)))
}

fn primary(look: &Look<'_>) -> Result<std::sync::Arc<DeploymentView>, ActError> {
    look.primary().ok_or_else(|| ActError::Changed(format!("Deployment {} is gone", look.primary_name())))
}

fn plan(look: &Look<'_>, digest: &Digest) -> Result<PrimaryPlan, ActError> {
    let sides = target(look)?.sides.clone().map_err(|error| ActError::Refused(error.to_string()))?;
    let owner = look.canary.owner.clone();
    Ok(PrimaryPlan { name: look.primary_name(), sides, owner, copied_from: digest.clone() })
}

/// The live target, if it still is what was decided on.
async fn read_target(look: &Look<'_>, hands: &Hands<'_>, expect: &Digest) -> Result<Value, ActError> {
    let name = &look.spec.target_ref.name;
    let live = hands.get(Tracked::Deployment, name).await?;
    let found = template_digest(&live["spec"]["template"]);
    if found == *expect {
        Ok(live)
    } else {
        let namespace = hands.namespace;
        Err(ActError::Changed(format!("Deployment {namespace}/{name} is at {found}, expected {expect}")))
    }
}

async fn create_primary(
    look: &Look<'_>,
    hands: &mut Hands<'_>,
    expect: &Digest,
    replicas: i32,
) -> Result<(), ActError> {
    if look.primary().is_some() {
        return Ok(());
    }
    let plan = plan(look, expect)?;
    let live = read_target(look, hands, expect).await?;
    let mut primary = new_primary(&live, &plan);
    primary["spec"]["replicas"] = Value::from(replicas);
    create_workload(hands, &primary).await
}

/// Creates a generated workload.
async fn create_workload(hands: &mut Hands<'_>, workload: &Value) -> Result<(), ActError> {
    let created = hands.create(Tracked::Deployment, workload).await?;
    note_written(hands, &created).await
}

/// Replaces a generated workload.
async fn replace_workload(hands: &mut Hands<'_>, workload: Value) -> Result<(), ActError> {
    let replaced = hands.replace(Tracked::Deployment, workload).await?;
    note_written(hands, &replaced).await
}

/// An admission webhook may change what we write: what came of it is ours all the same, and not to be put right for ever.
async fn note_written(hands: &mut Hands<'_>, live: &Value) -> Result<(), ActError> {
    let metadata = &live["metadata"];
    let became = template_digest(&live["spec"]["template"]).to_string();
    if metadata["annotations"][WRITTEN] == became.as_str() {
        return Ok(());
    }
    let patch = serde_json::json!({
        "metadata": {"resourceVersion": metadata["resourceVersion"], "annotations": {WRITTEN: became}}
    });
    let name = metadata["name"].as_str().unwrap_or_default();
    hands.merge(Tracked::Deployment, name, patch).await
}

async fn ensure_primary_autoscaler(look: &Look<'_>, hands: &mut Hands<'_>, floor: i32) -> Result<(), ActError> {
    if let Some((name, resource_version)) = look.surplus_autoscaler() {
        hands.delete(Tracked::Autoscaler, &name, resource_version).await?;
    }
    let Some(scaler) = &look.spec.autoscaler_ref else { return Ok(()) };
    let (name, desired) = look.primary_autoscaler(floor).ok_or_else(|| {
        ActError::Refused(format!("HorizontalPodAutoscaler {}/{} does not exist", hands.namespace, scaler.name))
    })?;
    match look.caches.autoscalers.get(&look.key(&name)) {
        None => hands.create(Tracked::Autoscaler, &desired).await.map(|_| ()),
        Some(live) if live.owner_uid.as_ref() != Some(&look.canary.owner.uid) => {
            Err(ActError::Changed(format!("HorizontalPodAutoscaler {name} is somebody else's")))
        }
        Some(live) if live.spec == Frozen::of(&desired["spec"]) => Ok(()),
        Some(live) => {
            let live = serde_json::json!({
                "metadata": {"resourceVersion": live.resource_version}, "spec": live.spec.thaw()
            });
            hands.bring(Tracked::Autoscaler, &name, &desired, merge_update(&live, &desired)).await
        }
    }
}

/// Sets the minimum of the target's own autoscaler, and nothing else of it.
async fn hold_target(look: &Look<'_>, hands: &mut Hands<'_>, minimum: i32) -> Result<(), ActError> {
    let Some(scaler) = &look.spec.autoscaler_ref else { return Ok(()) };
    let Some(live) = look.caches.autoscalers.get(&look.key(&scaler.name)) else { return Ok(()) };
    if live.minimum == minimum {
        return Ok(());
    }
    let patch = serde_json::json!({
        "metadata": {"resourceVersion": live.resource_version}, "spec": {"minReplicas": minimum}
    });
    hands.merge(Tracked::Autoscaler, &scaler.name, patch).await
}

async fn ensure_services(look: &Look<'_>, hands: &mut Hands<'_>, apex: Side) -> Result<(), ActError> {
    let Some(pair) = look.pair() else {
        return Err(ActError::Changed("the target is gone or selects its pods by no known label".to_owned()));
    };
    let (Some(request), Some(pods)) = (look.route_request(Some(&pair)), pair.pods()) else { return Ok(()) };
    let services = look.services_of(&request, pods, apex);
    for desired in services.in_order() {
        ensure_service(look, hands, (&request, pods), desired).await?;
    }
    Ok(())
}

async fn reach_target(look: &Look<'_>, hands: &mut Hands<'_>) -> Result<(), ActError> {
    let Some(pair) = look.pair() else { return Ok(()) };
    let (Some(request), Some(pods)) = (look.route_request(Some(&pair)), pair.pods()) else { return Ok(()) };
    let services = look.services_of(&request, pods, Side::Candidate);
    ensure_service(look, hands, (&request, pods), &services.canary).await
}

async fn ensure_service(
    look: &Look<'_>,
    hands: &mut Hands<'_>,
    (request, pods): (&RouteRequest<'_>, Pods<'_>),
    desired: &Value,
) -> Result<(), ActError> {
    let name = desired["metadata"]["name"].as_str().unwrap_or_default();
    match look.caches.service(&look.key(name)) {
        None => hands.create(Tracked::Service, desired).await.map(|_| ()),
        Some(live) if request.is_left(&live) => {
            update_service(hands, name, desired, ServiceSet::take_up(request, desired, &live)).await
        }
        Some(live) if request.owner.controls(&live) => match ServiceSet::update(request, pods, desired, &live) {
            Some(update) => update_service(hands, name, desired, update).await,
            None => Ok(()),
        },
        Some(_) => {
            // Who owns its fields is not in the cache.
            let live = hands.get(Tracked::Service, name).await?;
            match ServiceSet::take(request, pods, desired, &live) {
                Some(applied) => hands.apply(Tracked::Service, name, desired, applied).await,
                None => Ok(()),
            }
        }
    }
}

/// Brings a live Service to what it should be.
pub(super) async fn update_service(
    hands: &mut Hands<'_>,
    name: &str,
    desired: &Value,
    update: Update,
) -> Result<(), ActError> {
    match update {
        Update::Merge(patch) => hands.bring(Tracked::Service, name, desired, patch).await,
        Update::Apply(applied) => hands.apply(Tracked::Service, name, desired, applied).await,
    }
}

async fn route(look: &Look<'_>, hands: &mut Hands<'_>, routing: &Routing) -> Result<(), ActError> {
    let pair = look.pair();
    let Some(request) = look.route_request(pair.as_ref()) else { return Ok(()) };
    let live = look.caches.routes_in(request.namespace);
    for change in look.router.write(&request, &live, routing) {
        match change {
            Change::Create { kind, object } => {
                hands.create(Tracked::of(kind), &object).await?;
            }
            Change::Merge { kind, name, desired, patch } => {
                hands.bring(Tracked::of(kind), &name, &desired, patch).await?;
            }
            Change::Apply { kind, name, desired, applied } => {
                hands.apply(Tracked::of(kind), &name, &desired, applied).await?;
            }
            Change::Patch { kind, name, patch, version } => {
                hands.json_patch(Tracked::of(kind), &name, version, &patch).await?;
            }
        }
    }
    Ok(())
}

async fn scale(look: &Look<'_>, hands: &mut Hands<'_>, side: Side, replicas: i32) -> Result<(), ActError> {
    let live = match side {
        Side::Candidate => target(look)?,
        Side::Stable => primary(look)?,
    };
    if live.replicas == replicas {
        return Ok(());
    }
    match side {
        Side::Candidate => hands.size_target(&live.name, &live.resource_version, replicas).await,
        Side::Stable => hands.scale(&live.name, &live.resource_version, replicas).await,
    }
}

/// Gives the target the promoted template, as it was stored or as primary runs it.
async fn return_template(look: &Look<'_>, hands: &mut Hands<'_>, expect: &Revision) -> Result<(), ActError> {
    let view = target(look)?;
    if view.digest == expect.digest {
        return Ok(());
    }
    let Some(template) = promoted_template(look, hands, &view, &expect.digest).await? else {
        return Err(ActError::Refused(format!(
            "the promoted template {} of Deployment {}/{} is not kept any more: give it what is to serve, then remove the \
             finalizers of the Canary",
            expect.digest.short(),
            hands.namespace,
            view.name
        )));
    };
    let mut live = hands.get(Tracked::Deployment, &view.name).await?;
    live["spec"]["template"] = template;
    if view.revision.is_some() {
        // `sync` wrote it: with another stamp it would be taken for changed by hand.
        live["metadata"]["annotations"][REVISION] = Value::from(expect.to_string());
    }
    hands.replace(Tracked::Deployment, live).await.map(|_| ())
}

/// The target's template of this digest.
async fn promoted_template(
    look: &Look<'_>,
    hands: &Hands<'_>,
    target: &DeploymentView,
    digest: &Digest,
) -> Result<Option<Value>, ActError> {
    let primary = look.primary_name();
    let stored = match hands.get_revision(&last_good_name(&primary, digest)).await {
        Ok(revision) => Some(revision),
        Err(ActError::Read(error)) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    let of_target = stored.as_ref().and_then(stored_target_template);
    if let Some(template) = of_target.filter(|template| template_digest(template) == *digest) {
        return Ok(Some(template));
    }
    let Ok(sides) = &target.sides else { return Ok(None) };
    let mut of_primary = match stored.as_ref().and_then(stored_template) {
        Some((template, _)) => template,
        None => match look.primary() {
            Some(_) => hands.get(Tracked::Deployment, &primary).await?["spec"]["template"].take(),
            None => return Ok(None),
        },
    };
    sides.make_target(&mut of_primary);
    Ok(Some(of_primary).filter(|template| template_digest(template) == *digest))
}

async fn store_last_good(look: &Look<'_>, hands: &mut Hands<'_>, expect: &Digest) -> Result<(), ActError> {
    if primary(look)?.carries() != Some(expect) {
        // The copy has happened, or somebody has changed it: what is stored stays as it is.
        return Ok(());
    }
    let name = look.primary_name();
    let live = hands.get(Tracked::Deployment, &name).await?;
    let is_source = look.target().is_some_and(|target| target.digest == *expect);
    let source = if is_source { Some(read_target(look, hands, expect).await?) } else { None };
    let stored = last_good(&live, source.as_ref(), expect, &look.canary.owner);
    let label = format!("{LAST_GOOD_LABEL}={}", look.canary.owner.uid);
    hands.keep_only_revision(&stored, &label, &last_good_name(&name, expect)).await
}

async fn copy(look: &Look<'_>, hands: &mut Hands<'_>, expect: &Digest) -> Result<(), ActError> {
    if primary(look)?.carries() == Some(expect) {
        return Ok(());
    }
    let plan = plan(look, expect)?;
    let live_target = read_target(look, hands, expect).await?;
    let live_primary = hands.get(Tracked::Deployment, &plan.name).await?;
    if DeploymentView::carried_by(&live_primary).as_ref() == Some(expect) {
        return Ok(());
    }
    let mut promoted = copy_to_primary(&live_target, &live_primary, &plan);
    if let (Some(size), Some(replicas)) =
        (look.promoted_size(target(look)?.as_ref()), promoted.pointer_mut("/spec/replicas"))
    {
        *replicas = Value::from(size);
    }
    replace_workload(hands, promoted).await
}

async fn restore(look: &Look<'_>, hands: &mut Hands<'_>, expect: &Digest) -> Result<(), ActError> {
    let live = look.primary();
    if live.as_ref().is_some_and(|primary| primary.carries() == Some(expect)) {
        return Ok(());
    }
    let name = look.primary_name();
    let stored = last_good_name(&name, expect);
    let revision = match hands.get_revision(&stored).await {
        Err(ActError::Read(error)) if error.is_not_found() && live.is_some() => {
            // Nothing can be put back; what is there serves on, and the next promotion replaces it.
            tracing::warn!(canary = %look.canary.key, "{name} was changed, and {stored} with its promoted template is gone");
            return Ok(());
        }
        found => found?,
    };
    let Some((template, digest)) = stored_template(&revision).filter(|(_, digest)| digest == expect) else {
        return Err(ActError::Refused(format!(
            "ControllerRevision {}/{stored} does not hold the template of {expect}",
            hands.namespace
        )));
    };
    if live.is_none() {
        let target = hands.get(Tracked::Deployment, &look.spec.target_ref.name).await?;
        let primary = new_primary(&target, &plan(look, &digest)?);
        return create_workload(hands, &restore_primary(&primary, template, &digest)).await;
    }
    let live = hands.get(Tracked::Deployment, &name).await?;
    replace_workload(hands, restore_primary(&live, template, &digest)).await
}
