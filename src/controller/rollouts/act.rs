//! Carries out the engine's actions on ReplicaSets, Services and the VirtualService. As with Canaries no choices are left here.

use serde_json::json;

use crate::model::{Digest, Routing, after};
use crate::release::{Action, Side};
use crate::rollout::services::point;
use crate::rollout::sets::{Sweep, scaled, timed};
use crate::rollout::virtual_service;
use crate::router::VIRTUAL_SERVICE;

use super::look::Seen;
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
    Ok(())
}

async fn route(seen: &Seen<'_>, hands: &mut Hands<'_>, routing: &Routing) -> Result<(), ActError> {
    let canary = &seen.spec.canary;
    let Some(live) = &seen.route else { return Ok(()) };
    let patch = virtual_service::shift(live, &canary.shifted, routing.base.candidate())
        .map_err(|problem| ActError::Refused(problem.to_string()))?;
    let Some(patch) = patch else { return Ok(()) };
    let version = live["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    hands.json_patch(Tracked::of(VIRTUAL_SERVICE), &canary.shifted.virtual_service, version, &patch).await
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

/// What nobody is on any more gets its time: the candidate, or what has served before.
async fn retire(seen: &Seen<'_>, hands: &mut Hands<'_>) -> Result<(), ActError> {
    let canary = &seen.spec.canary;
    match seen.sides.candidate() {
        Some(set) if set.is_up() => {
            let until = canary.abort_scale_down_delay.map(|delay| after(seen.now, delay));
            hands.merge(Tracked::ReplicaSet, &set.name, timed(set, until)).await
        }
        Some(_) => Ok(()),
        None => {
            let until = after(seen.now, canary.scale_down_delay);
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
            let until = after(seen.now, seen.spec.canary.scale_down_delay);
            hands.merge(Tracked::ReplicaSet, &set.name, timed(set, Some(until))).await
        }
        Sweep::Zero(set) => {
            let patch = scaled(set, 0, seen.spec.replicas, None);
            hands.merge(Tracked::ReplicaSet, &set.name, patch).await
        }
        Sweep::Delete(set) => hands.delete(Tracked::ReplicaSet, &set.name, set.resource_version.clone()).await,
    }
}
