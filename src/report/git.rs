//! The loop that keeps Git up to date: Canaries' status in, record and rollback commits out.
//!
//! What is in Git is told back on the Canary (annotation `serin.dev/projected`), where the engine empties its outbox by it. What
//! became of a failed release on the watched branch (`serin.dev/rollback`) and what keeps state from reaching Git
//! (`serin.dev/unrecorded`) is told there, too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::events::Now;
use super::target::{report_of, report_of_rollout};
use super::{Condition, GitReporter, Projection, ReporterSettings, TargetReport};
use crate::api::Canary;
use crate::api::annotations::{MANAGER_REPORT, PROJECTED, ROLLBACK, STATE, UNRECORDED};
use crate::cluster::{Cluster, EffectKind, Listener, Reflected, Said, SharedWatch, WriteError, Writer, explain};
use crate::forge::Forge;
use crate::git::{Remote, Store};
use crate::model::{self, NamespacedName, Projected, ReleaseId};
use crate::render::Renderer;
use crate::rollout::keys::{GROUP, KIND, VERSION};

/// Wait after the cluster could not be asked who it is, or a Canary could not be told.
const AGAIN: Duration = Duration::from_secs(5);
/// Shortest time between two looks at all Canaries, each of which costs what there are of them.
const LOOKS: Duration = Duration::from_millis(250);

/// What the loop works with.
pub struct Context {
    /// The cluster.
    pub cluster: Cluster,
    /// The door for writes.
    pub writer: Writer,
    /// The cluster's Canaries.
    pub canaries: Reflected<WatchedCanary>,
    /// The cluster's Rollouts, where they are led.
    pub rollouts: Option<Reflected<WatchedCanary>>,
    /// The bare store.
    pub store: Store,
    /// The repository.
    pub remote: Remote,
    /// Its forge, if there is one.
    pub forge: Option<Arc<dyn Forge>>,
    /// Renders what the repository holds.
    pub renderer: Renderer,
    /// Settings; the writer's UID is filled in here.
    pub settings: ReporterSettings,
    /// What time it is.
    pub now: Now,
}

/// What the loop keeps of a Canary, or a Rollout, in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchedCanary {
    report: Option<TargetReport>,
    projected: Projected,
    rollback: Option<String>,
    unrecorded: Option<String>,
}

impl WatchedCanary {
    fn of(canary: &Canary) -> Self {
        let key = NamespacedName::new(canary.namespace().unwrap_or_default(), canary.name_any());
        let annotation = |key: &str| canary.annotations().get(key).cloned();
        let report = report_of(&key, canary);
        let projected = annotation(PROJECTED).map(|text| Projected::from(text.as_str())).unwrap_or_default();
        Self { report, projected, rollback: annotation(ROLLBACK), unrecorded: annotation(UNRECORDED) }
    }
}

/// The Rollouts as the record tells them, from now on.
pub fn watch_rollouts(
    cluster: &Cluster,
    namespace: Option<&str>,
    shutdown: CancellationToken,
) -> Reflected<WatchedCanary> {
    let kind = rollout_kind();
    let api = match namespace {
        Some(namespace) => Api::namespaced_with(cluster.client(), namespace, &kind),
        None => Api::all_with(cluster.client(), &kind),
    };
    let convert = |object: DynamicObject| {
        let key = NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any());
        let annotation = |key: &str| object.annotations().get(key).cloned();
        let report = report_of_rollout(&key, annotation(STATE).as_deref(), &object.data["spec"]);
        let projected = annotation(PROJECTED).map(|text| Projected::from(text.as_str())).unwrap_or_default();
        let (rollback, unrecorded) = (annotation(ROLLBACK), annotation(UNRECORDED));
        Ok(WatchedCanary { report, projected, rollback, unrecorded })
    };
    Reflected::start(api, watcher::Config::default(), shutdown, convert, |_| {})
}

fn rollout_kind() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, KIND))
}

/// The Canaries as the record tells them.
pub fn watched_canaries(watch: &mut SharedWatch) -> Reflected<WatchedCanary> {
    let convert = |object: DynamicObject| {
        let canary = object.try_parse::<Canary>().map_err(|error| error.to_string())?;
        Ok(WatchedCanary::of(&canary))
    };
    watch.cache(convert, |_| {})
}

/// Keeps Git up to date until `shutdown`.
pub async fn run(context: Context, shutdown: CancellationToken) {
    shutdown.run_until_cancelled(serve(context)).await;
}

