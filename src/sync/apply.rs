//! Looks at objects in the cluster, asks the server what an apply would change, and writes only what differs.

use futures::future::BoxFuture;
use futures::{StreamExt as _, stream};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::Value;

use super::desired::{Desired, Role};
use super::pass::Until;
use super::plan;
use super::source::{RecordSource, Recorded};
use super::target::{self, Admission, CanaryFacts, LiveTarget};
use crate::api::annotations::{MANAGER_PENDING, MANAGER_SYNC};
use crate::api::{self, Canary, TargetResult};
use crate::cluster::{CallError, Cluster, EffectKind, ResolveError, Resolved, WriteError, Writer, call};
use crate::model::{CommitId, Digest, NamespacedName, Revision};

/// Objects looked at side by side: enough to hide latency, few enough to stay below API priority limits.
const LOOKS: usize = 4;

/// Why an object, or the whole sync, cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The object is at fault; the rest goes on.
    Object(String),
    /// The cluster is at fault; try again later.
    Later(String),
    /// Another process may be writing.
    NotHeld,
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        let text = words(&error);
        match error.status() {
            Some(status) if is_final(status) => Self::Object(status.message.clone()),
            Some(_) | None => Self::Later(text),
        }
    }
}

impl From<WriteError> for Trouble {
    fn from(error: WriteError) -> Self {
        if matches!(error, WriteError::NotHeld) {
            return Self::NotHeld;
        }
        match error.status() {
            Some(status) if is_final(status) => Self::Object(status.message.clone()),
            Some(_) | None => Self::Later(words(&error)),
        }
    }
}

impl From<ResolveError> for Trouble {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Call(error) => Self::Later(words(&error)),
            ResolveError::NotServed { .. } => Self::Object(error.to_string()),
        }
    }
}

impl From<serde_json::Error> for Trouble {
    fn from(error: serde_json::Error) -> Self {
        Self::Object(format!("the API server's answer cannot be read: {error}"))
    }
}

/// Whether asking again cannot help: the object itself was refused.
fn is_final(status: &kube::core::Status) -> bool {
    const REQUEST_TIMEOUT: u16 = 408;
    const CONFLICT: u16 = 409;
    const TOO_MANY_REQUESTS: u16 = 429;
    (400..500).contains(&status.code) && ![REQUEST_TIMEOUT, CONFLICT, TOO_MANY_REQUESTS].contains(&status.code)
}

/// An error with its causes.
pub(super) fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// How an object ended up.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) state: Settled,
    /// What was changed, in words.
    pub(super) change: Option<String>,
    /// What became of a target's new revision.
    pub(super) target: Option<(NamespacedName, TargetResult)>,
}

/// How an object ended up.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Settled {
    /// As Git wants it.
    Applied,
    /// It is its Canary's turn.
    Waiting { canary: NamespacedName, until: Until, reason: String },
    /// It cannot be applied.
    Problem(String),
}

impl Outcome {
    fn unchanged() -> Self {
        Self { state: Settled::Applied, change: None, target: None }
    }

    pub(super) fn problem(message: String) -> Self {
        Self { state: Settled::Problem(message), change: None, target: None }
    }
}

/// One apply to send.
#[derive(Debug)]
struct Write {
    manager: &'static str,
    body: Value,
    key: String,
}

/// What was decided about an object.
#[derive(Debug)]
struct Prepared {
    writes: Vec<Write>,
    outcome: Outcome,
}

/// An object's access path and live form.
struct Looked {
    api: Api<DynamicObject>,
    live: Option<Value>,
}

/// Applies objects of one commit.
pub(super) struct Applier<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) writer: &'a Writer,
    pub(super) records: &'a dyn RecordSource,
    pub(super) commit: &'a CommitId,
}

