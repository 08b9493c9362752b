//! Watched kinds: one stream per kind, turned into compact values on arrival and shared.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::{StreamExt as _, pin_mut};
use kube::Api;
use kube::ResourceExt as _;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::watcher;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::connect::Cluster;
use super::explain::{explain, is_not_found};
use super::watch::{status_of, watch as watched};
use crate::model::NamespacedName;

/// Wakes everybody who listens; carries no data, so a wake-up that is late or doubled does no harm.
#[derive(Debug, Clone)]
pub struct Wake(Arc<watch::Sender<u64>>);

impl Default for Wake {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Wake {
    /// Wakes all listeners.
    pub fn ring(&self) {
        self.0.send_modify(|rings| *rings = rings.wrapping_add(1));
    }

    /// A listener that hears everything from now on.
    pub fn listen(&self) -> Listener {
        Listener { receiver: self.0.subscribe(), _bell: self.0.clone() }
    }
}

/// Hears rings; several rings between two looks are one.
#[derive(Debug)]
pub struct Listener {
    receiver: watch::Receiver<u64>,
    /// Keeps the channel open, so that waiting can only end by a ring.
    _bell: Arc<watch::Sender<u64>>,
}

impl Listener {
    /// Returns at the first ring that has not been heard yet. Cancel safe.
    pub async fn heard(&mut self) {
        if self.receiver.changed().await.is_err() {
            // The sender lives in `_bell`, so this cannot happen; waiting for ever is the harmless reading of it.
            std::future::pending::<()>().await;
        }
    }
}

/// Drops what no decision needs and every object carries.
fn compact_metadata(object: &mut DynamicObject) {
    object.metadata.managed_fields = None;
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// What was said of a watch that is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    NotServed,
    Trouble,
}

/// Says once why a watch is interrupted. A kind that is not served yet is no trouble: its definition may be on its way; nor
/// is a watch that the API server wants to begin anew. An API server that is away would be told once a watch: the lease and
/// whoever writes say so.
fn tell_interruption(path: &str, error: &watcher::Error, told: &mut Option<Told>) {
    let text = explain(error);
    if status_of(error).is_none_or(|status| status.code == GONE || status.code >= UNAVAILABLE) {
        tracing::debug!("the watch of {path} begins anew: {text}");
        return;
    }
    let now = if is_not_served(error) { Told::NotServed } else { Told::Trouble };
    if told.replace(now) == Some(now) {
        return;
    }
    match now {
        Told::NotServed => tracing::info!("{path} is not served yet; watching it as soon as it is"),
        Told::Trouble => tracing::warn!("the watch of {path} is interrupted, trying again: {text}"),
    }
}

/// HTTP status of versions that are no longer known.
const GONE: u16 = 410;
/// From here on HTTP statuses say that the server is in trouble.
const UNAVAILABLE: u16 = 500;

fn is_not_served(error: &watcher::Error) -> bool {
    status_of(error).is_some_and(is_not_found)
}

/// What is known of one object: its compact form, or why it cannot be read.
type Known<T> = Result<Arc<T>, Arc<str>>;

#[derive(Debug)]
struct Entry<T> {
    resource_version: Option<String>,
    known: Known<T>,
}

type Entries<T> = HashMap<NamespacedName, Entry<T>>;

/// The objects of one kind as last seen. Cheap to clone.
#[derive(Debug)]
pub struct Reflected<T> {
    entries: Arc<RwLock<Entries<T>>>,
    ready: watch::Receiver<bool>,
    changes: Wake,
}

impl<T> Clone for Reflected<T> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone(), ready: self.ready.clone(), changes: self.changes.clone() }
    }
}

/// Takes one event into one cache.
type FeedFn = Box<dyn FnMut(watcher::Event<DynamicObject>) + Send>;

/// One watch that feeds several caches, each with what one room keeps of an object.
pub struct SharedWatch {
    api: Api<DynamicObject>,
    config: watcher::Config,
    feeds: Vec<FeedFn>,
}

