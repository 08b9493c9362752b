//! Hands a target's revisions to the release engine: writes, announces, or puts right what was changed by hand.

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::apply::{Applier, Looked, Outcome, Prepared, Trouble, Write, prepared};
use super::configs::{self, Wanted};
use super::desired::{Desired, TargetConfigs};
use super::pass::Until;
use super::preview::Reason;
use super::source::Recorded;
use super::survey;
use super::target::{self, Admission, CanaryFacts, LiveTarget};
use crate::api::annotations::{COPIED_FROM, MANAGER_PENDING, MANAGER_SYNC, REBUILT, REVISION};
use crate::api::{self, Canary, CanaryPhase, TargetResult};
use crate::cluster::{ResolveError, call};
use crate::manifest::{canonical_template, describe_change, template_digest};
use crate::model::{Digest, NamespacedName, Revision};

impl Applier<'_> {
    pub(super) async fn prepare_target(
        &self,
        object: &Desired,
        canary: &NamespacedName,
        (as_written, configs): (&Digest, &TargetConfigs),
    ) -> Result<Prepared, Trouble> {
        let looked = self.look(object).await?;
        let facts = self.canary(canary).await?;
        let recorded = self.recorded_first(object, canary, &facts).await?;
        let Wanted { body, digest } =
            self.wanted_form(object, (as_written, configs), looked.live.as_ref(), &facts).await?;
        let digest = &digest;
        if let Some(recorded) = &recorded
            && recorded.revision.digest != *digest
            && looked.live.as_ref().is_none_or(|live| gives_way(live, recorded))
        {
            return self.prepare_recorded(object, &looked, digest, recorded, (canary, &facts)).await;
        }
        let recorded = recorded.as_ref().filter(|recorded| recorded.revision.digest == *digest);
        let live = looked.live.as_ref().map(LiveTarget::of);
        let replaced = live.as_ref().map(|live| live.replaced_by(digest, &facts)).unwrap_or_default();
        let known = live.as_ref().map_or(&[][..], |live| &live.replaced);
        // They must be named before what replaces them is written: after a crash nobody would know of them.
        let owed = replaced.iter().any(|revision| !known.contains(revision));
        match target::admission(digest, self.commit, live.as_ref(), &facts) {
            Admission::Announce { revision, already } => {
                let mut prepared = announce(object, canary, revision, already && !owed, &replaced);
                prepared.outcome.reason =
                    looked.live.as_ref().map(|live| reason(live, (&object.body, &body), &facts, digest));
                Ok(prepared)
            }
            Admission::Same { stamp, drop_pending, template_may_change } => {
                let exact = self.prepare_exact(object, &looked, &body, &stamp, recorded, &facts).await?;
                if exact.changes_template && !template_may_change {
                    let reason =
                        format!("its template was changed in the cluster; put right when {canary} has no traffic");
                    return Ok(Prepared::waiting(canary, Until::Correctable, reason));
                }
                let mut prepared = exact.prepared;
                prepared.writes.extend(drop_pending.then(|| drop_announcement(object, &replaced)));
                // Written by an earlier pass over this commit that did not get to say so.
                let told = (stamp.commit.as_ref() == Some(self.commit))
                    .then(|| (canary.clone(), TargetResult::Written { revision: stamp }));
                prepared.outcome.target = told;
                Ok(prepared)
            }
            Admission::Write { stamp, drop_pending } => {
                let Exact { mut prepared, changes_template } =
                    self.prepare_exact(object, &looked, &body, &stamp, recorded, &facts).await?;
                if changes_template && facts.uid.is_none() && looked.live.is_some() {
                    // Unguarded it would reach all users at once.
                    let reason = format!("{canary}, which guards it, is not in the cluster yet");
                    return Ok(Prepared::waiting(canary, Until::There, reason));
                }
                if owed {
                    prepared.writes.insert(0, drop_announcement(object, &replaced));
                } else {
                    prepared.writes.extend(drop_pending.then(|| drop_announcement(object, &replaced)));
                }
                if changes_template {
                    let what = facts.consequence(digest);
                    prepared.outcome.change = prepared.outcome.change.map(|change| format!("{change}: {what}"));
                }
                let release = looked.live.as_ref().filter(|_| changes_template);
                prepared.outcome.reason = release.map(|live| reason(live, (&object.body, &body), &facts, digest));
                prepared.outcome.target = Some((canary.clone(), TargetResult::Written { revision: stamp }));
                Ok(prepared)
            }
        }
    }

    /// The target with exactly Git's template. Applying leaves fields alone that others added (`kubectl rollout restart`
    /// adds an annotation), and what is released would not be what Git says; then the template is replaced whole, with its
    /// stamp in the same request.
    async fn prepare_exact(
        &self,
        object: &Desired,
        looked: &Looked,
        wanted: &Value,
        stamp: &Revision,
        recorded: Option<&Recorded>,
        facts: &CanaryFacts,
    ) -> Result<Exact, Trouble> {
        let mut body = target::body(wanted, stamp, looked.live.as_ref(), facts);
        if let Some(recorded) = recorded {
            target::remember(&mut body, &recorded.remembered());
        }
        let dry_run = self.dry_run(object, &looked.api, &body).await?;
        let template = body["spec"]["template"].clone();
        let mut prepared = prepared(object, looked, body, &dry_run);
        let Some(live) = &looked.live else {
            stored_as_wanted(&template, &dry_run, stamp)?;
            return Ok(Exact { prepared, changes_template: false });
        };
        let added = template_digest(&dry_run["spec"]["template"]) != stamp.digest;
        if added {
            let patch = replace_template(live, template.clone(), stamp)?;
            stored_as_wanted(&template, &self.dry_run_patch(object, &looked.api, &patch).await?, stamp)?;
            let key = format!("template of {}", object.id);
            prepared.writes.insert(0, Write::Patch { patch, key });
            let change = prepared.outcome.change.take().into_iter().chain(["drop what others added".to_owned()]);
            prepared.outcome.change = Some(change.collect::<Vec<_>>().join(", "));
        }
        let changes_template = added || live["spec"]["template"] != dry_run["spec"]["template"];
        Ok(Exact { prepared, changes_template })
    }

    async fn dry_run_patch(
        &self,
        object: &Desired,
        api: &Api<DynamicObject>,
        patch: &json_patch::Patch,
    ) -> Result<Value, Trouble> {
        let params =
            PatchParams { dry_run: true, field_manager: Some(MANAGER_SYNC.to_owned()), ..Default::default() };
        let what = format!("dry-run the template of {}", object.id);
        let patch = Patch::<()>::Json(patch.clone());
        Ok(serde_json::to_value(call(&what, api.patch(&object.id.name, &params, &patch)).await?)?)
    }

    /// What the record says, if the cluster knows nothing of the target yet: no Canary has taken it up, or the one that did is
    /// gone and left a primary that goes with it.
    async fn recorded_first(
        &self,
        object: &Desired,
        canary: &NamespacedName,
        facts: &CanaryFacts,
    ) -> Result<Option<Recorded>, Trouble> {
        // One that waits for its target has not taken it up.
        if facts.has_status && facts.phase != CanaryPhase::Initializing {
            return Ok(None);
        }
        let api = self.api(object).await?;
        let primary = format!("{}-primary", object.id.name);
        let primary = call("look for the primary", api.get_opt(&primary)).await?;
        if primary.is_some_and(|primary| !is_orphan(&primary, facts)) {
            return Ok(None);
        }
        self.records.recorded(canary, &object.id).await.map_err(|message| {
            Trouble::Object(format!("the record must be read before the first start, and cannot be: {message}"))
        })
    }

    /// A rebuilt cluster starts with what last served; Git's revision follows as a release once the primary is there.
    async fn prepare_recorded(
        &self,
        object: &Desired,
        looked: &Looked,
        digest: &Digest,
        recorded: &Recorded,
        (canary, facts): (&NamespacedName, &CanaryFacts),
    ) -> Result<Prepared, Trouble> {
        let Recorded { revision, template, copies, failed: _, source } = recorded;
        let mut wanted = object.body.clone();
        wanted["spec"]["template"] = template.clone();
        wanted["metadata"]["annotations"][REBUILT] = json!(source);
        let Prepared { mut writes, outcome } =
            self.prepare_exact(object, looked, &wanted, revision, Some(recorded), facts).await?.prepared;
        let copies: Vec<Value> = copies.iter().map(|copy| self.placed_copy(copy, object)).collect();
        let made = copies.iter().map(survey::identity).collect();
        writes.splice(0..0, copies.into_iter().map(|body| Write::Copy { body }));
        let reason = format!("first {revision}, which the record says was promoted last, then Git's");
        let hold = Prepared::waiting(canary, Until::Admits(digest.clone()), reason).outcome;
        Ok(Prepared { writes, outcome: Outcome { change: outcome.change, copies: made, ..hold } })
    }

    /// What the live Canary says. Read, not cached: it decides a write.
    pub(super) async fn canary(&self, key: &NamespacedName) -> Result<CanaryFacts, Trouble> {
        let resolved = match self.cluster.resolve(api::GROUP, api::VERSION, "Canary").await {
            Ok(resolved) => resolved,
            // The definition comes later in this very commit: nothing is being released yet.
            Err(ResolveError::NotServed { .. }) => return Ok(CanaryFacts::default()),
            Err(error) => return Err(error.into()),
        };
        let api = self.cluster.objects(&resolved, Some(&key.namespace));
        let object: Option<DynamicObject> = call(&format!("read Canary {key}"), api.get_opt(&key.name)).await?;
        match object.map(|object| object.try_parse::<Canary>()) {
            None => Ok(CanaryFacts::default()),
            Some(Ok(canary)) => Ok(CanaryFacts::of(&canary)),
            Some(Err(error)) => Err(Trouble::Object(format!("Canary {key} cannot be read: {error}"))),
        }
    }
}

