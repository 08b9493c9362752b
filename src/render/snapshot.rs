//! A snapshot with its kustomizations rendered: whoever reads manifests reads what they make.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::collect::{self, Export, Refusal};
use super::edit::{self, Candidate};
use super::program::{Failure, Program};
use crate::git::{GitError, Limits, SkippedFile, Snapshot, SnapshotFile, Store};
use crate::manifest::{is_kustomization, is_kustomizes};
use crate::model::CommitId;
use crate::model::path::{folder_of, is_below, is_outermost, within};

/// Results that are kept: an overlay for each of a repository's clusters, at a few commits each.
const CACHED_MAX: usize = 64;
/// Bytes of the results that are kept.
const CACHED_BYTES_MAX: usize = 64 << 20;
/// Renderings at a time: each may take as much memory as its output.
const RENDERINGS: usize = 2;
/// A chart's own file.
const CHART: &str = "Chart.yaml";

/// Reads snapshots and renders what in them has to be. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Renderer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    program: Option<Program>,
    scratch: PathBuf,
    cache: Mutex<VecDeque<Kept>>,
    places: Semaphore,
}

/// Edits that are rendered before it is given up: each takes up to a second.
const TRIES_MAX: usize = 24;

/// What is to be put right in an overlay.
#[derive(Debug, Clone, Copy)]
pub struct PutRight<'a> {
    /// The kustomization's path.
    pub file: &'a str,
    /// The commit that is edited.
    pub tip: &'a CommitId,
    /// The commit of which a part comes back.
    pub good: &'a CommitId,
}

/// What an overlay made, or why it made nothing, by the key of what it was made of.
type Kept = (String, Result<Arc<str>, String>);

/// What becomes of one kustomization.
enum Root {
    /// Its files are applied as they are.
    Selection(Export),
    /// It is rendered.
    Overlay(Export),
    /// It is a part of others.
    Part,
    /// It is not rendered.
    Refused { folder: String, file: String, why: String },
}

impl Renderer {
    /// Renders what `store` holds by `program`, in folders below `scratch`.
    pub fn new(store: Store, program: Option<Program>, scratch: PathBuf) -> Self {
        let cache = Mutex::default();
        let inner = Inner { store, program, scratch, cache, places: Semaphore::new(RENDERINGS) };
        Self { inner: Arc::new(inner) }
    }

    /// One that renders nothing: what would have to be is held.
    pub fn none(store: Store) -> Self {
        Self::new(store, None, PathBuf::new())
    }

    /// The manifests below `path` at a commit, like [`Store::snapshot`], with what kustomizations make of theirs in the place of
    /// these. A kustomization that cannot be rendered is among what was skipped, and nothing of its folder is taken.
    ///
    /// # Errors
    /// As [`Store::snapshot`].
    pub async fn snapshot(&self, commit: &CommitId, path: &str, limits: Limits) -> Result<Snapshot, GitError> {
        let mut snapshot = self.inner.store.snapshot(commit, path, limits).await?;
        hold_charts(&mut snapshot);
        let folders = topmost(&snapshot);
        if folders.is_empty() {
            return Ok(snapshot);
        }
        let roots = self.roots(commit, folders).await?;
        let mut made = Vec::new();
        let mut governed = BTreeSet::new();
        let mut selected = BTreeSet::new();
        for root in roots {
            match root {
                Root::Part => {}
                Root::Selection(export) => {
                    selected.extend(export.files.keys().filter(|file| !is_kustomization(file)).cloned());
                    governed.extend(export.folders);
                }
                Root::Overlay(export) => {
                    match self.rendered(&export).await? {
                        Ok(text) => made.push(Arc::new(SnapshotFile {
                            path: export.file.clone(),
                            oid: export.key(),
                            text,
                            rendered: true,
                        })),
                        Err(reason) => snapshot.skipped.push(SkippedFile { path: export.file.clone(), reason }),
                    }
                    governed.extend(export.folders);
                }
                Root::Refused { folder, file, why } => {
                    snapshot.skipped.push(SkippedFile { path: file, reason: why });
                    governed.insert(folder);
                }
            }
        }
        snapshot.files.retain(|file| {
            let is_governed = governed.iter().any(|folder| is_below(&file.path, folder));
            !is_governed || selected.contains(&file.path)
        });
        snapshot.files.extend(made);
        Ok(snapshot)
    }

