//! Whether a failed release is rolled back in Git, and with which commit. Pure.
//!
//! Restored is the target's `spec.template` in the file at the tip of the watched branch, by splicing the promoted
//! manifest's bytes; its digest must then be the promoted one. At most one such commit is made per target and digest: an
//! earlier one is known from the Canary's status, or, should the process have died before that was written, by what it did
//! on the branch. What a commit says about itself decides nothing: anybody can write trailers.

mod none;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use crate::git::{FileChange, Snapshot};
use crate::manifest::{ConfigName, Manifest, ParseCache, Parsed, configs_read, same_content};
use crate::manifest::{ManifestError, SpliceError, describe_change, parse_each, restore, template_digest};
use crate::model::{CommitId, Digest, NamespacedName, ObjectRef, Revision};
use crate::release::{CheckResult, Outcome};

use super::configs::{self, ConfigFile};
use super::record::{ManifestFile, named, placed, template_in};

pub use none::NoRollback;

/// What a target's template is in a workload.
const TEMPLATE: [&str; 2] = ["spec", "template"];
/// Longest cause in a trailer, in characters: some hosts cut long lines.
const CAUSE_MAX: usize = 300;

/// Trailer: which Canary was rolled back.
pub const TRAILER_ROLLBACK: &str = "Serin-Rollback";
/// Trailer: the failed revision.
pub const TRAILER_FROM: &str = "Serin-From";
/// Trailer: the restored revision.
pub const TRAILER_TO: &str = "Serin-To";
/// Trailer: why, in one line.
pub const TRAILER_CAUSE: &str = "Serin-Cause";
/// Trailer: which cluster.
pub const TRAILER_CLUSTER: &str = "Serin-Cluster";

/// Where a target is at the tip of the watched branch.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The file.
    pub path: String,
    text: std::sync::Arc<str>,
    /// It is made of several files.
    rendered: bool,
    object: ObjectRef,
    template: Value,
    /// The configs that it reads.
    configs: Vec<ConfigFile>,
    /// Who else reads them.
    shared: BTreeMap<ConfigName, ObjectRef>,
}

/// What is looked at.
#[derive(Debug)]
pub struct Case<'a> {
    /// `cluster.name`.
    pub cluster: &'a str,
    /// The watched branch.
    pub branch: &'a str,
    /// The Canary.
    pub canary: &'a NamespacedName,
    /// The workload.
    pub target: &'a ObjectRef,
    /// The failed release.
    pub failed: &'a Outcome,
    /// What primary runs now.
    pub promoted: Option<&'a Revision>,
    /// Its manifest, if the watched branch has it.
    pub manifest: Option<&'a ManifestFile>,
    /// Another release of the same digest came after this one.
    pub released_again: bool,
    /// The commit that rolled this revision back before, as the Canary's status knows.
    pub rolled_back: Option<&'a CommitId>,
    /// Where the target is at the tip.
    pub tip: &'a Found,
    /// Commits that changed that file since the release failed, newest first.
    pub changes: &'a [FileChange],
    /// The commit that turned the failed revision into the promoted one in the files of its template and configs.
    pub turned: Option<&'a CommitId>,
    /// For a target that is rendered: edits that were proved to make the promoted revision and nothing else, or why there are
    /// none. `None` before that was looked for.
    pub edits: Option<&'a Result<Vec<(String, String)>, String>>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Make this commit on the tip.
    Commit(RollbackPlan),
    /// It was made.
    Done(CommitId),
    /// There is no rollback commit.
    None(NoRollback),
}

/// A rollback commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackPlan {
    /// Each file and its new content; more than one only where the target is made of several.
    pub files: Vec<(String, String)>,
    /// The message, trailers included.
    pub message: String,
}

impl Found {
    /// Whether it is made of several files.
    pub fn is_rendered(&self) -> bool {
        self.rendered
    }

    /// Whether its template is this revision's.
    pub fn has(&self, digest: &Digest) -> bool {
        configs::is_revision(&self.template, &self.configs, digest)
    }

    /// The same with the configs that it reads, or that what was promoted does, wherever they are, and with who else reads them.
    pub fn with_configs(
        mut self,
        tip: &Snapshot,
        target: &ObjectRef,
        good: Option<&ManifestFile>,
        parsed: &mut ParseCache,
    ) -> Self {
        let mut names = configs_read(&self.template);
        names.extend(good.and_then(|good| template_in(&good.text, target)).iter().flat_map(configs_read));
        for file in &tip.files {
            if !names.iter().any(|name| file.text.contains(&name.name)) {
                continue;
            }
            let parsed = parsed.parse(&file.path, &file.oid, &file.text);
            let manifests = &parsed.manifests;
            let here = |name: &ConfigName| ConfigFile::among(&file.path, &file.text, manifests, name, target);
            self.configs.extend(names.iter().filter_map(here));
            for manifest in manifests {
                let id = placed(manifest.object_ref());
                if id == *target || id.namespace != target.namespace {
                    continue;
                }
                let read = configs::read_by(&manifest.object);
                self.shared.extend(names.intersection(&read).map(|name| (name.clone(), id.clone())));
            }
        }
        self
    }

