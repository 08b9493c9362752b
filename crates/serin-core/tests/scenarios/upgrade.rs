//! States that the first version left behind, one in every phase: each is read, nothing is written again because of it, and what
//! was under way goes on to its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use serin_core::model::{Digest, Revision, Routing};
use serin_core::release::{
    Action, End, HookKind, OutcomeKind, Phase, PolicyStep, RouteObserved, Side, Stage, State, Verb, wire,
};

use super::policies::{add_hook, check, hook};
use super::world::{Workload, World, plain_policy};

/// Far more than what is left of a release takes.
const REST: Duration = Duration::from_secs(3600);

fn stored() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/it/upgrade/status-1");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The last moment that a state knows of: the new version comes then.
fn latest(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Array(items) => items.iter().filter_map(latest).max(),
        Value::Object(map) => {
            // What lies ahead is no moment that has been.
            let known = map.iter().filter(|(key, _)| !["due", "until", "deadline"].contains(&key.as_str()));
            known.filter_map(|(_, value)| latest(value)).max()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// The world that such a state is about.
fn world(state: State, status: &Value, is_deleted: bool) -> World {
    let mut policy = plain_policy();
    let weights = (1..=5).map(|tens| PolicyStep::Route(Routing::candidate_percent(10 * tens)));
    policy.steps = weights.flat_map(|route| [route, PolicyStep::Analyse]).collect();
    policy.watch.checks = [check("rate"), check("cost")].into_iter().collect();
    for kind in [HookKind::ConfirmRollout, HookKind::ConfirmPromotion, HookKind::PreRollout, HookKind::Rollout] {
        add_hook(&mut policy, hook(kind));
    }
    let mut world = World::new(policy);
    world.now = latest(&status["serin"]["state"]).unwrap();
    world.asking_since = Some(world.now);
    let first = Revision { digest: Digest::of_canonical(b"first"), commit: None };
    let promoted = state.promoted.as_ref().map_or(first, |promoted| promoted.revision.clone());
    let release = state.release();
    let applied = state.last_applied.clone().map(|digest| Revision { digest, commit: None });
    let target = release.map(|release| release.revision.clone()).or(applied).unwrap_or(promoted.clone());
    let waits = status["serin"]["state"]["waitingOn"]["kind"].as_str().unwrap_or_default();
    let (runs, primary) = match (&state.phase, release.map(|release| &release.stage)) {
        (Phase::Initializing { .. }, _) => (true, &promoted),
        (_, Some(Stage::Ending { end: End::Succeeded, .. })) => (true, &target),
        (_, Some(Stage::Confirming)) => (false, &promoted),
        (_, Some(Stage::ScalingUp { .. })) => (waits != "readiness", &promoted),
        (_, Some(_)) => (true, &promoted),
        (_, None) => (false, &promoted),
    };
    let side = |revision: &Revision, replicas: i32| Workload {
        settling: false,
        ..Workload::new(revision.digest.clone(), replicas)
    };
    world.primary = Some(side(primary, 2));
    world.target = Some(Workload { stamped: Some(target.clone()), ..side(&target, if runs { 2 } else { 0 }) });
    world.last_good = Some(promoted.digest.clone());
    let shown = release.map_or(Routing::default(), |release| release.routing.clone());
    let is_led = !matches!(&state.phase, Phase::Initializing { routed: None, .. });
    if is_led {
        world.route = RouteObserved::Present { routing: shown, current: true, unaccepted: None };
        (world.apex, world.deleting) = (Some(Side::Stable), is_deleted);
    }
    world.pending.clone_from(&state.admitted);
    world.saved = state.clone();
    world.state = state;
    world
}

/// Nothing that exists is made anew because another version looks at it: what the state had begun apart.
fn is_restart(action: &Action, state: &State) -> bool {
    match action {
        Action::CreatePrimary { .. } | Action::RestorePrimary { .. } | Action::SwitchStable { .. } => true,
        Action::CopyToPrimary { .. } => {
            !matches!(state.release().map(|release| &release.stage), Some(Stage::Promoting { .. }))
        }
        Action::ReturnTemplate { .. } => !matches!(state.phase, Phase::HandingBack(_)),
        Action::Scale { .. }
        | Action::EnsurePrimaryAutoscaler { .. }
        | Action::HoldTarget { .. }
        | Action::EnsureServices { .. }
        | Action::Route(_)
        | Action::StoreLastGood { .. }
        | Action::ReachTarget
        | Action::DropFormer { .. }
        | Action::LeadBack
        | Action::Leave
        | Action::LetGo => false,
    }
}

#[test]
fn what_the_first_version_left_in_any_phase_goes_on() {
    let files = stored();
    assert_eq!(files.len(), 28, "a state of every phase");
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let canary: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let status = &canary["status"];
        let version = status["serin"]["version"].as_i64().unwrap();
        let state = wire::read(version, status["serin"]["state"].clone());
        let state = state.unwrap_or_else(|error| panic!("{name}: {error}")).unwrap();
        let before = state.clone();
        let is_deleted = !canary["metadata"]["deletionTimestamp"].is_null();
        let mut world = world(state, status, is_deleted);
        let sizes = |world: &World| {
            [&world.target, &world.primary]
                .map(|side| side.as_ref().map(|side| (side.digest.clone(), side.replicas)))
        };
        let seen = sizes(&world);
        let mut first = Vec::new();
        world.settle(|round| {
            if first.is_empty() {
                first.clone_from(&round.step.actions);
            }
        });
        assert!(world.broken.is_empty(), "{name}: {}", world.complaints());
        assert!(!first.iter().any(|action| is_restart(action, &before)), "{name} begins with {first:?}");
        let is_idle = matches!(before.phase, Phase::Idle { .. }) && before.admitted.is_none() && !is_deleted;
        if is_idle {
            assert_eq!(sizes(&world), seen, "{name} is idle and stays as it is");
        }
        let paused = world.state.release().filter(|release| release.paused).map(|release| release.id.to_string());
        if let Some(id) = paused {
            assert_eq!(sizes(&world), seen, "{name} is paused and stays as it is");
            world.request(Verb::Resume, &id, 1);
        }
        world.advance(REST, |_| {});
        assert!(world.broken.is_empty(), "{name} in the end: {}", world.complaints());
        judge(&name, &before, &world);
    }
}

fn judge(name: &str, before: &State, world: &World) {
    if world.deleting {
        assert!(world.gone, "{name}: the Canary is still there");
        return;
    }
    let Phase::Idle { last, .. } = &world.state.phase else {
        panic!("{name} is still {:?}, waits for {:?}", world.state.phase, world.state.waiting_on);
    };
    let promoted = &world.state.promoted.as_ref().unwrap().revision.digest;
    assert_eq!(*promoted, world.primary.as_ref().unwrap().digest, "{name}: primary runs what was promoted");
    let Some(release) = before.release() else { return };
    let fails = matches!(release.stage, Stage::Ending { end: End::Failed { .. }, .. });
    let expected = if fails { OutcomeKind::Failed } else { OutcomeKind::Succeeded };
    assert_eq!(*last, expected, "{name}");
    assert_eq!(*promoted == release.revision.digest, !fails, "{name}");
}