/// What of a target's template is new; `wanted` is the target as it is to be.
fn reason(live: &Value, (object, wanted): (&Value, &Value), facts: &CanaryFacts, digest: &Digest) -> Reason {
    if facts.promoted.as_ref().is_some_and(|promoted| promoted.digest == *digest) {
        return Reason::Restored;
    }
    let bare = |object: &Value| {
        let mut template = object["spec"]["template"].clone();
        for field in ["containers", "initContainers"] {
            for container in template["spec"][field].as_array_mut().into_iter().flatten() {
                // The pull policy that the server fills in depends on the tag.
                container["image"] = json!("any:1");
            }
        }
        template_digest(&template)
    };
    let (was, is) = (configs::as_people_wrote(live, object), configs::as_people_wrote(wanted, object));
    if template_digest(&was["spec"]["template"]) == template_digest(&is["spec"]["template"]) {
        return Reason::Config;
    }
    if bare(&was) == bare(&is) { Reason::Image } else { Reason::Template }
}

/// Whether a live target may be brought to what the record says: it runs that, or what failed. One that runs another revision
/// serves it already, without a Canary, and is not taken back to what was promoted when there was one.
fn gives_way(live: &Value, recorded: &Recorded) -> bool {
    let runs = template_digest(&live["spec"]["template"]);
    runs == recorded.revision.digest || recorded.has_failed(&runs)
}

