//! The loop: wait, probe, pass, tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::apply::Trouble;
use super::desired::{Gvk, Link};
use super::ownership::Others;
use super::pass::{Extent, Pass, Passed, Until, Waiting};
use super::refused::Judge;
use super::request::Requests;
use super::retry::{Retry, Why};
use super::source::{Content, RecordSource, Source, SourceError};
use super::status::SyncStatus;
use super::store::InventoryStore;
use super::target::WatchedCanary;
use super::telemetry::Telemetry;
use super::told::{About, Teller};
use super::trigger::{self, PushTrigger};
use crate::api::{self, Inventory};
use crate::cluster::{Cluster, Listener, Reflected, Wake, Writer, explain};
use crate::model::{CommitId, NamespacedName};

/// Longest time Git may take: a fetch waits for another one and takes its own time (300 s each), reading takes 60 s, and overlays
/// are rendered. Those deadlines end what hangs; this one keeps the loop alive if they fail, and never cuts off what they allow.
const GIT_TIMEOUT: Duration = Duration::from_secs(900);
/// Shortest time between two looks at what Canaries allow: with thousands of them changes come faster than all of them are looked
/// through. One that comes alone is seen at once.
const CANARY_LOOKS: Duration = Duration::from_millis(100);
/// Time between two questions whether a kind is served again that was not, or a removal allowed that was refused.
const CHECK: Duration = Duration::from_secs(15);
/// Time between two comparisons of everything: what was changed in the cluster and is no release's business (a ConfigMap
/// that somebody edited) is put right by then. Two requests an object, so not more often.
const RESYNC: Duration = Duration::from_secs(1800);
/// Longest wait for the list of Canaries at the start, so that targets whose Canary is not in Git are known as such.
const CANARIES_WITHIN: Duration = Duration::from_secs(5);

/// What sync needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncSettings {
    /// Names the inventory: `serin-inventory-<cluster>`.
    pub cluster_name: String,
    /// The inventory's namespace.
    pub namespace: String,
    /// Time between two looks at the repository.
    pub poll_interval: Duration,
    /// Only objects in this namespace.
    pub only_namespace: Option<String>,
    /// Labels by which the pods of two sides may be told apart.
    pub selector_labels: Vec<String>,
    /// What is followed, as the Source object tells it.
    pub about: About,
}

/// What sync works with.
pub struct SyncContext {
    /// The cluster.
    pub cluster: Cluster,
    /// The door for writes.
    pub writer: Writer,
    /// The repository.
    pub source: Arc<dyn Source>,
    /// The record in Git.
    pub records: Arc<dyn RecordSource>,
    /// The cluster's Canaries.
    pub canaries: Reflected<WatchedCanary>,
    /// What the release engine thinks of a Canary.
    pub judge: Judge,
    /// Settings.
    pub settings: SyncSettings,
    /// Rung by push webhooks and by ourselves: look at the repository now.
    pub wake: Wake,
    /// What people ask for; it rings `wake`.
    pub requests: Requests,
    /// What push webhooks tell; they ring `wake`.
    pub pushes: PushTrigger,
    /// Rung on demand: compare every object, put right what was changed in the cluster.
    pub resync: Wake,
    /// Counts and times.
    pub telemetry: Telemetry,
    /// Where sync is.
    pub status: watch::Sender<SyncStatus>,
    /// Ends the loop.
    pub shutdown: CancellationToken,
}

/// Why the loop woke up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    /// Look at the repository.
    Look,
    /// A release let something go on; the commit is known.
    Admitted,
    /// Compare everything.
    Everything,
    /// Stop.
    Shutdown,
}

