//! Which files are checked, and what of them cannot be read: the same that the daemon takes from a repository.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::exit::CliError;
use crate::git::{IGNORE_FILE, Ignore};
use crate::manifest::{LineIndex, Locator, Manifest};

use super::disk::slashed;
use super::finding::Finding;

/// Largest file that is read; the same limit as the daemon's.
const FILE_BYTES_MAX: u64 = 5 << 20;
/// Deepest folder that is entered: ends loops that hard links or bind mounts could make.
const DEPTH_MAX: usize = 32;
/// What other programs print, e.g. `kubectl kustomize`.
const STDIN: &str = "-";
/// Endings of manifests.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// One file as it was read.
pub(super) struct Source {
    pub(super) path: String,
    /// Without a byte order mark.
    pub(super) text: String,
    locator: OnceCell<Locator>,
    lines: OnceCell<LineIndex>,
}

impl Source {
    /// Where its fields are.
    pub(super) fn locator(&self) -> &Locator {
        self.locator.get_or_init(|| Locator::new(&self.text))
    }

    /// How the scalar at a path of one of its objects is written.
    pub(super) fn written(&self, manifest: &Manifest, path: &[String]) -> Option<&str> {
        let path = manifest.path_in_document(path.iter().map(String::as_str));
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        self.locator().written(&self.text, manifest.document, &path)
    }

    /// The first place where something is written: line and column from 1, and its width.
    pub(super) fn find(&self, written: &str) -> Option<(u32, u32, usize)> {
        let mut lines = (1_u32..).zip(self.text.lines());
        lines.find_map(|(number, line)| {
            let column = u32::try_from(line.get(..line.find(written)?)?.chars().count()).ok()?;
            Some((number, column + 1, written.chars().count()))
        })
    }

    /// A line, from 1.
    pub(super) fn line(&self, number: u32) -> &str {
        self.lines.get_or_init(|| LineIndex::new(&self.text)).line(&self.text, number)
    }
}

/// What there is to check.
#[derive(Default)]
pub(super) struct Files {
    pub(super) sources: Vec<Source>,
    /// What is not read, and why.
    pub(super) findings: Vec<Finding>,
}

impl Files {
    /// Every YAML and JSON file below the paths, in a stable order; what was named itself is read whatever its ending.
    pub(super) fn read(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut files = Self::default();
        let mut found = Vec::new();
        for path in paths {
            if path.is_dir() {
                let (place, mut ignore) = place_of(path);
                files.collect((path, &place), 0, &mut ignore, &mut found)?;
            } else {
                found.push(path.clone());
            }
        }
        found.sort();
        // A path may be named twice, in two ways.
        let mut seen = HashSet::new();
        found.retain(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
        for path in found {
            files.take(&path).map_err(CliError::input)?;
        }
        Ok(files)
    }

    fn take(&mut self, path: &Path) -> anyhow::Result<()> {
        if path == Path::new(STDIN) {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).context("failed to read standard input")?;
            self.text("standard input".to_owned(), bytes);
            return Ok(());
        }
        let name = name(path);
        let size = std::fs::metadata(path).with_context(|| format!("failed to read {name}"))?.len();
        if size > FILE_BYTES_MAX {
            self.findings.push(Finding::unread(name, &format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20)));
            return Ok(());
        }
        let bytes = std::fs::read(path).with_context(|| format!("failed to read {name}"))?;
        self.text(name, bytes);
        Ok(())
    }

    fn text(&mut self, name: String, bytes: Vec<u8>) {
        match String::from_utf8(bytes) {
            Ok(text) => {
                let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
                self.sources.push(Source { path: name, text, locator: OnceCell::new(), lines: OnceCell::new() });
            }
            Err(_) => self.findings.push(Finding::unread(name, "it is not UTF-8 text")),
        }
    }

    /// What counts in a folder and below it. `place` is the folder's path in its repository.
    fn collect(
        &mut self,
        (folder, place): (&Path, &str),
        depth: usize,
        ignore: &mut Ignore,
        files: &mut Vec<PathBuf>,
    ) -> anyhow::Result<()> {
        let outer = ignore.clone();
        add_rules(ignore, folder, place);
        anyhow::ensure!(depth < DEPTH_MAX, "{} is nested deeper than {DEPTH_MAX} folders", folder.display());
        let listing = || format!("failed to list {}", folder.display());
        for entry in std::fs::read_dir(folder).with_context(listing)? {
            let entry = entry.with_context(listing)?;
            let path = entry.path();
            let called = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().with_context(|| format!("failed to look at {}", path.display()))?;
            let within = if place.is_empty() { called.clone() } else { format!("{place}/{called}") };
            if called.starts_with('.') || ignore.leaves_out(&within, kind.is_dir()) {
                continue;
            }
            if kind.is_dir() {
                self.collect((&path, &within), depth + 1, ignore, files)?;
            } else if kind.is_symlink() && is_manifest(&path) {
                self.findings.push(Finding::unread(name(&path), "a symlink is not followed"));
            } else if kind.is_file() && is_manifest(&path) {
                files.push(path);
            }
        }
        *ignore = outer;
        Ok(())
    }
}

/// Where a folder is in its repository, and what the folders above it leave out; without a repository it is its own.
fn place_of(folder: &Path) -> (String, Ignore) {
    let mut ignore = Ignore::default();
    let Ok(whole) = folder.canonicalize() else { return (String::new(), ignore) };
    let Some(top) = whole.ancestors().find(|above| above.join(".git").exists()) else {
        return (String::new(), ignore);
    };
    let inside = |path: &Path| path.strip_prefix(top).map(slashed).unwrap_or_default();
    let mut above: Vec<&Path> = whole.ancestors().skip(1).take_while(|above| above.starts_with(top)).collect();
    above.reverse();
    above.into_iter().for_each(|above| add_rules(&mut ignore, above, &inside(above)));
    (inside(&whole), ignore)
}

fn add_rules(ignore: &mut Ignore, folder: &Path, place: &str) {
    if let Ok(text) = std::fs::read_to_string(folder.join(IGNORE_FILE)) {
        ignore.add(place, &text);
    }
}

/// `.` is the default: what it leads to needs no `./` before its name.
fn name(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}
