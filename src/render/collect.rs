//! Which files a kustomization is made of. Pure, over the files of one commit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use crate::git::{Entry, Files, GitError};
use crate::manifest::{Kustomization, Reference, is_kustomization};
use crate::model::Digest;
use crate::model::path::{self, within};

/// Bytes of one file; the limit of a manifest.
const FILE_BYTES_MAX: usize = 5 << 20;
/// Bytes of everything that one overlay is made of: they are written to the disk for each rendering.
const BYTES_MAX: usize = 32 << 20;
/// Files that one overlay is made of.
const FILES_MAX: usize = 5_000;

/// Everything that one kustomization is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Export {
    /// The folder that is rendered.
    pub(super) folder: String,
    /// Its kustomization's path.
    pub(super) file: String,
    /// By path: blob id and content.
    pub(super) files: BTreeMap<String, (String, Vec<u8>)>,
    /// Folders with a kustomization of their own that are part of it, this one included.
    pub(super) folders: BTreeSet<String>,
    /// What it asks for beside listing files, in words; `None`: its files are applied as they are.
    pub(super) changes: Option<String>,
    /// It is a part of others and nothing by itself.
    pub(super) is_component: bool,
}

impl Export {
    /// Equal keys are equal input.
    pub(super) fn key(&self) -> String {
        let mut text = format!("{}\n", self.folder);
        for (path, (oid, _)) in &self.files {
            text.push_str(&format!("{oid} {path}\n"));
        }
        Digest::of_canonical(text.as_bytes()).to_string()
    }

    fn take(&mut self, path: &str, oid: String, bytes: Vec<u8>) -> Result<(), String> {
        self.files.insert(path.to_owned(), (oid, bytes));
        let total: usize = self.files.values().map(|(_, bytes)| bytes.len()).sum();
        if self.files.len() > FILES_MAX {
            return Err(format!("it is made of more than {FILES_MAX} files"));
        }
        if total > BYTES_MAX {
            return Err(format!("it is made of more than {} MiB", BYTES_MAX >> 20));
        }
        Ok(())
    }
}

/// Why a kustomization is not rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The file that is at fault; empty if it is none in particular.
    pub file: String,
    /// What in it.
    pub named: Option<String>,
    /// In words that name both.
    pub message: String,
}