    /// Edits of single files at `tip`, as path and content, after which the overlay makes something that `accepts` takes; or why
    /// there are none, in words. Values are put back where they are held: an image's tag, a patch, a file; nothing that does not
    /// differ from `good`.
    ///
    /// # Errors
    /// If Git cannot be read, or nothing can be rendered now.
    pub async fn put_right(
        &self,
        PutRight { file, tip, good }: PutRight<'_>,
        accepts: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Result<Vec<(String, String)>, String>, GitError> {
        let folder = folder_of(file).to_owned();
        let export = async |commit: &CommitId| {
            let folder = folder.clone();
            self.inner.store.with_files(commit, move |files| collect::collect(files, &folder)).await
        };
        let (now, then) = match (export(tip).await?, export(good).await?) {
            (Ok(now), Ok(then)) => (now, then),
            (Err(why), _) | (_, Err(why)) => return Ok(Err(why.to_string())),
        };
        let candidates = edit::candidates(&now, &then);
        let (mut tries, all) = (0_usize, candidates.iter().collect::<Vec<_>>());
        for edits in candidates.iter().map(|one| vec![one]).chain([all.clone()]) {
            tries += 1;
            if tries > TRIES_MAX || !self.makes(&now, &then, &edits, accepts).await? {
                continue;
            }
            let kept = self.fewest(&now, &then, edits, accepts).await?;
            let files = edit::edited(&now, &then, &kept).unwrap_or_default();
            return Ok(Ok(files.into_iter().collect()));
        }
        let changed: BTreeSet<&str> = all.iter().map(|candidate| candidate.path.as_str()).collect();
        Ok(Err(match changed.into_iter().collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => format!("none of its files has changed since {}", good.short()),
            files => {
                format!("no edit of what has changed since {} ({files}) makes that and nothing else", good.short())
            }
        }))
    }