    /// The files that a rollback of this and of what was promoted changes, if configs are a part of them.
    pub fn files_of(&self, target: &ObjectRef, good: &ManifestFile) -> BTreeSet<&str> {
        let template = template_in(&good.text, target).unwrap_or_default();
        let tracked = configs::tracked(&template, [&good.configs, &self.configs]);
        let of_configs = self.configs.iter().filter(|config| tracked.iter().any(|name| config.is(name)));
        let mut files: BTreeSet<&str> = of_configs.map(|config| config.path.as_str()).collect();
        if !files.is_empty() {
            files.insert(&self.path);
        }
        files
    }

    /// Whether it is what a file of the branch was.
    fn is(&self, good: &ManifestFile, target: &ObjectRef) -> bool {
        let template = template_in(&good.text, target);
        template
            .is_some_and(|template| configs::are_same((&self.template, &self.configs), (&template, &good.configs)))
    }
}

/// Decides about one failed release.
pub fn decide(case: &Case<'_>) -> Decision {
    match decided(case) {
        Ok(decision) => decision,
        Err(none) => Decision::None(none),
    }
}

fn decided(case: &Case<'_>) -> Result<Decision, NoRollback> {
    let failed = &case.failed.revision.digest;
    if case.failed.revision.commit.is_none() {
        return Err(NoRollback::CauseNotInGit);
    }
    if case.released_again {
        return Err(NoRollback::ReleasedAgain);
    }
    let earlier = case.changes.iter().find(|change| is_rollback(change, case)).map(|change| &change.commit);
    let earlier = earlier.or(case.turned);
    if !case.tip.has(failed) {
        let is_right = match (case.manifest, case.promoted) {
            (Some(good), _) => case.tip.is(good, case.target),
            (None, promoted) => promoted.is_some_and(|promoted| case.tip.has(&promoted.digest)),
        };
        return match earlier {
            Some(commit) => Ok(Decision::Done(commit.clone())),
            None if is_right => Err(NoRollback::PutRight),
            None => {
                let tip = template_digest(&case.tip.template).short().to_owned();
                Err(NoRollback::MovedOn { tip, failed: failed.short().to_owned() })
            }
        };
    }
    if let Some(commit) = case.rolled_back.or(earlier) {
        return Err(NoRollback::RolledBackBefore(commit.clone()));
    }
    let promoted = case.promoted.ok_or(NoRollback::NothingPromoted)?;
    let good = case.manifest.ok_or_else(|| NoRollback::PromotedNotInGit {
        branch: case.branch.to_owned(),
        digest: promoted.digest.short().to_owned(),
    })?;
    if case.tip.rendered {
        return rendered(case, promoted, &good.text);
    }
    let edited = restored(case.tip, case.target, good)?;
    let is_good = configs::are_same((&edited.template, &edited.configs), (&edited.wanted, &good.configs));
    if !is_good || !configs::is_revision(&edited.template, &edited.configs, &promoted.digest) {
        let found = template_digest(&edited.template).to_string();
        return Err(NoRollback::OtherDigest { found, wanted: promoted.digest.to_string() });
    }
    let mut changes = changes(&case.tip.template, &edited.template);
    changes.extend(
        edited.restored.iter().map(|config| format!("{} {} as it was", config.kind.as_str(), config.name)),
    );
    let message = message(case, promoted, &changes);
    Ok(Decision::Commit(RollbackPlan { files: edited.files, message }))
}

/// A target that is made of several files: those are edited that hold what changed.
fn rendered(case: &Case<'_>, promoted: &Revision, good: &str) -> Result<Decision, NoRollback> {
    let file = || case.tip.path.clone();
    let files = match case.edits {
        Some(Ok(files)) => files.clone(),
        Some(Err(why)) => return Err(NoRollback::Rendered { file: file(), why: why.clone() }),
        None => {
            let why = "which of its files to edit has not been looked for".to_owned();
            return Err(NoRollback::Rendered { file: file(), why });
        }
    };
    let template = template_in(good, case.target);
    let changes = template.map(|template| changes(&case.tip.template, &template)).unwrap_or_default();
    Ok(Decision::Commit(RollbackPlan { files, message: message(case, promoted, &changes) }))
}

