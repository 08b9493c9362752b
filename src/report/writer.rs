//! Carrying record and rollback commits to Git.
//!
//! [`GitReporter::project`] may be called at any time with all that is known; it looks at what is in Git and makes up the
//! difference. It is the only writer of the status branch, and on the watched branch it makes rollback commits only.
//! Every push is a compare and swap on what was decided on; when somebody was faster, everything is decided again.

mod denials;
mod notices;
mod propose;
mod roll;
mod status;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::cluster::{EffectKind, WriteError, Writer};
use crate::forge::Forge;
use crate::git::{CommitMeta, GitError, Identity, PushError, Reference, Remote, Store};
use crate::manifest::ParseCache;
use crate::model::{
    CommitId, NamespacedName, Projected, Projection as Projector, ReleaseId, Revision, RollbackNote,
};
use crate::release::OutcomeKind;
use crate::render::Renderer;

use super::record::{RecordError, RollbackRecord, Rollbacks, TargetReport, holds};
use super::watched::WatchedBranch;
use denials::{About, Denials};
pub use denials::{DENIED_WAIT_FIRST, DENIED_WAIT_MAX};
use notices::Notices;
use propose::Proposals;
use roll::Fate;
use status::{StatusBranch, Wrote};

/// Tries of one push that lost a race.
pub const PUSH_TRIES: u32 = 10;
/// Wait before the second try.
pub const PUSH_WAIT_FIRST: Duration = Duration::from_secs(1);
/// Each wait is this much longer than the one before.
pub const PUSH_WAIT_FACTOR: f64 = 1.5;
/// Longest wait between two tries.
pub const PUSH_WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest one push may take; Git's own deadline is shorter, this one keeps the loop alive if it fails.
pub const PUSH_LIMIT: Duration = Duration::from_secs(180);
/// Commits of progress come at most this often; terminal states at once.
pub const BATCH: Duration = Duration::from_secs(15);
/// After Git could not be reached: short, since it holds back nothing but the record.
pub const UNREACHABLE_WAIT: Duration = Duration::from_secs(30);
/// How long a rollback commit whose push is denied is still wanted: by then somebody has put the branch right or has
/// decided against it.
pub const ROLLBACK_WANTED: Duration = Duration::from_hours(24);
/// How long a pull request that rolls back is still wanted: by then its change is forgotten, and what was good is old.
pub const MERGE_WANTED: Duration = Duration::from_hours(14 * 24);
/// A record written by another cluster less than this ago is another live writer's.
pub const FOREIGN_LIVE: Duration = Duration::from_mins(2);

/// What the reporter is told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReporterSettings {
    /// `cluster.name`.
    pub cluster: String,
    /// UID of the namespace kube-system.
    pub writer: String,
    /// The watched branch.
    pub branch: Reference,
    /// The folder of manifests in it.
    pub path: String,
    /// The branch of the record.
    pub status_branch: Reference,
    /// Name and address on commits.
    pub identity: Identity,
    /// Whether failed releases are rolled back on the watched branch.
    pub rollback: RollbackCommits,
    /// See [`BATCH`]; shorter in demonstrations.
    pub batch: Duration,
}

/// Whether failed releases are rolled back on the watched branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackCommits {
    /// By a commit.
    Make,
    /// By a pull request, which a person merges.
    Propose,
    /// No, the record says so.
    Skip,
}

/// What a projection did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Projection {
    /// Outcomes that the record has now.
    pub recorded: Vec<(NamespacedName, ReleaseId)>,
    /// How far record and rollback are: what both have may leave the outbox.
    pub projected: BTreeMap<NamespacedName, Projected>,
    /// What became of failed releases on the watched branch, as the record tells it; until the outbox loses them.
    pub rollbacks: Vec<(NamespacedName, ReleaseId, RollbackRecord)>,
    /// The same, as the Canary tells it: of its newest failed release.
    pub notes: BTreeMap<NamespacedName, RollbackNote>,
    /// What somebody should know; empty when all is well.
    pub conditions: Vec<Condition>,
    /// The record's commit, if one was made.
    pub commit: Option<CommitId>,
    /// Whether the record says everything that it should.
    pub settled: bool,
    /// When to project again at the latest, if not everything is in Git.
    pub again: Option<Timestamp>,
}

