//! Watches: a stream of events that reads history from its own position.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Server;
use super::kinds::Resource;
use super::represent::{Representation, represent_one};
use super::selector::Selector;
use super::status::ApiError;
use super::store::{Change, ChangeKind};

/// How often a quiet watch tells its client the newest resourceVersion, so that a reconnect does not meet 410.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// Watches without `timeoutSeconds` end after this plus up to as much again, as a real server ends them.
const TIMEOUT_DEFAULT_S: u64 = 30 * 60;
/// Longest `timeoutSeconds` honoured: a day, beyond which no client here lives.
const TIMEOUT_MAX_S: u64 = 24 * 60 * 60;

/// What a watch shows.
pub(super) struct WatchSpec {
    pub(super) server: Arc<Server>,
    pub(super) resource: Arc<Resource>,
    pub(super) namespace: Option<String>,
    pub(super) selector: Selector,
    pub(super) representation: Representation,
    /// Bookmarks are wanted.
    pub(super) bookmarks: bool,
    pub(super) timeout_seconds: Option<u64>,
}

/// Where a watch begins.
pub(super) enum Start {
    /// After this version.
    After(u64),
    /// With the current objects as ADDED events.
    Current,
    /// As `Current`, then a bookmark that says the initial events are complete.
    InitialEvents,
}

struct WatchState {
    spec: WatchSpec,
    position: u64,
    pending: VecDeque<Bytes>,
    wake: watch::Receiver<u64>,
    ends: Instant,
    next_bookmark: Instant,
    done: bool,
}

/// The body of a watch: JSON documents, one a line.
pub(super) fn stream_of(spec: WatchSpec, start: &Start) -> impl Stream<Item = Bytes> + Send + 'static {
    let wake = spec.server.store.subscribe(&spec.resource.storage);
    let seconds = spec.timeout_seconds.unwrap_or_else(|| TIMEOUT_DEFAULT_S + fastrand::u64(..TIMEOUT_DEFAULT_S));
    let now = Instant::now();
    let mut state = WatchState {
        position: 0,
        pending: VecDeque::new(),
        wake,
        ends: now + Duration::from_secs(seconds.min(TIMEOUT_MAX_S)),
        next_bookmark: now + BOOKMARK_INTERVAL,
        done: false,
        spec,
    };
    state.begin(start);
    stream::unfold(state, |mut state| async move {
        loop {
            if let Some(event) = state.pending.pop_front() {
                return Some((event, state));
            }
            if state.done {
                return None;
            }
            state.advance().await;
        }
    })
}

impl WatchState {
    fn begin(&mut self, start: &Start) {
        match start {
            Start::After(version) => self.position = *version,
            Start::Current => self.replay(),
            Start::InitialEvents => {
                self.replay();
                if self.spec.bookmarks {
                    self.push_bookmark(true);
                }
            }
        }
    }

    fn replay(&mut self) {
        let snapshot = self.spec.server.store.list(&self.spec.resource.storage, self.spec.namespace.as_deref());
        self.position = snapshot.version;
        for (_, object) in &snapshot.objects {
            if self.spec.selector.matches(object) {
                self.push("ADDED", object);
            }
        }
    }

    /// Waits for changes, the next bookmark or the end, and queues what follows from it.
    async fn advance(&mut self) {
        self.wake.borrow_and_update();
        self.drain();
        if !self.pending.is_empty() || self.done {
            return;
        }
        tokio::select! {
            changed = self.wake.changed() => {
                if changed.is_err() {
                    self.done = true;
                }
            }
            () = sleep_until(self.next_bookmark), if self.spec.bookmarks => {
                self.next_bookmark = Instant::now() + BOOKMARK_INTERVAL;
                self.push_bookmark(false);
            }
            () = sleep_until(self.ends) => self.done = true,
        }
    }

    fn drain(&mut self) {
        // Read before history: every change up to it is in history then, so the position never skips one.
        let version = self.spec.server.store.version();
        match self.spec.server.store.changes_since(&self.spec.resource.storage, self.position) {
            Ok(changes) => {
                for change in &changes {
                    self.position = change.version;
                    self.show(change);
                }
                self.position = self.position.max(version);
            }
            Err(compacted) => {
                let error = ApiError::expired(format!(
                    "too old resource version: {} ({})",
                    self.position, compacted.oldest
                ));
                self.pending.push_back(line(&json!({"type": "ERROR", "object": error.body()})));
                self.done = true;
            }
        }
    }

    /// Shows a change as the selector sees it: an object that stops matching is deleted for this client.
    fn show(&mut self, change: &Change) {
        if self.spec.namespace.as_ref().is_some_and(|namespace| *namespace != change.key.namespace) {
            return;
        }
        let matches_now = change.kind != ChangeKind::Deleted && self.spec.selector.matches(&change.object);
        let matched = change.previous.as_ref().is_some_and(|previous| self.spec.selector.matches(previous));
        match (matched, matches_now) {
            (false, true) => self.push("ADDED", &change.object),
            (true, true) => self.push("MODIFIED", &change.object),
            (true, false) if change.kind == ChangeKind::Deleted => self.push("DELETED", &change.object),
            (true, false) => {
                // The client knows the previous state; it is told that one, at the version of this change.
                if let Some(previous) = &change.previous {
                    let mut gone = Value::clone(previous);
                    gone["metadata"]["resourceVersion"] = json!(change.version.to_string());
                    self.push("DELETED", &Arc::new(gone));
                }
            }
            (false, false) => {}
        }
    }

    fn push(&mut self, kind: &str, object: &Arc<Value>) {
        let shown = represent_one(&self.spec.resource, object, self.spec.representation);
        self.pending.push_back(line(&json!({"type": kind, "object": shown.as_ref()})));
    }

    fn push_bookmark(&mut self, initial_events_end: bool) {
        let resource = &self.spec.resource;
        let mut object = json!({
            "kind": resource.kind, "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": self.position.to_string()}
        });
        if initial_events_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let shown = self.spec.representation.wrap_bookmark(object);
        self.pending.push_back(line(&json!({"type": "BOOKMARK", "object": shown})));
    }
}

fn line(event: &Value) -> Bytes {
    let mut text = event.to_string();
    text.push('\n');
    Bytes::from(text)
}