/// Whether what an edited overlay makes is the promoted revision of the target, and otherwise what it makes now. Configs that
/// only the target reads come, go and change with it.
pub fn proves(now: &Found, made: &str, target: &ObjectRef, good: &ManifestFile) -> bool {
    let objects = |text: &str| {
        let Parsed { manifests, faults } = parse_each(&now.path, text);
        let all = manifests.into_iter().map(|manifest| (placed(manifest.object_ref()), manifest.object));
        faults.is_empty().then(|| all.collect::<BTreeMap<_, _>>())
    };
    let (Some(mut before), Some(mut after)) = (objects(&now.text), objects(made)) else { return false };
    let (Some(mut old), Some(mut new)) = (before.remove(target), after.remove(target)) else { return false };
    let template = |object: &Value| object.pointer("/spec/template").cloned().unwrap_or_default();
    let Some(wanted) = template_in(&good.text, target) else { return false };
    let text: std::sync::Arc<str> = made.into();
    let elsewhere =
        |name: &ConfigName| now.configs.iter().find(|config| config.path != now.path && config.is(name));
    let read = configs_read(&template(&new)).into_iter();
    let found = read.filter_map(|name| {
        ConfigFile::find(&now.path, &text, &name, target).or_else(|| elsewhere(&name).cloned())
    });
    let found: Vec<ConfigFile> = found.collect();
    if !configs::are_same((&template(&new), &found), (&wanted, &good.configs)) {
        return false;
    }
    let of_target: BTreeSet<ConfigName> = [&old, &new].into_iter().flat_map(configs::read_by).collect();
    let others: BTreeSet<ConfigName> = before.values().chain(after.values()).flat_map(configs::read_by).collect();
    let is_its_own = |id: &ObjectRef| {
        configs::config_name(id).is_some_and(|name| {
            *id == configs::id(&name, target) && of_target.contains(&name) && !others.contains(&name)
        })
    };
    before.retain(|id, _| !is_its_own(id));
    after.retain(|id, _| !is_its_own(id));
    for object in [&mut old, &mut new] {
        object["spec"]["template"] = Value::Null;
    }
    old == new && before == after
}

/// Where the target is at the tip. `parsed_files` keeps files from being parsed at every decision.
///
/// # Errors
/// If it is nowhere, or its file cannot be read.
pub fn find(tip: &Snapshot, target: &ObjectRef, parsed_files: &mut ParseCache) -> Result<Found, NoRollback> {
    let mut unreadable = None;
    for file in &tip.files {
        let parsed = parsed_files.parse(&file.path, &file.oid, &file.text);
        let Parsed { manifests, faults } = parsed.as_ref();
        if let Some(object) = named(manifests.iter(), target) {
            let template = template_of(manifests, &object);
            return Ok(Found {
                path: file.path.clone(),
                text: file.text.clone(),
                rendered: file.rendered,
                object,
                template,
                configs: Vec::new(),
                shared: BTreeMap::new(),
            });
        }
        let fault = faults.first().filter(|_| unreadable.is_none() && mentions(&file.text, target));
        unreadable = unreadable.or(fault.map(one_line));
    }
    Err(match unreadable {
        Some(reason) => NoRollback::Unreadable(reason),
        None => NoRollback::TargetGone,
    })
}

fn template_of(manifests: &[Manifest], object: &ObjectRef) -> Value {
    let manifest = manifests.iter().find(|manifest| manifest.object_ref() == *object);
    manifest.and_then(|manifest| manifest.object.pointer("/spec/template")).cloned().unwrap_or_default()
}

fn mentions(text: &str, target: &ObjectRef) -> bool {
    text.contains(&target.kind) && text.contains(&target.name)
}

fn one_line(error: &ManifestError) -> String {
    error.to_string()
}

/// The files after the target's template and the configs that only it reads are what they were.
struct Restored {
    files: Vec<(String, String)>,
    /// What the target is in them.
    template: Value,
    configs: Vec<ConfigFile>,
    /// What it was.
    wanted: Value,
    /// Configs that were put back.
    restored: Vec<ConfigName>,
}

