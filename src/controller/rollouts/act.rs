//! Carries out the engine's actions on ReplicaSets, Services and the VirtualService. As with Canaries no choices are left here.

use serde_json::{Value, json};

use crate::model::{Digest, Routing, after};
use crate::release::{Action, Side};
use crate::rollout::keys::REVISION;
use crate::rollout::services::point;
use crate::rollout::sets::{Sweep, scaled, timed};
use crate::rollout::spec::{Strategy, left};
use crate::rollout::virtual_service::Named;
use crate::router::{DESTINATION_RULE, VIRTUAL_SERVICE};

use super::seen::Seen;
use crate::controller::caches::Tracked;
use crate::controller::hands::{ActError, Hands};

/// Carries out one action. `version`: the Rollout's, after what was decided has been written.
pub(super) async fn act(
    action: &Action,
    seen: &Seen<'_>,
    version: &str,
    hands: &mut Hands<'_>,
) -> Result<(), ActError> {
    match action {
        Action::EnsureServices { .. } => point_services(seen, hands).await,
        Action::Route(routing) => route(seen, hands, routing).await,
        Action::Scale { side: Side::Stable, replicas } => scale_stable(seen, hands, *replicas).await,
        Action::Scale { side: Side::Candidate, replicas } if seen.by_pods() => {
            resize(seen, hands, *replicas).await
        }
        Action::Scale { side: Side::Candidate, replicas: 0 } => retire(seen, hands).await,
        Action::Scale { side: Side::Candidate, replicas } => scale_candidate(seen, hands, *replicas).await,
        Action::SwitchStable { expect } => switch(seen, hands, version, &expect.digest).await,
        Action::RestorePrimary { expect } => restore(seen, hands, version, expect).await,
        // The former stable set keeps its template itself.
        Action::StoreLastGood { .. } => Ok(()),
        Action::CreatePrimary { .. }
        | Action::EnsurePrimaryAutoscaler { .. }
        | Action::HoldTarget { .. }
        | Action::CopyToPrimary { .. }
        | Action::ReturnTemplate { .. }
        | Action::ReachTarget
        | Action::DropFormer { .. }
        | Action::LeadBack
        | Action::Leave
        | Action::LetGo => Err(ActError::Refused(
            "this is for a Canary: a Rollout makes its candidate the stable side".to_owned(),
        )),
    }
}

