//! The status branch: what we know of it, and moving it on.
//!
//! It is output. Nothing that it says decides anything here; what it held before is kept as history only. While this process
//! writes it, what it remembers counts, and a branch that somebody else moved is written over on top of what they did.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::super::record::{
    Files, Input, ManifestFile, Record, RecordError, RollbackRecord, Rollbacks, TargetReport, build, holds,
    open_rollbacks, recorded_copy, subject,
};
use super::denials::About;
use super::{Condition, FOREIGN_LIVE, GitReporter, Pushed, Stop, Tries, after};
use crate::model::{CommitId, NamespacedName, ReleaseId, Revision};

/// Commits after which the branch is replaced by a single one: nobody reads further back, and clones carry it all.
const COMMITS_MAX: usize = 1000;

/// What is known of the branch.
#[derive(Debug, Default)]
pub(super) struct StatusBranch {
    seen: Option<Seen>,
    /// What a push that broke off may have made of it.
    tried: Option<Seen>,
    /// When we last moved it.
    wrote: Option<Timestamp>,
    /// What is known may be out of date.
    doubtful: bool,
    /// Another writer's tip, and since when it has been seen unmoved.
    foreign: Option<(CommitId, Timestamp)>,
}

#[derive(Debug, Clone)]
struct Seen {
    /// `None`: it does not exist.
    tip: Option<CommitId>,
    files: Files,
    /// Failed releases whose rollback commit the record calls open.
    open: BTreeSet<(NamespacedName, ReleaseId)>,
    /// We made these files, or have looked that the manifests in them are the watched branch's.
    proved: bool,
    /// The tip holds something else than these files: somebody else moved it.
    moved: bool,
}

impl Seen {
    fn of(tip: Option<CommitId>, files: Files, proved: bool) -> Self {
        let open = open_rollbacks(&files);
        Self { tip, files, open, proved, moved: false }
    }
}

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrote {
    /// The branch says all of it already.
    Nothing,
    /// It does now.
    Commit(CommitId),
    /// Progress waits for its batch.
    Later(Timestamp),
}

impl StatusBranch {
    /// The files as last seen.
    pub(super) fn files(&self) -> &Files {
        static NONE: Files = BTreeMap::new();
        self.seen.as_ref().map_or(&NONE, |seen| &seen.files)
    }

    /// Rollbacks that have come to their end and that the record still calls open.
    pub(super) fn unsettled(&self, rollbacks: &Rollbacks) -> Vec<String> {
        let open =
            |key: &(NamespacedName, ReleaseId)| self.seen.as_ref().is_some_and(|seen| seen.open.contains(key));
        let settled = rollbacks.iter().filter(|(key, record)| !record.is_open() && open(key));
        settled.map(|((canary, release), _)| format!("{canary} {release}")).collect()
    }

    /// What is known may be out of date: look again next time.
    pub(super) fn doubt(&mut self) {
        self.doubtful = true;
    }
}

impl GitReporter {
    fn status_reference(&self) -> String {
        self.settings.status_branch.qualified().to_owned()
    }

    /// Reads the branch unless it is known, and makes sure that it is ours to write.
    pub(super) async fn look_at_status(&mut self, reports: &[TargetReport], now: Timestamp) -> Result<(), Stop> {
        if self.status.seen.is_some() && !self.status.doubtful {
            return Ok(());
        }
        let tip = self.store.fetch(&self.remote, &self.status_reference()).await?;
        if let Some(tried) = self.status.tried.take().filter(|tried| tried.tip == tip) {
            self.status.wrote = Some(now);
            self.status.seen = Some(tried);
        }
        if self.status.seen.as_ref().is_none_or(|seen| seen.tip != tip) {
            match tip {
                Some(tip) => self.take_up(tip, reports, now).await?,
                None => self.without_branch(now),
            }
        }
        self.status.doubtful = false;
        Ok(())
    }

    /// There is none. If there was, what we remember of it is written again.
    fn without_branch(&mut self, now: Timestamp) {
        match (&mut self.status.seen, self.status.wrote) {
            (Some(seen), Some(_)) => {
                seen.tip = None;
                seen.moved = true;
                self.tell_moved("was deleted", now);
            }
            _ => self.status.seen = Some(Seen::of(None, Files::new(), true)),
        }
    }

