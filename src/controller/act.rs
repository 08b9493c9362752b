//! Carries out the engine's actions. No choices are left here: an action that is done already is a no-op, one that finds
//! something else than it expects is refused, and both follow again from the state.

use serde_json::Value;

use crate::api::annotations::WRITTEN;
use crate::manifest::template_digest;
use crate::model::{Digest, Frozen, Routing};
use crate::release::Action;
use crate::router::{Change, ServiceSet, Update, merge_update};
use crate::workload::{
    DeploymentView, LAST_GOOD_LABEL, PrimaryPlan, copy_to_primary, last_good, last_good_name, new_primary,
    restore_primary, stored_template,
};

use super::caches::Tracked;
use super::hands::{ActError, Hands};
use super::observe::Look;

/// Carries out one action.
pub(super) async fn act(action: &Action, look: &Look<'_>, hands: &mut Hands<'_>) -> Result<(), ActError> {
    match action {
        Action::CreatePrimary { expect } => create_primary(look, hands, expect).await,
        Action::EnsurePrimaryAutoscaler => ensure_primary_autoscaler(look, hands).await,
        Action::EnsureServices => ensure_services(look, hands).await,
        Action::Route(routing) => route(look, hands, routing).await,
        Action::ScaleTarget { up } => scale_target(look, hands, *up).await,
        Action::ScalePrimary { replicas } => scale_primary(look, hands, *replicas).await,
        Action::StoreLastGood { expect } => store_last_good(look, hands, expect).await,
        Action::CopyToPrimary { expect } => copy(look, hands, &expect.digest).await,
        Action::RestorePrimary { expect } => restore(look, hands, expect).await,
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

async fn create_primary(look: &Look<'_>, hands: &mut Hands<'_>, expect: &Digest) -> Result<(), ActError> {
    if look.primary().is_some() {
        return Ok(());
    }
    let plan = plan(look, expect)?;
    let live = read_target(look, hands, expect).await?;
    create_workload(hands, &new_primary(&live, &plan)).await
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

async fn ensure_primary_autoscaler(look: &Look<'_>, hands: &mut Hands<'_>) -> Result<(), ActError> {
    if let Some((name, resource_version)) = look.surplus_autoscaler() {
        hands.delete(Tracked::Autoscaler, &name, resource_version).await?;
    }
    let Some(scaler) = &look.spec.autoscaler_ref else { return Ok(()) };
    let (name, desired) = look.primary_autoscaler().ok_or_else(|| {
        ActError::Refused(format!("HorizontalPodAutoscaler {}/{} does not exist", hands.namespace, scaler.name))
    })?;
    match look.caches.autoscalers.get(&look.key(&name)) {
        None => hands.create(Tracked::Autoscaler, &desired).await.map(|_| ()),
        Some(live) if live.spec == Frozen::of(&desired["spec"]) => Ok(()),
        Some(live) => {
            let live = serde_json::json!({
                "metadata": {"resourceVersion": live.resource_version}, "spec": live.spec.thaw()
            });
            hands.bring(Tracked::Autoscaler, &name, &desired, merge_update(&live, &desired)).await
        }
    }
}

async fn ensure_services(look: &Look<'_>, hands: &mut Hands<'_>) -> Result<(), ActError> {
    let Some(pair) = look.pair() else {
        return Err(ActError::Changed("the target is gone or selects its pods by no known label".to_owned()));
    };
    let (Some(request), Some(pods)) = (look.route_request(), pair.pods()) else { return Ok(()) };
    let services = look.services_of(&request, pods);
    for desired in services.in_order() {
        let name = desired["metadata"]["name"].as_str().unwrap_or_default();
        match look.caches.service(&look.key(name)) {
            None => {
                hands.create(Tracked::Service, desired).await?;
            }
            Some(live) if request.owner.controls(&live) => {
                if let Some(update) = ServiceSet::update(&request, pods, desired, &live) {
                    update_service(hands, name, desired, update).await?;
                }
            }
            Some(_) => {
                // Who owns its fields is not in the cache.
                let live = hands.get(Tracked::Service, name).await?;
                if let Some(applied) = ServiceSet::take(&request, pods, desired, &live) {
                    hands.apply(Tracked::Service, name, desired, applied).await?;
                }
            }
        }
    }
    Ok(())
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
    let Some(request) = look.route_request() else { return Ok(()) };
    let live = look.caches.routes_in(request.namespace);
    for change in look.router.write(&request, &live, routing) {
        match change {
            Change::Create { kind, object } => {
                hands.create(Tracked::Route(kind), &object).await?;
            }
            Change::Merge { kind, name, desired, patch } => {
                hands.bring(Tracked::Route(kind), &name, &desired, patch).await?;
            }
            Change::Patch { kind, name, patch, version } => {
                hands.json_patch(Tracked::Route(kind), &name, version, &patch).await?;
            }
        }
    }
    Ok(())
}

/// Up: what the target has, else its autoscaler's minimum, else as many as primary.
async fn scale_target(look: &Look<'_>, hands: &mut Hands<'_>, up: bool) -> Result<(), ActError> {
    let live = target(look)?;
    let wanted = match (up, &look.spec.autoscaler_ref) {
        (false, _) => 0,
        (true, _) if live.replicas > 0 => live.replicas.max(look.target_minimum()),
        (true, Some(_)) => look.target_minimum().max(1),
        (true, None) => look.primary().map_or(1, |primary| primary.replicas.max(1)),
    };
    if live.replicas == wanted {
        return Ok(());
    }
    hands.size_target(&live.name, &live.resource_version, wanted).await
}

async fn scale_primary(look: &Look<'_>, hands: &mut Hands<'_>, replicas: i32) -> Result<(), ActError> {
    let live = primary(look)?;
    if live.replicas == replicas {
        return Ok(());
    }
    hands.scale(&live.name, &live.resource_version, replicas).await
}

async fn store_last_good(look: &Look<'_>, hands: &mut Hands<'_>, expect: &Digest) -> Result<(), ActError> {
    if primary(look)?.carries() != Some(expect) {
        // The copy has happened, or somebody has changed it: what is stored stays as it is.
        return Ok(());
    }
    let name = look.primary_name();
    let live = hands.get(Tracked::Deployment, &name).await?;
    let stored = last_good(&live, expect, &look.canary.owner);
    hands.create_revision(&stored).await?;
    let label = format!("{LAST_GOOD_LABEL}={}", look.canary.owner.uid);
    hands.delete_revisions_but(&label, &last_good_name(&name, expect)).await
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
