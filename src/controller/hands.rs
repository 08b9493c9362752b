//! Writes to the cluster: each guarded, each remembered until the caches show it.

use json_patch::Patch as JsonPatch;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};

use crate::api::annotations::MANAGER_ENGINE;
use crate::cluster::{CallError, Cluster, EffectKind, ErrorKind, Resolved, WriteError, Writer, call, tests_hold};

use super::caches::{Kinds, Tracked, to_value};
use super::expectations::Expectations;
use super::routes::RouteWatches;

/// The verb of an object that is made.
const CREATE: &str = "create";

/// An action that was not carried out. It follows again from the persisted state.
#[derive(Debug, thiserror::Error)]
pub(super) enum ActError {
    /// The write failed.
    #[error("failed to {verb} {object}")]
    Write {
        verb: &'static str,
        object: String,
        #[source]
        source: WriteError,
    },
    /// A read failed.
    #[error(transparent)]
    Read(#[from] CallError),
    /// What was found is not what the action expects; the next look tells more.
    #[error("{0}")]
    Changed(String),
    /// It will not work before somebody changes something.
    #[error("{0}")]
    Refused(String),
}

impl ActError {
    /// Why an object cannot be made as it is said, in the API server's words.
    pub(super) fn refused_to_make(&self) -> Option<String> {
        const UNPROCESSABLE: u16 = 422;
        match self {
            Self::Write { source, verb, .. } if *verb == CREATE => {
                source.status().filter(|status| status.code == UNPROCESSABLE).map(|status| status.message.clone())
            }
            Self::Write { .. } | Self::Read(_) | Self::Changed(_) | Self::Refused(_) => None,
        }
    }

    /// Whether somebody else was faster, or the caches are behind: no news for people.
    pub(super) fn is_race(&self) -> bool {
        match self {
            Self::Changed(_) => true,
            Self::Write { source, verb, .. } => match source.kind() {
                ErrorKind::Race | ErrorKind::NotHeld => true,
                // What was to be changed is gone, which the next look shows; but what cannot be made for want of its kind
                // is not there at the next look either.
                ErrorKind::Gone => *verb != CREATE || source.is_terminating(),
                ErrorKind::Refused | ErrorKind::Later => false,
            },
            Self::Read(_) | Self::Refused(_) => false,
        }
    }

    /// Whether what was to be made is there already.
    pub(super) fn is_already_there(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.is_already_exists())
    }

    /// Whether the API server does not take the object as it is.
    pub(super) fn is_refused(&self) -> bool {
        match self {
            Self::Write { source, .. } => source.kind() == ErrorKind::Refused,
            Self::Refused(_) => true,
            Self::Read(_) | Self::Changed(_) => false,
        }
    }
}

/// Writes for one Canary.
pub(super) struct Hands<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) writer: &'a Writer,
    pub(super) kinds: &'a Kinds,
    pub(super) routes: &'a RouteWatches,
    pub(super) namespace: &'a str,
    pub(super) expectations: &'a mut Expectations,
}

