//! `serin quarantine`: refuses a revision by hand, before it is ever released or after, and lets it go again.
//!
//! What is believed is the state of the Canary, and who may change that is who may patch it. The record tells it.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::api::Canary;
use crate::config::{RunArgs, SourceArgs};
use crate::git::Store;
use crate::model::{CommitId, Digest, ObjectRef, Quarantined};
use crate::release::{State, Verb};
use crate::render::{Program, Renderer};
use crate::report::WatchedBranch;

use super::connect::ClusterArgs;
use super::exit::{CliError, Exit};
use super::output;
use super::request::{Answered, ask, find, state_of};

/// Arguments of `serin quarantine`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  serin quarantine podinfo -n test                            what is quarantined\n  \
    serin quarantine podinfo v1:3f1c\u{2026} -n test                 never release this revision\n  \
    serin quarantine podinfo --commit f4ae59b --config serin.yaml   nor what this commit makes of it\n  \
    serin quarantine podinfo --lift a6fb26d2\n\n\
    Exit codes: 0 done, 1 refused, 2 bad input, 3 the cluster, the daemon or Git does not answer."
)]
pub struct QuarantineArgs {
    /// Name of the Canary
    name: String,
    /// Digest of the revision, as `serin get` and `serin plan` name it; in short if the Canary knows it
    #[arg(conflicts_with_all = ["commit", "lift"])]
    revision: Option<String>,
    /// Refuse what a commit of the watched branch makes of the target; at least seven characters, with --config
    #[arg(long, value_name = "SHA", conflicts_with = "lift")]
    commit: Option<String>,
    /// Let a revision go again
    #[arg(long, value_name = "DIGEST")]
    lift: Option<String>,
    /// The daemon's settings file, where --commit finds the repository
    #[arg(long, value_name = "FILE", env = "SERIN_CONFIG")]
    config: Option<PathBuf>,
    /// Namespace; the context's without it
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Lists, refuses or lets go.
pub async fn run(args: QuarantineArgs) -> anyhow::Result<u8> {
    let QuarantineArgs { name, revision, commit, lift, config, namespace, cluster } = args;
    let connection = cluster.connect().await?;
    let found = find(&connection, &name, namespace.as_deref()).await?;
    let state = state_of(&found.canary).ok_or_else(|| {
        CliError::input(anyhow::anyhow!("Canary {}: the daemon has not seen it yet", found.key))
            .hint("is `serin run` up, and for this namespace?")
    })?;
    let (verb, subjects) = match (revision, commit, lift) {
        (Some(text), _, _) => (Verb::Quarantine, vec![digest(&text, &state)?.to_string()]),
        (_, Some(commit), _) => (Verb::Quarantine, of_commit(&commit, config, &found.canary).await?),
        (_, _, Some(text)) => (Verb::Retry, vec![text]),
        (None, None, None) => {
            output::data(&list(&state))?;
            return Ok(Exit::Done.code());
        }
    };
    for subject in subjects {
        match ask(&connection, &found, verb, &subject).await? {
            Answered::No(message) => {
                output::message(&message);
                return Ok(Exit::Failed.code());
            }
            Answered::Yes(_) if verb == Verb::Retry => {
                output::data(&format!("{}: {subject} is released as soon as Git names it\n", found.key))?;
            }
            Answered::Yes(_) => output::data(&format!("{}: {subject} is not released any more\n", found.key))?,
        }
    }
    Ok(Exit::Done.code())
}

fn list(state: &State) -> String {
    let row = |entry: &Quarantined| {
        let commit = entry.revision.commit.as_ref().map_or("-", |commit| commit.short());
        let why = if entry.is_by_hand() { "by hand".to_owned() } else { format!("failed in {}", entry.release) };
        vec![entry.revision.digest.to_string(), commit.to_owned(), why]
    };
    let head = ["REVISION", "COMMIT", "WHY"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(state.quarantine.iter().map(row)).collect();
    if rows.len() == 1 { "nothing is quarantined\n".to_owned() } else { output::columns(&rows) }
}

/// A digest in full, or in short where the Canary knows it.
fn digest(text: &str, state: &State) -> anyhow::Result<Digest> {
    if let Ok(digest) = text.parse() {
        return Ok(digest);
    }
    let held = state.held().map(|held| held.revision.digest.clone());
    let known = state.last_applied.iter().cloned().chain(held);
    let ended =
        state.outbox.iter().chain(state.last_outcome.as_deref()).map(|outcome| outcome.revision.digest.clone());
    let quarantined = state.quarantine.iter().map(|entry| entry.revision.digest.clone());
    let found = known.chain(ended).chain(quarantined).find(|digest| digest.short() == text);
    let unknown = || anyhow::anyhow!("`{text}` is no revision that this Canary knows");
    Ok(found.ok_or_else(|| {
        CliError::input(unknown()).hint("name it in full, as `serin plan -o json` does: v1:\u{2026}")
    })?)
}

/// The revisions that a commit makes of the target: with copies of its configs, and without.
async fn of_commit(text: &str, config: Option<PathBuf>, canary: &Canary) -> anyhow::Result<Vec<String>> {
    let args = RunArgs::from(SourceArgs { config, ..SourceArgs::default() });
    let settings = args.settings().map_err(|error| {
        CliError::input(error)
            .hint("--commit is looked up in the repository: name the settings file with --config")
    })?;
    // The daemon's own cache may be in use.
    let folder = tempfile::tempdir().context("failed to make a folder for the Git cache")?;
    let store = Store::open(folder.path().join("git")).context("failed to make a Git cache")?;
    let store = store.ignoring(settings.git.leaves_out());
    let program = Program::find(std::env::var_os("PATH").as_deref());
    let renderer = Renderer::new(store.clone(), program, folder.path().join("render"));
    let git = &settings.git;
    let tip = store.fetch(&git.remote, git.branch.qualified()).await.map_err(CliError::unreachable)?;
    let tip = tip
        .ok_or_else(|| CliError::input(anyhow::anyhow!("{} has no branch {}", git.remote, git.branch.short())))?;
    let commit = in_history(&store, &tip, text).await?;
    let mut watched =
        WatchedBranch::new(store, git.remote.clone(), git.branch.clone(), git.path.as_str()).rendering(renderer);
    let target = target_of(canary);
    let file = watched.manifest_at(&commit, &target).await.map_err(CliError::unreachable)?;
    let digests = file.map(|file| file.revisions(&target)).unwrap_or_default();
    if digests.is_empty() {
        let missing = anyhow::anyhow!("commit {} has no {target}", commit.short());
        return Err(CliError::input(missing).hint("does the Canary's target stand in that commit?").into());
    }
    Ok(digests.iter().map(ToString::to_string).collect())
}

/// The commit of the watched branch that is meant.
async fn in_history(store: &Store, tip: &CommitId, text: &str) -> anyhow::Result<CommitId> {
    /// Commits that are looked through.
    const COMMITS_MAX: usize = 10_000;
    /// Shorter ones name too many.
    const SHORTEST: usize = 7;
    let history = store.history(tip, COMMITS_MAX).await.map_err(CliError::input)?;
    let named = |id: &CommitId| text.len() >= SHORTEST && id.as_str().starts_with(text);
    let mut found = history.into_iter().map(|info| info.id).filter(|id| named(id));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => {
            Err(CliError::input(anyhow::anyhow!("`{text}` is the beginning of several commits")).into())
        }
        (None, _) => {
            let missing = anyhow::anyhow!("`{text}` is no commit of the watched branch");
            Err(CliError::input(missing).hint("quarantine what is elsewhere by its digest").into())
        }
    }
}

fn target_of(canary: &Canary) -> ObjectRef {
    let target = &canary.spec.target_ref;
    ObjectRef {
        group: target.group().to_owned(),
        kind: target.kind.clone(),
        namespace: canary.metadata.namespace.clone(),
        name: target.name.clone(),
    }
}