async fn serve(context: Context) {
    let Context { cluster, writer, canaries, rollouts, store, remote, renderer, forge, mut settings, now: clock } =
        context;
    writer.claim().acquired().await;
    settings.writer = uid(&cluster).await;
    canaries.ready().await;
    // Whether Rollouts are served is not known: what is there is told when it comes.
    let mut bells = Bells { canaries: canaries.changes(), rollouts: rollouts.as_ref().map(Reflected::changes) };
    let all_of = || Targets::of(&canaries, rollouts.as_ref());
    let reporter = GitReporter::new(store, remote, settings, writer.clone()).rendering(renderer);
    let mut reporter = reporter.with_forge(forge);
    let mut told = Told::default();
    loop {
        let (now, looked) = (clock(), Instant::now());
        let live = all_of();
        let reports = live.reports();
        let gone = told.gone(live.keys());
        let mut again = None;
        if told.is_news(&reports, &gone, now) {
            let projection = reporter.project(&reports, &gone, now).await;
            let answered = tell(&cluster, &writer, &live, &projection).await;
            again = projection.again.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
            if !answered {
                again = Some(again.map_or(AGAIN, |again| again.min(AGAIN)));
            }
            told.settle(reports, gone, &projection, again.map(|again| now + again));
        }
        wait(&mut bells, looked, again.or_else(|| told.remaining(now))).await;
    }
}

/// Who tells of changes.
struct Bells {
    canaries: Listener,
    rollouts: Option<Listener>,
}

impl Bells {
    async fn heard(&mut self) {
        let Self { canaries, rollouts } = self;
        match rollouts {
            Some(rollouts) => {
                tokio::select! {
                    () = canaries.heard() => {}
                    () = rollouts.heard() => {}
                }
            }
            None => canaries.heard().await,
        }
    }
}

/// Who has something to tell.
struct Targets {
    all: Vec<(NamespacedName, ApiResource, Arc<WatchedCanary>)>,
}

impl Targets {
    /// Canaries, and Rollouts of other names: the record has one file for a name.
    fn of(canaries: &Reflected<WatchedCanary>, rollouts: Option<&Reflected<WatchedCanary>>) -> Self {
        let (canary, rollout) = (ApiResource::erase::<Canary>(&()), rollout_kind());
        let mut all: Vec<_> =
            canaries.all().into_iter().map(|(key, found)| (key, canary.clone(), found)).collect();
        let names: BTreeSet<NamespacedName> = all.iter().map(|(key, ..)| key.clone()).collect();
        let others = rollouts.map(Reflected::all).unwrap_or_default().into_iter();
        let others = others.filter(|(key, _)| !names.contains(key));
        all.extend(others.map(|(key, found)| (key, rollout.clone(), found)));
        Self { all }
    }

    fn keys(&self) -> Vec<NamespacedName> {
        self.all.iter().map(|(key, ..)| key.clone()).collect()
    }

    fn reports(&self) -> Vec<TargetReport> {
        let mut reports: Vec<TargetReport> =
            self.all.iter().filter_map(|(_, _, found)| found.report.clone()).collect();
        reports.sort_by(|a, b| a.canary.cmp(&b.canary));
        reports
    }
}

async fn wait(bell: &mut Bells, looked: Instant, again: Option<Duration>) {
    // A change that comes alone is projected at once; a thousand of them at once are a few looks, not a thousand.
    let next = async {
        tokio::time::sleep_until(looked + LOOKS).await;
        bell.heard().await;
    };
    match again {
        Some(again) => {
            // Whichever comes first; both only mean to look again.
            tokio::time::timeout(again, next).await.ok();
        }
        None => next.await,
    }
}

