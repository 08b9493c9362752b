//! When a target's pod template may be written. Decisions are pure.
//!
//! Nothing unanalysed serves: while a release is under way a new revision is only announced, and the engine admits it when
//! no traffic can reach the canary. The template, its stamp and the end of the announcement belong together.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::api::annotations::{
    MANAGER_SYNC, PENDING, RECORD_FAILED, RECORD_PROMOTED, REPLACED, REPLICAS, REVISION,
};
use crate::api::managed_fields::{Entry, FieldSet, applied_by, entries};
use crate::api::{AwaitsKind, Canary, CanaryPhase, Handover};
use crate::cluster::{Reflected, SharedWatch};
use crate::model::{CommitId, Digest, Remembered, Revision};

/// Replaced revisions that wait to be seen by the engine; it sees each within a second, so more are never waiting.
const REPLACED_MAX: usize = 20;

/// What the Canary says about its target.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct CanaryFacts {
    /// Whether the engine has taken it up. A status that only says why it does not is none.
    pub(super) has_status: bool,
    /// Its uid; `None` if it does not exist.
    pub(super) uid: Option<String>,
    /// It is being deleted, and hands its target back.
    pub(super) deleting: bool,
    pub(super) phase: CanaryPhase,
    pub(super) weight: i64,
    /// The revision that the engine lets in.
    pub(super) admitted: Option<Revision>,
    /// What primary runs.
    pub(super) promoted: Option<Revision>,
    /// The digest that the engine took up last.
    pub(super) taken_up: Option<Digest>,
    /// Replaced revisions that have had their end.
    pub(super) ended: Vec<Revision>,
    /// The engine has seen that the target was changed in the cluster, and waits until it is as Git says.
    pub(super) awaits_correction: bool,
    /// The engine starts nothing: it is blocked, or suspended.
    pub(super) stands_still: bool,
    /// What the engine misses, or has seen changed, if Git's objects may put it right.
    pub(super) awaits_git: Option<String>,
}

/// What sync keeps of a Canary in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchedCanary {
    /// Name of the target.
    pub(super) target: String,
    /// Name of the service in front of both sides.
    pub(super) service: String,
    pub(super) facts: CanaryFacts,
}

impl WatchedCanary {
    fn of(canary: &Canary) -> Self {
        Self {
            target: canary.spec.target_ref.name.clone(),
            service: canary.spec.service_name().to_owned(),
            facts: CanaryFacts::of(canary),
        }
    }
}

/// The Canaries as sync sees them.
pub fn watched_canaries(watch: &mut SharedWatch) -> Reflected<WatchedCanary> {
    let convert = |object: DynamicObject| {
        let canary = object.try_parse::<Canary>().map_err(|error| error.to_string())?;
        Ok(WatchedCanary::of(&canary))
    };
    watch.cache(convert, |_| {})
}

impl CanaryFacts {
    /// Reads them off a Canary.
    pub(super) fn of(canary: &Canary) -> Self {
        let (uid, deleting) = (canary.metadata.uid.clone(), canary.metadata.deletion_timestamp.is_some());
        let Some(status) = &canary.status else {
            return Self { uid, deleting, ..Self::default() };
        };
        let told = status.serin.as_ref().and_then(|serin| serin.handover.clone());
        let has_status = status.phase != CanaryPhase::Unset || told.is_some();
        let Handover { version: _, admitted, promoted, taken_up, ended, awaits } = told.unwrap_or_default();
        Self {
            uid,
            deleting,
            has_status,
            phase: status.phase,
            weight: status.canary_weight,
            admitted,
            promoted,
            taken_up,
            ended,
            awaits_correction: awaits.as_ref().is_some_and(|awaits| awaits.kind == AwaitsKind::Correction),
            stands_still: canary.spec.suspend
                || awaits.as_ref().is_some_and(|awaits| awaits.kind == AwaitsKind::Objects),
            awaits_git: awaits.map(|awaits| awaits.what),
        }
    }