impl Hands<'_> {
    fn resolved(&self, kind: Tracked) -> Result<Resolved, ActError> {
        let Kinds { canary, deployment, autoscaler, service, revision: _, template: _, rollouts, analysis } =
            self.kinds;
        let of_rollouts = || {
            let unserved = || ActError::Refused("Rollouts are not served by the API server".to_owned());
            rollouts.get().ok_or_else(unserved)
        };
        let of_analysis = || {
            let unserved = || ActError::Refused("AnalysisRuns are not served by the API server".to_owned());
            analysis.get().ok_or_else(unserved)
        };
        Ok(match kind {
            Tracked::Canary => canary.clone(),
            Tracked::Rollout => of_rollouts()?.rollout.clone(),
            Tracked::ReplicaSet => of_rollouts()?.set.clone(),
            Tracked::AnalysisRun => of_analysis()?.run.clone(),
            Tracked::Job => of_analysis()?.job.clone(),
            Tracked::Deployment => deployment.clone(),
            Tracked::Autoscaler => autoscaler.clone(),
            Tracked::Service => service.clone(),
            Tracked::Route(route) => self
                .routes
                .resolved(route)
                .ok_or_else(|| ActError::Refused(format!("{} is not served by the API server", route.kind)))?,
        })
    }

    fn api(&self, resolved: &Resolved) -> Api<DynamicObject> {
        self.cluster.objects(resolved, Some(self.namespace))
    }

    fn label(&self, resolved: &Resolved, name: &str) -> String {
        format!("{} {}/{name}", resolved.resource.kind, self.namespace)
    }

    /// Reads the live object whole.
    pub(super) async fn get(&self, kind: Tracked, name: &str) -> Result<Value, ActError> {
        let resolved = self.resolved(kind)?;
        self.get_resolved(&resolved, name).await
    }

    async fn get_resolved(&self, resolved: &Resolved, name: &str) -> Result<Value, ActError> {
        let what = format!("read {}", self.label(resolved, name));
        let object = call(&what, self.api(resolved).get(name)).await?;
        to_value(object).map_err(ActError::Refused)
    }

    /// Reads a stored template.
    pub(super) async fn get_revision(&self, name: &str) -> Result<Value, ActError> {
        self.get_resolved(&self.kinds.revision, name).await
    }

    /// Stores a template, unless it is stored already, and deletes the others with this label.
    pub(super) async fn keep_only_revision(
        &mut self,
        revision: &Value,
        label: &str,
        keep: &str,
    ) -> Result<(), ActError> {
        let resolved = self.kinds.revision.clone();
        let api = self.api(&resolved);
        let list = ListParams::default().labels(label);
        let found = call("list stored templates", api.list_metadata(&list)).await?;
        let names: Vec<String> = found.items.into_iter().filter_map(|item| item.metadata.name).collect();
        if names.iter().all(|name| name != keep) {
            match self.post(&resolved, revision).await {
                Err(ActError::Write { source, .. }) if is_already_there(&source) => {}
                done => drop(done?),
            }
        }
        let resolved = &resolved;
        for name in names.into_iter().filter(|name| name != keep) {
            let object = self.label(resolved, &name);
            let params = DeleteParams::default();
            match self.writer.effect(EffectKind::Delete, &object, api.delete(&name, &params)).await {
                Ok(_) => {}
                Err(source) if source.is_not_found() => {}
                Err(source) => return Err(ActError::Write { verb: "delete", object, source }),
            }
        }
        Ok(())
    }

    /// Deletes an object, if it still is as it was seen; that it is gone is as good.
    pub(super) async fn delete(
        &self,
        kind: Tracked,
        name: &str,
        resource_version: String,
    ) -> Result<(), ActError> {
        let preconditions = Preconditions { resource_version: Some(resource_version), uid: None };
        self.delete_with(kind, name, DeleteParams::default().preconditions(preconditions)).await
    }

    /// Deletes an object and what it owns, whatever has become of it; that it is gone is as good.
    pub(super) async fn delete_whole(&self, kind: Tracked, name: &str) -> Result<(), ActError> {
        self.delete_with(kind, name, DeleteParams::foreground()).await
    }

    async fn delete_with(&self, kind: Tracked, name: &str, params: DeleteParams) -> Result<(), ActError> {
        let resolved = self.resolved(kind)?;
        let (object, api) = (self.label(&resolved, name), self.api(&resolved));
        match self.writer.effect(EffectKind::Delete, &object, api.delete(name, &params)).await {
            Ok(_) => Ok(()),
            Err(source) if source.is_not_found() => Ok(()),
            Err(source) => Err(ActError::Write { verb: "delete", object, source }),
        }
    }

    /// Creates an object; returns what it became.
    pub(super) async fn create(&mut self, kind: Tracked, object: &Value) -> Result<Value, ActError> {
        let resolved = &self.resolved(kind)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let created = self.post(resolved, object).await?;
        self.expectations.wrote(kind, &name, None, created.metadata.resource_version.clone());
        to_value(created).map_err(ActError::Refused)
    }

    pub(super) async fn post(&self, resolved: &Resolved, object: &Value) -> Result<DynamicObject, ActError> {
        let mut object = object.clone();
        if let Some(map) = object.as_object_mut() {
            map.insert("apiVersion".to_owned(), json!(resolved.resource.api_version));
        }
        let label = self.label(resolved, object["metadata"]["name"].as_str().unwrap_or_default());
        let body: DynamicObject =
            serde_json::from_value(object).map_err(|error| ActError::Refused(format!("{label}: {error}")))?;
        let params = PostParams { field_manager: Some(MANAGER_ENGINE.to_owned()), ..PostParams::default() };
        let api = self.api(resolved);
        let create = self.writer.effect(EffectKind::Create, &label, api.create(&params, &body));
        create.await.map_err(|source| ActError::Write { verb: CREATE, object: label, source })
    }

    /// A merge patch that carries the resourceVersion it is based on.
    pub(super) async fn merge(&mut self, kind: Tracked, name: &str, patch: Value) -> Result<(), ActError> {
        self.merge_to(kind, name, patch).await.map(|_| ())
    }

    /// The same; the resourceVersion that came of it.
    pub(super) async fn merge_to(
        &mut self,
        kind: Tracked,
        name: &str,
        patch: Value,
    ) -> Result<Option<String>, ActError> {
        let before = patch["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        self.patch(kind, name, before, Patch::Merge(patch)).await
    }

    /// Brings a live object to `desired` with a merge patch, unless that very form was written before and the object is
    /// still what came of it: admission turned it into something else, and would do so again at every look.
    pub(super) async fn bring(
        &mut self,
        kind: Tracked,
        name: &str,
        desired: &Value,
        patch: Value,
    ) -> Result<(), ActError> {
        let before = patch["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        if self.expectations.has_come_of(kind, name, desired, &before) {
            tracing::debug!(object = name, "{kind:?} {name} is what the API server makes of what is wanted");
            return Ok(());
        }
        let after = self.patch(kind, name, before, Patch::Merge(patch)).await?;
        self.expectations.came_of(kind, name, desired, after);
        Ok(())
    }

    /// A forced server-side apply: what it names is the engine's afterwards, also where the value was the same. It carries the
    /// resourceVersion that it is based on. Not repeated where admission makes something else of it, as with [`Self::bring`].
    pub(super) async fn apply(
        &mut self,
        kind: Tracked,
        name: &str,
        desired: &Value,
        body: Value,
    ) -> Result<(), ActError> {
        let before = body["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        if self.expectations.has_come_of(kind, name, desired, &before) {
            return Ok(());
        }
        let resolved = self.resolved(kind)?;
        let (object, api) = (self.label(&resolved, name), self.api(&resolved));
        let (params, patch) = (PatchParams::apply(MANAGER_ENGINE).force(), Patch::Apply(&body));
        let write = self.writer.effect(EffectKind::Apply, &object, api.patch(name, &params, &patch));
        let done = write.await.map_err(|source| ActError::Write { verb: "take over", object, source })?;
        let after = done.metadata.resource_version;
        self.expectations.wrote(kind, name, before, after.clone());
        self.expectations.came_of(kind, name, desired, after);
        Ok(())
    }

    /// A JSON Patch; `before` is the resourceVersion that it tests.
    pub(super) async fn json_patch(
        &mut self,
        kind: Tracked,
        name: &str,
        before: Option<String>,
        patch: &Value,
    ) -> Result<(), ActError> {
        let patch: JsonPatch = serde_json::from_value(patch.clone())
            .map_err(|error| ActError::Refused(format!("patch of {name}: {error}")))?;
        match self.patch(kind, name, before, Patch::Json::<()>(patch.clone())).await.map(|_| ()) {
            Err(ActError::Write { source, verb, object }) if source.may_be_a_failed_test() => {
                if tests_hold(&patch, &self.get(kind, name).await?) {
                    Err(ActError::Write { verb, object, source })
                } else {
                    Err(ActError::Changed(format!("{object} has changed meanwhile")))
                }
            }
            done => done,
        }
    }

    async fn patch<P: serde::Serialize + std::fmt::Debug>(
        &mut self,
        kind: Tracked,
        name: &str,
        before: Option<String>,
        patch: Patch<P>,
    ) -> Result<Option<String>, ActError> {
        let resolved = self.resolved(kind)?;
        let object = self.label(&resolved, name);
        let api = self.api(&resolved);
        let params = patch_params();
        let write = self.writer.effect(EffectKind::Patch, &object, api.patch(name, &params, &patch));
        let done = write.await.map_err(|source| ActError::Write { verb: "update", object, source })?;
        let after = done.metadata.resource_version;
        self.expectations.wrote(kind, name, before, after.clone());
        Ok(after)
    }

    /// Replaces an object that was read before, guarded by its resourceVersion; returns what it became.
    pub(super) async fn replace(&mut self, kind: Tracked, object: Value) -> Result<Value, ActError> {
        let resolved = &self.resolved(kind)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let label = self.label(resolved, &name);
        let body: DynamicObject =
            serde_json::from_value(object).map_err(|error| ActError::Refused(format!("{label}: {error}")))?;
        let before = body.metadata.resource_version.clone();
        let params = PostParams { field_manager: Some(MANAGER_ENGINE.to_owned()), ..PostParams::default() };
        let api = self.api(resolved);
        let write = self.writer.effect(EffectKind::Patch, &label, api.replace(&name, &params, &body));
        let done = write.await.map_err(|source| ActError::Write { verb: "update", object: label, source })?;
        self.expectations.wrote(kind, &name, before, done.metadata.resource_version.clone());
        to_value(done).map_err(ActError::Refused)
    }

    /// Sets primary's replica count.
    pub(super) async fn scale(&mut self, name: &str, before: &str, replicas: i32) -> Result<(), ActError> {
        let resolved = &self.kinds.deployment;
        let object = self.label(resolved, name);
        let api = self.api(resolved);
        let params = patch_params();
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let write = self.writer.effect(EffectKind::Scale, &object, api.patch_scale(name, &params, &patch));
        let done = write.await.map_err(|source| ActError::Write { verb: "scale", object, source })?;
        self.expectations.wrote(
            Tracked::Deployment,
            name,
            Some(before.to_owned()),
            done.metadata.resource_version,
        );
        Ok(())
    }

    /// Sizes the target. By a forced server-side apply, so that `managedFields` shows at once, and also for an equal count,
    /// that the size is the engine's: until then `sync` applies Git's.
    pub(super) async fn size_target(&mut self, name: &str, before: &str, replicas: i32) -> Result<(), ActError> {
        let resolved = &self.kinds.deployment;
        let (object, api) = (self.label(resolved, name), self.api(resolved));
        let body = json!({
            "apiVersion": resolved.resource.api_version,
            "kind": resolved.resource.kind,
            "metadata": {"name": name, "namespace": self.namespace, "resourceVersion": before},
            "spec": {"replicas": replicas},
        });
        let (params, patch) = (PatchParams::apply(MANAGER_ENGINE).force(), Patch::Apply(&body));
        let write = self.writer.effect(EffectKind::Scale, &object, api.patch(name, &params, &patch));
        let done = write.await.map_err(|source| ActError::Write { verb: "scale", object, source })?;
        let after = done.metadata.resource_version;
        self.expectations.wrote(Tracked::Deployment, name, Some(before.to_owned()), after);
        Ok(())
    }

    /// Writes the Canary's status; returns what the API server kept of it.
    pub(super) async fn status(&mut self, name: &str, before: &str, status: Value) -> Result<Value, ActError> {
        let done = self.status_of(Tracked::Canary, name, before, status).await?;
        Ok(done.data["status"].clone())
    }

    /// Writes a status; returns what the object became.
    pub(super) async fn status_of(
        &mut self,
        kind: Tracked,
        name: &str,
        before: &str,
        status: Value,
    ) -> Result<DynamicObject, ActError> {
        let resolved = &self.resolved(kind)?;
        let object = format!("status of {}", self.label(resolved, name));
        let api = self.api(resolved);
        let params = patch_params();
        let patch = Patch::Merge(json!({"metadata": {"resourceVersion": before}, "status": status}));
        let write = self.writer.effect(EffectKind::Status, &object, api.patch_status(name, &params, &patch));
        let done = write.await.map_err(|source| ActError::Write { verb: "write", object, source })?;
        self.expectations.wrote(kind, name, Some(before.to_owned()), done.metadata.resource_version.clone());
        Ok(done)
    }
}

fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER_ENGINE.to_owned()), ..PatchParams::default() }
}

fn is_already_there(error: &WriteError) -> bool {
    error.status().is_some_and(kube::core::Status::is_already_exists)
}
