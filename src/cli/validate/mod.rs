//! `serin validate`: syntax, schema, references of manifests and whether this version carries them out, offline.

mod disk;
mod files;
mod finding;
mod generated;
mod kinds;
mod kustomize;
mod pair;
mod policy;
mod print;
mod queries;
mod references;
mod schema;

use std::path::PathBuf;

use clap::Args;

use crate::manifest::{self, Manifest, Parsed};

use super::exit::{CliError, Exit};
use super::output;
use files::{Files, Source};
use finding::{Finding, Severity};
use kustomize::Governed;
use print::Format;

/// Arguments of `serin validate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  serin validate .\n  serin validate -o json deploy/ apps/podinfo.yaml\n  serin validate -o sarif . > serin.sarif\n  kubectl kustomize overlay | serin validate -\n\n\
    Exit codes: 0 valid (warnings allowed), 2 errors or nothing to check."
)]
pub struct ValidateArgs {
    /// Files and folders to check; `-` is standard input
    #[arg(default_value = ".", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Treat warnings as errors
    #[arg(long)]
    deny_warnings: bool,
    /// How the findings are printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Checks everything and prints what it found.
pub fn run(args: &ValidateArgs) -> anyhow::Result<u8> {
    let ValidateArgs { paths, deny_warnings, output } = args;
    let Files { sources, mut findings } = Files::read(paths)?;
    let mut parsed: Vec<(&Source, Vec<Manifest>)> = Vec::new();
    let governed = Governed::of(&sources);
    findings.extend(governed.findings.iter().cloned());
    for source in sources.iter().filter(|source| governed.is_checked(source)) {
        let Parsed { manifests, faults } = manifest::parse_each(&source.path, &source.text);
        findings.extend(faults.iter().map(Finding::syntax));
        parsed.push((source, manifests));
    }
    for (source, manifests) in &parsed {
        findings.extend(manifests.iter().flat_map(|manifest| schema::check(source, manifest)));
        findings.extend(manifests.iter().flat_map(|manifest| policy::check(source, manifest)));
    }
    let all: Vec<references::Located<'_>> = parsed
        .iter()
        .flat_map(|(source, manifests)| manifests.iter().map(|manifest| references::Located { source, manifest }))
        .collect();
    findings.extend(references::check(&all));
    findings.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));

    print::print(&findings, *output)?;
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let counted = [(all.len(), "object"), (sources.len(), "file"), (errors, "error"), (warnings, "warning")];
    let [objects, files, errors_text, warnings_text] =
        counted.map(|(count, noun)| format!("{count} {noun}{}", if count == 1 { "" } else { "s" }));
    output::message(&format!("{objects} in {files}: {errors_text}, {warnings_text}"));
    if all.is_empty() && findings.is_empty() {
        // What makes the objects has failed, as a rule; a pipe does not tell.
        let error = anyhow::anyhow!("there is nothing to check: no Kubernetes object was found");
        return Err(CliError::input(error)
            .hint("name the folder with the manifests, or see why what prints them is silent")
            .into());
    }
    let failed = errors > 0 || (*deny_warnings && warnings > 0);
    Ok(if failed { Exit::Input } else { Exit::Done }.code())
}