    /// Whether nothing is being released and no traffic reaches the canary.
    fn is_free(&self) -> bool {
        let idle = match self.phase {
            CanaryPhase::Unset | CanaryPhase::Initialized | CanaryPhase::Succeeded | CanaryPhase::Failed => true,
            // Nobody has made a primary of anything yet, and nobody is about to.
            CanaryPhase::Initializing => self.stands_still,
            CanaryPhase::Waiting
            | CanaryPhase::Progressing
            | CanaryPhase::WaitingPromotion
            | CanaryPhase::Promoting
            | CanaryPhase::Finalising
            | CanaryPhase::Terminating
            | CanaryPhase::Terminated => false,
        };
        idle && self.weight == 0 && !self.deleting
    }

    /// Whether a revision with this digest may be written now.
    pub(super) fn admits(&self, digest: &Digest) -> bool {
        match &self.admitted {
            Some(admitted) => admitted.digest == *digest,
            None => self.is_free(),
        }
    }

    /// Whether primary runs this digest and nothing else is being released.
    pub(super) fn runs(&self, digest: &Digest) -> bool {
        self.is_free() && self.promoted.as_ref().is_some_and(|promoted| promoted.digest == *digest)
    }

    /// What a new template means for the target, in words.
    pub(super) fn consequence(&self, digest: &Digest) -> &'static str {
        match &self.promoted {
            Some(promoted) if promoted.digest == *digest => "what primary runs, nothing to release",
            Some(_) | None => "progressive release",
        }
    }

    /// Whether a template that was changed in the cluster may be put right: no traffic reaches it.
    pub(super) fn allows_correction(&self) -> bool {
        self.is_free() || (self.awaits_correction && self.weight == 0)
    }

    /// Whether there is a primary that serves, so that the target's size is the engine's.
    pub(super) fn is_initialized(&self) -> bool {
        self.has_status && !matches!(self.phase, CanaryPhase::Unset | CanaryPhase::Initializing)
    }

    /// Whether anything may change under a release, e.g. its configs.
    pub(super) fn allows_changes(&self) -> bool {
        self.is_free()
    }
}

/// What the live target carries.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LiveTarget {
    pub(super) stamped: Option<Revision>,
    pub(super) pending: Option<Revision>,
    /// Revisions that were replaced before the engine took them up.
    pub(super) replaced: Vec<Revision>,
}

impl LiveTarget {
    /// Reads it off the live object. An annotation that is not a revision counts as absent.
    pub(super) fn of(live: &Value) -> Self {
        let text = |key: &str| live["metadata"]["annotations"][key].as_str();
        let revision = |key: &str| text(key).and_then(|text| text.parse().ok());
        let replaced = text(REPLACED).map(Revision::list).unwrap_or_default();
        Self { stamped: revision(REVISION), pending: revision(PENDING), replaced }
    }

    /// What the target has to name as replaced when Git wants `digest`: what was announced and not let in, and what was
    /// written and not taken up, until the engine says that it has seen them. Without this a commit between two others
    /// would end without a word.
    pub(super) fn replaced_by(&self, digest: &Digest, canary: &CanaryFacts) -> Vec<Revision> {
        let Self { stamped, pending, replaced } = self;
        // Until it has taken something up, it is taking up what is there.
        let taken = |revision: &Revision| canary.taken_up.as_ref().is_none_or(|taken| *taken == revision.digest);
        let untaken = stamped.as_ref().filter(|stamped| !taken(stamped));
        let mut all = replaced.clone();
        for revision in untaken.into_iter().chain(pending).filter(|revision| revision.digest != *digest) {
            if !all.contains(revision) {
                all.push(revision.clone());
            }
        }
        all.retain(|revision| !canary.ended.contains(revision));
        all.split_off(all.len().saturating_sub(REPLACED_MAX))
    }
}

/// What to do with a target.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Admission {
    /// Apply it, template and stamp together.
    Write { stamp: Revision, drop_pending: bool },
    /// It runs already; whatever else differs may be put right, but the template only while nothing is released.
    Same { stamp: Revision, drop_pending: bool, template_may_change: bool },
    /// Leave it and announce the revision.
    Announce { revision: Revision, already: bool },
}

