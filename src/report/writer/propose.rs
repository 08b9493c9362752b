//! Rollbacks as pull requests: where that is how it is done, and where a push is denied.
//!
//! There is one branch per target and failed digest, and one pull request from it. Both are made anew on another tip, and the
//! commit's id follows from the tip alone, so whatever was done before a crash is found done. Merging is a person's.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::super::record::{RollbackRecord, TargetReport};
use super::super::rollback::{NoRollback, RollbackPlan};
use super::denials::About;
use super::roll::{Fate, Looked, Tried, denied_condition};
use super::{Condition, GitReporter, Projection, Pushed, Stop, after, earliest};
use crate::cluster::{EffectKind, WriteError};
use crate::forge::{ForgeError, Pull, PullRequest};
use crate::model::{CommitId, NamespacedName, ReleaseId};
use crate::release::Outcome;

/// Time between two looks at the watched branch while a pull request waits: it is updated when its base moves.
const LOOK: Duration = Duration::from_secs(60);
/// Time between two questions what has become of a pull request, if nothing moves.
const ASK: Duration = Duration::from_secs(300);
/// Wait where the forge does not let us.
const REFUSED: Duration = Duration::from_secs(600);
/// Wait after the forge could not be reached.
const AWAY: Duration = Duration::from_secs(30);
/// Longest time of one call.
const CALL: Duration = Duration::from_secs(30);

/// A pull request that waits.
#[derive(Debug, Clone)]
struct Proposal {
    url: String,
    /// The watched branch's commit that it was made on.
    tip: CommitId,
    asked: Timestamp,
    /// When it is looked at again.
    next: Timestamp,
}

/// Those that wait, by what they roll back.
#[derive(Debug, Default)]
pub(super) struct Proposals(BTreeMap<(NamespacedName, ReleaseId), Proposal>);

impl GitReporter {
    /// Whether a rollback waits for somebody to merge it.
    pub(super) fn is_proposed(&self, canary: &NamespacedName, failed: &Outcome) -> bool {
        self.proposals.0.contains_key(&(canary.clone(), failed.release.clone()))
    }

    /// The rollback as a pull request, or why there is none.
    pub(super) async fn propose(
        &mut self,
        report: &TargetReport,
        failed: &Outcome,
        now: Timestamp,
        projection: &mut Projection,
    ) -> Result<Tried, Stop> {
        let key = (report.canary.clone(), failed.release.clone());
        if let Some(known) = self.proposals.0.get(&key).filter(|known| now < known.next) {
            projection.again = earliest(projection.again, known.next);
            return Ok(Tried::Proposed(known.url.clone()));
        }
        let (tip, plan) = match self.look(report, failed).await? {
            Looked::Plan(tip, plan) => (tip, *plan),
            Looked::Settled(fate) => return self.settle_proposal(report, failed, fate, now, projection).await,
        };
        if let Some(known) = self.proposals.0.get_mut(&key)
            && known.tip == tip
            && now < after(known.asked, ASK)
        {
            known.next = after(now, LOOK);
            projection.again = earliest(projection.again, known.next);
            return Ok(Tried::Proposed(known.url.clone()));
        }
        let branch = self.branch_of(report, failed);
        let wanted = self.pull_request(&branch, &plan);
        if let Some(open) = self.push_branch(report, failed, &tip, plan, now, projection).await? {
            return Ok(open);
        }
        match self.ensure_pull(&wanted).await {
            Ok(pull) if pull.is_open => {
                let next = after(now, LOOK);
                projection.again = earliest(projection.again, next);
                let proposal = Proposal { url: pull.url.clone(), tip, asked: now, next };
                if self.proposals.0.insert(key, proposal).is_none() {
                    tracing::info!(canary = %report.canary, release = %failed.release, "a rollback waits to be merged: {}", pull.url);
                }
                Ok(Tried::Proposed(pull.url))
            }
            Ok(pull) => {
                self.proposals.0.remove(&key);
                Ok(Tried::Settled(Fate::None(NoRollback::Declined(pull.url))))
            }
            Err(error) => Ok(not_opened(report, &branch, &error, now, projection)),
        }
    }

    /// A rollback that has come to an end otherwise: a pull request that is still open would bring back what is old.
    pub(super) async fn settle_proposal(
        &mut self,
        report: &TargetReport,
        failed: &Outcome,
        fate: Fate,
        now: Timestamp,
        projection: &mut Projection,
    ) -> Result<Tried, Stop> {
        let key = (report.canary.clone(), failed.release.clone());
        // It may still be merged; only we do not wait for it any longer.
        let is_left = matches!(fate, Fate::None(NoRollback::NotMerged(_) | NoRollback::CauseNotInGit));
        if is_left || self.forge.is_none() || self.settled.contains_key(&key) {
            self.proposals.0.remove(&key);
            return Ok(Tried::Settled(fate));
        }
        let branch = self.branch_of(report, failed);
        // Without the branch there never was one.
        if self.store.probe(&self.remote, &format!("refs/heads/{branch}")).await?.is_some()
            && let Err(error) = self.close_pull(&branch).await
        {
            match error {
                ForgeError::Away { .. } | ForgeError::Limited { .. } => {
                    return Ok(not_opened(report, &branch, &error, now, projection));
                }
                ForgeError::Denied { .. } | ForgeError::Refused { .. } => {
                    tracing::warn!(
                        "the pull request from {branch} is not wanted any more and cannot be closed: {error}"
                    );
                }
            }
        }
        self.proposals.0.remove(&key);
        Ok(Tried::Settled(fate))
    }

