//! Rollback commits on the watched branch.

use jiff::Timestamp;

use super::super::record::{ManifestFile, RollbackRecord, Rollbacks, TargetReport};
use super::super::rollback::{self, Case, Decision, Found, NoRollback, RollbackPlan, decide};
use super::denials::About;
use super::{
    Condition, GitReporter, MERGE_WANTED, Projection, Pushed, ROLLBACK_WANTED, RollbackCommits, Stop, Tries,
    after, earliest,
};
use crate::api;
use crate::git::{Base, Edit, PushError};
use crate::model::{CommitId, NamespacedName, ObjectRef, Revision, RollbackFate, RollbackNote};
use crate::release::{Outcome, OutcomeKind};
use crate::render::PutRight;

/// What has become of a failed release on the watched branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// This commit put it right.
    Made(CommitId),
    /// There will be none.
    None(NoRollback),
}

/// Where a rollback is.
pub(super) enum Tried {
    /// It has come to its end.
    Settled(Fate),
    /// It is tried again.
    Open(RollbackRecord),
    /// Somebody has to merge this pull request.
    Proposed(String),
}

/// What a look at the watched branch's tip says.
pub(super) enum Looked {
    /// This is to be done on that commit.
    Plan(CommitId, Box<RollbackPlan>),
    /// Nothing is to be done any more.
    Settled(Fate),
}

impl Fate {
    fn record(&self) -> RollbackRecord {
        match self {
            Self::Made(commit) => RollbackRecord::made(commit),
            Self::None(reason) => RollbackRecord::none(reason.to_string()),
        }
    }

    fn note(&self, failed: &Outcome, branch: &str) -> RollbackNote {
        let fate = match self {
            Self::Made(commit) => RollbackFate::Made { commit: commit.clone() },
            Self::None(none) if none.leaves_failed() => {
                RollbackFate::Missing { reason: none.reason().to_owned(), message: none.to_string() }
            }
            Self::None(none) => RollbackFate::Needless { message: none.to_string() },
        };
        RollbackNote { release: failed.release.clone(), branch: branch.to_owned(), fate }
    }
}

impl GitReporter {
    /// Failed releases get their rollback commit, or a reason why there is none. Which ones have failed, and what was promoted
    /// before, is what the Canaries' status says and nothing else.
    pub(super) async fn roll_back_failed(
        &mut self,
        reports: &[TargetReport],
        now: Timestamp,
        projection: &mut Projection,
    ) -> Result<(), Stop> {
        self.settled.retain(|(canary, release), _| {
            let report = reports.iter().find(|report| report.canary == *canary);
            report.is_some_and(|report| report.outbox.iter().any(|outcome| outcome.release == *release))
        });
        for report in reports {
            for failed in report.outbox.iter().filter(|outcome| outcome.kind == OutcomeKind::Failed) {
                self.roll_back_one(report, failed, now, projection).await?;
            }
        }
        Ok(())
    }

    async fn roll_back_one(
        &mut self,
        report: &TargetReport,
        failed: &Outcome,
        now: Timestamp,
        projection: &mut Projection,
    ) -> Result<(), Stop> {
        let key = (report.canary.clone(), failed.release.clone());
        let tried = match self.settled.get(&key) {
            Some(fate) => Tried::Settled(fate.clone()),
            None => self.roll_back(report, failed, now, projection).await?,
        };
        let record = match tried {
            Tried::Open(record) => record,
            Tried::Proposed(url) => {
                let (release, branch) = (failed.release.clone(), self.settings.branch.short().to_owned());
                let note = RollbackNote { release, branch, fate: RollbackFate::Proposed { url: url.clone() } };
                projection.notes.insert(report.canary.clone(), note);
                RollbackRecord::proposed(url)
            }
            Tried::Settled(fate) => {
                projection.notes.insert(report.canary.clone(), fate.note(failed, self.settings.branch.short()));
                let record = fate.record();
                if self.settled.insert(key, fate.clone()).is_none() {
                    self.denials.lift(self.watched.reference(), &report.canary.to_string());
                    say(report, failed, self.settings.branch.short(), &fate);
                }
                record
            }
        };
        projection.rollbacks.push((report.canary.clone(), failed.release.clone(), record));
        Ok(())
    }

