//! Kustomizations among the files: which files they leave out, and which are no manifests by themselves.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::{Kustomization, is_kustomization};

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
            if !kustomizations.keys().any(|other| other != folder && is_below(folder, other)) {
                governed.root(folder, source, &kustomizations, sources);
            }
        }
        governed
    }

    /// Whether a file is checked as it is.
    pub(super) fn is_checked(&self, source: &Source) -> bool {
        !self.aside.contains(&source.path)
    }

    fn root(
        &mut self,
        folder: &str,
        source: &Source,
        kustomizations: &BTreeMap<String, &Source>,
        sources: &[Source],
    ) {
        let (mut listed, mut folders) = (BTreeSet::new(), BTreeSet::new());
        let mut changes = None;
        let mut open = vec![(folder.to_owned(), source)];
        while let Some((folder, source)) = open.pop() {
            if !folders.insert(folder.clone()) {
                continue;
            }
            let read = match Kustomization::read(&source.path, &source.text) {
                Ok(read) => read,
                Err(error) => {
                    self.findings.push(Finding::syntax(&error));
                    return;
                }
            };
            changes = changes.or(read.changes).or(read.is_component.then(|| "it is a component".to_owned()));
            for place in read.references.iter().filter_map(|reference| resolved(&folder, &reference.path)) {
                match kustomizations.get(&place) {
                    Some(inner) => open.push((place, inner)),
                    None => drop(listed.insert(place)),
                }
            }
        }
        let is_governed = |source: &&Source| folders.iter().any(|folder| is_below(&source.path, folder));
        let shown = if folder.is_empty() { "." } else { folder };
        if let Some(changes) = changes {
            self.aside.extend(sources.iter().filter(is_governed).map(|source| source.path.clone()));
            let message = format!(
                "{changes}: the daemon renders it, by `kustomize` or `kubectl` beside it, and holds the folder where neither is; \
                 its files are not checked one by one, `kubectl kustomize {shown} | serin validate -` checks what they make"
            );
            self.findings.push(Finding::of_file(Severity::Warning, Rule::Kustomize, source.path.clone(), message));
            return;
        }
        for left_out in sources.iter().filter(is_governed).filter(|file| !listed.contains(&file.path)) {
            if !is_kustomization(&left_out.path) {
                let message = format!("it is left out: {} does not list it", source.path);
                self.findings.push(Finding::of_file(
                    Severity::Warning,
                    Rule::Kustomize,
                    left_out.path.clone(),
                    message,
                ));
            }
            self.aside.insert(left_out.path.clone());
        }
    }
}

/// Other products have objects of the same kind in files of the same name.
fn is_kustomizes(text: &str) -> bool {
    let version = text.lines().find_map(|line| line.strip_prefix("apiVersion:"));
    version.is_none_or(|version| version.contains("kustomize.config.k8s.io"))
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn is_below(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Where what is written in a folder leads, as far as it is a path.
fn resolved(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    let absolute = if folder.starts_with('/') { "/" } else { "" };
    (!path.contains("://")).then(|| format!("{absolute}{}", parts.join("/")))
}
