//! Kubernetes Events, projected from the journal in each Canary's status.
//!
//! One core/v1 object per message, with count, first and last time. It carries the number of the last journal entry that
//! it counts, so what was emitted is known after a crash, nothing is lost and nothing counted twice. (kube's Recorder
//! would fold different messages into one.)
//!
//! API servers list by name and keep whole seconds, and `kubectl describe` sorts by time, which leaves only a list that
//! is in order already as it was. So names follow from journal entries, and a message that comes back after others gets
//! a new object that goes on counting, in place of its old one.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event as EventObject, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::api::annotations::MANAGER_ENGINE;
use crate::cluster::{
    CallError, Cluster, EffectKind, Reflected, Said, SharedWatch, WriteError, Writer, call, explain,
};
use crate::model::NamespacedName;
use crate::release::{EventType, JournalEntry};

/// On an Event: number of the last journal entry that it counts.
const SEQ: &str = "serin.dev/journal-seq";
/// On an Event: number of the release that it tells of.
const RELEASE: &str = "serin.dev/journal-release";
/// Label on our Events, by which they are found after a restart.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value, and the component that `kubectl describe` shows.
const COMPONENT: &str = "serin";
/// Flagger's reason of every Event.
const REASON: &str = "Synced";
/// Types of Events.
const NORMAL: &str = "Normal";
const WARNING: &str = "Warning";
/// Entries older than this are not news after a restart: API servers keep Events for an hour.
const NEWS: SignedDuration = SignedDuration::from_mins(55);
/// Wait after an Event could not be written, or the kind is not served yet.
const AGAIN: Duration = Duration::from_secs(5);
/// Messages remembered per Canary, more than releases emit in the hour that an Event lives; a forgotten one that comes
/// back gets an object of its own.
const REMEMBERED: usize = 250;
/// Longest object name.
const NAME_MAX: usize = 253;
/// Events per page of the list at start.
const PAGE: u32 = 500;

/// A clock; only tests use another than the system's.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Emits Events until `shutdown`.
pub async fn run(
    cluster: Cluster,
    writer: Writer,
    namespace: Option<String>,
    journals: Journals,
    now: Now,
    shutdown: CancellationToken,
) {
    shutdown.run_until_cancelled(serve(cluster, writer, namespace, journals, now)).await;
}

async fn serve(cluster: Cluster, writer: Writer, namespace: Option<String>, journals: Journals, now: Now) {
    let Journals { cache: journals, changed } = journals;
    writer.claim().acquired().await;
    let mut emitter = Emitter { client: cluster.client(), writer, now, known: HashMap::new() };
    let mut said = Said::default();
    while let Err(error) = emitted(&cluster, namespace.as_deref(), &mut emitter).await {
        let words = format!("events wait for the API server: {}", explain(error.as_ref()));
        if said.is_news(&words) {
            tracing::warn!("{words}");
        }
        tokio::time::sleep(AGAIN).await;
    }
    loop {
        let mut failed = false;
        for key in changed.take() {
            let Some(journal) = journals.get(&key) else {
                emitter.known.retain(|_, known| known.canary.as_ref() != Some(&key));
                continue;
            };
            if let Err(error) = emitter.emit(&key, &journal).await {
                // One trouble meets many Canaries.
                let trouble = explain(&error);
                if said.is_news(&trouble) {
                    tracing::warn!(canary = %key, "failed to write an Event of Canary {key}, trying again: {trouble}");
                }
                changed.add(key);
                failed = true;
            }
        }
        if failed {
            tokio::time::sleep(AGAIN).await;
        } else {
            said.forget();
            changed.bell.notified().await;
        }
    }
}