/// What the loop remembers between passes.
#[derive(Default)]
struct Memory {
    inventory: Option<Inventory>,
    content: Option<Arc<Content>>,
    waiting: Vec<Waiting>,
    /// Whether the next pass compares everything.
    everything: bool,
    /// Canaries whose reported drift has been looked at; one that reports it again later is looked at again.
    drift_seen: BTreeMap<NamespacedName, String>,
    /// Canaries that the cluster had at the last look.
    canaries_seen: BTreeSet<NamespacedName>,
    /// When to try again what could not be done.
    retry: Option<Retry>,
    /// Whether definitions may have come or gone since they were asked for.
    rediscover: bool,
    /// Kinds that Git has objects of and that were not served at the last look.
    unserved: BTreeSet<Gvk>,
    /// Namespaces in which objects stay that are gone from Git, and the Canaries there that release nothing.
    kept: BTreeSet<Option<String>>,
    idle: BTreeSet<NamespacedName>,
    /// When everything is compared again.
    resync: Option<Instant>,
    /// Commits that drop more than is deleted without being asked for.
    refused: BTreeSet<CommitId>,
}

struct Bells {
    wake: Listener,
    resync: Listener,
    canaries: Listener,
}

/// Syncs until `shutdown`.
pub async fn run(context: SyncContext) {
    let SyncContext { settings, source, wake, .. } = &context;
    let store = InventoryStore::new(&context.cluster, &settings.namespace, &settings.cluster_name);
    let _watch = source.local_git_dir().and_then(|dir| trigger::watch_refs(&dir, wake));
    let mut bells =
        Bells { wake: wake.listen(), resync: context.resync.listen(), canaries: context.canaries.changes() };
    let mut memory = Memory { everything: true, ..Memory::default() };
    if context.cluster.resolve(api::GROUP, api::VERSION, "Canary").await.is_ok() {
        tokio::time::timeout(CANARIES_WITHIN, context.canaries.ready()).await.ok();
    }
    let mut teller =
        Teller::new(&context.cluster, &settings.namespace, &settings.cluster_name, settings.about.clone());
    let mut woken = Woken::Look;
    loop {
        if !claimed(&context).await {
            return;
        }
        match woken {
            Woken::Shutdown => return,
            Woken::Everything => memory.everything = true,
            Woken::Look | Woken::Admitted => {}
        }
        // Taken before it is looked: what is asked for meanwhile wants another look.
        let asked = context.requests.newest();
        let looked = turn(&context, &store, &teller, &mut memory, woken).await;
        if answer(&context, asked) || looked {
            let status = context.status.borrow().clone();
            teller.tell(&context.writer, &status, context.cluster.clock().now()).await;
        }
        woken = wait(&context, &teller, &mut memory, &mut bells).await;
    }
}

/// Says that a request to look has been answered; whether that is news.
fn answer(context: &SyncContext, asked: Option<String>) -> bool {
    asked.is_some()
        && context.status.send_if_modified(|status| {
            let news = status.handled_request != asked;
            status.handled_request.clone_from(&asked);
            news
        })
}

/// Waits for the lease; `false` when it is time to stop.
async fn claimed(context: &SyncContext) -> bool {
    tokio::select! {
        biased;
        () = context.shutdown.cancelled() => false,
        () = context.writer.claim().acquired() => true,
    }
}