    /// A tip that is not the one that we know.
    async fn take_up(&mut self, tip: CommitId, reports: &[TargetReport], now: Timestamp) -> Result<(), Stop> {
        let branch = self.settings.status_branch.clone();
        let record = match Record::at(&self.store, &branch, tip.clone()).await {
            Ok(record) => Some(record),
            Err(RecordError::Git(error)) => return Err(Stop::Git(error)),
            // Whatever lies there now, we know what belongs there.
            Err(_) if self.status.wrote.is_some() => None,
            Err(error) => return Err(Stop::Record(error)),
        };
        if let Some(uid) = record.as_ref().map(|record| &record.header.writer)
            && *uid != self.settings.writer
        {
            self.another_writer(&tip, uid, reports, now).await?;
        }
        match (&mut self.status.seen, record) {
            (Some(seen), _) if self.status.wrote.is_some() => {
                seen.tip = Some(tip.clone());
                seen.moved = true;
                self.tell_moved(&format!("was moved to {}", tip.short()), now);
            }
            (_, Some(record)) => self.status.seen = Some(Seen::of(Some(tip), record.into_files(), false)),
            (_, None) => self.status.seen = Some(Seen::of(Some(tip), Files::new(), true)),
        }
        Ok(())
    }

    /// The record names another writer. Whoever has written it before goes on, whatever it says; a cluster that knows nothing of
    /// it takes over one that nobody writes any more.
    async fn another_writer(
        &mut self,
        tip: &CommitId,
        uid: &str,
        reports: &[TargetReport],
        now: Timestamp,
    ) -> Result<(), Stop> {
        let (branch, uid) = (self.settings.status_branch.to_string(), uid.to_owned());
        let wrote_before = self.status.wrote.is_some() || reports.iter().any(|report| report.recorded.is_some());
        if wrote_before {
            return Err(Stop::Foreign { branch, uid });
        }
        let known = self.status.foreign.take().filter(|(known, _)| known == tip);
        let (_, first_seen) = self.status.foreign.insert(known.unwrap_or((tip.clone(), now)));
        let last = self.store.history(tip, 1).await?;
        // A date is what somebody wrote: one that lies ahead holds nobody up.
        let at = last.first().map_or(Timestamp::UNIX_EPOCH, |commit| commit.time).min(*first_seen);
        if now < after(at, FOREIGN_LIVE) {
            return Err(Stop::MaybeForeign { uid, at });
        }
        tracing::warn!(writer = uid, branch, "taking over the record of a cluster that no longer writes");
        Ok(())
    }

    fn tell_moved(&mut self, what: &str, now: Timestamp) {
        let branch = &self.settings.status_branch;
        let message = format!(
            "branch {branch} {what} by somebody else; it is written again from what this cluster knows. Nothing that lies \
             there decides what runs, but a rebuilt cluster would ask it: protect {branch} like the watched branch"
        );
        let notice = Condition { canary: None, reason: "RecordMoved", message, passing: false };
        self.notices.tell(notice, now);
    }

    /// Rollbacks that the record calls open and that the Canary's status does not know: somebody else wrote them there, or an
    /// older version left them. Nothing is done about them, and that is said.
    pub(super) fn unknown_rollbacks(&mut self, reports: &[TargetReport], now: Timestamp) -> Rollbacks {
        let mut unknown = Rollbacks::new();
        let Some(seen) = &self.status.seen else { return unknown };
        for (canary, release) in &seen.open {
            let Some(report) = reports.iter().find(|report| report.canary == *canary) else { continue };
            if report.outbox.iter().any(|outcome| outcome.release == *release) {
                continue;
            }
            let reason = "the Canary's status knows no such rollback: nothing was done about it".to_owned();
            unknown.insert((canary.clone(), release.clone()), RollbackRecord::none(reason));
            let message = format!(
                "branch {} holds an open rollback of release {release}, which the Canary's status does not know: nothing is \
                 done about it. Whoever may push there can write this: protect it like the watched branch",
                self.settings.status_branch
            );
            let canary = Some(canary.clone());
            self.notices.tell(Condition { canary, reason: "RecordUnknown", message, passing: false }, now);
        }
        unknown
    }

    /// When what ended was committed; what is not in the cache has no time.
    async fn committed(&self, reports: &[TargetReport]) -> Result<BTreeMap<CommitId, Timestamp>, Stop> {
        let mut known = BTreeMap::new();
        for report in reports {
            let open = report.outbox.iter().filter(|outcome| !holds(self.status.files(), &report.canary, outcome));
            for commit in open.filter_map(|outcome| outcome.revision.commit.as_ref()) {
                if !known.contains_key(commit) && self.store.has(commit).await? {
                    let info = self.store.history(commit, 1).await?;
                    known.extend(info.first().map(|info| (commit.clone(), info.time)));
                }
            }
        }
        Ok(known)
    }