/// Something that keeps state from reaching Git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The target, if it is about one.
    pub canary: Option<NamespacedName>,
    /// CamelCase, for a condition's reason.
    pub reason: &'static str,
    /// In words, with what helps.
    pub message: String,
    /// It may be over at the next look: people are told if it is not.
    pub passing: bool,
}

/// Why a projection stopped.
#[derive(Debug, Clone, thiserror::Error)]
enum Stop {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("{error}")]
    Denied { error: PushError, until: Timestamp },
    #[error(transparent)]
    Record(RecordError),
    #[error("a push was not made: {0}")]
    Write(String),
    #[error("the branch moved {PUSH_TRIES} times while we tried to push")]
    Contended,
    #[error(
        "branch {branch} names another cluster ({uid}) as its writer, and this one has written it before: it is left alone. \
         If two clusters share cluster.name, give each its own; else somebody has written there who should not: protect \
         {branch} like the watched branch, and delete it, and it is made anew from what this cluster knows"
    )]
    Foreign { branch: String, uid: String },
    #[error("another cluster ({uid}) wrote this record at {at:.0}; it is taken over if that one stays silent")]
    MaybeForeign { uid: String, at: Timestamp },
}

/// Projects state to Git. One per cluster; it remembers what it saw, so that an unchanged state costs nothing.
#[derive(Debug)]
pub struct GitReporter {
    store: Store,
    remote: Remote,
    settings: ReporterSettings,
    writer: Writer,
    status: StatusBranch,
    watched: WatchedBranch,
    at_tip: ParseCache,
    /// What has become of failed releases that are still in an outbox: decided once, and not again before that is told.
    settled: BTreeMap<(NamespacedName, ReleaseId), Fate>,
    /// Promoted revisions whose manifest is nowhere; at most one per target stays of interest.
    absent: HashSet<(NamespacedName, Revision)>,
    /// Where pull requests are made.
    forge: Option<Arc<dyn Forge>>,
    /// Rollbacks that wait for somebody to merge them.
    proposals: Proposals,
    denials: Denials,
    notices: Notices,
    /// Projections in a row that Git, or what is in it, refused.
    refusals: u32,
    /// What was said last: the same trouble is met at every look.
    told: Vec<Condition>,
}

impl GitReporter {
    /// A reporter that has seen nothing yet.
    pub fn new(store: Store, remote: Remote, settings: ReporterSettings, writer: Writer) -> Self {
        let status = StatusBranch::default();
        let watched = WatchedBranch::new(store.clone(), remote.clone(), settings.branch.clone(), &settings.path);
        Self {
            store,
            remote,
            settings,
            writer,
            status,
            watched,
            at_tip: ParseCache::default(),
            settled: BTreeMap::new(),
            absent: HashSet::new(),
            forge: None,
            proposals: Proposals::default(),
            denials: Denials::default(),
            notices: Notices::default(),
            refusals: 0,
            told: Vec::new(),
        }
    }

    /// The same, which can propose what it may not push.
    #[must_use]
    pub fn with_forge(mut self, forge: Option<Arc<dyn Forge>>) -> Self {
        self.forge = forge;
        self
    }

    /// The same, with the kustomizations of the watched branch rendered.
    pub fn rendering(mut self, renderer: Renderer) -> Self {
        self.watched = self.watched.rendering(renderer);
        self
    }