/// One look at Git and, if there is something to do, one pass; whether there may be something to tell.
async fn turn(
    context: &SyncContext,
    store: &InventoryStore,
    teller: &Teller,
    memory: &mut Memory,
    woken: Woken,
) -> bool {
    let content = match woken {
        Woken::Admitted => memory.content.clone(),
        Woken::Look | Woken::Everything | Woken::Shutdown => match timed_look(context, memory).await {
            Ok(content) => content,
            Err(error) => {
                let text = explain(&error);
                // Said once: the same trouble is met at every try, until somebody mends it.
                if context.status.send_if_modified(|status| replaced(&mut status.error, &text)) {
                    tracing::warn!("{text}");
                }
                memory.retry_later();
                return true;
            }
        },
    };
    let Some(content) = content else {
        // Nothing new, nothing open: no request, no write. What is to be tried again is not due yet.
        context.telemetry.rested();
        if context.status.send_if_modified(|status| status.error.take().is_some()) {
            tracing::info!("the repository can be read again, and has nothing new");
            return true;
        }
        return false;
    };
    let begun = Instant::now();
    let passed = pass(context, store, teller, memory, &content).await;
    context.telemetry.passed(begun.elapsed(), passed.is_err());
    match passed {
        Ok(passed) => {
            let mut status = passed.status.clone();
            status.handled_request = context.status.borrow().handled_request.clone();
            memory.settle(content, passed, &context.canaries);
            let before = context.status.send_replace(status.clone());
            if before.error.is_some() {
                tracing::info!("sync goes on");
            }
            for problem in status.problems.iter().filter(|problem| !before.problems.contains(problem)) {
                tracing::warn!("{problem}");
            }
        }
        Err(trouble) => {
            let text = trouble.words();
            let commit = content.commit.clone();
            if context.status.send_if_modified(|status| {
                status.seen = Some(commit);
                replaced(&mut status.error, &text)
            }) {
                tracing::warn!("sync is interrupted, trying again: {text}");
            }
            // Nobody knows what was written: read the inventory again and compare everything.
            memory.inventory = None;
            memory.everything = true;
            memory.content = Some(content);
            memory.retry_later();
        }
    }
    true
}

async fn timed_look(context: &SyncContext, memory: &Memory) -> Result<Option<Arc<Content>>, SourceError> {
    let begun = Instant::now();
    let found = look(context, memory).await;
    context.telemetry.looked(begun.elapsed(), found.is_err());
    found
}

/// The content to work through; `None` when nothing is new and nothing is open.
async fn look(context: &SyncContext, memory: &Memory) -> Result<Option<Arc<Content>>, SourceError> {
    let tip: CommitId = git(context.source.tip()).await?;
    match &memory.content {
        Some(content) if content.commit == tip => {
            let due = memory.retry.as_ref().is_some_and(|retry| retry.is_due(Instant::now()));
            // A missed wake-up costs one poll interval, not the release.
            let open = memory.everything
                || due
                || memory.may_go_on(&context.canaries)
                || memory.may_have_let_go(&context.canaries)
                || memory.has_new_drift(&context.canaries);
            Ok(open.then(|| content.clone()))
        }
        Some(_) | None => git(context.source.content(&tip)).await.map(Some),
    }
}

/// Puts a new text in place; whether it is new.
fn replaced(error: &mut Option<String>, text: &str) -> bool {
    let new = error.as_deref() != Some(text);
    *error = Some(text.to_owned());
    new
}

async fn git<T>(future: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
    match tokio::time::timeout(GIT_TIMEOUT, future).await {
        Ok(result) => result,
        Err(_elapsed) => Err(SourceError(format!("no answer from Git within {} s", GIT_TIMEOUT.as_secs()).into())),
    }
}

async fn pass(
    context: &SyncContext,
    store: &InventoryStore,
    teller: &Teller,
    memory: &mut Memory,
    content: &Content,
) -> Result<Passed, Trouble> {
    let mut inventory = match memory.inventory.take() {
        Some(inventory) => inventory,
        None => store.load().await?,
    };
    memory.drift_seen = drifted(&context.canaries);
    memory.canaries_seen.extend(context.canaries.keys());
    let due = memory.retry.as_ref().is_some_and(|retry| retry.is_due(Instant::now()));
    if std::mem::take(&mut memory.rediscover) || due {
        context.cluster.forget_discovery();
    }
    let SyncSettings { namespace, cluster_name, only_namespace, selector_labels, .. } = &context.settings;
    let own = NamespacedName::new(namespace, cluster_name);
    let others = Others::new(&context.cluster, &own, only_namespace.as_deref());
    let pass = Pass {
        cluster: &context.cluster,
        others: &others,
        writer: &context.writer,
        records: context.records.as_ref(),
        store,
        only_namespace: only_namespace.as_deref(),
        selector_labels,
        content,
        judge: context.judge,
        extent: if memory.everything { Extent::Everything } else { Extent::Unsettled },
        live_canaries: live_canaries(&context.canaries),
        drifted: memory.drift_seen.keys().cloned().collect(),
        // Nobody can allow what was not refused before.
        allowed: if inventory.removals.is_empty() { BTreeSet::new() } else { teller.allowed().await },
        told: context.status.borrow().clone(),
        preview: false,
    };
    let passed = pass.run(&mut inventory).await?;
    memory.inventory = Some(inventory);
    Ok(passed)
}

