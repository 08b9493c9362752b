//! The status branch: what we know of it, and moving it on.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::super::record::{
    Files, Input, ManifestFile, Record, RecordError, Rollbacks, TargetReport, build, open_rollbacks,
    recorded_copy, subject, template_in,
};
use super::denials::About;
use super::{FOREIGN_LIVE, GitReporter, Pushed, Stop, Tries, after};
use crate::git::Base;
use crate::manifest::template_digest;
use crate::model::{CommitId, NamespacedName, Revision};
use crate::release::Outcome;

/// Commits after which the branch is replaced by a single one: nobody reads further back, and clones carry it all.
const COMMITS_MAX: usize = 1000;

/// What is known of the branch.
#[derive(Debug, Default)]
pub(super) struct StatusBranch {
    seen: Option<Seen>,
    /// When we last moved it.
    wrote: Option<Timestamp>,
}

#[derive(Debug)]
struct Seen {
    /// `None`: it does not exist.
    tip: Option<CommitId>,
    files: Files,
    /// Failed releases whose rollback commit is still wanted.
    open: Vec<(NamespacedName, Outcome)>,
}

impl Seen {
    fn of(tip: Option<CommitId>, files: Files) -> Self {
        let open = open_rollbacks(&files);
        Self { tip, files, open }
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

    /// Failed releases whose rollback commit is still wanted, as last seen.
    pub(super) fn open_rollbacks(&self) -> Vec<(NamespacedName, Outcome)> {
        self.seen.as_ref().map(|seen| seen.open.clone()).unwrap_or_default()
    }

    pub(super) fn forget(&mut self) {
        self.seen = None;
    }
}

impl GitReporter {
    fn status_reference(&self) -> String {
        self.settings.status_branch.qualified().to_owned()
    }

    /// Reads the branch unless it is known, and makes sure that it is ours to write.
    pub(super) async fn look_at_status(&mut self, now: Timestamp) -> Result<(), Stop> {
        if self.status.seen.is_some() {
            return Ok(());
        }
        let branch = &self.settings.status_branch;
        let record = match Record::fetch(&self.store, &self.remote, branch).await {
            Ok(record) => record,
            Err(RecordError::Git(error)) => return Err(Stop::Git(error)),
            Err(error) => return Err(Stop::Record(error)),
        };
        let Some(record) = record else {
            self.status.seen = Some(Seen::of(None, Files::new()));
            return Ok(());
        };
        let uid = record.header.writer.clone();
        if uid != self.settings.writer {
            if self.status.wrote.is_some() {
                return Err(Stop::Foreign { cluster: self.settings.cluster.clone(), uid });
            }
            let last = self.store.history(&record.commit, 1).await?;
            let at = last.first().map_or(Timestamp::UNIX_EPOCH, |commit| commit.time);
            if now < after(at, FOREIGN_LIVE) {
                return Err(Stop::MaybeForeign { uid, at });
            }
            tracing::warn!(writer = uid, "taking over the record of a cluster that no longer writes");
        }
        self.status.seen = Some(Seen::of(Some(record.commit.clone()), record.files().clone()));
        Ok(())
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
        let about = About { reference: self.status_reference(), who: "record".to_owned(), news: news.join("\n") };
        let mut tries = Tries::new();
        loop {
            self.look_at_status(now).await?;
            let input = Input {
                cluster: &self.settings.cluster,
                writer: &self.settings.writer,
                reports,
                gone,
                manifests: &manifests,
                rollbacks,
            };
            let (tip, files) = match &self.status.seen {
                Some(seen) => (seen.tip.clone(), build(&seen.files, &input)),
                None => (None, build(&Files::new(), &input)),
            };
            if tip.is_some() && files == *self.status.files() {
                return Ok(Wrote::Nothing);
            }
            let batch = self.status.wrote.map(|wrote| after(wrote, self.settings.batch));
            if let Some(at) = batch.filter(|at| news.is_empty() && now < *at) {
                return Ok(Wrote::Later(at));
            }
            let commit = self.status_commit(tip.as_ref(), &files, now).await?;
            match self.push(&about, tip.as_ref(), &commit, now).await? {
                Pushed::Moved => {
                    self.status.wrote = Some(now);
                    self.status.seen = Some(Seen::of(Some(commit.clone()), files));
                    return Ok(Wrote::Commit(commit));
                }
                Pushed::Lost => {
                    self.status.forget();
                    tries.again().await?;
                }
            }
        }
    }

    async fn status_commit(
        &self,
        tip: Option<&CommitId>,
        files: &Files,
        now: Timestamp,
    ) -> Result<CommitId, Stop> {
        let meta = self.meta(format!("{}\n", subject(self.status.files(), files)), now);
        let parent = match tip {
            Some(tip) if self.store.depth(tip, COMMITS_MAX).await? < COMMITS_MAX => Some(tip),
            Some(_) | None => None,
        };
        let made = self.store.commit_files(parent, files.clone(), meta.clone()).await?;
        match made {
            Some(commit) => Ok(commit),
            // The same tree as the parent: only when what we remembered was wrong; say it without a parent.
            None => {
                let edits = files.iter().map(|(path, content)| crate::git::Edit::Write {
                    path: path.clone(),
                    content: content.clone(),
                });
                let made = self.store.commit(Base::Orphan, edits.collect(), meta).await?;
                made.ok_or(Stop::Contended)
            }
        }
    }

    /// The promoted manifests that the record does not hold yet.
    async fn promoted_manifests(
        &mut self,
        reports: &[TargetReport],
    ) -> Result<BTreeMap<NamespacedName, ManifestFile>, Stop> {
        let mut found = BTreeMap::new();
        for report in reports {
            let Some(promoted) = &report.promoted else { continue };
            if recorded_copy(self.status.files(), &report.canary, &promoted.digest).is_some() {
                continue;
            }
            if let Some(file) = self.manifest_of(report, promoted).await? {
                found.insert(report.canary.clone(), file);
            }
        }
        Ok(found)
    }

    /// The manifest of a revision: from the record, else from the commit that brought it.
    pub(super) async fn manifest_of(
        &mut self,
        report: &TargetReport,
        revision: &Revision,
    ) -> Result<Option<ManifestFile>, Stop> {
        let target = &report.target;
        let matches = |text: &str| {
            template_in(text, target).is_some_and(|template| template_digest(&template) == revision.digest)
        };
        if let Some((path, bytes)) = recorded_copy(self.status.files(), &report.canary, &revision.digest)
            && let Ok(text) = std::str::from_utf8(bytes)
            && matches(text)
        {
            return Ok(Some(ManifestFile { path, text: text.to_owned() }));
        }
        let Some(commit) = &revision.commit else { return Ok(None) };
        // Known not to be there: asked once, not at every projection.
        let key = (report.canary.clone(), revision.clone());
        if self.absent.contains(&key) {
            return Ok(None);
        }
        let found = self.manifest_at(commit, target).await?.filter(|file| matches(&file.text));
        if found.is_none() {
            self.absent.insert(key);
        }
        Ok(found)
    }
}
