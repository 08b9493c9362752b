//! One reflector per kind, and what wakes the controllers: changes in, deduplicated keys out.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt as _, pin_mut};
use kube::api::Api;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// An object as it was in the store and as it is now; one of the two is always there.
pub(super) struct Change<'a, K> {
    pub(super) before: Option<&'a K>,
    pub(super) after: Option<&'a K>,
}

impl<'a, K> Change<'a, K> {
    /// Both states, the old one first.
    pub(super) fn states(&self) -> impl Iterator<Item = &'a K> + use<'a, K> {
        self.before.into_iter().chain(self.after)
    }
}

/// What an object has to be able to do to be watched.
pub(super) trait Watched: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static {}

impl<K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static> Watched for K {}

type Listener<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;

/// Watches one kind into a store and tells listeners of every change after the store shows it.
pub(super) struct Reflector<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    api: Api<K>,
    kind: K::DynamicType,
    writer: Writer<K>,
    listeners: Vec<Listener<K>>,
    strip: fn(&mut K),
    listed: watch::Sender<bool>,
}

impl<K> Reflector<K>
where
    K: Watched,
    K::DynamicType: Eq + Hash + Clone + Default + Debug + Unpin + Send + Sync,
{
    pub(super) fn new(api: Api<K>) -> Self {
        Self::of_kind(api, Default::default(), |_| {})
    }
}

impl<K> Reflector<K>
where
    K: Watched,
    K::DynamicType: Eq + Hash + Clone + Debug + Unpin + Send + Sync,
{
    /// `strip` drops what is not needed before it is stored.
    pub(super) fn of_kind(api: Api<K>, kind: K::DynamicType, strip: fn(&mut K)) -> Self {
        Self {
            api,
            writer: Writer::new(kind.clone()),
            kind,
            listeners: Vec::new(),
            strip,
            listed: watch::Sender::new(false),
        }
    }

    pub(super) fn store(&self) -> Store<K> {
        self.writer.as_reader()
    }

    /// Tells when the store holds a first complete list. (`Store::wait_until_ready` wakes only the last of several
    /// that wait.)
    pub(super) fn listed(&self) -> Listed {
        Listed(self.listed.subscribe())
    }

    /// Listeners run inside the watch and must only note and wake.
    pub(super) fn on_change(&mut self, listener: impl Fn(&Change<'_, K>) + Send + Sync + 'static) {
        self.listeners.push(Box::new(listener));
    }

    /// Watches until shutdown; connection errors are retried with kube's bounded backoff.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let events = watcher(self.api.clone(), watcher::Config::default()).default_backoff().modify(self.strip);
        pin_mut!(events);
        while let Some(Some(event)) = shutdown.run_until_cancelled(events.next()).await {
            match event {
                Ok(event) => self.take(&event),
                Err(error) => debug!(kind = %K::kind(&self.kind), %error, "watch interrupted, will reconnect"),
            }
        }
    }

    fn take(&mut self, event: &watcher::Event<K>) {
        match event {
            watcher::Event::Apply(after) => {
                let before = self.store().get(&self.key(after));
                self.writer.apply_watcher_event(event);
                self.tell(&Change { before: before.as_deref(), after: Some(after) });
            }
            watcher::Event::Delete(before) => {
                self.writer.apply_watcher_event(event);
                self.tell(&Change { before: Some(before), after: None });
            }
            watcher::Event::Init | watcher::Event::InitApply(_) => self.writer.apply_watcher_event(event),
            watcher::Event::InitDone => self.relist(event),
        }
    }

    /// A fresh list may lack objects that went away while the watch was down: their deletion is told too.
    fn relist(&mut self, event: &watcher::Event<K>) {
        let mut before: BTreeMap<_, _> = self.by_name();
        self.writer.apply_watcher_event(event);
        self.listed.send_replace(true);
        for (name, after) in self.by_name() {
            let before = before.remove(&name);
            self.tell(&Change { before: before.as_deref(), after: Some(&after) });
        }
        for gone in before.values() {
            self.tell(&Change { before: Some(gone), after: None });
        }
    }

    fn by_name(&self) -> BTreeMap<(Option<String>, String), Arc<K>> {
        let all = self.store().state();
        all.into_iter().map(|object| ((ResourceExt::namespace(&*object), object.name_any()), object)).collect()
    }

    fn key(&self, object: &K) -> ObjectRef<K> {
        ObjectRef::from_obj_with(object, self.kind.clone())
    }

    fn tell(&self, change: &Change<'_, K>) {
        for listener in &self.listeners {
            listener(change);
        }
    }
}

/// Waits for a store's first complete list: nothing may be decided on a half-filled one.
#[derive(Debug, Clone)]
pub(super) struct Listed(watch::Receiver<bool>);

impl Listed {
    /// Answers whether there is a list; without one the watch has ended.
    pub(super) async fn wait(mut self) -> bool {
        self.0.wait_for(|listed| *listed).await.is_ok()
    }
}

/// A set of keys to look at. It holds a key once however often it is woken, so it is bounded by the number of objects.
#[derive(Debug)]
pub(super) struct Wakes<T>(Arc<WakesInner<T>>);

#[derive(Debug)]
struct WakesInner<T> {
    pending: Mutex<HashSet<T>>,
    notify: Notify,
}

impl<T> Clone for Wakes<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Eq + Hash + Clone> Wakes<T> {
    pub(super) fn new() -> Self {
        Self(Arc::new(WakesInner { pending: Mutex::new(HashSet::new()), notify: Notify::new() }))
    }

    pub(super) fn wake(&self, key: T) {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        self.0.notify.notify_one();
    }

    /// The next key; waits for one. Meant for a single consumer.
    pub(super) async fn next(&self) -> T {
        loop {
            if let Some(key) = self.pop() {
                return key;
            }
            self.0.notify.notified().await;
        }
    }

    /// All keys as a stream that never ends.
    pub(super) fn stream(&self) -> impl Stream<Item = Result<T, Infallible>> + use<T> {
        futures::stream::unfold(self.clone(), |wakes| async move { Some((Ok(wakes.next().await), wakes)) })
    }

    fn pop(&self) -> Option<T> {
        let mut pending = self.0.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let key = pending.iter().next().cloned()?;
        pending.take(&key)
    }
}
