//! The loop: what the branch went through and what became of it, from Git and the cluster, to the forge.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::ledger::{Ledger, Told};
use super::store::Store;
use super::target::WatchedTarget;
use super::touched::{Targets, touched};
use crate::api::annotations::PROJECTED_FORGE;
use crate::api::{Canary, SourceStatus};
use crate::cluster::{Cluster, EffectKind, Listener, Reflected, Said, WriteError, Writer, explain};
use crate::forge::{CommitStatus, Forge, ForgeError};
use crate::git::{self, TreePath};
use crate::model::{CommitId, NamespacedName, after};
use crate::report::events::Now;

/// Commits of one look that are told apart: more at once is a first push, or another history.
const COMMITS_MAX: usize = 100;
/// Statuses told in one go, before it is looked again whether they still say what is so.
const BATCH: usize = 10;
/// Longest time of one call to the forge, with the one that asks first; the client has limits of its own.
const FORGE_LIMIT: Duration = Duration::from_secs(40);
/// Wait after the forge could not be reached; doubled each time.
const AWAY_FIRST: Duration = Duration::from_secs(5);
/// Longest wait: it is back some day, and then the final words should not be late.
const AWAY_MAX: Duration = Duration::from_secs(300);
/// Wait where a person has to change something.
const DENIED_WAIT: Duration = Duration::from_secs(120);
/// Wait after the cluster could not be read or written.
const AGAIN: Duration = Duration::from_secs(5);
/// What only time changes, a Canary that does not come, is looked at this often.
const LOOK: Duration = Duration::from_secs(60);

/// What the loop is told once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `cluster.name`.
    pub cluster: String,
    /// The daemon's namespace.
    pub namespace: String,
    /// The watched branch's short name.
    pub branch: String,
    /// The folder of manifests in it.
    pub path: TreePath,
    /// The record's branch: where statuses lead.
    pub status_branch: String,
}

/// What the loop works with.
pub struct Context {
    /// The cluster.
    pub cluster: Cluster,
    /// The door for writes.
    pub writer: Writer,
    /// The cluster's Canaries.
    pub targets: Reflected<Option<WatchedTarget>>,
    /// The Sources, by name.
    pub sources: Reflected<SourceStatus>,
    /// The bare store, with what sync has fetched.
    pub store: git::Store,
    /// The forge; without one only questions are answered.
    pub forge: Option<Arc<dyn Forge>>,
    /// Settings.
    pub settings: Settings,
    /// What is known, for whoever asks.
    pub board: watch::Sender<Arc<Board>>,
    /// What time it is.
    pub now: Now,
}

/// Tells commits' statuses until `shutdown`.
pub async fn run(context: Context, shutdown: CancellationToken) {
    let serve = async {
        context.writer.claim().acquired().await;
        context.targets.ready().await;
        Loop::new(context).await.serve().await;
    };
    shutdown.run_until_cancelled(serve).await;
}

struct Loop {
    context: Context,
    store: Store,
    ledger: Ledger,
    /// The ledger as it is in the cluster.
    stored: String,
    /// Commits and targets of which it is known what the forge was told.
    verified: BTreeSet<(CommitId, NamespacedName)>,
    /// Nothing is told before that.
    not_before: Timestamp,
    failures: u32,
    trouble: Option<String>,
    said: Said,
}

impl Loop {
    async fn new(context: Context) -> Self {
        let store = Store::new(&context.cluster, &context.settings.namespace, &context.settings.cluster);
        let mut this = Self {
            context,
            store,
            ledger: Ledger::default(),
            stored: String::new(),
            verified: BTreeSet::new(),
            not_before: Timestamp::MIN,
            failures: 0,
            trouble: None,
            said: Said::default(),
        };
        if this.context.forge.is_some() {
            this.load().await;
        }
        this
    }

