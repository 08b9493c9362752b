//! Rollback commits on the watched branch.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::super::record::{ManifestFile, RollbackRecord, Rollbacks, TargetReport, placed};
use super::super::rollback::{Case, Decision, RollbackPlan, decide};
use super::denials::About;
use super::{
    Condition, GitReporter, Projection, Pushed, ROLLBACK_WANTED, ROLLBACKS_OFF, RollbackCommits, Stop, Tries,
    after, earliest,
};
use crate::api;
use crate::git::{Base, Edit, GitError, Limits, PushError, Snapshot, SnapshotFile};
use crate::manifest::parse_each;
use crate::model::{CommitId, NamespacedName, ObjectRef};
use crate::release::Outcome;

/// Commits looked through for an earlier rollback. Further back, a failed revision is not the tip's any more.
const HISTORY_MAX: usize = 500;

impl GitReporter {
    fn watched_reference(&self) -> String {
        self.settings.branch.qualified().to_owned()
    }

    /// What has become of the rollbacks that the record holds as denied; those that still are, are left out.
    pub(super) async fn roll_back_denied(
        &mut self,
        reports: &[TargetReport],
        now: Timestamp,
        projection: &mut Projection,
    ) -> Result<Rollbacks, Stop> {
        let open = self.status.open_rollbacks();
        let mut settled = Rollbacks::new();
        for (canary, failed) in &open {
            // Of a Canary that is deleted, or not known yet, nothing can be said.
            let Some(report) = reports.iter().find(|report| report.canary == *canary) else { continue };
            let rollback = if self.settings.rollback == RollbackCommits::Skip {
                RollbackRecord::none(ROLLBACKS_OFF)
            } else if is_followed(&open, canary, failed) {
                RollbackRecord::none("this revision was released again since")
            } else if now >= after(failed.ended, ROLLBACK_WANTED) {
                let hours = ROLLBACK_WANTED.as_secs() / 3600;
                RollbackRecord::none(format!(
                    "the push was denied for {hours} hours: restore the manifest yourself"
                ))
            } else {
                self.roll_back(report, failed, now, projection).await?
            };
            if !rollback.is_open() {
                self.denials.lift(&self.watched_reference(), &canary.to_string());
                projection.rollbacks.push((canary.clone(), failed.release.clone(), rollback.clone()));
                settled.insert((canary.clone(), failed.release.clone()), rollback);
            }
        }
        Ok(settled)
    }

    /// A denial that still stands: the same was tried a short while ago, and the branch has not moved since.
    async fn still_denied(&self, about: &mut About, release: &str, now: Timestamp) -> Result<Option<Stop>, Stop> {
        if self.denials.waiting(&about.reference, &about.who, now).is_none() {
            return Ok(None);
        }
        let Some(tip) = self.store.probe(&self.remote, &about.reference).await? else { return Ok(None) };
        about.news = news(release, &tip);
        Ok(self.denials.standing(about, now).map(|denial| Stop::Denied {
            error: PushError::Denied { reference: about.reference.clone(), reason: denial.reason.clone() },
            until: denial.until,
        }))
    }

    /// The rollback commit for a failed release, or why there is none. A denied push is a condition, and tried again.
    pub(super) async fn roll_back(
        &mut self,
        report: &TargetReport,
        failed: &Outcome,
        now: Timestamp,
        projection: &mut Projection,
    ) -> Result<RollbackRecord, Stop> {
        let reference = self.watched_reference();
        let mut about = About { reference, who: report.canary.to_string(), news: String::new() };
        let tried = match self.still_denied(&mut about, failed.release.as_str(), now).await? {
            Some(denied) => Err(denied),
            None => self.try_roll_back(report, failed, &mut about, now).await,
        };
        match tried {
            // The record tells it all the same: a protected branch must not hold it back.
            Err(Stop::Denied { error, until }) => {
                projection.conditions.push(denied_condition(report, &error));
                projection.again = earliest(projection.again, until);
                Ok(RollbackRecord::denied(format!("{error}; it is tried again")))
            }
            other => other,
        }
    }

    async fn try_roll_back(
        &mut self,
        report: &TargetReport,
        failed: &Outcome,
        about: &mut About,
        now: Timestamp,
    ) -> Result<RollbackRecord, Stop> {
        let none = |reason: String| RollbackRecord::none(reason);
        if !self.settings.branch.is_branch() {
            return Ok(none(format!(
                "{} is followed and never moved; watch a branch instead",
                self.settings.branch
            )));
        }
        let promoted = failed.promoted.as_ref().or(report.promoted.as_ref());
        let manifest = match promoted {
            Some(promoted) => self.manifest_of(report, promoted).await?,
            None => None,
        };
        let mut tries = Tries::new();
        loop {
            let Some(tip) = self.store.fetch(&self.remote, &about.reference).await? else {
                return Ok(none(format!("{} does not exist", self.settings.branch)));
            };
            let snapshot = match self.snapshot(&tip).await? {
                Some(snapshot) => snapshot,
                None => return Ok(none(format!("{:?} does not exist on the branch", self.settings.path))),
            };
            let history = self.store.history(&tip, HISTORY_MAX).await?;
            let case = Case {
                cluster: &self.settings.cluster,
                canary: &report.canary,
                target: &report.target,
                failed,
                promoted,
                manifest: manifest.as_ref(),
                released_again: released_again(report, failed),
                tip: &snapshot,
                history: &history,
            };
            let plan = match decide(&case, &mut self.at_tip) {
                Decision::Commit(plan) => plan,
                Decision::Done(commit) => return Ok(RollbackRecord::made(&commit)),
                Decision::None(reason) => return Ok(none(reason.to_string())),
            };
            self.at_tip.sweep();
            let commit = self.rollback_commit(&tip, plan, now).await?;
            about.news = news(failed.release.as_str(), &tip);
            match self.push(about, Some(&tip), &commit, now).await? {
                Pushed::Moved => return Ok(RollbackRecord::made(&commit)),
                Pushed::Lost => tries.again().await?,
            }
        }
    }

