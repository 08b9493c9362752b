//! `serin prune`: removals that were refused because they take so much away, and a person's word that they are meant.
//!
//! The word is an annotation on the Source, so the cluster's own access rules decide who may say it.

use std::time::Duration;

use clap::Args;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::api::annotations::{ALLOW_PRUNE, MANAGER_CLI};
use crate::api::{RefusedRemoval, Source};

use super::connect::{ClusterArgs, Connection};
use super::exit::{CliError, Exit};
use super::output;

/// Longest wait for the daemon: it looks at what is allowed every 15 seconds, and a removal takes its time.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Between two looks for its answer.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Shortest beginning of a commit that is taken for it, as Git does.
const PREFIX_MIN: usize = 4;

/// Arguments of `serin prune`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  serin prune                    what is refused\n  serin prune --allow 239fccd    delete what this \
    commit dropped\n\nExit codes: 0 done, 1 not deleted in time, 2 nothing of the kind is refused, 3 the cluster cannot be \
    reached."
)]
pub struct PruneArgs {
    /// The commit whose removals are meant; its beginning is enough
    #[arg(long, value_name = "COMMIT")]
    allow: Option<String>,
    /// The daemon's namespace; all of them without it
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Shows what is refused, or allows one of it.
pub async fn run(args: PruneArgs) -> anyhow::Result<u8> {
    let PruneArgs { allow, namespace, cluster } = args;
    let connection = cluster.connect().await?;
    let client = connection.client.clone();
    let api: Api<Source> = match &namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let sources = api.list(&ListParams::default()).await;
    let sources = sources.map_err(|error| connection.failed(error, "list Sources"))?.items;
    match allow {
        None => show(&sources),
        Some(commit) => permit(&connection, &sources, &commit).await,
    }
}

fn refused(source: &Source) -> &[RefusedRemoval] {
    source.status.as_ref().map(|status| status.refused_removals.as_slice()).unwrap_or_default()
}

fn show(sources: &[Source]) -> anyhow::Result<u8> {
    let mut lines = String::new();
    for source in sources {
        for RefusedRemoval { commit, dropped, owned } in refused(source) {
            lines.push_str(&format!("{commit}  {dropped} of {owned} objects  {}\n", name(source)));
        }
    }
    if lines.is_empty() {
        output::message("no removal is refused");
    }
    output::data(&lines)?;
    Ok(Exit::Done.code())
}

fn name(source: &Source) -> String {
    format!("Source {}/{}", source.namespace().unwrap_or_default(), source.name_any())
}

/// The one removal that is meant.
fn find<'s>(sources: &'s [Source], commit: &str) -> Result<(&'s Source, &'s RefusedRemoval), String> {
    if commit.len() < PREFIX_MIN {
        return Err(format!("`{commit}` is too short for a commit"));
    }
    let all = sources.iter().flat_map(|source| refused(source).iter().map(move |removal| (source, removal)));
    let found: Vec<_> = all.filter(|(_, removal)| removal.commit.starts_with(&commit.to_lowercase())).collect();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(format!("no removal by commit {commit} is refused")),
        [..] => Err(format!("{} refused removals are by commits that begin with {commit}", found.len())),
    }
}

async fn permit(connection: &Connection, sources: &[Source], commit: &str) -> anyhow::Result<u8> {
    let (source, removal) = find(sources, commit)
        .map_err(|reason| CliError::input(anyhow::anyhow!(reason)).hint("`serin prune` lists what is refused"))?;
    let namespace = source.namespace().unwrap_or_default();
    let api: Api<Source> = Api::namespaced(connection.client.clone(), &namespace);
    let patch = json!({"metadata": {"annotations": {ALLOW_PRUNE: removal.commit}}});
    let params = PatchParams { field_manager: Some(MANAGER_CLI.to_owned()), ..PatchParams::default() };
    api.patch_metadata(&source.name_any(), &params, &Patch::Merge(&patch))
        .await
        .map_err(|error| connection.failed(error, &format!("patch {}", name(source))))?;
    let gone = async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let live = api.get(&source.name_any()).await?;
            if refused(&live).iter().all(|other| other.commit != removal.commit) {
                return Ok::<_, kube::Error>(());
            }
        }
    };
    let short = removal.commit.get(..7).unwrap_or(&removal.commit);
    match tokio::time::timeout(ANSWER_MAX, gone).await {
        Ok(Ok(())) => {
            output::data(&format!("{} objects that {short} dropped are deleted\n", removal.dropped))?;
            Ok(Exit::Done.code())
        }
        Ok(Err(error)) => Err(connection.failed(error, &format!("read {}", name(source)))),
        Err(_elapsed) => {
            output::message(&format!(
                "allowed, and not deleted within {} s: is `serin run` up? `serin get` says what keeps it",
                ANSWER_MAX.as_secs()
            ));
            Ok(Exit::Failed.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{SourceSpec, SourceStatus};

    #[test]
    fn a_commit_is_known_by_its_beginning_if_that_is_one_commits() {
        let removal = |commit: &str| RefusedRemoval { commit: commit.repeat(10), dropped: 6, owned: 10 };
        let mut source = Source::new("main", SourceSpec {});
        let refused_removals = vec![removal("abcd"), removal("abce")];
        source.status = Some(SourceStatus { refused_removals, ..SourceStatus::default() });
        let sources = [source];
        let found = |commit: &str| find(&sources, commit).map(|(_, removal)| removal.commit.clone());
        assert_eq!(found("abcda"), Ok("abcd".repeat(10)));
        assert_eq!(found("ABCD"), Ok("abcd".repeat(10)));
        for wrong in ["abc", "ffff", "abcdf"] {
            assert!(found(wrong).is_err(), "{wrong}");
        }
    }
}