    async fn load(&mut self) {
        loop {
            match self.store.load().await {
                Ok((ledger, text)) => {
                    (self.ledger, self.stored) = (ledger, text);
                    return;
                }
                Err(words) => self.say(&format!("commit statuses wait: {words}")),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn serve(mut self) {
        let (mut canaries, mut sources) = (self.context.targets.changes(), self.context.sources.changes());
        loop {
            let wait = self.turn().await;
            wait_for(&mut canaries, &mut sources, wait).await;
        }
    }

    /// One look; how long there is nothing to do, if nothing happens.
    async fn turn(&mut self) -> Duration {
        let now = (self.context.now)();
        let targets = self.targets();
        let key = NamespacedName::new(&self.context.settings.namespace, &self.context.settings.cluster);
        let Some(source) = self.context.sources.get(&key) else { return LOOK };
        if let Err(words) = self.fold(&source, &targets, now).await {
            self.say(&format!("what commits touch cannot be read: {words}"));
        }
        self.ledger.learn(&source, now);
        self.ledger.judge(|canary| targets.get(canary), &source, now);
        self.ledger.trim(self.context.forge.is_some());
        let wait = match self.context.forge.clone() {
            None => LOOK,
            // What is to be told is known before an end leaves its outbox.
            Some(forge) => match self.save().await {
                true => {
                    let acknowledged = self.acknowledge(&targets).await;
                    let wait = self.tell(forge.as_ref(), now).await;
                    self.ledger.trim(true);
                    self.save().await;
                    if acknowledged { wait } else { wait.min(AGAIN) }
                }
                false => AGAIN,
            },
        };
        self.publish(&targets, &source);
        wait
    }

    fn publish(&self, targets: &BTreeMap<NamespacedName, WatchedTarget>, source: &SourceStatus) {
        let board = Board::new(&self.ledger, targets, source, self.trouble.clone());
        self.context.board.send_if_modified(|known| {
            let news = **known != board;
            if news {
                *known = Arc::new(board);
            }
            news
        });
    }

    fn targets(&self) -> BTreeMap<NamespacedName, WatchedTarget> {
        let all = self.context.targets.all().into_iter();
        all.filter_map(|(key, target)| Some((key, Option::clone(&target)?))).collect()
    }

    /// Takes in what the branch went through.
    async fn fold(
        &mut self,
        source: &SourceStatus,
        targets: &BTreeMap<NamespacedName, WatchedTarget>,
        now: Timestamp,
    ) -> Result<(), String> {
        let seen: Option<CommitId> = source.seen.as_ref().and_then(|seen| seen.commit.parse().ok());
        if let Some(tip) = seen.filter(|tip| self.ledger.tip.as_ref() != Some(tip)) {
            let known: Targets =
                targets.iter().map(|(canary, target)| (target.target.clone(), canary.clone())).collect();
            // At the first look, what happened long ago is nobody's news.
            let limit = if self.ledger.tip.is_some() { COMMITS_MAX } else { 1 };
            let (store, path) = (&self.context.store, &self.context.settings.path);
            // A cache that was lost has it when sync has fetched again.
            if !store.has(&tip).await.map_err(|error| explain(&error))? {
                return Ok(());
            }
            let steps = store.between(self.ledger.tip.as_ref(), &tip, path, limit).await;
            let steps = steps.map_err(|error| explain(&error))?;
            let read = tokio::task::spawn_blocking(move || touched(&steps, &known)).await;
            self.ledger.fold(tip, read.map_err(|error| error.to_string())?, now);
        }
        let applied = source.applied.as_ref().map(|applied| applied.commit.as_str());
        if applied.is_some() && applied == self.ledger.tip.as_ref().map(CommitId::as_str) {
            self.ledger.applied();
        }
        Ok(())
    }

    /// Writes the ledger if what has to survive has changed.
    async fn save(&mut self) -> bool {
        let text = match self.ledger.text() {
            Ok(text) => text,
            Err(error) => {
                self.say(&format!("commit statuses cannot be stored: {error}"));
                return false;
            }
        };
        if text == self.stored {
            return true;
        }
        match self.store.save(&self.context.writer, &text).await {
            Ok(()) => {
                self.stored = text;
                true
            }
            Err(words) => {
                self.say(&format!("commit statuses wait: {words}"));
                false
            }
        }
    }

    /// What the ledger has taken up may leave the outbox.
    async fn acknowledge(&self, targets: &BTreeMap<NamespacedName, WatchedTarget>) -> bool {
        let mut all = true;
        for (key, target) in targets {
            let Some(newest) =
                target.newest.as_ref().filter(|newest| target.acknowledged.as_ref() != Some(newest))
            else {
                continue;
            };
            let api: Api<Canary> = Api::namespaced(self.context.cluster.client(), &key.namespace);
            let patch = json!({"metadata": {"annotations": {PROJECTED_FORGE: newest}}});
            let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
            let write = api.patch_metadata(&key.name, &params, &patch);
            match self.context.writer.effect(EffectKind::Patch, &format!("Canary {key}"), write).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    tracing::debug!(canary = %key, "not told what the forge's statuses have: {}", explain(&error));
                    all = false;
                }
            }
        }
        all
    }

    /// Tells what is due; how long to wait for the next.
    async fn tell(&mut self, forge: &dyn Forge, now: Timestamp) -> Duration {
        if now < self.not_before {
            return until(self.not_before, now);
        }
        let (due, next) = self.ledger.due(now, forge.shows_progress(), forge.is_scarce());
        let more = due.len() > BATCH;
        for at in due.into_iter().take(BATCH) {
            if let Err(wait) = self.tell_one(forge, at, now).await {
                self.not_before = after(now, wait);
                return wait;
            }
        }
        if self.failures > 0 || self.trouble.is_some() {
            (self.failures, self.trouble) = (0, None);
            if self.said.forget() {
                tracing::info!("commit statuses are told again");
            }
        }
        if more { Duration::ZERO } else { next.map_or(LOOK, |next| until(next, now).min(LOOK)) }
    }

    /// Tells one; how long nothing is told if that failed.
    async fn tell_one(&mut self, forge: &dyn Forge, at: usize, now: Timestamp) -> Result<(), Duration> {
        let Some(status) = self.status(forge, at) else { return Ok(()) };
        let key = format!("{} of {}", status.context, status.commit.short());
        let asks = {
            let Some(entry) = self.ledger.entries.get(at) else { return Ok(()) };
            entry.told.is_none() && !self.verified.contains(&(entry.commit.clone(), entry.canary.clone()))
        };
        let call = async {
            // After a restart nobody here knows what was told last: it is asked, and not told twice.
            if asks
                && let Some(posted) = forge.posted(&status.commit, &status.context).await?
                && forge.is_same(&posted, &status)
            {
                return Ok(());
            }
            forge.post_status(&status).await
        };
        let write = async { Ok::<_, WriteError>(call.await) };
        let answer = self.context.writer.effect_within(FORGE_LIMIT, EffectKind::Forge, &key, write).await;
        let wait = match answer {
            Ok(Ok(())) => {
                self.note_told(at, now);
                return Ok(());
            }
            Ok(Err(ForgeError::Refused { forge, reason })) => {
                tracing::warn!("{key} is not told: {forge} refuses it: {reason}");
                self.note_told(at, now);
                return Ok(());
            }
            Ok(Err(error)) => {
                let wait = self.pause(&error);
                self.trouble = Some(error.to_string());
                self.say(&format!("commit statuses wait: {error}"));
                wait
            }
            Err(error) => {
                self.say(&format!("commit statuses wait: {}", explain(&error)));
                AGAIN
            }
        };
        Err(wait)
    }

    fn pause(&mut self, error: &ForgeError) -> Duration {
        match error {
            ForgeError::Limited { wait, .. } => *wait,
            ForgeError::Denied { .. } | ForgeError::Refused { .. } => DENIED_WAIT,
            ForgeError::Away { .. } => {
                let wait = AWAY_FIRST.saturating_mul(1 << self.failures.min(10)).min(AWAY_MAX);
                self.failures = self.failures.saturating_add(1);
                wait
            }
        }
    }

    fn note_told(&mut self, at: usize, now: Timestamp) {
        let Some(entry) = self.ledger.entries.get_mut(at) else { return };
        entry.told = Some(Told { state: entry.said.state, words: entry.said.words.clone(), at: now });
        entry.posts = entry.posts.saturating_add(1);
        self.verified.insert((entry.commit.clone(), entry.canary.clone()));
        let entries = &self.ledger.entries;
        self.verified.retain(|(commit, canary)| {
            entries.iter().any(|entry| entry.commit == *commit && entry.canary == *canary)
        });
    }

    fn status(&self, forge: &dyn Forge, at: usize) -> Option<CommitStatus> {
        let entry = self.ledger.entries.get(at)?;
        let Settings { cluster, branch, status_branch, .. } = &self.context.settings;
        let path = format!("{}/{}.yaml", entry.canary.namespace, entry.canary.name);
        Some(CommitStatus {
            commit: entry.commit.clone(),
            context: format!("serin/{cluster}/{}", entry.canary),
            state: entry.said.state,
            description: entry.said.words.clone(),
            target_url: forge.target_url(status_branch, &path),
            branch: branch.clone(),
        })
    }

    fn say(&mut self, words: &str) {
        if self.said.is_news(words) {
            tracing::warn!("{words}");
        }
    }
}

fn until(when: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(when.duration_since(now)).unwrap_or_default()
}

async fn wait_for(canaries: &mut Listener, sources: &mut Listener, wait: Duration) {
    // Whichever comes first; all only mean to look again.
    tokio::select! {
        () = canaries.heard() => {}
        () = sources.heard() => {}
        () = tokio::time::sleep(wait) => {}
    }
}