/// The Canaries whose targets were changed in the cluster, or which miss something.
fn drifted(canaries: &Reflected<WatchedCanary>) -> BTreeMap<NamespacedName, String> {
    let all = canaries.all().into_iter();
    all.filter_map(|(key, canary)| Some((key, canary.facts.awaits_git.clone()?))).collect()
}

/// The Canaries that release nothing.
fn idle(canaries: &Reflected<WatchedCanary>) -> BTreeSet<NamespacedName> {
    let all = canaries.all().into_iter();
    all.filter(|(_, canary)| canary.facts.allows_changes()).map(|(key, _)| key).collect()
}

fn live_canaries(canaries: &Reflected<WatchedCanary>) -> Vec<Link> {
    let mut links: Vec<Link> = canaries
        .all()
        .into_iter()
        .map(|(key, canary)| Link {
            target: canary.target.clone(),
            service: canary.service.clone(),
            serves: canary.facts.is_initialized(),
            canary: key,
            invalid: None,
        })
        .collect();
    links.sort_by(|a, b| a.canary.cmp(&b.canary));
    links
}

impl Memory {
    fn settle(&mut self, content: Arc<Content>, passed: Passed, canaries: &Reflected<WatchedCanary>) {
        let Passed { status, waiting, unserved, soon, planned: _ } = passed;
        let refused = status.refused_removals.iter().filter_map(|removal| removal.commit.parse().ok());
        self.refused = refused.collect();
        self.content = Some(content);
        self.waiting = waiting;
        self.unserved = unserved;
        if std::mem::take(&mut self.everything) {
            self.resync = Some(Instant::now() + trigger::jittered(RESYNC));
        }
        self.kept = status.kept.keys().map(|id| id.namespace.clone()).collect();
        self.idle = idle(canaries);
        let (conditions, kept) = (status.conditions.into_keys().collect(), status.kept.into_keys().collect());
        let open = [(Why::Soon, soon), (Why::Refused, conditions), (Why::Kept, kept)];
        let first = open.into_iter().find(|(_, what)| !what.is_empty());
        self.retry = first.map(|(why, what)| Retry::after(self.retry.as_ref(), why, what, Instant::now()));
    }

    fn retry_later(&mut self) {
        let next = Retry::after(self.retry.as_ref(), Why::Unreachable, BTreeSet::new(), Instant::now());
        self.retry = Some(next);
    }

    /// Whether something goes on that nothing rings for.
    fn waits_for_others(&self) -> bool {
        !self.unserved.is_empty() || !self.refused.is_empty()
    }

    /// Whether a release has ended where something stays only because somebody reads it.
    fn may_have_let_go(&self, canaries: &Reflected<WatchedCanary>) -> bool {
        let ended = |canary: &NamespacedName| {
            self.kept.contains(&Some(canary.namespace.clone())) || self.kept.contains(&None)
        };
        !self.kept.is_empty() && idle(canaries).difference(&self.idle).any(ended)
    }

    /// Whether the engine reports something that Git may put right and that has not been looked at yet.
    fn has_new_drift(&self, canaries: &Reflected<WatchedCanary>) -> bool {
        self.content.is_some()
            && drifted(canaries).iter().any(|(canary, what)| self.drift_seen.get(canary) != Some(what))
    }

