//! The record: what the branch `serin/status/<cluster>` holds, as a pure function of reports and what it held before.
//!
//! ```text
//! record.yaml                               version, cluster, writer
//! README.md                                 a table for people
//! <namespace>/<name>.yaml                   one target: phase, weight, checks, what is promoted
//! manifests/<namespace>/<name>/<file>       the promoted manifest's own bytes: a rebuild needs them, and they stay reachable
//! history/<namespace>/<name>/<end>-<id>.yaml  the last finished releases
//! ledger/<namespace>/<name>.tsv             a line for each finished release of a year or so
//! ```
//!
//! Nothing here is a Secret that was not in Git already: the only contents are manifests from the watched branch.

mod ledger;
mod open;
mod read;
mod table;
mod wire;

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::configs::{self, ConfigFile};
use crate::manifest::{Manifest, parse_each, template_digest};
use crate::model::{CommitId, Digest, NamespacedName, ObjectRef, Quarantined, ReleaseId, Revision};
use crate::release::{CheckResult, Outcome};

pub use ledger::Line;
pub(super) use open::open_rollbacks;
pub(super) use read::template_in;
pub use read::{PromotedManifest, Record, RecordError};
pub use wire::{FinishedRecord, Header, ManifestPlace, PromotedRecord, RollbackRecord, TargetRecord};

/// Version of the files' format.
pub const VERSION: u32 = 1;
/// Finished releases kept per target.
pub const HISTORY_MAX: usize = 20;

/// The files of the branch, by path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What became of failed releases on the watched branch.
pub type Rollbacks = BTreeMap<(NamespacedName, ReleaseId), RollbackRecord>;

/// What one target has to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetReport {
    /// The Canary.
    pub canary: NamespacedName,
    /// The workload.
    pub target: ObjectRef,
    /// Flagger's phase string.
    pub phase: String,
    /// Since when it is in that phase.
    pub since: Timestamp,
    /// The release under way.
    pub release: Option<ReleaseId>,
    /// What it releases.
    pub revision: Option<Revision>,
    /// The candidate's share of the traffic, in percent.
    pub weight: u8,
    /// `3 of 6`.
    pub step: Option<String>,
    /// What it waits for, in words.
    pub waiting_on: Option<String>,
    /// What primary runs.
    pub promoted: Option<Revision>,
    /// How it is released, in words: `weights 10 to 50 by 10 every 1m, 3 checks, threshold 5`.
    pub policy: Option<String>,
    /// The last value of every check.
    pub checks: Vec<CheckResult>,
    /// Why the last release failed, while that is its phase.
    pub cause: Option<String>,
    /// Who approved, as claimed.
    pub approved_by: Option<String>,
    /// The newest release that the record was seen to have: this cluster has written it before.
    pub recorded: Option<ReleaseId>,
    /// Revisions that were rolled back on the watched branch, and by which commit.
    pub rolled_back: Vec<(Digest, CommitId)>,
    /// Revisions that are not released by themselves.
    pub quarantined: Vec<Quarantined>,
    /// Terminal outcomes not yet seen in Git, oldest first.
    pub outbox: Vec<Outcome>,
    /// Outcomes that did not fit into the outbox.
    pub outbox_merged: u64,
}

/// A target's promoted manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFile {
    /// Its path on the watched branch.
    pub path: String,
    /// Its content.
    pub text: String,
    /// The configs that its template reads, as the same commit has them.
    pub configs: Vec<ConfigFile>,
}

impl ManifestFile {
    /// Whether a target in it, with the configs that it reads, is this revision.
    pub(super) fn is_revision(&self, target: &ObjectRef, digest: &Digest) -> bool {
        let template = template_in(&self.text, target);
        template.is_some_and(|template| configs::is_revision(&template, &self.configs, digest))
    }

    /// The revisions that a target in it may be, with the configs that it reads: in its plain form, and reading copies.
    pub fn revisions(&self, target: &ObjectRef) -> Vec<Digest> {
        let Some(template) = template_in(&self.text, target) else { return Vec::new() };
        let pinned = configs::pinned_by(&template, &self.configs).map(|pinned| pinned.digest);
        let mut revisions = vec![template_digest(&template)];
        revisions.extend(pinned.filter(|pinned| !revisions.contains(pinned)));
        revisions
    }