fn restored(found: &Found, target: &ObjectRef, good: &ManifestFile) -> Result<Restored, NoRollback> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let content = with_template(found, target, &good.text)?;
    if content != *found.text {
        files.insert(found.path.clone(), content);
    }
    let wanted = template_in(&good.text, target).unwrap_or_default();
    let mut put_back = Vec::new();
    for name in configs::tracked(&wanted, [&good.configs, &found.configs]) {
        let Some(was) = good.configs.iter().find(|config| config.is(&name)) else { continue };
        let is = found.configs.iter().find(|config| config.is(&name)).ok_or_else(|| gone(&name))?;
        if same_content(&was.body, &is.body) {
            continue;
        }
        if let Some(other) = found.shared.get(&name) {
            return Err(NoRollback::Shared { config: words(&name), other: other.to_string() });
        }
        let text = files.remove(&is.path).unwrap_or_else(|| is.text.to_string());
        files.insert(is.path.clone(), with_content(&text, was, is)?);
        put_back.push(name);
    }
    let text = |path: &str, text: &str| files.get(path).map_or_else(|| text.to_owned(), String::clone);
    let template = template_in(&text(&found.path, &found.text), target).unwrap_or_default();
    let after = configs_read(&template).into_iter().filter_map(|name| {
        let config = found.configs.iter().find(|config| config.is(&name))?;
        let text: std::sync::Arc<str> = text(&config.path, &config.text).into();
        ConfigFile::find(&config.path, &text, &name, target)
    });
    let configs: Vec<ConfigFile> = after.collect();
    Ok(Restored { files: files.into_iter().collect(), template, configs, wanted, restored: put_back })
}

fn words(config: &ConfigName) -> String {
    format!("{} {}", config.kind.as_str(), config.name)
}

fn gone(config: &ConfigName) -> NoRollback {
    NoRollback::ConfigGone(words(config))
}

/// A config's file with what the config held.
fn with_content(text: &str, was: &ConfigFile, is: &ConfigFile) -> Result<String, NoRollback> {
    let mut text = text.to_owned();
    if was.object != is.object {
        let reason = format!("it is {} in the promoted file and {} in the current one", was.object, is.object);
        return Err(
            SpliceError::Entangled { object: is.object.to_string(), path: "data".to_owned(), reason }.into()
        );
    }
    for field in ["type", "data", "stringData", "binaryData"] {
        if was.body[field] != is.body[field] {
            text = restore(&text, &is.object, &[field], &was.text)?;
        }
    }
    Ok(text)
}

/// The promoted file may name the object with or without its namespace, whatever the tip does.
fn with_template(found: &Found, target: &ObjectRef, good: &str) -> Result<String, NoRollback> {
    let written = super::record::as_written(good, target);
    if let Some(written) = written.filter(|written| *written != found.object) {
        let reason = format!("it is {written} in the promoted file and {} in the current one", found.object);
        let path = TEMPLATE.join(".");
        return Err(SpliceError::Entangled { object: target.to_string(), path, reason }.into());
    }
    Ok(restore(&found.text, &found.object, &TEMPLATE, good)?)
}

/// A rollback commit is known by what it does, whatever it says and whoever made it: it changed this file only, which had the
/// failed revision and has the promoted one.
fn is_rollback(change: &FileChange, case: &Case<'_>) -> bool {
    let digest = |text: &Option<std::sync::Arc<str>>| {
        template_in(text.as_deref()?, case.target).map(|template| template_digest(&template))
    };
    let Some(promoted) = case.promoted else { return false };
    change.alone
        && digest(&change.before).as_ref() == Some(&case.failed.revision.digest)
        && digest(&change.after).as_ref() == Some(&promoted.digest)
}

fn changes(from: &Value, to: &Value) -> Vec<String> {
    let object = |template: &Value| serde_json::json!({"spec": {"template": template}});
    describe_change("", &object(from), &object(to))
}

fn message(case: &Case<'_>, promoted: &Revision, changes: &[String]) -> String {
    let Case { cluster, canary, failed, .. } = case;
    let cause = failed.cause.as_ref().map_or("the release failed", |cause| cause.message.as_str());
    let mut out = format!(
        "Roll back {canary} to {}\n\nRelease {} failed: {cause}\n",
        promoted.digest.short(),
        failed.release
    );
    // Writing to a string cannot fail.
    for change in changes {
        write!(out, "\n- {change}").unwrap_or_default();
    }
    if !failed.checks.is_empty() {
        out.push_str("\n\nChecks:\n");
        for CheckResult { name, verdict, value, limit } in &failed.checks {
            let value = value.map_or_else(|| "no value".to_owned(), |value| format!("{value:.2}"));
            write!(out, "\n- {name}: {value} (limit {limit}): {}", verdict.as_str()).unwrap_or_default();
        }
    }
    let cause: String = cause.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(CAUSE_MAX).collect();
    write!(
        out,
        "\n\n{TRAILER_ROLLBACK}: {canary}\n{TRAILER_FROM}: {}\n{TRAILER_TO}: {promoted}\n{TRAILER_CAUSE}: {cause}\n\
         {TRAILER_CLUSTER}: {cluster}\n",
        failed.revision
    )
    .unwrap_or_default();
    out
}

#[cfg(test)]
#[path = "rollback_tests.rs"]
mod tests;