    /// Brings Git up to what `reports` say; `gone` are Canaries that the cluster has no more.
    ///
    /// Never fails: what could not be done is in the result's conditions and comes with the next call. Several pushes
    /// with waits may lie in between, so this can take minutes.
    pub async fn project(
        &mut self,
        reports: &[TargetReport],
        gone: &[NamespacedName],
        now: Timestamp,
    ) -> Projection {
        let mut projection = Projection::default();
        match self.try_project(reports, gone, now, &mut projection).await {
            Ok(()) => self.refusals = 0,
            Err(stop) => self.stopped(&stop, now, &mut projection),
        }
        projection.again =
            self.notices.add_to(&mut projection.conditions, now).into_iter().fold(projection.again, earliest);
        self.say(&projection.conditions);
        projection
    }

    /// Logs what is new, and when all is well again.
    fn say(&mut self, conditions: &[Condition]) {
        let known = |condition: &&Condition| {
            let same = |told: &&Condition| (told.reason, &told.message) == (condition.reason, &condition.message);
            self.told.iter().any(|told| told.canary == condition.canary && same(&told))
        };
        for condition in conditions.iter().filter(|condition| !known(condition)) {
            let Condition { canary, reason, message, passing: _ } = condition;
            let canary = canary.as_ref().map(tracing::field::display);
            tracing::warn!(reason, canary, "state is not in git yet: {message}");
        }
        if conditions.is_empty() && !self.told.is_empty() {
            tracing::info!("git has everything again");
        }
        self.told = conditions.to_vec();
    }

    async fn try_project(
        &mut self,
        reports: &[TargetReport],
        gone: &[NamespacedName],
        now: Timestamp,
        projection: &mut Projection,
    ) -> Result<(), Stop> {
        let promoted = |key: &(NamespacedName, Revision)| {
            reports.iter().any(|report| report.canary == key.0 && report.promoted.as_ref() == Some(&key.1))
        };
        self.absent.retain(promoted);
        // Whatever lies on the status branch, it keeps no rollback from the watched one.
        self.roll_back_failed(reports, now, projection).await?;
        self.look_at_status(reports, now).await?;
        let mut rollbacks = self.told_rollbacks(projection);
        rollbacks.extend(self.unknown_rollbacks(reports, now));
        let gone = &self.given_up(gone).await?;
        let news = self.news(reports, gone, &rollbacks);
        match self.write_status(reports, gone, &rollbacks, &news, now).await? {
            Wrote::Nothing => projection.settled = true,
            Wrote::Commit(commit) => {
                projection.commit = Some(commit);
                projection.settled = true;
            }
            Wrote::Later(at) => projection.again = earliest(projection.again, at),
        }
        self.acknowledge(reports, projection);
        Ok(())
    }

    /// What cannot wait for its batch: ends that the record does not have, and what rollbacks have come to.
    fn news(&self, reports: &[TargetReport], gone: &[NamespacedName], rollbacks: &Rollbacks) -> Vec<String> {
        let mut news = self.status.unsettled(rollbacks);
        for report in reports {
            let open = report.outbox.iter().filter(|outcome| !holds(self.status.files(), &report.canary, outcome));
            news.extend(open.map(|outcome| format!("{} {}", report.canary, outcome.release)));
        }
        news.extend(gone.iter().map(|canary| format!("{canary} is gone")));
        news
    }

    /// How far each outbox is told: up to the newest outcome that the record has, and up to the last before one whose rollback
    /// is still open.
    fn acknowledge(&self, reports: &[TargetReport], projection: &mut Projection) {
        for report in reports {
            let held = |outcome: &&crate::release::Outcome| holds(self.status.files(), &report.canary, outcome);
            let is_done = |outcome: &&crate::release::Outcome| {
                let key = (report.canary.clone(), outcome.release.clone());
                held(outcome) && (outcome.kind != OutcomeKind::Failed || self.settled.contains_key(&key))
            };
            let mut projected = Projected::default();
            for outcome in report.outbox.iter().filter(held) {
                projection.recorded.push((report.canary.clone(), outcome.release.clone()));
                projected.note(Projector::Record, outcome.release.clone());
            }
            if let Some(outcome) = report.outbox.iter().take_while(is_done).last() {
                projected.note(Projector::Rollback, outcome.release.clone());
            }
            if !projected.is_empty() {
                projection.projected.insert(report.canary.clone(), projected);
            }
        }
    }

