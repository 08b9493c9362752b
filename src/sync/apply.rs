//! Looks at objects in the cluster, asks the server what an apply would change, and writes only what differs.

mod trouble;

use futures::future::BoxFuture;
use futures::{StreamExt as _, stream};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::Value;

use super::adoption::{self, Adoption, Taking, taking};
use super::desired::{Desired, Role};
use super::events;
use super::ownership::{self, Named, Others};
use super::pass::Until;
use super::plan;
use super::preview::Reason;
use super::remove;
use super::rollouts::{self, Led};
use super::source::RecordSource;
use crate::api::TargetResult;
use crate::api::annotations::MANAGER_SYNC;
use crate::api::managed_fields::FieldSet;
use crate::cluster::{Cluster, EffectKind, Resolved, Writer, call};
use crate::model::{CommitId, NamespacedName, ObjectRef};

pub(super) use trouble::{LoneFailure, Trouble, is_about_the_group};

/// Objects looked at side by side: enough to hide latency, few enough to stay below API priority limits.
const LOOKS: usize = 4;

/// Times that an object is looked at again because somebody else wrote it between look and write. The engine writes the same
/// Deployments and Services, so one race is nothing to tell; who loses so many is up against somebody who writes all the time.
const RACES: usize = 3;

/// How an object ended up.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) state: Settled,
    /// What was changed, in words.
    pub(super) change: Option<String>,
    /// What became of a target's new revision.
    pub(super) target: Option<(NamespacedName, TargetResult)>,
    /// What of a target's template is new.
    pub(super) reason: Option<Reason>,
    /// Copies of configs that were made beside it.
    pub(super) copies: Vec<ObjectRef>,
}

/// How an object ended up.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Settled {
    /// As Git wants it.
    Applied,
    /// As Git wants it, and another source's: to be claimed when that gives it up.
    Shared,
    /// It is being deleted, or its namespace is, in words; looked at again soon.
    Deleting(String),
    /// It is its Canary's turn.
    Waiting { canary: NamespacedName, until: Until, reason: String },
    /// The API server does not answer for it, in words.
    Unanswered(String),
    /// It cannot be applied.
    Problem(String),
}

impl Outcome {
    pub(super) fn unchanged() -> Self {
        Self { state: Settled::Applied, change: None, target: None, reason: None, copies: Vec::new() }
    }

    pub(super) fn problem(message: String) -> Self {
        Self { state: Settled::Problem(message), ..Self::unchanged() }
    }
}

/// One write to send.
#[derive(Debug)]
pub(super) enum Write {
    /// Server-side apply.
    Apply { manager: &'static str, body: Value, key: String },
    /// JSON Patch.
    Patch { patch: json_patch::Patch, key: String },
    /// Server-side apply of the copy of a config that Git's tip does not have any more: what is made of the record reads it.
    Copy { body: Value },
}

/// What was decided about an object.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) writes: Vec<Write>,
    pub(super) outcome: Outcome,
}

impl Prepared {
    /// Nothing to write: it is the Canary's turn.
    pub(super) fn waiting(canary: &NamespacedName, until: Until, reason: String) -> Self {
        let state = Settled::Waiting { canary: canary.clone(), until, reason };
        Self { writes: Vec::new(), outcome: Outcome { state, ..Outcome::unchanged() } }
    }
}

/// An object's access path and live form.
pub(super) struct Looked {
    pub(super) api: Api<DynamicObject>,
    pub(super) live: Option<Value>,
    /// From whom it was taken over in this look, in words.
    pub(super) taken: Option<String>,
}

