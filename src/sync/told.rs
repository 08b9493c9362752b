//! The Source object: where sync is, for people. Its status is a projection of [`SyncStatus`]; what it keeps of what was
//! there before is since when something is so.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::status::SyncStatus;
use crate::api::annotations::{ALLOW_PRUNE, MANAGER_SYNC};
use crate::api::{
    CanaryCondition, CommitAt, DaemonStatus, Note, ObjectNote, ObjectState, RefusedRemoval, SOURCE_GROUP,
    SOURCE_VERSION, Source, SourceStatus,
};
use crate::cluster::{Cluster, EffectKind, Said, Writer, call, explain};
use crate::model::{CommitId, ObjectRef, told_lines, told_within};

/// In characters, of one thing that is told: enough to act on, and a hundred of them fit into an object many times.
const MESSAGE_MAX: usize = 600;
/// Problems told one by one.
const PROBLEMS_MAX: usize = 30;

/// What is followed, and who follows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// Address of the repository, without credentials.
    pub repository: String,
    /// Branch or tag.
    pub branch: String,
    /// Folder of the manifests.
    pub path: String,
    /// `<namespace>/<name>` of the Lease, if one is used.
    pub lease: Option<String>,
}

/// The Source object of this daemon.
pub(super) struct Teller {
    api: Api<Source>,
    namespace: String,
    name: String,
    about: About,
    /// Its status as it is in the cluster; `None` before the first look.
    known: Option<SourceStatus>,
    said: Said,
}

