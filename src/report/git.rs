//! The loop that keeps Git up to date: Canaries' status in, record and rollback commits out.
//!
//! What is in Git is told back on the Canary (annotation `serin.dev/projected`), where the engine empties its outbox by it. What
//! became of a failed release on the watched branch (`serin.dev/rollback`) and what keeps state from reaching Git
//! (`serin.dev/unrecorded`) is told there, too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::events::Now;
use super::target::report_of;
use super::{Condition, GitReporter, Projection, ReporterSettings, TargetReport};
use crate::api::Canary;
use crate::api::annotations::{MANAGER_REPORT, PROJECTED, ROLLBACK, UNRECORDED};
use crate::cluster::{Cluster, EffectKind, Listener, Reflected, Said, SharedWatch, WriteError, Writer, explain};
use crate::forge::Forge;
use crate::git::{Remote, Store};
use crate::model::{self, NamespacedName, Projected, ReleaseId};
use crate::render::Renderer;

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

/// What the loop keeps of a Canary in memory.
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
    let Context { cluster, writer, canaries, store, remote, renderer, forge, mut settings, now: clock } = context;
    writer.claim().acquired().await;
    settings.writer = uid(&cluster).await;
    canaries.ready().await;
    let mut bell = canaries.changes();
    let reporter = GitReporter::new(store, remote, settings, writer.clone()).rendering(renderer);
    let mut reporter = reporter.with_forge(forge);
    let mut told = Told::default();
    loop {
        let (now, looked) = (clock(), Instant::now());
        let live: Vec<_> = canaries.all();
        let mut reports: Vec<TargetReport> = live.iter().filter_map(|(_, canary)| canary.report.clone()).collect();
        reports.sort_by(|a, b| a.canary.cmp(&b.canary));
        let gone = told.gone(canaries.keys());
        let mut again = None;
        if told.is_news(&reports, &gone, now) {
            let projection = reporter.project(&reports, &gone, now).await;
            let answered = tell(&cluster, &writer, &canaries, &projection).await;
            again = projection.again.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
            if !answered {
                again = Some(again.map_or(AGAIN, |again| again.min(AGAIN)));
            }
            told.settle(reports, gone, &projection, again.map(|again| now + again));
        }
        wait(&mut bell, looked, again.or_else(|| told.remaining(now))).await;
    }
}

async fn wait(bell: &mut Listener, looked: Instant, again: Option<Duration>) {
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
async fn tell(
    cluster: &Cluster,
    writer: &Writer,
    canaries: &Reflected<WatchedCanary>,
    projection: &Projection,
) -> bool {
    let mut all_told = true;
    for (key, canary) in canaries.all() {
        let problem =
            projection.conditions.iter().find(|condition| concerns(condition, &key, &canary, projection));
        let problem = match problem {
            // A host that is away for a moment is no news; what was said before may still be so.
            Some(Condition { passing: true, .. }) => canary.unrecorded.clone(),
            Some(Condition { reason, message, canary: _, passing: false }) => Some(format!("{reason}: {message}")),
            None => None,
        };
        let projected = projection.projected.get(&key);
        let note = projection.notes.get(&key).and_then(|note| serde_json::to_string(note).ok());
        let Some(patch) = annotations(&canary, projected, note, problem) else { continue };
        let api: Api<Canary> = Api::namespaced(cluster.client(), &key.namespace);
        let params = PatchParams { field_manager: Some(MANAGER_REPORT.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(&patch);
        let write = api.patch_metadata(&key.name, &params, &patch);
        match writer.effect(EffectKind::Patch, &format!("Canary {key}"), write).await {
            Ok(_) => {}
            // Deleted meanwhile: nobody is left to tell.
            Err(error) if error.is_not_found() => {}
            Err(error @ (WriteError::NotHeld | WriteError::Lost { .. } | WriteError::TimedOut { .. })) => {
                tracing::debug!("Canary {key} is not told what Git has: {error}");
                all_told = false;
            }
            Err(error) => {
                tracing::warn!(canary = %key, "failed to tell Canary {key} what Git has: {}", explain(&error));
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