impl Applier<'_> {
    /// Applies what differs: looks side by side, writes one after the other in the given order.
    pub(super) async fn apply<'d>(
        &'d self,
        objects: Vec<&'d Desired>,
    ) -> Result<Vec<(&'d Desired, Outcome)>, Trouble> {
        // Boxed by a named type: the compiler cannot see that a stream of borrowing async blocks is `Send`.
        let looks: Vec<BoxFuture<'_, (&'d Desired, Result<Prepared, Trouble>)>> =
            objects.into_iter().map(|object| self.look_at(object)).collect();
        let looked: Vec<_> = stream::iter(looks).buffered(LOOKS).collect().await;
        let mut outcomes = Vec::new();
        for (object, prepared) in looked {
            let outcome = match prepared {
                Ok(prepared) => self.write(object, prepared).await,
                Err(trouble) => Err(trouble),
            };
            match outcome {
                Ok(outcome) => outcomes.push((object, outcome)),
                Err(Trouble::Object(message)) => {
                    let message = format!("{}: {}: {message}", object.origin, object.id);
                    outcomes.push((object, Outcome::problem(message)));
                }
                Err(trouble @ (Trouble::Later(_) | Trouble::NotHeld)) => return Err(trouble),
            }
        }
        Ok(outcomes)
    }

    fn look_at<'s>(&'s self, object: &'s Desired) -> BoxFuture<'s, (&'s Desired, Result<Prepared, Trouble>)> {
        Box::pin(async move { (object, self.prepare(object).await) })
    }

    async fn write(&self, object: &Desired, prepared: Prepared) -> Result<Outcome, Trouble> {
        let Prepared { writes, outcome } = prepared;
        if writes.is_empty() {
            return Ok(outcome);
        }
        let api = self.api(object).await?;
        for Write { manager, body, key } in writes {
            let params = PatchParams::apply(manager).force();
            let patch = Patch::Apply(&body);
            self.writer.effect(EffectKind::Apply, &key, api.patch(&object.id.name, &params, &patch)).await?;
        }
        if let Some(change) = &outcome.change {
            tracing::info!(object = %object.id, commit = self.commit.short(), "{}: {change}", object.id);
        }
        Ok(outcome)
    }

    async fn prepare(&self, object: &Desired) -> Result<Prepared, Trouble> {
        match &object.role {
            Role::Plain => self.prepare_plain(object, object.body.clone()).await,
            Role::Apex => self.prepare_apex(object).await,
            Role::TargetConfig { canary } => self.prepare_config(object, canary).await,
            Role::Target { canary, digest } => self.prepare_target(object, canary, digest).await,
        }
    }

    async fn prepare_plain(&self, object: &Desired, body: Value) -> Result<Prepared, Trouble> {
        let looked = self.look(object).await?;
        self.prepare_body(object, &looked, body).await
    }

    async fn prepare_body(&self, object: &Desired, looked: &Looked, body: Value) -> Result<Prepared, Trouble> {
        let dry_run = self.dry_run(object, &looked.api, &body).await?;
        match &looked.live {
            Some(live) if plan::is_settled(live, &dry_run) => {
                Ok(Prepared { writes: Vec::new(), outcome: Outcome::unchanged() })
            }
            live => {
                let change = Some(plan::words(live.as_ref(), &dry_run));
                let write = Write { manager: MANAGER_SYNC, body, key: object.id.to_string() };
                Ok(Prepared { writes: vec![write], outcome: Outcome { change, ..Outcome::unchanged() } })
            }
        }
    }

    /// The service in front of both sides: selector and ports are the engine's as soon as it has taken them.
    async fn prepare_apex(&self, object: &Desired) -> Result<Prepared, Trouble> {
        let looked = self.look(object).await?;
        let mut body = object.body.clone();
        if looked.live.as_ref().is_some_and(plan::engine_owns_selector)
            && let Some(spec) = body["spec"].as_object_mut()
        {
            spec.remove("selector");
            spec.remove("ports");
        }
        self.prepare_body(object, &looked, body).await
    }

    /// A config that the target reads: it takes effect with a release, so it does not change under one.
    async fn prepare_config(&self, object: &Desired, canary: &NamespacedName) -> Result<Prepared, Trouble> {
        let looked = self.look(object).await?;
        let prepared = self.prepare_body(object, &looked, object.body.clone()).await?;
        if prepared.writes.is_empty() || looked.live.is_none() || self.canary(canary).await?.allows_changes() {
            return Ok(prepared);
        }
        Ok(waiting(canary, Until::Idle, format!("the release of {canary} reads it")))
    }

    async fn prepare_target(
        &self,
        object: &Desired,
        canary: &NamespacedName,
        digest: &Digest,
    ) -> Result<Prepared, Trouble> {
        let looked = self.look(object).await?;
        let facts = self.canary(canary).await?;
        if let Some(recorded) = self.recorded_first(object, canary, &facts).await?
            && recorded.revision.digest != *digest
        {
            return self.prepare_recorded(object, &looked, canary, digest, recorded).await;
        }
        let live = looked.live.as_ref().map(LiveTarget::of);
        match target::admission(digest, self.commit, live.as_ref(), &facts) {
            Admission::Announce { revision, already } => Ok(announce(object, canary, digest, revision, already)),
            Admission::Same { stamp, drop_pending, template_may_change } => {
                let body = target::body(&object.body, &stamp);
                if !template_may_change && self.changes_template(object, &looked, &body).await? {
                    let reason =
                        format!("its template was changed in the cluster; put right when {canary} has no traffic");
                    return Ok(waiting(canary, Until::Correctable, reason));
                }
                let mut prepared = self.prepare_body(object, &looked, body).await?;
                prepared.writes.extend(drop_pending.then(|| drop_announcement(object)));
                Ok(prepared)
            }
            Admission::Write { stamp, drop_pending } => {
                let body = target::body(&object.body, &stamp);
                let mut prepared = self.prepare_body(object, &looked, body).await?;
                prepared.writes.extend(drop_pending.then(|| drop_announcement(object)));
                if looked.live.is_some() {
                    prepared.outcome.change =
                        prepared.outcome.change.map(|change| format!("{change}: progressive release"));
                }
                prepared.outcome.target = Some((canary.clone(), TargetResult::Written { revision: stamp }));
                Ok(prepared)
            }
        }
    }

    /// What the record says, if the cluster knows nothing of the target yet.
    async fn recorded_first(
        &self,
        object: &Desired,
        canary: &NamespacedName,
        facts: &CanaryFacts,
    ) -> Result<Option<Recorded>, Trouble> {
        if facts.has_status {
            return Ok(None);
        }
        let api = self.api(object).await?;
        let primary = format!("{}-primary", object.id.name);
        if call("look for the primary", api.get_opt(&primary)).await?.is_some() {
            return Ok(None);
        }
        self.records.recorded(canary).await.map_err(|message| {
            Trouble::Object(format!("the record must be read before the first start, and cannot be: {message}"))
        })
    }

    /// A rebuilt cluster starts with what last served; Git's revision follows as a release once the primary is there.
    async fn prepare_recorded(
        &self,
        object: &Desired,
        looked: &Looked,
        canary: &NamespacedName,
        digest: &Digest,
        recorded: Recorded,
    ) -> Result<Prepared, Trouble> {
        let Recorded { revision, template } = recorded;
        let mut body = target::body(&object.body, &revision);
        body["spec"]["template"] = template;
        let Prepared { writes, outcome } = self.prepare_body(object, looked, body).await?;
        let reason = format!("first {revision}, which the record says was promoted last, then Git's");
        let Prepared { writes: _, outcome: hold } = waiting(canary, Until::Admits(digest.clone()), reason);
        Ok(Prepared { writes, outcome: Outcome { change: outcome.change, ..hold } })
    }

    async fn changes_template(&self, object: &Desired, looked: &Looked, body: &Value) -> Result<bool, Trouble> {
        let dry_run = self.dry_run(object, &looked.api, body).await?;
        Ok(looked.live.as_ref().is_some_and(|live| live["spec"]["template"] != dry_run["spec"]["template"]))
    }

    async fn canary(&self, key: &NamespacedName) -> Result<CanaryFacts, Trouble> {
        let resolved = match self.cluster.resolve(api::GROUP, api::VERSION, "Canary").await {
            Ok(resolved) => resolved,
            // The definition comes later in this very commit: nothing is being released yet.
            Err(ResolveError::NotServed { .. }) => return Ok(CanaryFacts::default()),
            Err(error) => return Err(error.into()),
        };
        let api = self.cluster.objects(&resolved, Some(&key.namespace));
        match call(&format!("read Canary {key}"), api.get_opt(&key.name)).await? {
            None => Ok(CanaryFacts::default()),
            Some(object) => match object.try_parse::<Canary>() {
                Ok(canary) => Ok(CanaryFacts::of(&canary)),
                Err(error) => Err(Trouble::Object(format!("Canary {key} cannot be read: {error}"))),
            },
        }
    }

    async fn look(&self, object: &Desired) -> Result<Looked, Trouble> {
        let api = self.api(object).await?;
        let live = call(&format!("read {}", object.id), api.get_opt(&object.id.name)).await?;
        Ok(Looked { api, live: live.map(serde_json::to_value).transpose()? })
    }

    async fn dry_run(&self, object: &Desired, api: &Api<DynamicObject>, body: &Value) -> Result<Value, Trouble> {
        let params = PatchParams::apply(MANAGER_SYNC).force().dry_run();
        let what = format!("dry-run {}", object.id);
        let result = call(&what, api.patch(&object.id.name, &params, &Patch::Apply(body))).await?;
        Ok(serde_json::to_value(result)?)
    }

    async fn api(&self, object: &Desired) -> Result<Api<DynamicObject>, Trouble> {
        let (group, version, kind) = object.gvk();
        let resolved: Resolved = self.cluster.resolve(&group, &version, &kind).await?;
        Ok(self.cluster.objects(&resolved, object.id.namespace.as_deref()))
    }
}