    /// Moves the branch to what the reports say, deciding again whenever somebody was faster. `news` is what cannot wait
    /// for its batch.
    pub(super) async fn write_status(
        &mut self,
        reports: &[TargetReport],
        gone: &[NamespacedName],
        rollbacks: &Rollbacks,
        news: &[String],
        now: Timestamp,
    ) -> Result<Wrote, Stop> {
        let manifests = self.promoted_manifests(reports).await?;
        let committed = self.committed(reports).await?;
        let about = About { reference: self.status_reference(), who: "record".to_owned(), news: news.join("\n") };
        let mut tries = Tries::new();
        loop {
            self.look_at_status(reports, now).await?;
            let input = Input {
                cluster: &self.settings.cluster,
                writer: &self.settings.writer,
                reports,
                gone,
                manifests: &manifests,
                rollbacks,
                committed: &committed,
            };
            let (tip, moved) =
                self.status.seen.as_ref().map_or((None, false), |seen| (seen.tip.clone(), seen.moved));
            let files = build(self.status.files(), &input);
            if tip.is_some() && !moved && files == *self.status.files() {
                return Ok(Wrote::Nothing);
            }
            let batch = self.status.wrote.map(|wrote| after(wrote, self.settings.batch));
            if let Some(at) = batch.filter(|at| news.is_empty() && now < *at) {
                return Ok(Wrote::Later(at));
            }
            let Some(commit) = self.status_commit(tip.as_ref(), &files, now).await? else {
                // Somebody moved it to what we would have written.
                self.status.seen = Some(Seen::of(tip, files, true));
                return Ok(Wrote::Nothing);
            };
            let next = Seen::of(Some(commit.clone()), files, true);
            self.status.tried = Some(next.clone());
            match self.push(&about, tip.as_ref(), &commit, now).await? {
                Pushed::Moved => {
                    self.status.wrote = Some(now);
                    self.status.seen = Some(next);
                    self.status.tried = None;
                    return Ok(Wrote::Commit(commit));
                }
                Pushed::Lost => {
                    self.status.doubt();
                    tries.again().await?;
                }
            }
        }
    }

    /// The next commit; `None` if it would change nothing.
    async fn status_commit(
        &self,
        tip: Option<&CommitId>,
        files: &Files,
        now: Timestamp,
    ) -> Result<Option<CommitId>, Stop> {
        let meta = self.meta(format!("{}\n", subject(self.status.files(), files)), now);
        let parent = match tip {
            Some(tip) if self.store.depth(tip, COMMITS_MAX).await? < COMMITS_MAX => Some(tip),
            Some(_) | None => None,
        };
        Ok(self.store.commit_files(parent, files.clone(), meta).await?)
    }

    /// The promoted manifests that the record does not hold yet, or not as the watched branch has them.
    async fn promoted_manifests(
        &mut self,
        reports: &[TargetReport],
    ) -> Result<BTreeMap<NamespacedName, ManifestFile>, Stop> {
        let proved = self.status.seen.as_ref().is_some_and(|seen| seen.proved);
        let mut found = BTreeMap::new();
        for report in reports {
            let Some(promoted) = &report.promoted else { continue };
            if self.has_copy(report, promoted, proved).await? {
                continue;
            }
            if let Some(file) = self.manifest_of(report, promoted).await? {
                found.insert(report.canary.clone(), file);
            }
        }
        if let Some(seen) = &mut self.status.seen {
            seen.proved = true;
        }
        Ok(found)
    }

    /// Whether the record holds a revision's manifest; unless it is `proved`, byte for byte as the commit has it that brought it.
    async fn has_copy(&self, report: &TargetReport, revision: &Revision, proved: bool) -> Result<bool, Stop> {
        let Some((place, bytes)) = recorded_copy(self.status.files(), &report.canary, &revision.digest) else {
            return Ok(false);
        };
        let Some(commit) = &revision.commit else { return Ok(proved) };
        Ok(proved || self.watched.is_file(commit, &place.path, bytes).await?)
    }

    /// The manifest of a revision from the commit that brought it.
    async fn manifest_of(
        &mut self,
        report: &TargetReport,
        revision: &Revision,
    ) -> Result<Option<ManifestFile>, Stop> {
        // Known not to be there: asked once, not at every projection.
        let key = (report.canary.clone(), revision.clone());
        if self.absent.contains(&key) {
            return Ok(None);
        }
        let found = self.watched.manifest_of(revision, &report.target).await?;
        if found.is_none() {
            self.absent.insert(key);
        }
        Ok(found)
    }
}