/// Applies objects of one commit.
pub(super) struct Applier<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) writer: &'a Writer,
    pub(super) records: &'a dyn RecordSource,
    pub(super) commit: &'a CommitId,
    pub(super) others: &'a Others<'a>,
    /// Nothing is written.
    pub(super) preview: bool,
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
        let mut lone = LoneFailure::default();
        for (object, prepared) in looked {
            let outcome = match prepared {
                Ok(prepared) => self.write(object, prepared).await,
                Err(trouble) => Err(trouble),
            };
            let outcome = match outcome {
                Err(Trouble::Race(_)) => self.again(object).await,
                outcome => outcome,
            };
            let state = match outcome {
                Ok(outcome) => {
                    lone.answered();
                    outcomes.push((object, outcome));
                    continue;
                }
                Err(Trouble::Deleting(reason)) => {
                    lone.answered();
                    Settled::Deleting(reason)
                }
                Err(trouble) => {
                    let is_answer = matches!(trouble, Trouble::Object(_));
                    let message = format!("{}: {}: {}", object.origin, object.id, lone.take(trouble)?);
                    if is_answer { Settled::Problem(message) } else { Settled::Unanswered(message) }
                }
            };
            outcomes.push((object, Outcome { state, ..Outcome::unchanged() }));
        }
        Ok(outcomes)
    }

    /// An object that somebody else wrote between look and write is looked at anew.
    async fn again(&self, object: &Desired) -> Result<Outcome, Trouble> {
        let mut tries = 0;
        loop {
            tries += 1;
            let done = match self.prepare(object).await {
                Ok(prepared) => self.write(object, prepared).await,
                Err(trouble) => Err(trouble),
            };
            match done {
                Err(Trouble::Race(_)) if tries < RACES => {
                    tracing::debug!(object = %object.id, "{} was written by somebody else meanwhile", object.id);
                }
                done => return done,
            }
        }
    }

    fn look_at<'s>(&'s self, object: &'s Desired) -> BoxFuture<'s, (&'s Desired, Result<Prepared, Trouble>)> {
        Box::pin(async move { (object, self.prepare(object).await) })
    }

    async fn write(&self, object: &Desired, prepared: Prepared) -> Result<Outcome, Trouble> {
        let Prepared { writes, outcome } = prepared;
        if writes.is_empty() || self.preview {
            return Ok(outcome);
        }
        let api = self.api(object).await?;
        let name = &object.id.name;
        for write in writes {
            match write {
                Write::Apply { manager, body, key } => {
                    let params = PatchParams::apply(manager).force();
                    let patch = Patch::Apply(&body);
                    self.writer.effect(EffectKind::Apply, &key, api.patch(name, &params, &patch)).await?;
                }
                Write::Patch { patch, key } => {
                    let params =
                        PatchParams { field_manager: Some(MANAGER_SYNC.to_owned()), ..Default::default() };
                    let patch = Patch::<()>::Json(patch);
                    self.writer.effect(EffectKind::Patch, &key, api.patch(name, &params, &patch)).await?;
                }
                Write::Copy { body } => self.write_copy(&body).await?,
            }
        }
        if let Some(change) = &outcome.change {
            tracing::info!(object = %object.id, commit = self.commit.short(), "{}: {change}", object.id);
        }
        Ok(outcome)
    }

    async fn prepare(&self, object: &Desired) -> Result<Prepared, Trouble> {
        match &object.role {
            Role::Plain | Role::ConfigCopy => self.prepare_plain(object, object.body.clone()).await,
            Role::Apex => self.prepare_apex(object).await,
            Role::Led(led) => self.prepare_led(object, led).await,
            Role::TargetConfig { readers } => self.prepare_config(object, readers).await,
            Role::Target { canary, digest, configs } => {
                self.prepare_target(object, canary, (digest, configs)).await
            }
        }
    }

    async fn prepare_plain(&self, object: &Desired, body: Value) -> Result<Prepared, Trouble> {
        let (api, live) = self.read(object).await?;
        if let Some(live) = &live
            && let Some((owner, named)) = self.kept_by_other(object, live).await?
        {
            // Many sources bring the Namespace that they share: what is the same in both is no quarrel.
            let same = self.dry_run(object, &api, &ownership::body_of(object, &owner)).await?;
            return match plan::differs(live, &same) {
                true => Err(Trouble::Object(ownership::refusal(&owner, &named))),
                false => {
                    let outcome = Outcome { state: Settled::Shared, ..Outcome::unchanged() };
                    Ok(Prepared { writes: Vec::new(), outcome })
                }
            };
        }
        let looked = self.taken(object, api, live).await?;
        self.prepare_body(object, &looked, body).await
    }

    pub(super) async fn prepare_body(
        &self,
        object: &Desired,
        looked: &Looked,
        body: Value,
    ) -> Result<Prepared, Trouble> {
        let dry_run = self.dry_run(object, &looked.api, &body).await?;
        let is_same = looked.live.as_ref().is_some_and(|live| !plan::differs(live, &dry_run));
        if self.preview && looked.taken.is_none() && is_same {
            // Who owns what is put right on the way; nobody who reads a plan would see a difference.
            return Ok(Prepared { writes: Vec::new(), outcome: Outcome::unchanged() });
        }
        Ok(prepared(object, looked, body, &dry_run))
    }

    /// The service in front of both sides: what the engine has taken of selector and ports is left to it, port by port.
    async fn prepare_apex(&self, object: &Desired) -> Result<Prepared, Trouble> {
        let looked = self.look(object).await?;
        let mut body = object.body.clone();
        if let Some(live) = &looked.live {
            FieldSet::of_engine(live).only(&[&["spec", "selector"], &["spec", "ports"]]).leave_out_of(&mut body);
        }
        self.prepare_body(object, &looked, body).await
    }

    /// A Rollout, or what shifts its traffic: the engine's part of it stays.
    async fn prepare_led(&self, object: &Desired, led: &Led) -> Result<Prepared, Trouble> {
        let looked = self.look(object).await?;
        let mut body = object.body.clone();
        if *led == Led::Rollout {
            rollouts::stamp(&mut body, looked.live.as_ref(), self.commit);
        }
        if let Some(live) = &looked.live {
            led.keep(&mut body, live);
        }
        self.prepare_body(object, &looked, body).await
    }

    /// Reads an object of which the release engine has a part, and takes it if it is to be had.
    pub(super) async fn look(&self, object: &Desired) -> Result<Looked, Trouble> {
        let (api, live) = self.read(object).await?;
        if let Some(live) = &live
            && let Some((owner, named)) = self.kept_by_other(object, live).await?
        {
            return Err(Trouble::Object(ownership::refusal(&owner, &named)));
        }
        self.taken(object, api, live).await
    }

    /// The other source that wrote the object and still wants it, as far as is known.
    async fn kept_by_other(
        &self,
        object: &Desired,
        live: &Value,
    ) -> Result<Option<(NamespacedName, Named)>, Trouble> {
        let Some(owner) = ownership::other_source(live, self.others.own()) else { return Ok(None) };
        let named = self.others.named(&owner, &object.id).await;
        Ok((named != Named::No).then_some((owner, named)))
    }

    async fn read(&self, object: &Desired) -> Result<(Api<DynamicObject>, Option<Value>), Trouble> {
        let api = self.api(object).await?;
        let live = call(&format!("read {}", object.id), api.get_opt(&object.id.name)).await?;
        let live = live.map(serde_json::to_value).transpose()?;
        if let Some(live) = live.as_ref().filter(|live| !live["metadata"]["deletionTimestamp"].is_null()) {
            let words = remove::hanging(live).unwrap_or_else(|| "it is being deleted".to_owned());
            return Err(Trouble::Deleting(words));
        }
        Ok((api, live))
    }

    async fn taken(
        &self,
        object: &Desired,
        api: Api<DynamicObject>,
        live: Option<Value>,
    ) -> Result<Looked, Trouble> {
        let Some(found) = &live else { return Ok(Looked { api, live, taken: None }) };
        let claimed = ownership::other_source(found, self.others.own())
            .map(|owner| format!("claim from source {owner}, which does not name it any more"));
        match taking(found, &object.body, matches!(object.role, Role::Plain | Role::ConfigCopy)) {
            Taking::Done => Ok(Looked { api, live, taken: claimed }),
            Taking::Refused(words) => Err(Trouble::Object(words)),
            Taking::Over(adoption) => self.take_over(object, api, found, adoption).await,
        }
    }

    /// Makes the field sets of whoever wrote the object before ours. Changes no value that anybody reads, so that what is
    /// decided afterwards is decided about an object of ours.
    async fn take_over(
        &self,
        object: &Desired,
        api: Api<DynamicObject>,
        live: &Value,
        adoption: Adoption,
    ) -> Result<Looked, Trouble> {
        let Adoption { from, patch } = adoption;
        let key = format!("ownership of {}", object.id);
        let patch: json_patch::Patch = serde_json::from_value(patch)?;
        let field_manager = Some(MANAGER_SYNC.to_owned());
        let params = PatchParams { field_manager, dry_run: self.preview, ..Default::default() };
        let patch = Patch::<()>::Json(patch);
        let patched = api.patch(&object.id.name, &params, &patch);
        let taken = match self.preview {
            true => call(&format!("dry-run {key}"), patched).await?,
            false => self.writer.effect(EffectKind::Patch, &key, patched).await?,
        };
        let taken = serde_json::to_value(taken)?;
        if let Some(owner) = adoption::owner(live) {
            let message = format!(
                "{} carries the mark of {owner}: suspend that, or remove the object there without deleting it; what prunes \
                 there deletes it here",
                object.id
            );
            if !self.preview {
                tracing::warn!(object = %object.id, "{message}");
                events::warn(self.cluster, self.writer, &object.id, &object.version, &message).await;
            }
        }
        let from = (!from.is_empty()).then(|| format!("take over from {}", from.join(", ")));
        Ok(Looked { api, live: Some(taken), taken: from })
    }

    pub(super) async fn dry_run(
        &self,
        object: &Desired,
        api: &Api<DynamicObject>,
        body: &Value,
    ) -> Result<Value, Trouble> {
        let params = PatchParams::apply(MANAGER_SYNC).force().dry_run();
        let what = format!("dry-run {}", object.id);
        let result = call(&what, api.patch(&object.id.name, &params, &Patch::Apply(body))).await?;
        Ok(serde_json::to_value(result)?)
    }

    pub(super) async fn api(&self, object: &Desired) -> Result<Api<DynamicObject>, Trouble> {
        let (group, version, kind) = object.gvk();
        let resolved: Resolved = self.cluster.resolve(&group, &version, &kind).await?;
        Ok(self.cluster.objects(&resolved, object.id.namespace.as_deref()))
    }
}

/// The apply, unless the object is settled already.
pub(super) fn prepared(object: &Desired, looked: &Looked, body: Value, dry_run: &Value) -> Prepared {
    let taken = looked.taken.clone();
    match &looked.live {
        Some(live) if plan::is_settled(live, dry_run) => {
            Prepared { writes: Vec::new(), outcome: Outcome { change: taken, ..Outcome::unchanged() } }
        }
        live => {
            let words = plan::words(live.as_ref(), dry_run);
            let change = taken.into_iter().chain([words]).collect::<Vec<_>>().join(", ");
            let write = Write::Apply { manager: MANAGER_SYNC, body, key: object.id.to_string() };
            Prepared { writes: vec![write], outcome: Outcome { change: Some(change), ..Outcome::unchanged() } }
        }
    }
}