impl SharedWatch {
    /// A watch that feeds nothing yet.
    pub fn new(api: Api<DynamicObject>, config: watcher::Config) -> Self {
        Self { api, config, feeds: Vec::new() }
    }

    /// A watch of a kind by its Rust type. It may be served later than this starts: the stream retries.
    pub fn of<K: kube::Resource<DynamicType = ()>>(cluster: &Cluster, namespace: Option<&str>) -> Self {
        let kind = ApiResource::erase::<K>(&());
        let api = match namespace {
            Some(namespace) => Api::namespaced_with(cluster.client(), namespace, &kind),
            None => Api::all_with(cluster.client(), &kind),
        };
        Self::new(api, watcher::Config::default())
    }

    /// One more cache. `convert` and `changed` are as for [`Reflected::start`].
    pub fn cache<T: Send + Sync + 'static>(
        &mut self,
        convert: impl Fn(DynamicObject) -> Result<T, String> + Send + Sync + 'static,
        changed: impl Fn(&NamespacedName) + Send + Sync + 'static,
    ) -> Reflected<T> {
        let (ready_tx, ready) = watch::channel(false);
        let cache = Reflected { entries: Arc::default(), ready, changes: Wake::default() };
        let mut feed = Feed { cache: cache.clone(), buffer: None, convert, changed, ready_tx };
        self.feeds.push(Box::new(move |event| feed.take(event)));
        cache
    }

    /// Watches until `shutdown`.
    pub fn start(self, shutdown: CancellationToken) {
        let Self { api, config, mut feeds } = self;
        tokio::spawn(async move {
            let kind = api.resource_url().to_owned();
            let mut told = None;
            let stream = watched(api, config);
            pin_mut!(stream);
            loop {
                let event = tokio::select! {
                    biased;
                    () = shutdown.cancelled() => break,
                    event = stream.next() => event,
                };
                match event {
                    Some(Ok(event)) => {
                        // That a list begins does not mean that it comes.
                        if !matches!(event, watcher::Event::Init) {
                            told = None;
                        }
                        feed_all(&mut feeds, event);
                    }
                    // The stream repairs itself, with a back-off; what is cached stays usable meanwhile.
                    Some(Err(error)) => tell_interruption(&kind, &error, &mut told),
                    None => break,
                }
            }
        });
    }
}

fn feed_all(feeds: &mut [FeedFn], event: watcher::Event<DynamicObject>) {
    let Some((last, others)) = feeds.split_last_mut() else { return };
    for feed in others {
        feed(event.clone());
    }
    last(event);
}

impl<T: Send + Sync + 'static> Reflected<T> {
    /// Starts watching until `shutdown`. `convert` makes the compact value; its error stays with that object alone, so one
    /// bad object never ends the stream. `changed` is told the key of every object that changed, once per change.
    pub fn start(
        api: Api<DynamicObject>,
        config: watcher::Config,
        shutdown: CancellationToken,
        convert: impl Fn(DynamicObject) -> Result<T, String> + Send + Sync + 'static,
        changed: impl Fn(&NamespacedName) + Send + Sync + 'static,
    ) -> Self {
        let mut watch = SharedWatch::new(api, config);
        let cache = watch.cache(convert, changed);
        watch.start(shutdown);
        cache
    }

    /// The object, if it exists and can be read.
    pub fn get(&self, key: &NamespacedName) -> Option<Arc<T>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).and_then(|entry| entry.known.as_ref().ok().cloned())
    }

    /// Why the object cannot be read, if it exists and cannot.
    pub fn problem(&self, key: &NamespacedName) -> Option<Arc<str>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).and_then(|entry| entry.known.as_ref().err().cloned())
    }

    /// A readable object that fits, whichever is met first.
    pub fn find(&self, fits: impl Fn(&NamespacedName, &T) -> bool) -> Option<(NamespacedName, Arc<T>)> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut known = entries.iter().filter_map(|(key, entry)| Some((key, entry.known.as_ref().ok()?)));
        known.find(|(key, known)| fits(key, known)).map(|(key, known)| (key.clone(), known.clone()))
    }

    /// All readable objects.
    pub fn all(&self) -> Vec<(NamespacedName, Arc<T>)> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries
            .iter()
            .filter_map(|(key, entry)| entry.known.as_ref().ok().map(|known| (key.clone(), known.clone())))
            .collect()
    }

    /// All keys, readable or not.
    pub fn keys(&self) -> Vec<NamespacedName> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Returns when the first complete list has arrived (never, if the watch ended before); callers cap the wait.
    pub async fn ready(&self) {
        let mut ready = self.ready.clone();
        if ready.wait_for(|ready| *ready).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the first complete list has arrived.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Hears every change of any object.
    pub fn changes(&self) -> Listener {
        self.changes.listen()
    }
}

