//! Kustomizations among the files: which files they leave out, and which are no manifests by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::manifest::{self, is_kustomization, is_kustomizes};
use crate::model::path::{folder_of, is_below, is_outermost};
use crate::render::{self, Refusal};

use super::disk::Disk;
use super::files::Source;
use super::finding::{Finding, Rule, Severity};

/// What becomes of the files of kustomizations.
#[derive(Default)]
pub(super) struct Governed {
    /// Files that are not checked as manifests.
    aside: BTreeSet<String>,
    pub(super) findings: Vec<Finding>,
}

impl Governed {
    /// Looks at the kustomizations that are below no other, as the daemon does.
    pub(super) fn of(sources: &[Source]) -> Self {
        let kustomizations: BTreeMap<String, &Source> = sources
            .iter()
            .filter(|source| is_kustomization(&source.path) && is_kustomizes(&source.text))
            .map(|source| (folder_of(&source.path).to_owned(), source))
            .collect();
        let mut governed = Self::default();
        for (folder, source) in &kustomizations {
            governed.aside.insert(source.path.clone());
            if is_outermost(folder, kustomizations.keys().map(String::as_str)) {
                governed.root(folder, source, sources);
            }
        }
        governed
    }

    /// Whether a file is checked as it is.
    pub(super) fn is_checked(&self, source: &Source) -> bool {
        !self.aside.contains(&source.path)
    }

    /// What becomes of the files of one of them.
    fn root(&mut self, folder: &str, source: &Source, sources: &[Source]) {
        let shown = if folder.is_empty() { "." } else { folder };
        let Some(disk) = Disk::around(Path::new(shown)) else { return };
        let Some(place) = disk.place(Path::new(shown)) else { return };
        let places: BTreeMap<String, &Source> =
            sources.iter().filter_map(|source| Some((disk.place(Path::new(&source.path))?, source))).collect();
        // The files of a working copy are there: nothing of Git's can be damaged.
        let Ok(made) = render::examine(&disk, &place) else { return };
        let below = |folders: &BTreeSet<String>| {
            let is_governed =
                |(file, _): &(&String, &&Source)| folders.iter().any(|folder| is_below(file, folder));
            let governed = places.iter().filter(is_governed);
            governed.map(|(file, source)| (file.clone(), *source)).collect::<Vec<_>>()
        };
        let made = match made {
            Ok(made) => made,
            Err(refusal) => {
                self.aside.extend(below(&BTreeSet::from([place])).into_iter().map(|(_, it)| it.path.clone()));
                let finding = refused(&refusal, places.get(&refusal.file).copied(), source);
                // A base is at fault once, whoever names it.
                if !self.findings.contains(&finding) {
                    self.findings.push(finding);
                }
                return;
            }
        };
        let governed = below(&made.folders);
        if let Some(changes) = made.changes {
            self.aside.extend(governed.into_iter().map(|(_, source)| source.path.clone()));
            let message = format!(
                "{changes}: the daemon renders it, by `kustomize` or `kubectl` beside it, and holds the folder where neither is; \
                 its files are not checked one by one, `kubectl kustomize {shown} | serin validate -` checks what they make"
            );
            self.findings.push(Finding::of_file(Severity::Warning, Rule::Kustomize, source.path.clone(), message));
            return;
        }
        for (_, left_out) in governed.into_iter().filter(|(file, _)| !made.files.contains(file)) {
            if !is_kustomization(&left_out.path) {
                let message = format!("it is left out: {} does not list it", source.path);
                let path = left_out.path.clone();
                self.findings.push(Finding::of_file(Severity::Warning, Rule::Kustomize, path, message));
            }
            self.aside.insert(left_out.path.clone());
        }
    }
}

/// What the daemon would say, where it is written; `at`: the file at fault, if it is among those that are checked.
fn refused(refusal: &Refusal, at: Option<&Source>, root: &Source) -> Finding {
    let Refusal { file, named, message } = refusal;
    let message = match at {
        Some(_) => message.strip_prefix(&format!("{file}: ")).unwrap_or(message),
        None => message,
    };
    let message = format!("{message}; the daemon holds the whole folder, and deletes nothing meanwhile");
    let source = at.unwrap_or(root);
    let found = named.as_deref().filter(|_| at.is_some()).and_then(|named| source.find(named));
    match found {
        Some((line, column, width)) => Finding {
            severity: Severity::Error,
            rule: Rule::Kustomize,
            file: source.path.clone(),
            line,
            column,
            message,
            snippet: Some(manifest::snippet(source.line(line), line, column, width)),
        },
        None => Finding::of_file(Severity::Error, Rule::Kustomize, source.path.clone(), message),
    }
}