impl Teller {
    pub(super) fn new(cluster: &Cluster, namespace: &str, name: &str, about: About) -> Self {
        Self {
            api: Api::namespaced(cluster.client(), namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            about,
            known: None,
            said: Said::default(),
        }
    }

    /// Writes what has changed. That it cannot be written is logged, once, and stops nothing.
    pub(super) async fn tell(&mut self, writer: &Writer, status: &SyncStatus, now: Timestamp) {
        match self.try_tell(writer, status, now).await {
            Ok(()) => {
                self.said.forget();
            }
            Err(words) => {
                let words = format!("Source {}/{} cannot be written: {words}", self.namespace, self.name);
                if self.said.is_news(&words) {
                    tracing::warn!("{words}");
                }
            }
        }
    }

    async fn try_tell(&mut self, writer: &Writer, status: &SyncStatus, now: Timestamp) -> Result<(), String> {
        let before = match &self.known {
            Some(known) => known.clone(),
            None => self.first(writer).await?,
        };
        let next = project(&before, &self.about, status, now);
        let same = SourceStatus { polled: before.polled.clone(), ..next.clone() } == before;
        self.known = Some(before);
        if same {
            return Ok(());
        }
        let body = self.body(Some(&next));
        let params = PatchParams::apply(MANAGER_SYNC).force();
        let (key, patch) = (self.key(), Patch::Apply(&body));
        let written = self.api.patch_status(&self.name, &params, &patch);
        if let Err(error) = writer.effect(EffectKind::Status, &key, written).await {
            // Somebody may have deleted it.
            self.known = None;
            return Err(explain(&error));
        }
        self.known = Some(next);
        Ok(())
    }

    /// What is there from another process; the object is made if it is not there.
    async fn first(&self, writer: &Writer) -> Result<SourceStatus, String> {
        match call(&format!("read {}", self.key()), self.api.get_opt(&self.name)).await {
            Ok(Some(source)) => return Ok(source.status.unwrap_or_default()),
            Ok(None) => {}
            Err(error) if error.is_not_found() => {
                return Err(
                    "its definition is not there: `serin crds | kubectl apply --server-side -f -`".to_owned()
                );
            }
            Err(error) => return Err(explain(&error)),
        }
        let body = self.body(None);
        let params = PatchParams::apply(MANAGER_SYNC).force();
        let (key, patch) = (self.key(), Patch::Apply(&body));
        let made = self.api.patch(&self.name, &params, &patch);
        writer.effect(EffectKind::Apply, &key, made).await.map_err(|error| explain(&error))?;
        Ok(SourceStatus::default())
    }

    fn body(&self, status: Option<&SourceStatus>) -> serde_json::Value {
        let mut body = json!({
            "apiVersion": format!("{SOURCE_GROUP}/{SOURCE_VERSION}"),
            "kind": "Source",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {},
        });
        if let Some(status) = status {
            body["status"] = json!(status);
        }
        body
    }

    fn key(&self) -> String {
        format!("Source {}/{}", self.namespace, self.name)
    }

    /// The commits whose removals a person has allowed. Nothing is allowed by a Source that cannot be read.
    pub(super) async fn allowed(&self) -> BTreeSet<CommitId> {
        match call(&format!("read {}", self.key()), self.api.get_opt(&self.name)).await {
            Ok(source) => {
                let annotations = source.and_then(|source| source.metadata.annotations).unwrap_or_default();
                let commits = annotations.get(ALLOW_PRUNE).map(String::as_str).unwrap_or_default();
                commits.split_whitespace().filter_map(|commit| commit.parse().ok()).collect()
            }
            Err(error) => {
                tracing::debug!("no removal is allowed: {}", explain(&error));
                BTreeSet::new()
            }
        }
    }
}

/// What the Source says after this.
fn project(before: &SourceStatus, about: &About, status: &SyncStatus, now: Timestamp) -> SourceStatus {
    let now = format!("{now:.0}");
    let at = |known: &Option<CommitAt>, commit: &Option<CommitId>| {
        let commit = commit.as_ref()?.to_string();
        let same = known.clone().filter(|known| known.commit == commit);
        Some(same.unwrap_or_else(|| CommitAt { commit, at: now.clone() }))
    };
    let note = |known: &[Note], message: &str| {
        let message = told_lines(message, MESSAGE_MAX);
        let since = known.iter().find(|note| note.message == message).map(|note| note.since.clone());
        Note { since: since.unwrap_or_else(|| now.clone()), message }
    };
    let error = status.error.as_ref().map(|error| {
        // What goes on under changing words has gone on since it began.
        let since = before.error.as_ref().map_or_else(|| now.clone(), |known| known.since.clone());
        Note { message: told_within(error, MESSAGE_MAX), since }
    });
    let (objects, more_objects) = objects(&before.objects, status, &now);
    let mut commits = before.commits.clone();
    if let Some(record) = &status.record {
        match commits.iter_mut().find(|known| known.commit == record.commit) {
            Some(known) => {
                known.result = record.result;
                known.targets.extend(record.targets.clone());
            }
            None => commits.push(record.clone()),
        }
    }
    let surplus = commits.len().saturating_sub(SourceStatus::COMMITS_MAX);
    commits.drain(..surplus);
    let mut next = SourceStatus {
        repository: about.repository.clone(),
        branch: about.branch.clone(),
        path: about.path.clone(),
        daemon: DaemonStatus { version: env!("CARGO_PKG_VERSION").to_owned(), lease: about.lease.clone() },
        polled: Some(now.clone()),
        seen: at(&before.seen, &status.seen).or_else(|| before.seen.clone()),
        applied: at(&before.applied, &status.commit).or_else(|| before.applied.clone()),
        error,
        problems: status.problems.iter().take(PROBLEMS_MAX).map(|it| note(&before.problems, it)).collect(),
        objects,
        more_objects,
        refused_removals: status.refused_removals.clone(),
        commits,
        handled_request: status.handled_request.clone().or_else(|| before.handled_request.clone()),
        conditions: Vec::new(),
    };
    next.conditions = vec![ready(&before.conditions, &next, &now)];
    next
}

fn objects(known: &[ObjectNote], status: &SyncStatus, now: &str) -> (Vec<ObjectNote>, i64) {
    let of = |state: ObjectState, (id, message): (&ObjectRef, &String)| {
        let ObjectRef { group, kind, namespace, name } = id.clone();
        let same = |it: &&ObjectNote| {
            it.state == state
                && it.kind == kind
                && it.name == name
                && it.namespace == namespace
                && it.group == group
        };
        let since = known.iter().find(same).map_or_else(|| now.to_owned(), |it| it.since.clone());
        let message = told_within(message, MESSAGE_MAX);
        ObjectNote { group, kind, namespace, name, state, message, since }
    };
    let all = status.conditions.iter().map(|it| of(ObjectState::Refused, it));
    let all = all.chain(status.hanging.iter().map(|it| of(ObjectState::Hanging, it)));
    let all = all.chain(status.kept.iter().map(|it| of(ObjectState::Kept, it)));
    let mut all: Vec<ObjectNote> =
        all.chain(status.waiting.iter().map(|it| of(ObjectState::Waiting, it))).collect();
    let more = all.len().saturating_sub(SourceStatus::OBJECTS_MAX);
    all.truncate(SourceStatus::OBJECTS_MAX);
    (all, i64::try_from(more).unwrap_or(i64::MAX))
}

fn ready(known: &[CanaryCondition], status: &SourceStatus, now: &str) -> CanaryCondition {
    let refused = status.objects.iter().filter(|object| object.state == ObjectState::Refused).count();
    let (value, reason, message) = match (&status.error, &status.applied) {
        (Some(error), _) => ("False", "Interrupted", error.message.clone()),
        (None, None) => ("Unknown", "NotSynced", "no commit has been worked through yet".to_owned()),
        (None, Some(_)) if refused > 0 || !status.problems.is_empty() => {
            ("False", "Partly", format!("{refused} objects refused, {} problems", status.problems.len()))
        }
        (None, Some(applied)) => {
            let short = applied.commit.get(..7).unwrap_or(&applied.commit);
            ("True", "Applied", format!("{}@{short} is applied", status.branch))
        }
    };
    let same = known.iter().find(|condition| condition.type_ == "Ready" && condition.status == value);
    let since = same.and_then(|condition| condition.last_transition_time.clone());
    CanaryCondition {
        type_: "Ready".to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: Some(message),
        last_transition_time: Some(since.unwrap_or_else(|| now.to_owned())),
        last_update_time: None,
    }
}

/// What is refused, as the Source has it.
pub(super) fn refused_removals(inventory: &crate::api::Inventory) -> Vec<RefusedRemoval> {
    let refused = |removal: &crate::api::Removal| removal.verdict == crate::api::RemovalVerdict::Refused;
    let all = inventory.removals.iter().filter(|(_, removal)| refused(removal));
    all.map(|(commit, removal)| RefusedRemoval {
        commit: commit.to_string(),
        dropped: i64::try_from(super::removals::still_there(inventory, commit)).unwrap_or(i64::MAX),
        owned: i64::from(removal.owned),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(kind: &str, name: &str) -> ObjectRef {
        ObjectRef { group: String::new(), kind: kind.into(), namespace: Some("test".into()), name: name.into() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn what_is_so_is_so_since_it_began_and_goes_when_the_last_pass_did_not_find_it() {
        let about = About { branch: "main".into(), ..About::default() };
        let mut status = SyncStatus { commit: Some("a".repeat(40).parse().unwrap()), ..SyncStatus::default() };
        status.conditions.insert(id("Job", "a"), "no".into());
        status.waiting.insert(id("Deployment", "b"), "it waits".into());
        let first = project(&SourceStatus::default(), &about, &status, at(0));
        assert_eq!(first.conditions[0].reason, "Partly");
        // The words change, the trouble does not.
        status.conditions.insert(id("Job", "a"), "still not".into());
        status.error = Some("away".into());
        let second = project(&first, &about, &status, at(60));
        assert_eq!(second.objects[0].since, first.objects[0].since);
        assert_eq!((second.objects[0].message.as_str(), &second.applied), ("still not", &first.applied));
        status.error = Some("away, otherwise".into());
        let third = project(&second, &about, &status, at(120));
        assert_eq!(third.error.map(|it| it.since), second.error.clone().map(|it| it.since));
        status = SyncStatus { commit: status.commit, ..SyncStatus::default() };
        let last = project(&second, &about, &status, at(180));
        assert_eq!((last.objects.len(), last.error, last.conditions[0].status.as_str()), (0, None, "True"));
    }

    #[test]
    fn a_status_stays_small_whatever_there_is_to_tell() {
        let mut status = SyncStatus::default();
        for number in 0..5_000 {
            status.conditions.insert(id("Job", &number.to_string()), "é".repeat(5_000));
            status.problems.push("x".repeat(5_000));
        }
        let told = project(&SourceStatus::default(), &About::default(), &status, at(0));
        assert_eq!((told.objects.len(), told.more_objects), (SourceStatus::OBJECTS_MAX, 4_900));
        assert!(serde_json::to_string(&told).unwrap().len() < 300_000);
    }
}