    async fn rollback_commit(&self, tip: &CommitId, plan: RollbackPlan, now: Timestamp) -> Result<CommitId, Stop> {
        let RollbackPlan { path, content, message } = plan;
        let edit = Edit::Write { path, content: content.into_bytes() };
        let made = self.store.commit(Base::Parent(tip.clone()), vec![edit], self.meta(message, now)).await?;
        // The digests differ, so the trees do.
        made.ok_or(Stop::Contended)
    }

    /// Canaries that Git has given up, too. One that only the cluster has lost, with its namespace perhaps, comes back by
    /// sync: then its record says what has to serve first.
    pub(super) async fn given_up(&mut self, gone: &[NamespacedName]) -> Result<Vec<NamespacedName>, Stop> {
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let Some(tip) = self.store.fetch(&self.remote, &self.watched_reference()).await? else {
            return Ok(gone.to_vec());
        };
        let index = self.index_of(&tip).await?;
        let is_named = |canary: &&NamespacedName| {
            let object = ObjectRef {
                group: api::GROUP.to_owned(),
                kind: "Canary".to_owned(),
                namespace: Some(canary.namespace.clone()),
                name: canary.name.clone(),
            };
            index.as_ref().is_some_and(|index| index.files.contains_key(&object))
        };
        Ok(gone.iter().filter(|canary| !is_named(canary)).cloned().collect())
    }

    async fn snapshot(&self, commit: &CommitId) -> Result<Option<Snapshot>, Stop> {
        match self.store.snapshot(commit, &self.settings.path, Limits::default()).await {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(GitError::NoPath { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The file that defines `target` at an earlier commit of the watched branch, if it is still there.
    pub(super) async fn manifest_at(
        &mut self,
        commit: &CommitId,
        target: &ObjectRef,
    ) -> Result<Option<ManifestFile>, Stop> {
        if self.index.as_ref().is_none_or(|index| index.commit != *commit) {
            let Some(index) = self.index_of(commit).await? else { return Ok(None) };
            self.index = Some(index);
        }
        let found = self.index.as_ref().and_then(|index| index.files.get(target));
        Ok(found.map(|file| ManifestFile { path: file.path.clone(), text: file.text.to_string() }))
    }

    async fn index_of(&mut self, commit: &CommitId) -> Result<Option<Index>, Stop> {
        if !self.store.has(commit).await? {
            self.store.fetch(&self.remote, &self.watched_reference()).await?;
            // After a force push it may be gone for good; reading it would look like a damaged cache.
            if !self.store.has(commit).await? {
                tracing::info!(%commit, "a promoted commit is no longer in the repository");
                return Ok(None);
            }
        }
        let Some(snapshot) = self.snapshot(commit).await? else { return Ok(None) };
        let mut files = BTreeMap::new();
        for file in &snapshot.files {
            // Only names are kept: with many targets the objects themselves would fill the memory.
            let defined = self.at_promoted.get(&file.path, &file.oid, || {
                let parsed = parse_each(&file.path, &file.text);
                parsed.manifests.iter().map(|manifest| placed(manifest.object_ref())).collect()
            });
            for object in defined.iter() {
                files.insert(object.clone(), Arc::clone(file));
            }
        }
        self.at_promoted.sweep();
        Ok(Some(Index { commit: commit.clone(), files }))
    }
}

/// Which file of a commit defines which object: many targets are promoted from one commit.
#[derive(Debug)]
pub(super) struct Index {
    commit: CommitId,
    files: BTreeMap<ObjectRef, Arc<SnapshotFile>>,
}

/// Somebody asked for the failed revision again (`serin retry`), or it has succeeded since.
fn released_again(report: &TargetReport, failed: &Outcome) -> bool {
    let digest = &failed.revision.digest;
    let later = report.outbox.iter().any(|outcome| is_later(outcome, failed));
    let running = report.release.as_ref().is_some_and(|release| *release != failed.release)
        && report.revision.as_ref().is_some_and(|revision| revision.digest == *digest);
    let promoted = report.promoted.as_ref().is_some_and(|promoted| promoted.digest == *digest);
    later || running || promoted
}

/// Another release of the same digest ended after this one.
fn is_later(outcome: &Outcome, failed: &Outcome) -> bool {
    let order = |outcome: &Outcome| (outcome.ended, outcome.release.number());
    outcome.revision.digest == failed.revision.digest && order(outcome) > order(failed)
}

/// Among the open ones the newest of a digest speaks for all.
fn is_followed(open: &[(NamespacedName, Outcome)], canary: &NamespacedName, failed: &Outcome) -> bool {
    open.iter().any(|(other, outcome)| other == canary && is_later(outcome, failed))
}

/// What a rollback's push has to say: another tip is another decision.
fn news(release: &str, tip: &CommitId) -> String {
    format!("{release} on {tip}")
}

fn denied_condition(report: &TargetReport, denied: &PushError) -> Condition {
    Condition {
        canary: Some(report.canary.clone()),
        reason: "RollbackPushDenied",
        message: format!(
            "{denied}; allow serin to push there (it is tried again by itself), or set rollback: record and restore the \
             manifest yourself"
        ),
        passing: false,
    }
}
