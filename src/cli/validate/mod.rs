//! `serin validate`: syntax, schema, references of manifests and whether this version carries them out, offline.

mod finding;
mod policy;
mod references;
mod schema;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::manifest::{self, Manifest};

use super::exit::{CliError, Exit};
use super::output::{self, Format};
use finding::{Finding, Severity};

/// Largest file that is read; the same limit as the daemon's.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Deepest folder that is entered: ends loops that hard links or bind mounts could make.
const DEPTH_MAX: usize = 32;

/// Arguments of `serin validate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  serin validate .\n  serin validate -o json deploy/ apps/podinfo.yaml\n\n\
    Exit codes: 0 valid (warnings allowed), 2 errors.")]
pub struct ValidateArgs {
    /// Files and folders to check
    #[arg(default_value = ".", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Treat warnings as errors
    #[arg(long)]
    deny_warnings: bool,
    /// How the findings are printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// One file as it was read.
struct Source {
    path: String,
    text: String,
}

/// Checks everything and prints what it found.
pub fn run(args: &ValidateArgs) -> anyhow::Result<u8> {
    let ValidateArgs { paths, deny_warnings, output } = args;
    let sources = read_all(paths)?;
    let mut findings = Vec::new();
    let mut parsed: Vec<(&Source, Vec<Manifest>)> = Vec::new();
    for source in &sources {
        match manifest::parse(&source.path, &source.text) {
            Ok(manifests) => parsed.push((source, manifests)),
            Err(error) => findings.push(Finding::syntax(&error)),
        }
    }
    for (source, manifests) in &parsed {
        findings.extend(manifests.iter().flat_map(|manifest| schema::check(&source.text, manifest)));
        findings.extend(manifests.iter().flat_map(|manifest| policy::check(&source.text, manifest)));
    }
    let all: Vec<references::Located<'_>> = parsed
        .iter()
        .flat_map(|(source, manifests)| {
            manifests.iter().map(|manifest| references::Located { text: &source.text, manifest })
        })
        .collect();
    findings.extend(references::check(&all));
    findings.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));

    print(&findings, *output)?;
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let counted = [(all.len(), "object"), (sources.len(), "file"), (errors, "error"), (warnings, "warning")];
    let [objects, files, errors_text, warnings_text] =
        counted.map(|(count, noun)| format!("{count} {noun}{}", if count == 1 { "" } else { "s" }));
    output::message(&format!("{objects} in {files}: {errors_text}, {warnings_text}"));
    let failed = errors > 0 || (*deny_warnings && warnings > 0);
    Ok(if failed { Exit::Input } else { Exit::Done }.code())
}

fn print(findings: &[Finding], format: Format) -> anyhow::Result<()> {
    let text = match format {
        Format::Table => {
            let colours = output::colours();
            findings.iter().map(|finding| finding.render(colours)).collect()
        }
        Format::Json => format!("{}\n", serde_json::to_string_pretty(findings)?),
        Format::Yaml => serde_yaml::to_string(findings)?,
    };
    output::data(&text)?;
    Ok(())
}

/// Every YAML and JSON file below the paths, in a stable order; what was named itself is read whatever its ending.
fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Source>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            collect(path, 0, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    files.sort();
    files.dedup();
    files.iter().map(|path| read(path).map_err(|error| CliError::input(error).into())).collect()
}

fn read(path: &Path) -> anyhow::Result<Source> {
    // `.` is the default: what it leads to needs no `./` before its name.
    let name = path.strip_prefix(".").unwrap_or(path).display().to_string();
    let size = std::fs::metadata(path).with_context(|| format!("failed to read {name}"))?.len();
    anyhow::ensure!(size <= FILE_BYTES_MAX, "{name} has {size} bytes, more than the limit of {FILE_BYTES_MAX}");
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {name}"))?;
    Ok(Source { path: name, text })
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    anyhow::ensure!(depth < DEPTH_MAX, "{} is nested deeper than {DEPTH_MAX} folders", folder.display());
    let entries = std::fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("failed to list {}", folder.display()))?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let kind = entry.file_type().with_context(|| format!("failed to look at {}", path.display()))?;
        if kind.is_dir() {
            collect(&path, depth + 1, files)?;
        } else if kind.is_file() && is_manifest(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending == *known))
}