impl Refusal {
    fn of(file: &str, named: Option<&str>, message: String) -> Self {
        Self { file: file.to_owned(), named: named.map(str::to_owned), message }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What a kustomization is made of, for those who look and do not render.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Paths of everything that it is made of.
    pub files: BTreeSet<String>,
    /// Folders with a kustomization of their own that are part of it, its own included.
    pub folders: BTreeSet<String>,
    /// What it asks for beside listing files, in words; `None`: its files are applied as they are.
    pub changes: Option<String>,
}

/// Looks at the kustomization of `folder` as the daemon does before it renders anything.
///
/// # Errors
/// If the files cannot be read at all.
pub fn examine(files: &dyn Files, folder: &str) -> Result<Result<Made, Refusal>, GitError> {
    let made = |export: Export| {
        let Export { files, folders, changes, is_component, folder: _, file: _ } = export;
        let changes = changes.or(is_component.then(|| "it is a component".to_owned()));
        Made { files: files.into_keys().collect(), folders, changes }
    };
    Ok(collect(files, folder)?.map(made))
}

/// A folder that is still to be entered.
struct Open {
    folder: String,
    /// Those that name it, from the first one on.
    by: Vec<String>,
}

/// Collects what the kustomization of `folder` is made of.
pub(super) fn collect(files: &dyn Files, folder: &str) -> Result<Result<Export, Refusal>, GitError> {
    let mut export = Export {
        folder: folder.to_owned(),
        file: String::new(),
        files: BTreeMap::new(),
        folders: BTreeSet::new(),
        changes: None,
        is_component: false,
    };
    let mut open = VecDeque::from([Open { folder: folder.to_owned(), by: Vec::new() }]);
    while let Some(next) = open.pop_front() {
        if !export.folders.insert(next.folder.clone()) {
            continue;
        }
        match enter(files, &next, &mut export)? {
            Ok(folders) => {
                let by: Vec<String> = next.by.into_iter().chain([next.folder]).collect();
                open.extend(folders.into_iter().map(|folder| Open { folder, by: by.clone() }));
            }
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
    Ok(Ok(export))
}

/// Takes one folder's kustomization and the files that it names; the folders that it names are returned.
fn enter(
    files: &dyn Files,
    Open { folder, by }: &Open,
    export: &mut Export,
) -> Result<Result<Vec<String>, Refusal>, GitError> {
    let (file, text) = match kustomization_in(files, folder, export)? {
        Ok(found) => found,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let read = match Kustomization::read(&file, &text) {
        Ok(read) => read,
        Err(error) => return Ok(Err(Refusal::of(&file, None, error.to_string()))),
    };
    if let Some(program) = read.runs {
        let message = format!(
            "{file}: `{program}` needs Helm, which is not run here: render the chart in CI (`helm template`) and commit the result"
        );
        return Ok(Err(Refusal::of(&file, Some(&program), message)));
    }
    let is_root = export.file.is_empty();
    if is_root {
        export.file.clone_from(&file);
        export.is_component = read.is_component;
    }
    if !is_root && read.is_component {
        export.changes.get_or_insert_with(|| format!("kustomize is asked for the component `{folder}`"));
    }
    if let Some(changes) = read.changes {
        export.changes.get_or_insert(changes);
    }
    let mut folders = Vec::new();
    for Reference { path, may_be_folder } in read.references {
        let refused = |why: &str| Ok(Err(Refusal::of(&file, Some(&path), format!("{file}: `{path}` {why}"))));
        let Some(place) = resolved(folder, &path) else {
            return refused("is not in this repository: nothing is fetched or read from elsewhere; copy it here");
        };
        match files.entry(&place, FILE_BYTES_MAX)? {
            Entry::File { oid, bytes } => {
                if let Err(why) = export.take(&place, oid, bytes) {
                    return Ok(Err(Refusal::of(&export.file, None, format!("{}: {why}", export.file))));
                }
            }
            Entry::Folder(_) if may_be_folder && (place == *folder || by.contains(&place)) => {
                return refused("leads back to where it is named from: a kustomization cannot be made of itself");
            }
            Entry::Folder(_) if may_be_folder => folders.push(place),
            Entry::Folder(_) => return refused("is a folder, where a file has to be"),
            Entry::Missing if is_remote(&path) => {
                return refused("is somewhere else: nothing is fetched; copy it here");
            }
            Entry::Missing => return refused("is not in this commit"),
            Entry::Refused(why) => return refused(&format!("is not read: {why}")),
        }
    }
    Ok(Ok(folders))
}

/// The kustomization of a folder, taken into the export.
fn kustomization_in(
    files: &dyn Files,
    folder: &str,
    export: &mut Export,
) -> Result<Result<(String, String), Refusal>, GitError> {
    let shown = if folder.is_empty() { "." } else { folder };
    let refused = |file: &str, message: String| Ok(Err(Refusal::of(file, None, message)));
    let Entry::Folder(names) = files.entry(folder, 0)? else {
        return refused("", format!("`{shown}` is no folder"));
    };
    let mut found = names.iter().filter(|name| is_kustomization(name));
    let name = match (found.next(), found.next()) {
        (Some(name), None) => name,
        (Some(name), Some(_)) => {
            return refused(&within(folder, name), format!("`{shown}` has more than one kustomization"));
        }
        (None, _) => return refused("", format!("`{shown}` is listed as a folder and has no kustomization.yaml")),
    };
    let path = within(folder, name);
    match files.entry(&path, FILE_BYTES_MAX)? {
        Entry::File { oid, bytes } => match String::from_utf8(bytes.clone()) {
            Ok(text) => match export.take(&path, oid, bytes) {
                Ok(()) => Ok(Ok((path, text))),
                Err(why) => refused(&path, why),
            },
            Err(_) => refused(&path, format!("{path} is not UTF-8 text")),
        },
        Entry::Refused(why) => refused(&path, format!("{path} is not read: {why}")),
        Entry::Missing | Entry::Folder(_) => refused(&path, format!("{path} is no file")),
    }
}

/// Where what is written in `folder` leads, from the repository's root; `None` if it leads out of it or to another machine.
fn resolved(folder: &str, named: &str) -> Option<String> {
    if named.contains("://") || named.contains('\\') || named.contains(char::is_control) {
        return None;
    }
    path::resolved(folder, named)
}

/// Whether something that is not here looks like a place on another machine.
fn is_remote(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or(path);
    path.contains("?ref=")
        || path.starts_with("git@")
        || (path.contains('/') && first.contains('.') && !first.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files in memory.
    struct Tree(BTreeMap<&'static str, &'static str>);

    impl Files for Tree {
        fn entry(&self, path: &str, _bytes_max: usize) -> Result<Entry, GitError> {
            if let Some(text) = self.0.get(path) {
                return Ok(Entry::File { oid: format!("{}", text.len()), bytes: text.as_bytes().to_vec() });
            }
            let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
            let names: BTreeSet<String> = self
                .0
                .keys()
                .filter_map(|file| file.strip_prefix(prefix.as_str()))
                .filter_map(|rest| rest.split('/').next().map(str::to_owned))
                .collect();
            Ok(if names.is_empty() { Entry::Missing } else { Entry::Folder(names.into_iter().collect()) })
        }
    }

    fn of(files: &[(&'static str, &'static str)], folder: &str) -> Result<Export, String> {
        collect(&Tree(files.iter().copied().collect()), folder).unwrap().map_err(|refusal| refusal.to_string())
    }

    const BASE: [(&str, &str); 3] = [
        ("base/kustomization.yaml", "resources: [a.yaml]\n"),
        ("base/a.yaml", "a: 1\n"),
        ("base/b.yaml", "b: 1\n"),
    ];

    #[test]
    fn an_overlay_is_made_of_what_it_and_its_bases_name() {
        let overlay = "resources: [../../base, ./x/y.yaml]\npatches: [{path: p.yaml}]\n";
        let files = [
            &BASE[..],
            &[
                ("apps/prod/kustomization.yml", overlay),
                ("apps/prod/x/y.yaml", "y: 1\n"),
                ("apps/prod/p.yaml", "p: 1\n"),
            ],
        ]
        .concat();
        let export = of(&files, "apps/prod").unwrap();
        let names: Vec<&str> = export.files.keys().map(String::as_str).collect();
        let expected = [
            "apps/prod/kustomization.yml",
            "apps/prod/p.yaml",
            "apps/prod/x/y.yaml",
            "base/a.yaml",
            "base/kustomization.yaml",
        ];
        assert_eq!(names, expected);
        assert_eq!(export.folders, BTreeSet::from(["apps/prod".to_owned(), "base".to_owned()]));
        assert!(export.changes.unwrap().contains("`patches`"));
        assert_eq!(export.file, "apps/prod/kustomization.yml");
        assert_eq!(of(&BASE, "base").unwrap().changes, None, "a selection");
    }

    #[test]
    fn nothing_is_named_that_is_not_in_the_commit() {
        for (resource, said) in [
            ("https://example.com/a.yaml", "nothing is fetched"),
            ("github.com/stefanprodan/podinfo//kustomize?ref=6.0.0", "nothing is fetched"),
            ("git@github.com:a/b", "nothing is fetched"),
            ("ssh://git@host/a", "nothing is fetched"),
            ("/etc/passwd", "not in this repository"),
            ("../../secret.yaml", "not in this repository"),
            ("..\\x.yaml", "not in this repository"),
            ("gone.yaml", "not in this commit"),
            ("sub", "has no kustomization.yaml"),
        ] {
            let text: &'static str = Box::leak(format!("resources: ['{resource}']\n").into_boxed_str());
            let refused = of(&[("k/kustomization.yaml", text), ("k/sub/a.yaml", "a: 1\n")], "k").unwrap_err();
            assert!(refused.contains(said), "{resource}: {refused}");
        }
        let deep = [
            ("k/kustomization.yaml", "resources: [../b]\n"),
            ("b/kustomization.yaml", "resources: [https://x.y/z]\n"),
        ];
        assert!(
            of(&deep, "k").unwrap_err().starts_with("b/kustomization.yaml: `https://x.y/z`"),
            "in the whole tree"
        );
        let generated = [("k/kustomization.yaml", "configMapGenerator: [{name: a, files: [k=https://x.y/z]}]\n")];
        assert!(of(&generated, "k").unwrap_err().contains("https://x.y/z"));
        let helm = [("k/kustomization.yaml", "helmCharts: [{name: a, repo: 'https://x.y'}]\n")];
        assert!(of(&helm, "k").unwrap_err().contains("needs Helm"));
    }

    #[test]
    fn a_circle_is_refused_where_it_closes_and_what_is_named_twice_is_none() {
        let circle =
            [("a/kustomization.yaml", "resources: [../b]\n"), ("b/kustomization.yaml", "resources: [../a]\n")];
        let refused = collect(&Tree(circle.into_iter().collect()), "a").unwrap().unwrap_err();
        assert_eq!((refused.file.as_str(), refused.named.as_deref()), ("b/kustomization.yaml", Some("../a")));
        assert!(refused.message.contains("cannot be made of itself"), "{refused}");
        assert!(of(&[("a/kustomization.yaml", "resources: [.]\n")], "a").unwrap_err().contains("of itself"));
        let twice = [
            &BASE[..],
            &[
                ("a/kustomization.yaml", "resources: [../b, ../c]\n"),
                ("b/kustomization.yaml", "resources: [../base]\n"),
                ("c/kustomization.yaml", "resources: [../base]\n"),
            ],
        ]
        .concat();
        assert_eq!(of(&twice, "a").unwrap().folders.len(), 4);
    }

    #[test]
    fn equal_input_has_an_equal_key() {
        assert_eq!(of(&BASE, "base").unwrap().key(), of(&BASE, "base").unwrap().key());
        let other = [BASE[0], ("base/a.yaml", "a: 1000\n"), BASE[2]];
        assert_ne!(of(&BASE, "base").unwrap().key(), of(&other, "base").unwrap().key());
        let two = [("a/kustomization.yaml", "resources: []\n"), ("a/Kustomization", "resources: []\n")];
        assert!(of(&two, "a").unwrap_err().contains("more than one"));
    }
}