    /// Whether a target is the same in both, and reads the same.
    pub(super) fn is_same(&self, target: &ObjectRef, other: &Self) -> bool {
        match (template_in(&self.text, target), template_in(&other.text, target)) {
            (Some(one), Some(two)) => configs::are_same((&one, &self.configs), (&two, &other.configs)),
            _ => false,
        }
    }
}

/// Everything that a new record is made from, beside the old one.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// `cluster.name`.
    pub cluster: &'a str,
    /// UID of the namespace kube-system: tells two clusters of one name apart.
    pub writer: &'a str,
    /// The targets. One that is missing here keeps its record: after a rebuild nobody may know of it yet.
    pub reports: &'a [TargetReport],
    /// Canaries that were deleted: their records go.
    pub gone: &'a [NamespacedName],
    /// Promoted manifests, where they could be read and have the promoted digest.
    pub manifests: &'a BTreeMap<NamespacedName, ManifestFile>,
    /// What became of failed releases in Git.
    pub rollbacks: &'a Rollbacks,
    /// When the commits that finished releases came from were made, where that is known.
    pub committed: &'a BTreeMap<CommitId, Timestamp>,
}

/// The new files of the branch.
pub fn build(old: &Files, input: &Input<'_>) -> Files {
    let Input { cluster, writer, reports, gone, manifests, rollbacks, committed } = *input;
    let mut files = old.clone();
    for canary in gone {
        let own = [target_path(canary), history_folder(canary), manifest_folder(canary), ledger_path(canary)];
        files.retain(|path, _| !own.iter().any(|own| path.starts_with(own.as_str())));
    }
    for report in reports {
        put_history(&mut files, report, rollbacks, committed);
        put_target(&mut files, report, manifests.get(&report.canary));
    }
    open::settle(&mut files, rollbacks);
    files.insert(HEADER.to_owned(), wire::header(cluster, writer).into_bytes());
    let targets = read::targets(&files);
    files.insert(README.to_owned(), table::readme(cluster, &targets).into_bytes());
    files
}

/// Whether this outcome is in these files.
pub fn holds(files: &Files, canary: &NamespacedName, outcome: &Outcome) -> bool {
    let path = history_path(canary, outcome);
    // What is older than everything that is kept was recorded, or would not be kept either.
    let folder = history_folder(canary);
    let mut kept = files.keys().filter(|kept| kept.starts_with(&folder));
    files.contains_key(&path)
        || (kept.clone().count() >= HISTORY_MAX && kept.next().is_some_and(|oldest| path < *oldest))
}

const HEADER: &str = "record.yaml";
const README: &str = "README.md";

fn target_path(canary: &NamespacedName) -> String {
    format!("{}/{}.yaml", canary.namespace, canary.name)
}

fn history_folder(canary: &NamespacedName) -> String {
    format!("history/{}/{}/", canary.namespace, canary.name)
}

fn manifest_folder(canary: &NamespacedName) -> String {
    format!("manifests/{}/{}/", canary.namespace, canary.name)
}

/// Sorted by time: numbers of releases start again when a cluster is rebuilt.
fn history_path(canary: &NamespacedName, outcome: &Outcome) -> String {
    let end = outcome.ended.strftime("%Y%m%dT%H%M%SZ");
    format!("{}{end}-{}.yaml", history_folder(canary), outcome.release)
}

fn ledger_path(canary: &NamespacedName) -> String {
    format!("ledger/{}/{}.tsv", canary.namespace, canary.name)
}

fn put_history(
    files: &mut Files,
    report: &TargetReport,
    rollbacks: &Rollbacks,
    committed: &BTreeMap<CommitId, Timestamp>,
) {
    let canary = &report.canary;
    let at =
        |outcome: &Outcome| outcome.revision.commit.as_ref().and_then(|commit| committed.get(commit)).copied();
    let fresh: Vec<Line> = report
        .outbox
        .iter()
        .filter(|outcome| !holds(files, canary, outcome))
        .map(|outcome| Line::of(outcome, at(outcome)))
        .collect();
    if !fresh.is_empty() {
        let lines = read::lines(files, canary).into_iter().chain(fresh).collect();
        files.insert(ledger_path(canary), ledger::write(lines));
    }
    for outcome in &report.outbox {
        let rollback = rollbacks.get(&(canary.clone(), outcome.release.clone()));
        let path = history_path(canary, outcome);
        // What was written first stays: a second look knows less about the rollback.
        files.entry(path).or_insert_with(|| wire::finished(canary, outcome, at(outcome), rollback).into_bytes());
    }
    let folder = history_folder(canary);
    let kept: Vec<String> = files.keys().filter(|path| path.starts_with(&folder)).cloned().collect();
    for path in kept.iter().take(kept.len().saturating_sub(HISTORY_MAX)) {
        files.remove(path);
    }
}