/// Decides for the digest that Git wants since `commit`.
pub(super) fn admission(
    digest: &Digest,
    commit: &CommitId,
    live: Option<&LiveTarget>,
    canary: &CanaryFacts,
) -> Admission {
    let fresh = Revision { digest: digest.clone(), commit: Some(commit.clone()) };
    let Some(LiveTarget { stamped, pending, replaced: _ }) = live else {
        return Admission::Write { stamp: fresh, drop_pending: false };
    };
    if let Some(stamp) = stamped.as_ref().filter(|stamped| stamped.digest == *digest) {
        return Admission::Same {
            stamp: stamp.clone(),
            drop_pending: pending.is_some(),
            template_may_change: canary.allows_correction(),
        };
    }
    // The commit that announced a digest keeps it, so that the engine admits what it has seen.
    let announced = pending.as_ref().filter(|pending| pending.digest == *digest);
    let revision = announced.cloned().unwrap_or(fresh);
    if canary.admits(digest) {
        Admission::Write { stamp: revision, drop_pending: pending.is_some() }
    } else {
        Admission::Announce { revision, already: announced.is_some() }
    }
}

/// The target as it is applied, with its stamp. Of `spec.replicas` it has what [`replicas`] says; Git's is always told.
pub(super) fn body(desired: &Value, stamp: &Revision, live: Option<&Value>, canary: &CanaryFacts) -> Value {
    let mut body = desired.clone();
    let applied = replicas(desired, live, canary);
    let git = body["spec"].as_object_mut().and_then(|spec| spec.remove("replicas"));
    if let Some(applied) = applied {
        body["spec"]["replicas"] = json!(applied);
    }
    let metadata = &mut body["metadata"];
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    metadata["annotations"][REVISION] = json!(stamp.to_string());
    if let Some(replicas) = git.as_ref().and_then(Value::as_i64) {
        metadata["annotations"][REPLICAS] = json!(replicas.to_string());
    }
    body
}

/// The replica count that is applied to a target. A field that its only owner leaves out falls to the server's default, and
/// the pods that serve go with it. So it is left out only where somebody else owns it: the engine once there is a primary, or
/// an autoscaler. Until then Git's size holds.
fn replicas(desired: &Value, live: Option<&Value>, canary: &CanaryFacts) -> Option<i64> {
    const REPLICAS_OF_SPEC: [&str; 2] = ["spec", "replicas"];
    let git = desired["spec"]["replicas"].as_i64();
    let Some(live) = live else {
        // Made again beside its primary it has nobody to serve.
        return git.filter(|_| !canary.is_initialized());
    };
    if FieldSet::of_engine(live).has(&REPLICAS_OF_SPEC) {
        return None;
    }
    if applied_by(live, MANAGER_SYNC).is_some_and(|entry| entry.fields().has(&REPLICAS_OF_SPEC)) {
        let now = live["spec"]["replicas"].as_i64();
        return if canary.is_initialized() { now } else { git.or(now) };
    }
    let scaled = |entry: Entry<'_>| entry.is_of_subresource() && entry.fields().has(&REPLICAS_OF_SPEC);
    git.filter(|_| !canary.is_initialized() && !entries(live).any(scaled))
}

/// Adds what the record says to a target that the cluster knows nothing of.
pub(super) fn remember(body: &mut Value, record: &Remembered) {
    let annotations = &mut body["metadata"]["annotations"];
    annotations[RECORD_PROMOTED] = json!(record.promoted.to_string());
    if !record.failed.is_empty() {
        let failed: Vec<String> = record.failed.iter().map(ToString::to_string).collect();
        annotations[RECORD_FAILED] = json!(failed.join(" "));
    }
}

/// The announcement alone, with what it or an earlier one replaced; `None` drops it.
pub(super) fn pending_body(desired: &Value, revision: Option<&Revision>, replaced: &[Revision]) -> Value {
    let mut annotations = serde_json::Map::new();
    if let Some(revision) = revision {
        annotations.insert(PENDING.to_owned(), json!(revision.to_string()));
    }
    if !replaced.is_empty() {
        let replaced: Vec<String> = replaced.iter().map(ToString::to_string).collect();
        annotations.insert(REPLACED.to_owned(), json!(replaced.join(" ")));
    }
    json!({
        "apiVersion": desired["apiVersion"],
        "kind": desired["kind"],
        "metadata": {
            "name": desired["metadata"]["name"],
            "namespace": desired["metadata"]["namespace"],
            "annotations": annotations,
        }
    })
}

#[cfg(test)]
mod tests;