    fn stopped(&mut self, stop: &Stop, now: Timestamp, projection: &mut Projection) {
        self.refusals = self.refusals.saturating_add(1);
        let soon = after(now, UNREACHABLE_WAIT);
        // Somebody has to change something first, perhaps right now.
        let refused = after(now, denials::pause(self.refusals));
        let (reason, again) = match stop {
            Stop::Git(GitError::Denied { .. } | GitError::Remote { .. }) => ("GitAccessDenied", refused),
            Stop::Git(_) => ("GitUnreachable", soon),
            Stop::Write(_) => ("NotWritten", soon),
            Stop::Denied { until, .. } => ("PushDenied", *until),
            Stop::Record(_) => ("RecordUnreadable", refused),
            Stop::Contended => ("PushContended", soon),
            Stop::Foreign { .. } => ("ForeignWriter", refused),
            Stop::MaybeForeign { .. } => ("ForeignWriter", after(now, FOREIGN_LIVE)),
        };
        // What is known may be out of date: look again next time.
        self.status.doubt();
        let passing = self.refusals < 2 && again == soon;
        projection.conditions.push(Condition { canary: None, reason, message: stop.to_string(), passing });
        projection.again = earliest(projection.again, again);
    }

    fn meta(&self, message: String, now: Timestamp) -> CommitMeta {
        CommitMeta { message, author: self.settings.identity.clone(), time: now }
    }

    /// Pushes unless the very same was denied a short while ago.
    async fn push(
        &mut self,
        about: &About,
        old: Option<&CommitId>,
        new: &CommitId,
        now: Timestamp,
    ) -> Result<Pushed, Stop> {
        let reference = about.reference.as_str();
        if let Some(denial) = self.denials.standing(about, now) {
            tracing::debug!(git.reference = reference, until = %denial.until, "not pushing: denied before");
            let error = PushError::Denied { reference: reference.to_owned(), reason: denial.reason.clone() };
            return Err(Stop::Denied { error, until: denial.until });
        }
        let push = async { Ok::<_, WriteError>(self.store.push(&self.remote, reference, old, new).await) };
        let pushed = self.writer.effect_within(PUSH_LIMIT, EffectKind::Push, reference, push).await;
        match pushed.map_err(|error| Stop::Write(error.to_string()))? {
            Ok(()) => {
                self.denials.lift(reference, &about.who);
                Ok(Pushed::Moved)
            }
            Err(PushError::Moved { reference, reason }) => {
                tracing::info!(git.reference = reference, "somebody pushed meanwhile: {reason}");
                Ok(Pushed::Lost)
            }
            Err(PushError::Failed(error)) => Err(Stop::Git(error)),
            Err(PushError::Denied { reference, reason }) => {
                let until = self.denials.note(about, &reason, now);
                Err(Stop::Denied { error: PushError::Denied { reference, reason }, until })
            }
        }
    }
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pushed {
    /// The ref is where we want it.
    Moved,
    /// Somebody was faster: look again, decide again.
    Lost,
}

/// Waits between tries of one push.
struct Tries {
    left: u32,
    wait: Duration,
}

impl Tries {
    fn new() -> Self {
        Self { left: PUSH_TRIES, wait: PUSH_WAIT_FIRST }
    }

    /// After a lost race: waits, or gives up.
    async fn again(&mut self) -> Result<(), Stop> {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            return Err(Stop::Contended);
        }
        tokio::time::sleep(self.wait).await;
        self.wait = self.wait.mul_f64(PUSH_WAIT_FACTOR).min(PUSH_WAIT_MAX);
        Ok(())
    }
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.checked_add(wait).unwrap_or(now)
}

fn earliest(one: Option<Timestamp>, other: Timestamp) -> Option<Timestamp> {
    Some(one.map_or(other, |one| one.min(other)))
}