fn put_target(files: &mut Files, report: &TargetReport, manifest: Option<&ManifestFile>) {
    let path = target_path(&report.canary);
    let before = files
        .get(&path)
        .and_then(|bytes| wire::read::<TargetRecord>(bytes).ok())
        // What another target ran is nothing that this one could be rebuilt from.
        .filter(|old| old.target == report.target)
        .and_then(|old| old.promoted);
    let folder = manifest_folder(&report.canary);
    let promoted = match (&report.promoted, before) {
        (Some(revision), before) => {
            let same = before.filter(|before| before.revision.digest == revision.digest);
            let kept = manifest.map_or_else(
                || same.and_then(|same| same.manifest),
                |file| Some(place(&folder, file, report, revision)),
            );
            Some(PromotedRecord { revision: revision.clone(), manifest: kept })
        }
        // Not promoted anything yet: after a rebuild this is what has to come back first.
        (None, before) => before,
    };
    let current = promoted.as_ref().and_then(|promoted| promoted.manifest.as_ref());
    files.retain(|path, _| !path.starts_with(&folder) || current.is_some_and(|kept| kept.copy == *path));
    if let (Some(file), Some(place)) = (manifest, current) {
        files.insert(place.copy.clone(), file.text.clone().into_bytes());
    }
    files.insert(path, wire::target(report, promoted).into_bytes());
}

fn place(folder: &str, file: &ManifestFile, report: &TargetReport, revision: &Revision) -> ManifestPlace {
    let ManifestFile { path, text, configs } = file;
    let name = path.rsplit('/').next().unwrap_or(path);
    let pinned = template_in(text, &report.target).and_then(|template| configs::pinned_by(&template, configs));
    let pins = pinned.filter(|pinned| pinned.digest == revision.digest).map(|pinned| pinned.pins);
    ManifestPlace { path: path.clone(), copy: format!("{folder}{name}"), pins: pins.unwrap_or_default() }
}

/// One line about many changes, for the commit's subject.
pub fn subject(old: &Files, new: &Files) -> String {
    let (before, after) = (read::targets(old), read::targets(new));
    let changed: Vec<String> = after
        .iter()
        .filter(|(canary, target)| before.get(canary) != Some(*target))
        .map(|(canary, target)| match target {
            Ok(target) => format!("{canary}: {}", target.words()),
            Err(_) => canary.to_string(),
        })
        .collect();
    match changed.as_slice() {
        [] => "Record".to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

/// Which digest a target's recorded manifest must have, and where its copy is, if the record has one.
pub fn recorded_copy<'a>(
    files: &'a Files,
    canary: &NamespacedName,
    digest: &Digest,
) -> Option<(ManifestPlace, &'a [u8])> {
    let target: TargetRecord = wire::read(files.get(&target_path(canary))?).ok()?;
    let promoted = target.promoted.filter(|promoted| promoted.revision.digest == *digest)?;
    let place = promoted.manifest?;
    let bytes = files.get(&place.copy)?;
    Some((place, bytes))
}

/// How a file names a workload: with its namespace, or without one when that is the default.
pub(super) fn as_written(text: &str, target: &ObjectRef) -> Option<ObjectRef> {
    named(parse_each("", text).manifests.iter(), target)
}

/// Like [`as_written`], among parsed manifests.
pub(super) fn named<'a>(
    mut manifests: impl Iterator<Item = &'a Manifest>,
    target: &ObjectRef,
) -> Option<ObjectRef> {
    manifests.find(|manifest| placed(manifest.object_ref()) == *target).map(Manifest::object_ref)
}

/// A workload as the cluster names it: with its namespace.
pub(super) fn placed(object: ObjectRef) -> ObjectRef {
    let namespace = object.namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    ObjectRef { namespace: Some(namespace), ..object }
}

/// Where objects go that name no namespace.
const DEFAULT_NAMESPACE: &str = "default";

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