async fn point_services(seen: &Seen<'_>, hands: &mut Hands<'_>) -> Result<(), ActError> {
    for (live, wanted) in seen.pointing() {
        let (Some(live), Some(hash)) = (live, wanted) else { continue };
        let name = live["metadata"]["name"].as_str().unwrap_or_default();
        if let Some(patch) = point(live, &hash, &seen.view.key.name) {
            hands.merge(Tracked::Service, name, patch).await?;
        }
    }
    let named = seen.spec.shifted().and_then(|shifted| shifted.rule.as_ref());
    let (Some(patch), Some(named), Some(live)) = (seen.rule_patch(), named, &seen.rule) else { return Ok(()) };
    let version = live["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    hands.json_patch(Tracked::of(DESTINATION_RULE), &named.name, version, &patch).await
}

async fn route(seen: &Seen<'_>, hands: &mut Hands<'_>, routing: &Routing) -> Result<(), ActError> {
    if let Strategy::BlueGreen(_) = seen.spec.strategy {
        return lead(seen, hands, routing).await;
    }
    let Some(shifted) = seen.spec.shifted() else { return Ok(()) };
    for (of, live) in shifted.virtual_services.iter().zip(&seen.routes) {
        let Some(live) = live else { continue };
        let patch = Named { shifted, of }
            .shift(live, routing.base.candidate())
            .map_err(|problem| ActError::Refused(problem.to_string()))?;
        let Some(patch) = patch else { continue };
        let version = live["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        hands.json_patch(Tracked::of(VIRTUAL_SERVICE), &of.name, version, &patch).await?;
    }
    Ok(())
}

/// Leads the active Service to one of the sides.
async fn lead(seen: &Seen<'_>, hands: &mut Hands<'_>, routing: &Routing) -> Result<(), ActError> {
    let to_candidate = routing.base.candidate() > 0;
    let to = if to_candidate { seen.sides.candidate() } else { seen.sides.stable.as_ref() };
    let (Some(live), Some(set)) = (&seen.stable_service, to) else { return Ok(()) };
    let [(_, pointed), _] = seen.pointing();
    if pointed.as_deref() == Some(set.hash.as_str()) {
        // That is where it is pointed with all Services.
        return Ok(());
    }
    let name = live["metadata"]["name"].as_str().unwrap_or_default();
    match point(live, &set.hash, &seen.view.key.name) {
        Some(patch) => hands.merge(Tracked::Service, name, patch).await,
        None => Ok(()),
    }
}

async fn scale_stable(seen: &Seen<'_>, hands: &mut Hands<'_>, replicas: i32) -> Result<(), ActError> {
    match &seen.sides.stable {
        Some(set) if set.replicas != replicas || set.deadline.is_some() => {
            let patch = scaled(set, replicas, seen.spec.replicas, None);
            hands.merge(Tracked::ReplicaSet, &set.name, patch).await
        }
        Some(_) | None => Ok(()),
    }
}

/// Makes the set of the present template, or scales it. A revision that comes again is the newest.
async fn scale_candidate(seen: &Seen<'_>, hands: &mut Hands<'_>, replicas: i32) -> Result<(), ActError> {
    let newest = seen.sides.next_revision();
    match &seen.sides.current {
        None => hands.create(Tracked::ReplicaSet, &seen.maker().set(replicas, newest)).await.map(|_| ()),
        Some(_) if seen.sides.is_stable() => Ok(()),
        Some(set) if set.replicas == replicas && set.deadline.is_none() => Ok(()),
        Some(set) => {
            let revision = (set.revision + 1 < newest).then_some(newest);
            let patch = scaled(set, replicas, seen.spec.replicas, revision);
            hands.merge(Tracked::ReplicaSet, &set.name, patch).await
        }
    }
}

/// A revision that is being released has a set from the beginning, if without pods, with the newest number.
pub(super) async fn number(seen: &Seen<'_>, hands: &mut Hands<'_>) -> Result<(), ActError> {
    let newest = seen.sides.next_revision();
    match &seen.sides.current {
        None => hands.create(Tracked::ReplicaSet, &seen.maker().set(0, newest)).await.map(|_| ()),
        Some(set) if !seen.sides.is_stable() && set.revision + 1 < newest => {
            let patch = json!({"metadata": {
                "resourceVersion": set.resource_version, "annotations": {REVISION: newest.to_string()},
            }});
            hands.merge(Tracked::ReplicaSet, &set.name, patch).await
        }
        Some(_) => Ok(()),
    }
}

/// The workload whose template the Rollout takes loses its own pods as is said.
pub(super) async fn scale_workload(seen: &Seen<'_>, live: &Value, hands: &mut Hands<'_>) -> Result<(), ActError> {
    let Some(workload) = &seen.spec.workload else { return Ok(()) };
    let size = seen.spec.replicas;
    let serving = seen.sides.all().map(|set| set.available).sum();
    let is_done = seen.sides.is_stable() && seen.sides.stable.as_ref().is_some_and(|set| set.available >= size);
    let replicas = live["spec"]["replicas"].as_i64().and_then(|count| i32::try_from(count).ok()).unwrap_or(1);
    let Some(left) = left(workload.scale_down, size, serving, is_done, replicas) else { return Ok(()) };
    let patch = json!({
        "metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}, "spec": {"replicas": left},
    });
    hands.merge(Tracked::Deployment, &workload.name, patch).await
}

/// Where pods are the traffic: all sets but the stable one have so many pods together.
async fn resize(seen: &Seen<'_>, hands: &mut Hands<'_>, replicas: i32) -> Result<(), ActError> {
    let resized = seen.sides.resize(replicas);
    for (set, replicas) in &resized.shrunk {
        hands.merge(Tracked::ReplicaSet, &set.name, scaled(set, *replicas, seen.spec.replicas, None)).await?;
    }
    let before = seen.sides.candidate().map_or(0, |set| set.replicas);
    if resized.more > 0 { scale_candidate(seen, hands, before + resized.more).await } else { Ok(()) }
}

/// What nobody is on any more gets its time: the candidate, or what has served before.
async fn retire(seen: &Seen<'_>, hands: &mut Hands<'_>) -> Result<(), ActError> {
    match seen.sides.candidate() {
        Some(set) if set.is_up() => {
            let until = seen.spec.abort_scale_down_delay().map(|delay| after(seen.now, delay));
            hands.merge(Tracked::ReplicaSet, &set.name, timed(set, until)).await
        }
        Some(_) => Ok(()),
        None => {
            let until = after(seen.now, seen.spec.scale_down_delay());
            for set in seen.sides.others.iter().filter(|set| set.is_up()) {
                hands.merge(Tracked::ReplicaSet, &set.name, timed(set, Some(until))).await?;
            }
            Ok(())
        }
    }
}

/// Makes the set of the present template the stable one; the status says which that is.
async fn switch(seen: &Seen<'_>, hands: &mut Hands<'_>, version: &str, expect: &Digest) -> Result<(), ActError> {
    let (key, found) = (&seen.view.key, &seen.view.digest);
    if found != expect {
        return Err(ActError::Changed(format!("Rollout {key} is at {found}, expected {expect}")));
    }
    let hash = match &seen.sides.current {
        Some(set) => {
            if set.deadline.is_some() || set.replicas < seen.spec.replicas {
                let patch = scaled(set, seen.spec.replicas, seen.spec.replicas, None);
                hands.merge(Tracked::ReplicaSet, &set.name, patch).await?;
            }
            set.hash.clone()
        }
        None => {
            let set = seen.maker().set(seen.spec.replicas, seen.sides.next_revision());
            hands.create(Tracked::ReplicaSet, &set).await?;
            seen.maker().hash()
        }
    };
    make_stable(seen, hands, version, &hash).await
}

/// Makes the set of what was promoted the stable one again.
async fn restore(seen: &Seen<'_>, hands: &mut Hands<'_>, version: &str, expect: &Digest) -> Result<(), ActError> {
    let found = seen.sides.all().find(|set| set.digest == *expect);
    let set = found.ok_or_else(|| {
        let key = &seen.view.key;
        ActError::Refused(format!("Rollout {key} has no ReplicaSet of {expect} any more: what serves now stays"))
    })?;
    if !set.is_up() || set.replicas < seen.spec.replicas {
        let patch = scaled(set, seen.spec.replicas, seen.spec.replicas, None);
        hands.merge(Tracked::ReplicaSet, &set.name, patch).await?;
    }
    make_stable(seen, hands, version, &set.hash).await
}

async fn make_stable(seen: &Seen<'_>, hands: &mut Hands<'_>, version: &str, hash: &str) -> Result<(), ActError> {
    if seen.status["stableRS"] == hash {
        return Ok(());
    }
    let name = &seen.view.key.name;
    hands.status_of(Tracked::Rollout, name, version, json!({"stableRS": hash})).await.map(|_| ())
}

/// Puts away a set that has served.
pub(super) async fn put_away(found: &Sweep, seen: &Seen<'_>, hands: &mut Hands<'_>) -> Result<(), ActError> {
    match found {
        Sweep::Time(set) => {
            let until = after(seen.now, seen.spec.scale_down_delay());
            hands.merge(Tracked::ReplicaSet, &set.name, timed(set, Some(until))).await
        }
        Sweep::Zero(set) => {
            let patch = scaled(set, 0, seen.spec.replicas, None);
            hands.merge(Tracked::ReplicaSet, &set.name, patch).await
        }
        Sweep::Delete(set) => hands.delete(Tracked::ReplicaSet, &set.name, set.resource_version.clone()).await,
    }
}