    /// Leaves out, one by one, what is not needed.
    async fn fewest<'c>(
        &self,
        now: &Export,
        then: &Export,
        edits: Vec<&'c Candidate>,
        accepts: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Vec<&'c Candidate>, GitError> {
        let mut kept = edits;
        let mut at = kept.len();
        while at > 0 && kept.len() > 1 {
            at -= 1;
            let mut fewer = kept.clone();
            fewer.remove(at);
            if self.makes(now, then, &fewer, accepts).await? {
                kept = fewer;
            }
            at = at.min(kept.len());
        }
        Ok(kept)
    }

    /// Whether the overlay with these edits makes what is accepted.
    async fn makes(
        &self,
        now: &Export,
        then: &Export,
        edits: &[&Candidate],
        accepts: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<bool, GitError> {
        let Some(files) = edit::edited(now, then, edits).filter(|files| !files.is_empty()) else {
            return Ok(false);
        };
        let mut export = now.clone();
        for (path, text) in files {
            let oid = crate::model::Digest::of_canonical(text.as_bytes()).to_string();
            export.files.insert(path, (oid, text.into_bytes()));
        }
        Ok(self.rendered(&export).await?.is_ok_and(|text| accepts(&text)))
    }

    async fn roots(&self, commit: &CommitId, folders: Vec<(String, String)>) -> Result<Vec<Root>, GitError> {
        let store = &self.inner.store;
        let collected = store
            .with_files(commit, move |files| {
                let collect = |(folder, file): (String, String)| {
                    let export = collect::collect(files, &folder)?;
                    Ok((folder, file, export))
                };
                folders.into_iter().map(collect).collect::<Result<Vec<_>, GitError>>()
            })
            .await?;
        let exports = || collected.iter().filter_map(|(_, _, export)| export.as_ref().ok());
        // A base that an overlay here names is made by that.
        let named: BTreeSet<String> = exports()
            .flat_map(|export| export.folders.iter().filter(|folder| **folder != export.folder))
            .cloned()
            .collect();
        let root = |(folder, file, export): (String, String, Result<Export, Refusal>)| match export {
            _ if named.contains(&folder) => Root::Part,
            Ok(export) if export.is_component => Root::Part,
            Ok(export) if export.changes.is_none() => Root::Selection(export),
            Ok(export) => Root::Overlay(export),
            Err(why) => Root::Refused { folder, file, why: why.to_string() },
        };
        Ok(collected.into_iter().map(root).collect())
    }

    /// What an overlay makes, or why that is not known.
    async fn rendered(&self, export: &Export) -> Result<Result<Arc<str>, String>, GitError> {
        let Inner { program, scratch, cache, places, .. } = self.inner.as_ref();
        let asked = export.changes.as_deref().unwrap_or("kustomize is asked for");
        let Some(program) = program else {
            return Ok(Err(format!(
                "{asked}, and neither `kustomize` nor `kubectl` is on this machine: its folder is held; install one of them \
                 beside serin, or commit what `kubectl kustomize` prints"
            )));
        };
        let key = export.key();
        let known = |key: &str| {
            let cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.iter().find(|(known, _)| known == key).map(|(_, result)| result.clone())
        };
        if let Some(known) = known(&key) {
            return Ok(known);
        }
        let later = |reason: String| GitError::Cancelled { what: "rendering", reason };
        let _place = places.acquire().await.map_err(|error| later(error.to_string()))?;
        if let Some(known) = known(&key) {
            return Ok(known);
        }
        let result = match program.render(export, scratch).await {
            Ok(text) => Ok(Arc::from(text)),
            Err(Failure::Lasting(words)) => Err(format!("it cannot be rendered: {words}")),
            Err(Failure::Passing(words)) => return Err(later(format!("{}: {words}", export.file))),
        };
        self.keep(key, &result);
        Ok(result)
    }

    fn keep(&self, key: String, result: &Result<Arc<str>, String>) {
        let mut cache = self.inner.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.push_back((key, result.clone()));
        let bytes = |cache: &VecDeque<Kept>| {
            cache.iter().map(|(_, result)| result.as_ref().map_or(0, |text| text.len())).sum::<usize>()
        };
        while cache.len() > CACHED_MAX || (cache.len() > 1 && bytes(&cache) > CACHED_BYTES_MAX) {
            cache.pop_front();
        }
    }
}

/// The folders with a kustomization that are below no other, with the file.
fn topmost(snapshot: &Snapshot) -> Vec<(String, String)> {
    let mut folders: Vec<(String, String)> = snapshot
        .files
        .iter()
        .filter(|file| is_kustomization(&file.path) && is_kustomizes(&file.text))
        .map(|file| (folder_of(&file.path).to_owned(), file.path.clone()))
        .collect();
    folders.sort();
    folders.dedup_by(|later, first| later.0 == first.0);
    let all = folders.clone();
    folders.retain(|(folder, _)| is_outermost(folder, all.iter().map(|(other, _)| other.as_str())));
    folders
}

/// A chart is one thing that is not rendered, not a hundred files that cannot be read.
fn hold_charts(snapshot: &mut Snapshot) {
    let is_chart = |file: &&Arc<SnapshotFile>| {
        file.path.rsplit('/').next() == Some(CHART)
            && file.text.lines().any(|line| line.starts_with("apiVersion: v"))
    };
    let charts: Vec<String> =
        snapshot.files.iter().filter(is_chart).map(|file| folder_of(&file.path).to_owned()).collect();
    let outer = |folder: &&String| is_outermost(folder, charts.iter().map(String::as_str));
    for folder in charts.iter().filter(outer) {
        let reason = "a Helm chart is not rendered here: render it in CI (`helm template`) and commit the result, or name the \
                      folder in .serinignore";
        snapshot.skipped.push(SkippedFile { path: within(folder, CHART), reason: reason.to_owned() });
    }
    if !charts.is_empty() {
        snapshot.files.retain(|file| !charts.iter().any(|folder| is_below(&file.path, folder)));
    }
}