    fn branch_of(&self, report: &TargetReport, failed: &Outcome) -> String {
        let NamespacedName { namespace, name } = &report.canary;
        let (cluster, digest) = (&self.settings.cluster, failed.revision.digest.short());
        format!("serin/rollback/{cluster}/{namespace}/{name}/{digest}")
    }

    fn pull_request(&self, branch: &str, plan: &RollbackPlan) -> PullRequest {
        let (title, body) = plan.message.split_once('\n').unwrap_or((&plan.message, ""));
        PullRequest {
            branch: branch.to_owned(),
            base: self.settings.branch.short().to_owned(),
            title: title.to_owned(),
            body: body.trim().to_owned(),
        }
    }

    /// Puts the commit on its branch; what there is to say if that does not succeed.
    async fn push_branch(
        &mut self,
        report: &TargetReport,
        failed: &Outcome,
        tip: &CommitId,
        plan: RollbackPlan,
        now: Timestamp,
        projection: &mut Projection,
    ) -> Result<Option<Tried>, Stop> {
        // By its time, too, it is the same commit at every try on this tip.
        let commit = self.rollback_commit(tip, plan, failed.ended).await?;
        let reference = format!("refs/heads/{}", self.branch_of(report, failed));
        let there = self.store.fetch(&self.remote, &reference).await?;
        if there.as_ref() == Some(&commit) {
            return Ok(None);
        }
        let news = format!("{} as {commit}", failed.release);
        let about = About { reference, who: report.canary.to_string(), news };
        match self.push(&about, there.as_ref(), &commit, now).await {
            Ok(Pushed::Moved) => Ok(None),
            Ok(Pushed::Lost) => {
                projection.again = earliest(projection.again, after(now, AWAY));
                Ok(Some(Tried::Open(RollbackRecord::denied(
                    "its branch was moved by somebody else; it is tried again",
                ))))
            }
            Err(Stop::Denied { error, until }) => {
                projection.conditions.push(denied_condition(report, &error));
                projection.again = earliest(projection.again, until);
                Ok(Some(Tried::Open(RollbackRecord::denied(format!("{error}; it is tried again")))))
            }
            Err(other) => Err(other),
        }
    }

    /// The pull request that is there, or a new one.
    async fn ensure_pull(&self, wanted: &PullRequest) -> Result<Pull, ForgeError> {
        let Some(forge) = &self.forge else { return Err(no_forge()) };
        let call = async {
            match forge.find_pull(&wanted.branch, &wanted.base).await? {
                Some(pull) => Ok(pull),
                None => forge.open_pull(wanted).await,
            }
        };
        self.call(&wanted.branch, call).await
    }

    async fn close_pull(&self, branch: &str) -> Result<(), ForgeError> {
        let Some(forge) = &self.forge else { return Ok(()) };
        let call = async {
            match forge.find_pull(branch, self.settings.branch.short()).await? {
                Some(pull) if pull.is_open => forge.close_pull(&pull).await,
                Some(_) | None => Ok(()),
            }
        };
        self.call(branch, call).await
    }

    async fn call<T>(
        &self,
        branch: &str,
        call: impl Future<Output = Result<T, ForgeError>>,
    ) -> Result<T, ForgeError> {
        let call = async { Ok::<_, WriteError>(call.await) };
        let key = format!("pull request from {branch}");
        let answer = self.writer.effect_within(CALL, EffectKind::Forge, &key, call).await;
        answer.unwrap_or_else(|error| Err(ForgeError::Away { forge: "the forge", reason: error.to_string() }))
    }
}

fn no_forge() -> ForgeError {
    ForgeError::Denied {
        forge: "serin.yaml",
        reason: "it names no forge".to_owned(),
        hint: "rollback: pullRequest needs the section `forge`",
    }
}

fn not_opened(
    report: &TargetReport,
    branch: &str,
    error: &ForgeError,
    now: Timestamp,
    projection: &mut Projection,
) -> Tried {
    let wait = match error {
        ForgeError::Limited { wait, .. } => *wait,
        ForgeError::Away { .. } => AWAY,
        ForgeError::Denied { .. } | ForgeError::Refused { .. } => REFUSED,
    };
    projection.again = earliest(projection.again, after(now, wait));
    let passing = matches!(error, ForgeError::Away { .. } | ForgeError::Limited { .. });
    let message = format!("branch {branch} rolls back, and its pull request waits: {error}");
    projection.conditions.push(Condition {
        canary: Some(report.canary.clone()),
        reason: "PullRequestNotMade",
        message: message.clone(),
        passing,
    });
    Tried::Open(RollbackRecord::denied(message))
}