    /// Whether a Canary is gone. Whoever took it (with its namespace, as a rule) may have taken more; and what it let go of
    /// is Git's from then on.
    fn has_lost_a_canary(&mut self, canaries: &Reflected<WatchedCanary>) -> bool {
        let live: BTreeSet<NamespacedName> = canaries.keys().into_iter().collect();
        let before = std::mem::replace(&mut self.canaries_seen, live);
        !before.is_subset(&self.canaries_seen)
    }

    fn forget_corrected(&mut self, canaries: &Reflected<WatchedCanary>) {
        if !self.drift_seen.is_empty() {
            let drifted = drifted(canaries);
            self.drift_seen.retain(|canary, _| drifted.contains_key(canary));
        }
    }

    /// Whether a release has let something go on.
    fn may_go_on(&self, canaries: &Reflected<WatchedCanary>) -> bool {
        self.waiting.iter().any(|Waiting { canary, until }| match (canaries.get(canary), until) {
            (None, Until::Admits(_) | Until::Idle | Until::Promoted(_) | Until::Correctable) => true,
            // A Canary that cannot be read is not gone.
            (None, Until::Gone) => canaries.problem(canary).is_none(),
            (None, Until::There | Until::Serves) | (Some(_), Until::Gone) => false,
            (Some(_), Until::There) => true,
            (Some(live), Until::Admits(digest)) => live.facts.admits(digest),
            (Some(live), Until::Idle) => live.facts.allows_changes(),
            (Some(live), Until::Serves) => live.facts.is_initialized(),
            (Some(live), Until::Promoted(digest)) => live.facts.runs(digest),
            (Some(live), Until::Correctable) => live.facts.allows_correction(),
        })
    }
}

/// Whether one of these kinds is served by now.
async fn is_served(context: &SyncContext, kinds: &BTreeSet<Gvk>) -> bool {
    for (group, version, kind) in kinds {
        if context.cluster.resolve(group, version, kind).await.is_ok() {
            return true;
        }
    }
    false
}

/// A change of a Canary, from a point of time on.
async fn heard_from(at: Instant, canaries: &mut Listener) {
    tokio::time::sleep_until(at).await;
    canaries.heard().await;
}

async fn wait(context: &SyncContext, teller: &Teller, memory: &mut Memory, bells: &mut Bells) -> Woken {
    let interval = context.pushes.interval(context.settings.poll_interval);
    let poll = Instant::now() + trigger::jittered(interval);
    let retry = memory.retry.as_ref().map(Retry::at);
    let resync = memory.resync;
    let mut check = Instant::now() + CHECK;
    let mut look = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = context.shutdown.cancelled() => return Woken::Shutdown,
            () = bells.resync.heard() => return Woken::Everything,
            () = tokio::time::sleep_until(resync.unwrap_or(poll)), if resync.is_some() => {
                return Woken::Everything;
            }
            () = bells.wake.heard() => return Woken::Look,
            () = heard_from(look, &mut bells.canaries) => {
                look = Instant::now() + CANARY_LOOKS;
                memory.forget_corrected(&context.canaries);
                if memory.has_lost_a_canary(&context.canaries) {
                    memory.rediscover = true;
                    return Woken::Everything;
                }
                if memory.may_go_on(&context.canaries)
                    || memory.has_new_drift(&context.canaries)
                    || memory.may_have_let_go(&context.canaries)
                {
                    return Woken::Admitted;
                }
                memory.idle = idle(&context.canaries);
            }
            () = tokio::time::sleep_until(check), if memory.waits_for_others() => {
                if !memory.refused.is_empty() && !teller.allowed().await.is_disjoint(&memory.refused) {
                    return Woken::Admitted;
                }
                if is_served(context, &memory.unserved).await {
                    memory.rediscover = true;
                    return Woken::Everything;
                }
                check = Instant::now() + CHECK;
            }
            () = tokio::time::sleep_until(retry.map_or(poll, |at| at.min(poll))) => return Woken::Look,
        }
    }
}