fn waiting(canary: &NamespacedName, until: Until, reason: String) -> Prepared {
    let state = Settled::Waiting { canary: canary.clone(), until, reason };
    Prepared { writes: Vec::new(), outcome: Outcome { state, ..Outcome::unchanged() } }
}

fn announce(
    object: &Desired,
    canary: &NamespacedName,
    digest: &Digest,
    revision: Revision,
    already: bool,
) -> Prepared {
    let body = target::pending_body(&object.body, Some(&revision));
    let reason = format!("{revision} is announced; it is written when no traffic reaches the canary");
    let Prepared { writes: _, mut outcome } = waiting(canary, Until::Admits(digest.clone()), reason);
    outcome.change = (!already).then(|| format!("announce {revision}"));
    outcome.target = Some((canary.clone(), TargetResult::Announced { revision }));
    let write = Write { manager: MANAGER_PENDING, body, key: announcement_key(object) };
    Prepared { writes: if already { Vec::new() } else { vec![write] }, outcome }
}

fn drop_announcement(object: &Desired) -> Write {
    Write {
        manager: MANAGER_PENDING,
        body: target::pending_body(&object.body, None),
        key: announcement_key(object),
    }
}

fn announcement_key(object: &Desired) -> String {
    format!("announcement on {}", object.id)
}