    /// What the record is told of them.
    pub(super) fn told_rollbacks(&self, projection: &Projection) -> Rollbacks {
        let rollbacks = projection.rollbacks.iter().cloned();
        rollbacks.map(|(canary, release, record)| ((canary, release), record)).collect()
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
    async fn roll_back(
        &mut self,
        report: &TargetReport,
        failed: &Outcome,
        now: Timestamp,
        projection: &mut Projection,
    ) -> Result<Tried, Stop> {
        if let Some(none) = self.not_wanted(report, failed, now) {
            return self.settle_proposal(report, failed, Fate::None(none), now, projection).await;
        }
        if self.settings.rollback == RollbackCommits::Propose {
            return self.propose(report, failed, now, projection).await;
        }
        let mut about = About {
            reference: self.watched.reference().to_owned(),
            who: report.canary.to_string(),
            news: String::new(),
        };
        let tried = match self.still_denied(&mut about, failed.release.as_str(), now).await? {
            Some(denied) => Err(denied),
            None => self.try_roll_back(report, failed, &mut about, now).await,
        };
        match tried {
            Ok(fate) => self.settle_proposal(report, failed, fate, now, projection).await,
            // The record tells it all the same: a protected branch must not hold it back.
            Err(Stop::Denied { error, until }) => {
                projection.again = earliest(projection.again, until);
                if self.forge.is_some() {
                    // What may not be pushed can be proposed.
                    return self.propose(report, failed, now, projection).await;
                }
                projection.conditions.push(denied_condition(report, &error));
                Ok(Tried::Open(RollbackRecord::denied(format!("{error}; it is tried again"))))
            }
            Err(other) => Err(other),
        }
    }

    /// Why no rollback is even tried.
    fn not_wanted(&self, report: &TargetReport, failed: &Outcome, now: Timestamp) -> Option<NoRollback> {
        if failed.revision.commit.is_none() {
            return Some(NoRollback::CauseNotInGit);
        }
        if !self.settings.branch.is_branch() {
            return Some(NoRollback::NoBranch(self.settings.branch.to_string()));
        }
        if self.settings.rollback == RollbackCommits::Skip {
            return Some(NoRollback::TurnedOff);
        }
        if released_again(report, failed) {
            return Some(NoRollback::ReleasedAgain);
        }
        if self.is_proposed(&report.canary, failed) {
            let too_late = now >= after(failed.ended, MERGE_WANTED);
            return too_late.then(|| NoRollback::NotMerged(MERGE_WANTED.as_secs() / 86_400));
        }
        let denied = self.denials.was_denied(self.watched.reference(), &report.canary.to_string());
        let too_late = now >= after(failed.ended, ROLLBACK_WANTED);
        (denied && too_late).then(|| NoRollback::Denied(ROLLBACK_WANTED.as_secs() / 3600))
    }

    async fn try_roll_back(
        &mut self,
        report: &TargetReport,
        failed: &Outcome,
        about: &mut About,
        now: Timestamp,
    ) -> Result<Fate, Stop> {
        let mut tries = Tries::new();
        loop {
            let (tip, plan) = match self.look(report, failed).await? {
                Looked::Plan(tip, plan) => (tip, plan),
                Looked::Settled(fate) => return Ok(fate),
            };
            // Never before the failure that it answers: by that it is known again.
            let commit = self.rollback_commit(&tip, *plan, now.max(failed.ended)).await?;
            about.news = news(failed.release.as_str(), &tip);
            match self.push(about, Some(&tip), &commit, now).await? {
                Pushed::Moved => return Ok(Fate::Made(commit)),
                Pushed::Lost => tries.again().await?,
            }
        }
    }

    /// What is to be done at the tip of the watched branch.
    pub(super) async fn look(&mut self, report: &TargetReport, failed: &Outcome) -> Result<Looked, Stop> {
        let none = |reason: NoRollback| Ok(Looked::Settled(Fate::None(reason)));
        let promoted = failed.promoted.as_ref().or(report.promoted.as_ref());
        let Some(tip) = self.watched.fetch().await? else {
            return none(NoRollback::BranchGone(self.settings.branch.to_string()));
        };
        let Some(snapshot) = self.watched.snapshot(&tip).await? else { return none(NoRollback::TargetGone) };
        let found = match rollback::find(&snapshot, &report.target, &mut self.at_tip) {
            Ok(found) => found,
            Err(reason) => return none(reason),
        };
        // Whole seconds: so commits count.
        let since = Timestamp::from_second(failed.ended.as_second()).unwrap_or(failed.ended);
        let changes = self.watched.changes(&tip, &found.path, since).await?;
        let manifest = self.good_manifest(report, failed, &tip, &found).await?;
        let found = found.with_configs(&snapshot, &report.target, manifest.as_ref(), &mut self.at_tip);
        self.at_tip.sweep();
        let edits = match promoted.zip(manifest.as_ref()) {
            Some((promoted, good)) if found.is_rendered() => {
                Some(self.edits_of_overlay(report, failed, (promoted, good), (&tip, &found)).await?)
            }
            Some(_) | None => None,
        };
        let turned = match manifest.as_ref() {
            Some(good) => self.turned(report, failed, &tip, (&found, good)).await?,
            None => None,
        };
        let case = Case {
            cluster: &self.settings.cluster,
            branch: self.settings.branch.short(),
            canary: &report.canary,
            target: &report.target,
            failed,
            promoted,
            manifest: manifest.as_ref(),
            released_again: released_again(report, failed),
            rolled_back: rolled_back(report, failed),
            tip: &found,
            changes: &changes,
            turned: turned.as_ref(),
            edits: edits.as_ref(),
        };
        Ok(match decide(&case) {
            Decision::Commit(plan) => Looked::Plan(tip, Box::new(plan)),
            Decision::Done(commit) => Looked::Settled(Fate::Made(commit)),
            Decision::None(reason) => Looked::Settled(Fate::None(reason)),
        })
    }

    /// The commit that put template and configs back, if it was made: one file alone does not tell.
    async fn turned(
        &mut self,
        report: &TargetReport,
        failed: &Outcome,
        tip: &CommitId,
        (found, good): (&Found, &ManifestFile),
    ) -> Result<Option<CommitId>, Stop> {
        let target = &report.target;
        let (files, Some(since)) = (found.files_of(target, good), &failed.revision.commit) else {
            return Ok(None);
        };
        if files.is_empty() {
            return Ok(None);
        }
        let from = |file: &ManifestFile| file.is_revision(target, &failed.revision.digest);
        let into = |file: &ManifestFile| file.is_same(target, good);
        Ok(self.watched.turned((since, tip), target, &files, (from, into)).await?)
    }

    /// The promoted manifest, from the watched branch's own history.
    async fn good_manifest(
        &mut self,
        report: &TargetReport,
        failed: &Outcome,
        tip: &CommitId,
        found: &Found,
    ) -> Result<Option<ManifestFile>, Stop> {
        let Some(promoted) = failed.promoted.as_ref().or(report.promoted.as_ref()) else { return Ok(None) };
        if let Some(manifest) = self.watched.manifest_of(promoted, &report.target).await? {
            return Ok(Some(manifest));
        }
        Ok(self.watched.manifest_before(tip, &found.path, promoted, &report.target).await?)
    }

    /// The edits of an overlay's files that bring the promoted revision back, or why there are none.
    async fn edits_of_overlay(
        &self,
        report: &TargetReport,
        failed: &Outcome,
        (promoted, manifest): (&Revision, &ManifestFile),
        (tip, found): (&CommitId, &Found),
    ) -> Result<Result<Vec<(String, String)>, String>, Stop> {
        let Some(good) = &promoted.commit else {
            return Ok(Err("which commit brought the promoted revision is not known".to_owned()));
        };
        if !found.has(&failed.revision.digest) {
            return Ok(Err("it does not make the failed revision any more".to_owned()));
        }
        let what = PutRight { file: &found.path, tip, good };
        let accepts = |made: &str| rollback::proves(found, made, &report.target, manifest);
        Ok(self.watched.put_right(what, &accepts).await?)
    }

    pub(super) async fn rollback_commit(
        &self,
        tip: &CommitId,
        plan: RollbackPlan,
        at: Timestamp,
    ) -> Result<CommitId, Stop> {
        let RollbackPlan { files, message } = plan;
        let edit = |(path, content): (String, String)| Edit::Write { path, content: content.into_bytes() };
        let edits = files.into_iter().map(edit).collect();
        let made = self.store.commit(Base::Parent(tip.clone()), edits, self.meta(message, at)).await?;
        // The digests differ, so the trees do.
        made.ok_or(Stop::Contended)
    }

    /// Canaries that Git has given up, too. One that only the cluster has lost, with its namespace perhaps, comes back by
    /// sync: then its record says what has to serve first.
    pub(super) async fn given_up(&mut self, gone: &[NamespacedName]) -> Result<Vec<NamespacedName>, Stop> {
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let Some(tip) = self.watched.fetch().await? else { return Ok(gone.to_vec()) };
        let mut given_up = Vec::new();
        for canary in gone {
            let object = ObjectRef {
                group: api::GROUP.to_owned(),
                kind: "Canary".to_owned(),
                namespace: Some(canary.namespace.clone()),
                name: canary.name.clone(),
            };
            if !self.watched.names(&tip, &object).await? {
                given_up.push(canary.clone());
            }
        }
        Ok(given_up)
    }
}

/// One line for each rollback, and for each that is not made.
fn say(report: &TargetReport, failed: &Outcome, branch: &str, fate: &Fate) {
    let (canary, release, revision) = (&report.canary, &failed.release, &failed.revision);
    match fate {
        Fate::Made(commit) => {
            tracing::info!(%canary, %release, %revision, %commit, branch, "rolled {canary} back on {branch}: {}", commit.short());
        }
        Fate::None(none) if none.leaves_failed() => {
            let reason = none.reason();
            tracing::warn!(%canary, %release, %revision, branch, reason, "{branch} still names the failed revision of {canary}: {none}");
        }
        Fate::None(none) => {
            let reason = none.reason();
            tracing::info!(%canary, %release, %revision, branch, reason, "no rollback commit for {canary}: {none}");
        }
    }
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

/// The commit that rolled this revision back before, as far as the Canary's status knows.
fn rolled_back<'a>(report: &'a TargetReport, failed: &Outcome) -> Option<&'a CommitId> {
    let digest = &failed.revision.digest;
    report.rolled_back.iter().find(|(rolled, _)| rolled == digest).map(|(_, commit)| commit)
}

/// What a rollback's push has to say: another tip is another decision.
fn news(release: &str, tip: &CommitId) -> String {
    format!("{release} on {tip}")
}

pub(super) fn denied_condition(report: &TargetReport, denied: &PushError) -> Condition {
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