/// Whether a generated primary is of another Canary than the one that there is now. Somebody else's has no such mark.
fn is_orphan(primary: &DynamicObject, facts: &CanaryFacts) -> bool {
    let annotations = primary.metadata.annotations.as_ref();
    let is_generated = annotations.is_some_and(|all| all.contains_key(COPIED_FROM));
    let owners = primary.metadata.owner_references.as_deref().unwrap_or_default();
    is_generated && !owners.iter().any(|owner| Some(&owner.uid) == facts.uid.as_ref())
}

/// Whether the API server would store the template as it is. One that it changes (it drops fields of features that are
/// off; admission webhooks rewrite images) would look like drift for ever, so it is refused instead.
fn stored_as_wanted(template: &Value, dry_run: &Value, stamp: &Revision) -> Result<(), Trouble> {
    let stored = &dry_run["spec"]["template"];
    if template_digest(stored) == stamp.digest {
        return Ok(());
    }
    let change =
        describe_change("Deployment", &canonical_template(template), &canonical_template(stored)).join(", ");
    Err(Trouble::Object(format!(
        "the API server would store another pod template than Git's ({change}): a feature that is off or an admission \
         webhook changes it; write in Git what the server stores"
    )))
}

/// A target's writes, and whether they change the live template.
struct Exact {
    prepared: Prepared,
    changes_template: bool,
}

/// Replaces the template and stamps it; naming the resourceVersion makes it a conflict if the object has changed since.
fn replace_template(live: &Value, template: Value, stamp: &Revision) -> Result<json_patch::Patch, Trouble> {
    let annotations = match &live["metadata"]["annotations"] {
        Value::Object(annotations) => annotations.clone(),
        _ => serde_json::Map::new(),
    };
    let mut stamped = Value::Object(annotations);
    stamped[REVISION] = json!(stamp.to_string());
    Ok(serde_json::from_value(json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
        {"op": "replace", "path": "/spec/template", "value": template},
        {"op": "add", "path": "/metadata/annotations", "value": stamped},
    ]))?)
}

fn announce(
    object: &Desired,
    canary: &NamespacedName,
    revision: Revision,
    already: bool,
    replaced: &[Revision],
) -> Prepared {
    let body = target::pending_body(&object.body, Some(&revision), replaced);
    let reason = format!("{revision} is announced; it is written when no traffic reaches the canary");
    let Prepared { writes: _, mut outcome } =
        Prepared::waiting(canary, Until::Admits(revision.digest.clone()), reason);
    outcome.change = (!already).then(|| format!("announce {revision}"));
    outcome.target = Some((canary.clone(), TargetResult::Announced { revision }));
    let write = Write::Apply { manager: MANAGER_PENDING, body, key: announcement_key(object) };
    Prepared { writes: if already { Vec::new() } else { vec![write] }, outcome }
}

fn drop_announcement(object: &Desired, replaced: &[Revision]) -> Write {
    let body = target::pending_body(&object.body, None, replaced);
    Write::Apply { manager: MANAGER_PENDING, body, key: announcement_key(object) }
}

fn announcement_key(object: &Desired) -> String {
    format!("announcement on {}", object.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_the_api_server_would_change_is_refused_with_what_it_changes() {
        let template = json!({"spec": {"containers": [{"name": "app", "image": "app:1"}]}});
        let stamp = Revision { digest: template_digest(&template), commit: None };
        let mut stored = template.clone();
        stored["spec"]["containers"][0]["terminationMessagePolicy"] = json!("File");
        stored_as_wanted(&template, &json!({"spec": {"template": stored}}), &stamp).unwrap();
        stored["spec"]["containers"][0]["image"] = json!("mirror.example/app:1");
        let refused = stored_as_wanted(&template, &json!({"spec": {"template": stored}}), &stamp).unwrap_err();
        assert!(
            matches!(&refused, Trouble::Object(words) if words.contains("mirror.example/app:1")),
            "{refused:?}"
        );
    }
}
