//! README.md of the status branch: what a person sees first at the forge.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::wire::TargetRecord;
use crate::model::{NamespacedName, Revision};

pub(super) fn readme(cluster: &str, targets: &BTreeMap<NamespacedName, Result<TargetRecord, String>>) -> String {
    let mut out = format!(
        "# Releases on {}\n\nWritten by Serin; changes made here are overwritten.\n\n\
         | target | phase | canary weight | releasing | promoted | since |\n|---|---|---|---|---|---|\n",
        cell(cluster)
    );
    for (canary, target) in targets {
        let row = match target {
            Ok(target) => row(canary, target),
            Err(_) => format!("| {canary} | unreadable | | | | |"),
        };
        // Writing to a string cannot fail.
        writeln!(out, "{row}").unwrap_or_default();
    }
    out
}

fn row(canary: &NamespacedName, target: &TargetRecord) -> String {
    let TargetRecord { phase, since, revision, weight, promoted, .. } = target;
    let revision = revision.as_ref().map(words).unwrap_or_default();
    let promoted = promoted.as_ref().map(|promoted| words(&promoted.revision)).unwrap_or_default();
    let NamespacedName { namespace, name } = canary;
    format!(
        "| [{canary}]({namespace}/{name}.yaml) | {} | {weight} % | {revision} | {promoted} | {since:.0} |",
        cell(phase)
    )
}

fn words(revision: &Revision) -> String {
    let Revision { digest, commit } = revision;
    match commit {
        Some(commit) => format!("`{}` ({})", digest.short(), commit.short()),
        None => format!("`{}`", digest.short()),
    }
}

/// Text that ends no cell and starts no markup.
fn cell(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c {
            '|' | '[' | ']' | '<' | '>' | '`' | '*' | '\\' => vec!['\\', c],
            '\n' | '\r' => vec![' '],
            c => vec![c],
        })
        .collect()
}
