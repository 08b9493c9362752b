//! The kinds of the API that can own or be owned, and a watch on each that nobody else watches.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::core::discovery::{Scope, verbs};
use kube::discovery::Discovery;
use kube::{Api, Client};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Garbage;
use crate::controllers::ControllerError;
use crate::controllers::watch::Reflector;

/// Events are many, short-lived and own nothing.
const IGNORED: &str = "Event";

type Key = (String, String);

/// What discovery said last, and the watches that follow from it.
pub(super) struct Kinds {
    known: BTreeMap<Key, (ApiResource, Scope)>,
    watches: BTreeMap<Key, CancellationToken>,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Kinds {
    pub(super) fn new(shutdown: CancellationToken) -> Self {
        Self { known: BTreeMap::new(), watches: BTreeMap::new(), tasks: JoinSet::new(), shutdown }
    }

    /// Discovery has succeeded at least once.
    pub(super) fn are_known(&self) -> bool {
        !self.known.is_empty()
    }

    /// Looks again: starts watches on new kinds, ends those on kinds that are gone.
    pub(super) async fn refresh(&mut self, garbage: &Garbage) -> Result<(), ControllerError> {
        let client = garbage.0.client.clone();
        let discovery = Discovery::new(client.clone()).run().await?;
        let mut known = BTreeMap::new();
        for (resource, capabilities) in
            discovery.groups().flat_map(kube::discovery::ApiGroup::recommended_resources)
        {
            let wanted = [verbs::LIST, verbs::WATCH, verbs::DELETE];
            if resource.kind != IGNORED && wanted.iter().all(|verb| capabilities.supports_operation(verb)) {
                known.insert((resource.group.clone(), resource.kind.clone()), (resource, capabilities.scope));
            }
        }
        self.known = known;
        self.watches.retain(|key, watch| {
            let keep = self.known.contains_key(key);
            if !keep {
                watch.cancel();
            }
            keep
        });
        let new: BTreeSet<_> = self.known.keys().filter(|key| !self.watches.contains_key(*key)).cloned().collect();
        for key in new {
            self.watch(key, garbage, &client);
        }
        // Ended watches are reaped here, so their number is that of the kinds.
        while self.tasks.try_join_next().is_some() {}
        Ok(())
    }

    fn watch(&mut self, key: Key, garbage: &Garbage, client: &Client) {
        let Some((resource, _)) = self.known.get(&key) else { return };
        if garbage.is_observed(resource) {
            return;
        }
        let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
        let mut reflector = Reflector::of_kind(api, resource.clone(), strip);
        garbage.follow(&mut reflector, resource.clone());
        let stop = self.shutdown.child_token();
        self.tasks.spawn(reflector.run(stop.clone()));
        self.watches.insert(key, stop);
    }

    /// How to reach objects of a kind, whatever the version in the reference; `None` if the API does not serve it.
    pub(super) fn resolve(&self, api_version: &str, kind: &str) -> Option<&(ApiResource, Scope)> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.known.get(&(group.to_owned(), kind.to_owned()))
    }

    pub(super) async fn stop(mut self) {
        self.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

fn strip(object: &mut DynamicObject) {
    object.data = Value::Null;
    object.metadata.managed_fields = None;
    object.metadata.annotations = None;
    object.metadata.labels = None;
}