async fn uid(cluster: &Cluster) -> String {
    let mut said = Said::default();
    loop {
        match cluster.uid().await {
            Ok(uid) => return uid.to_owned(),
            Err(error) => {
                let words = format!("the record waits for the cluster's identity: {}", explain(&error));
                if said.is_news(&words) {
                    tracing::warn!("{words}");
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// What was projected last, so that a change of nothing that matters costs nothing.
#[derive(Default)]
struct Told {
    reports: Vec<TargetReport>,
    seen: BTreeSet<NamespacedName>,
    /// Deleted Canaries that the record still has to lose.
    gone: BTreeSet<NamespacedName>,
    due: Option<Timestamp>,
}

impl Told {
    /// Canaries that were there and are not any more.
    fn gone(&mut self, keys: Vec<NamespacedName>) -> Vec<NamespacedName> {
        let keys: BTreeSet<NamespacedName> = keys.into_iter().collect();
        self.gone.extend(self.seen.difference(&keys).cloned());
        self.gone.retain(|key| !keys.contains(key));
        self.seen = keys;
        self.gone.iter().cloned().collect()
    }

    fn is_news(&self, reports: &[TargetReport], gone: &[NamespacedName], now: Timestamp) -> bool {
        self.reports != reports || !gone.is_empty() || self.due.is_some_and(|due| due <= now)
    }

    fn settle(
        &mut self,
        reports: Vec<TargetReport>,
        gone: Vec<NamespacedName>,
        projection: &Projection,
        due: Option<Timestamp>,
    ) {
        self.reports = reports;
        self.due = due;
        if projection.settled {
            for key in gone {
                self.gone.remove(&key);
            }
        }
    }

    fn remaining(&self, now: Timestamp) -> Option<Duration> {
        self.due.map(|due| Duration::try_from(due.duration_since(now)).unwrap_or_default())
    }
}

/// Tells the Canaries what is in Git and what is not; `false` if one could not be told.
async fn tell(cluster: &Cluster, writer: &Writer, targets: &Targets, projection: &Projection) -> bool {
    let mut all_told = true;
    for (key, kind, canary) in &targets.all {
        let problem = projection.conditions.iter().find(|condition| concerns(condition, key, canary, projection));
        let problem = match problem {
            // A host that is away for a moment is no news; what was said before may still be so.
            Some(Condition { passing: true, .. }) => canary.unrecorded.clone(),
            Some(Condition { reason, message, canary: _, passing: false }) => Some(format!("{reason}: {message}")),
            None => None,
        };
        let projected = projection.projected.get(key);
        let note = projection.notes.get(key).and_then(|note| serde_json::to_string(note).ok());
        let Some(patch) = annotations(canary, projected, note, problem) else { continue };
        let api: Api<DynamicObject> = Api::namespaced_with(cluster.client(), &key.namespace, kind);
        let what = format!("{} {key}", kind.kind);
        let params = PatchParams { field_manager: Some(MANAGER_REPORT.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(&patch);
        let write = api.patch_metadata(&key.name, &params, &patch);
        match writer.effect(EffectKind::Patch, &what, write).await {
            Ok(_) => {}
            // Deleted meanwhile: nobody is left to tell.
            Err(error) if error.is_not_found() => {}
            Err(error @ (WriteError::NotHeld | WriteError::Lost { .. } | WriteError::TimedOut { .. })) => {
                tracing::debug!("{what} is not told what Git has: {error}");
                all_told = false;
            }
            Err(error) => {
                tracing::warn!(canary = %key, "failed to tell {what} what Git has: {}", explain(&error));
                all_told = false;
            }
        }
    }
    all_told
}

/// Whether a condition keeps something of this Canary from Git. One about everything concerns those that have something to
/// tell: a Git host that is away for a minute is no news to a thousand idle Canaries.
fn concerns(condition: &Condition, key: &NamespacedName, canary: &WatchedCanary, projection: &Projection) -> bool {
    if let Some(about) = &condition.canary {
        return about == key;
    }
    let recorded =
        |release: &ReleaseId| projection.recorded.iter().any(|(of, known)| of == key && known == release);
    canary.report.as_ref().is_some_and(|report| {
        report.release.is_some() || report.outbox.iter().any(|outcome| !recorded(&outcome.release))
    })
}

/// The patch that makes the annotations say what they should; `None` if they do.
fn annotations(
    canary: &WatchedCanary,
    projected: Option<&Projected>,
    note: Option<String>,
    problem: Option<String>,
) -> Option<Value> {
    let mut wanted = serde_json::Map::new();
    let mut told = canary.projected.clone();
    for by in model::Projection::GIT {
        if let Some(release) = projected.and_then(|projected| projected.up_to(by)) {
            told.note(by, release.clone());
        }
    }
    if told != canary.projected {
        wanted.insert(PROJECTED.to_owned(), json!(told.to_string()));
    }
    if note.is_some() && canary.rollback != note {
        wanted.insert(ROLLBACK.to_owned(), json!(note));
    }
    if canary.unrecorded != problem {
        // In a merge patch null removes.
        wanted.insert(UNRECORDED.to_owned(), json!(problem));
    }
    (!wanted.is_empty()).then(|| json!({"metadata": {"annotations": wanted}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> NamespacedName {
        NamespacedName::new("test", name)
    }

    #[test]
    fn a_deleted_canary_is_told_until_it_is_settled() {
        let mut told = Told::default();
        assert!(told.gone(vec![key("a"), key("b")]).is_empty());
        assert_eq!(told.gone(vec![key("a")]), [key("b")]);
        assert_eq!(told.gone(vec![key("a")]), [key("b")], "still open");
        told.settle(Vec::new(), vec![key("b")], &Projection::default(), None);
        assert_eq!(told.gone(vec![key("a")]), [key("b")], "the record could not be written");
        let settled = Projection { settled: true, ..Projection::default() };
        told.settle(Vec::new(), vec![key("b")], &settled, None);
        assert!(told.gone(vec![key("a")]).is_empty());
    }
}