/// Writes one stream into its cache.
struct Feed<T, C, N> {
    cache: Reflected<T>,
    /// The list under way; replaces the cache when it is complete.
    buffer: Option<Entries<T>>,
    convert: C,
    changed: N,
    ready_tx: watch::Sender<bool>,
}

impl<T, C, N> Feed<T, C, N>
where
    T: Send + Sync + 'static,
    C: Fn(DynamicObject) -> Result<T, String>,
    N: Fn(&NamespacedName),
{
    fn take(&mut self, event: watcher::Event<DynamicObject>) {
        match event {
            watcher::Event::Init => self.buffer = Some(Entries::new()),
            watcher::Event::InitApply(object) => {
                let (key, entry) = self.entry(object);
                self.buffer.get_or_insert_default().insert(key, entry);
            }
            watcher::Event::InitDone => {
                let list = self.buffer.take().unwrap_or_default();
                self.replace(list);
            }
            watcher::Event::Apply(object) => {
                let (key, entry) = self.entry(object);
                let mut entries = self.cache.entries.write().unwrap_or_else(PoisonError::into_inner);
                let old = entries.insert(key.clone(), entry);
                let same = old.as_ref().is_some_and(|old| same_version(old, entries.get(&key)));
                drop(entries);
                if !same {
                    self.tell(std::slice::from_ref(&key));
                }
            }
            watcher::Event::Delete(object) => {
                let key = key_of(&object);
                let mut entries = self.cache.entries.write().unwrap_or_else(PoisonError::into_inner);
                let existed = entries.remove(&key).is_some();
                drop(entries);
                if existed {
                    self.tell(std::slice::from_ref(&key));
                }
            }
        }
    }

    fn replace(&self, list: Entries<T>) {
        let mut entries = self.cache.entries.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *entries, list);
        let mut changed: Vec<NamespacedName> =
            old.keys().filter(|key| !entries.contains_key(key)).cloned().collect();
        changed.extend(
            entries
                .iter()
                .filter(|(key, entry)| !old.get(key).is_some_and(|old| same_version(old, Some(entry))))
                .map(|(key, _)| key.clone()),
        );
        drop(entries);
        self.ready_tx.send_replace(true);
        self.tell(&changed);
    }

    fn tell(&self, keys: &[NamespacedName]) {
        for key in keys {
            (self.changed)(key);
        }
        if !keys.is_empty() {
            self.cache.changes.ring();
        }
    }

    fn entry(&self, mut object: DynamicObject) -> (NamespacedName, Entry<T>) {
        compact_metadata(&mut object);
        let key = key_of(&object);
        let resource_version = object.metadata.resource_version.clone();
        let known = (self.convert)(object).map(Arc::new).map_err(|problem| {
            tracing::warn!(object = %key, problem, "{key} cannot be read: {problem}");
            Arc::from(problem)
        });
        (key, Entry { resource_version, known })
    }
}

fn key_of(object: &DynamicObject) -> NamespacedName {
    NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any())
}

fn same_version<T>(old: &Entry<T>, new: Option<&Entry<T>>) -> bool {
    new.is_some_and(|new| old.resource_version.is_some() && old.resource_version == new.resource_version)
}