/// Finds out what was emitted before this process.
async fn emitted(
    cluster: &Cluster,
    namespace: Option<&str>,
    emitter: &mut Emitter,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let api = match namespace {
        Some(namespace) => Api::<EventObject>::namespaced(cluster.client(), namespace),
        None => Api::<EventObject>::all(cluster.client()),
    };
    let mut params = ListParams::default().labels(&format!("{MANAGED_BY}={COMPONENT}")).limit(PAGE);
    loop {
        let page = call("list our Events", api.list(&params)).await?;
        for event in &page.items {
            // The process died between a new object and the end of the old one.
            if let (Some(replaced), Some(namespace)) = (emitter.remember(event), &event.metadata.namespace) {
                emitter.remove(namespace, &replaced).await?;
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// The journals of all Canaries, and which of them may have grown.
#[derive(Debug)]
pub struct Journals {
    cache: Reflected<Journal>,
    changed: Arc<Changed>,
}

impl Journals {
    /// Those of the Canaries that are watched.
    pub fn of(watch: &mut SharedWatch) -> Self {
        let changed = Arc::new(Changed::default());
        let ring = changed.clone();
        let cache = watch.cache(Journal::of, move |key| ring.add(key.clone()));
        Self { cache, changed }
    }
}

/// Canaries whose journal may have grown.
#[derive(Debug, Default)]
struct Changed {
    keys: Mutex<BTreeSet<NamespacedName>>,
    bell: Notify,
}

impl Changed {
    fn add(&self, key: NamespacedName) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        self.bell.notify_one();
    }

    fn take(&self) -> BTreeSet<NamespacedName> {
        std::mem::take(&mut *self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A Canary's journal.
#[derive(Debug, Clone, PartialEq)]
struct Journal {
    uid: String,
    resource_version: Option<String>,
    entries: Vec<JournalEntry>,
    /// What the log says beside each of them.
    about: About,
}

/// Where the target is as its entries are told.
#[derive(Debug, Clone, Default, PartialEq)]
struct About {
    phase: String,
    /// `<digest>@<commit>`.
    revision: String,
    weight: i64,
}

impl Journal {
    fn of(object: DynamicObject) -> Result<Self, String> {
        let entries = match &object.data["status"]["serin"]["state"]["journal"] {
            Value::Null => Vec::new(),
            journal => serde_json::from_value(journal.clone())
                .map_err(|error| format!("status.serin.state.journal: {error}"))?,
        };
        let status = &object.data["status"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let about = About {
            phase: text(&status["phase"]),
            revision: text(&status["serin"]["revision"]),
            weight: status["canaryWeight"].as_i64().unwrap_or_default(),
        };
        let metadata = object.metadata;
        let uid = metadata.uid.unwrap_or_default();
        Ok(Self { uid, resource_version: metadata.resource_version, entries, about })
    }
}

/// Entries in a row with the same message: one write.
#[derive(Debug, Clone, Copy)]
struct Run<'a> {
    first: &'a JournalEntry,
    last: &'a JournalEntry,
    count: i32,
}

/// What makes two entries repetitions of each other: type, message and the number of the release. The same words about another
/// release are other news.
type MessageKey = (&'static str, String, u64);

/// The object of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Emitted {
    name: String,
    count: i32,
    /// When the first of them happened.
    first: Timestamp,
    /// Number of the last entry that it counts.
    seq: u64,
}

impl Emitted {
    fn of(event: &EventObject) -> Option<Self> {
        let seq = event.metadata.annotations.as_ref()?.get(SEQ)?.parse().ok()?;
        let first = event.first_timestamp.as_ref().map_or(Timestamp::MIN, |time| time.0);
        Some(Self { name: event.metadata.name.clone()?, count: event.count.unwrap_or(1), first, seq })
    }
}

impl Run<'_> {
    /// The object that counts this run, and what `former` counted.
    fn emitted(&self, key: &NamespacedName, journal: &Journal, former: Option<&Emitted>) -> Emitted {
        Emitted {
            name: event_name(&key.name, &journal.uid, self.first.seq),
            count: self.count + former.map_or(0, |former| former.count),
            first: former.map_or(self.first.at, |former| former.first),
            seq: self.last.seq,
        }
    }
}

/// The log tells of releases what Events do: they are gone after an hour.
fn log(canary: &NamespacedName, about: &About, run: Run<'_>) {
    let About { phase, revision, weight } = about;
    let (digest, commit) = revision.split_once('@').unwrap_or((revision, ""));
    let commit = commit.get(..7).unwrap_or(commit);
    let message = &run.first.event.message;
    tracing::info!(%canary, phase, revision = digest, commit, weight, count = run.count, "{message}");
}

fn runs<'a>(entries: impl Iterator<Item = &'a JournalEntry>) -> Vec<Run<'a>> {
    let mut runs: Vec<Run<'a>> = Vec::new();
    for entry in entries {
        match runs.last_mut() {
            Some(run) if run.last.event == entry.event && run.last.release == entry.release => {
                run.last = entry;
                run.count += 1;
            }
            Some(_) | None => runs.push(Run { first: entry, last: entry, count: 1 }),
        }
    }
    runs
}

/// What is known to be emitted of one Canary.
#[derive(Debug, Default)]
struct Known {
    /// Which one, to forget it; `None` until it has been seen.
    canary: Option<NamespacedName>,
    /// Number of the next entry to emit.
    next: u64,
    events: HashMap<MessageKey, Emitted>,
}

struct Emitter {
    client: kube::Client,
    writer: Writer,
    now: Now,
    /// By the Canary's uid.
    known: HashMap<String, Known>,
}

impl Emitter {
    /// Takes up an Event that exists; returns the name of one that another has replaced.
    fn remember(&mut self, event: &EventObject) -> Option<String> {
        let uid = event.involved_object.uid.clone()?;
        let (emitted, message) = (Emitted::of(event)?, message_of(event)?);
        let known = self.known.entry(uid).or_default();
        known.next = known.next.max(emitted.seq + 1);
        match known.events.get(&message) {
            Some(other) if other.seq > emitted.seq => Some(emitted.name),
            Some(_) | None => {
                let former = known.events.insert(message, emitted.clone())?;
                (former.name != emitted.name).then_some(former.name)
            }
        }
    }

    async fn emit(&mut self, key: &NamespacedName, journal: &Journal) -> Result<(), WriteError> {
        let oldest = (self.now)().checked_sub(NEWS).unwrap_or(Timestamp::MIN);
        let next = {
            let known = self.known.entry(journal.uid.clone()).or_default();
            known.canary = Some(key.clone());
            known.next
        };
        let news = journal.entries.iter().filter(|entry| entry.seq >= next && entry.at >= oldest);
        for run in runs(news) {
            let message = (type_of(run.first.event.kind), run.first.event.message.clone(), run.first.release);
            let counted = self.known.get(&journal.uid).and_then(|known| known.events.get(&message)).cloned();
            let emitted = match counted {
                // Nothing else has happened since: the object keeps its place.
                Some(counted) if counted.seq + 1 == run.first.seq => {
                    self.recount(key, journal, counted, run).await?
                }
                Some(counted) => {
                    let emitted = self.create(key, journal, Some(&counted), run).await?;
                    if emitted.name != counted.name {
                        self.remove(&key.namespace, &counted.name).await?;
                    }
                    emitted
                }
                None => self.create(key, journal, None, run).await?,
            };
            log(key, &journal.about, run);
            if let Some(known) = self.known.get_mut(&journal.uid) {
                known.next = run.last.seq + 1;
                known.events.insert(message, emitted);
                known.shrink();
            }
        }
        Ok(())
    }

    /// Counts further entries; creates anew what has expired.
    async fn recount(
        &self,
        key: &NamespacedName,
        journal: &Journal,
        counted: Emitted,
        run: Run<'_>,
    ) -> Result<Emitted, WriteError> {
        let emitted = Emitted { count: counted.count + run.count, seq: run.last.seq, ..counted };
        let api = Api::<EventObject>::namespaced(self.client.clone(), &key.namespace);
        let patch = Patch::Merge(json!({
            "metadata": {"annotations": {SEQ: run.last.seq.to_string()}},
            "count": emitted.count,
            "lastTimestamp": Time(run.last.at),
        }));
        let params = PatchParams { field_manager: Some(MANAGER_ENGINE.to_owned()), ..PatchParams::default() };
        let label = format!("Event {}/{}", key.namespace, emitted.name);
        match self.writer.effect(EffectKind::Event, &label, api.patch(&emitted.name, &params, &patch)).await {
            Ok(_) => Ok(emitted),
            Err(error) if error.is_not_found() => {
                let emitted = run.emitted(key, journal, None);
                self.post(key, &event(key, journal, &emitted, run)).await.map(|()| emitted)
            }
            Err(error) => Err(error),
        }
    }

    /// Creates; if it is there already (its answer was lost, or it came after our list), counts what is new.
    async fn create(
        &self,
        key: &NamespacedName,
        journal: &Journal,
        former: Option<&Emitted>,
        run: Run<'_>,
    ) -> Result<Emitted, WriteError> {
        let emitted = run.emitted(key, journal, former);
        match self.post(key, &event(key, journal, &emitted, run)).await {
            Ok(()) => Ok(emitted),
            Err(error) if error.status().is_some_and(kube::core::Status::is_already_exists) => {
                let api = Api::<EventObject>::namespaced(self.client.clone(), &key.namespace);
                let found = call("read an Event", api.get(&emitted.name)).await.map_err(failed)?;
                let found = Emitted::of(&found).unwrap_or(emitted);
                let left = run.last.seq.saturating_sub(found.seq);
                match i32::try_from(left) {
                    Ok(0) | Err(_) => Ok(found),
                    Ok(left) => self.recount(key, journal, found, Run { count: left.min(run.count), ..run }).await,
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Removes an object that another has replaced.
    async fn remove(&self, namespace: &str, name: &str) -> Result<(), WriteError> {
        let api = Api::<EventObject>::namespaced(self.client.clone(), namespace);
        let label = format!("Event {namespace}/{name}");
        let params = DeleteParams::default();
        match self.writer.effect(EffectKind::Event, &label, api.delete(name, &params)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn post(&self, key: &NamespacedName, event: &EventObject) -> Result<(), WriteError> {
        let api = Api::<EventObject>::namespaced(self.client.clone(), &key.namespace);
        let params = PostParams { field_manager: Some(MANAGER_ENGINE.to_owned()), ..PostParams::default() };
        let label = format!("Event {}/{}", key.namespace, event.metadata.name.as_deref().unwrap_or_default());
        self.writer.effect(EffectKind::Event, &label, api.create(&params, event)).await.map(|_| ())
    }
}

impl Known {
    /// Forgets the oldest messages.
    fn shrink(&mut self) {
        while self.events.len() > REMEMBERED {
            let oldest =
                self.events.iter().min_by_key(|(_, emitted)| emitted.seq).map(|(message, _)| message.clone());
            let Some(oldest) = oldest else { return };
            self.events.remove(&oldest);
        }
    }
}

fn failed(error: CallError) -> WriteError {
    WriteError::failed(error)
}

fn type_of(kind: EventType) -> &'static str {
    match kind {
        EventType::Normal => NORMAL,
        EventType::Warning => WARNING,
    }
}

fn message_of(event: &EventObject) -> Option<MessageKey> {
    let kind = if event.type_.as_deref() == Some(WARNING) { WARNING } else { NORMAL };
    let release = event.metadata.annotations.as_ref().and_then(|all| all.get(RELEASE)?.parse().ok());
    Some((kind, event.message.clone()?, release.unwrap_or_default()))
}

/// `podinfo.<number of the entry>.<uid's hash>`, both in hex: in the journal's order, and not that of an earlier Canary of
/// the same name, whose Events outlive it and whose journal began at the same number.
fn event_name(canary: &str, uid: &str, seq: u64) -> String {
    let hash = Sha256::digest(uid.as_bytes());
    let hash: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let suffix = format!("{seq:012x}.{hash}");
    let room = NAME_MAX - suffix.len() - 1;
    let canary = canary.get(..room).unwrap_or(canary).trim_end_matches(['.', '-']);
    format!("{canary}.{suffix}")
}

fn event(key: &NamespacedName, journal: &Journal, emitted: &Emitted, run: Run<'_>) -> EventObject {
    let Emitted { name, count, first, seq } = emitted;
    EventObject {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(key.namespace.clone()),
            labels: Some([(MANAGED_BY.to_owned(), COMPONENT.to_owned())].into()),
            annotations: Some(
                [(SEQ.to_owned(), seq.to_string()), (RELEASE.to_owned(), run.first.release.to_string())].into(),
            ),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("flagger.app/v1beta1".to_owned()),
            kind: Some("Canary".to_owned()),
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            uid: Some(journal.uid.clone()),
            resource_version: journal.resource_version.clone(),
            ..ObjectReference::default()
        },
        type_: Some(type_of(run.first.event.kind).to_owned()),
        reason: Some(REASON.to_owned()),
        message: Some(run.first.event.message.clone()),
        count: Some(*count),
        first_timestamp: Some(Time(*first)),
        last_timestamp: Some(Time(run.last.at)),
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: None }),
        reporting_component: Some(COMPONENT.to_owned()),
        ..EventObject::default()
    }
}

#[cfg(test)]
mod tests;
