//! `serin sync`: has the daemon look at its repository now, and waits until it has.
//!
//! It asks by an annotation on the Source, so the cluster's own access rules decide who may.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::api::annotations::SYNC;
use crate::api::{Source, SourceStatus};
use crate::model::CommitId;

use super::connect::{ClusterArgs, Connection};
use super::exit::{CliError, Exit};
use super::output;
use super::verdict::partly;

/// Longest wait for the daemon: Git may take three minutes, a large commit its time.
const ANSWER_MAX: Duration = Duration::from_secs(240);
/// Between two looks for its answer.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Arguments of `serin sync`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  serin sync\n  git push && serin sync --commit $(git rev-parse HEAD)\n\nExit codes: 0 all of it \
    is applied, 1 some of it is refused, or not in time, 2 there is no such Source, 3 the cluster cannot be reached."
)]
pub struct SyncArgs {
    /// Name of the Source, which is the daemon's cluster.name; the only one without it
    name: Option<String>,
    /// The daemon's namespace; all of them without it
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Wait until this commit is worked through, too: some hosts show a push a little later
    #[arg(long, value_name = "SHA")]
    commit: Option<CommitId>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Asks and waits.
pub async fn run(args: SyncArgs) -> anyhow::Result<u8> {
    let SyncArgs { name, namespace, commit, cluster } = args;
    let connection = cluster.connect().await?;
    let source = find(&connection, name.as_deref(), namespace.as_deref()).await?;
    let key = format!("Source {}/{}", source.namespace().unwrap_or_default(), source.name_any());
    let api: Api<Source> = Api::namespaced(connection.client.clone(), &source.namespace().unwrap_or_default());
    let began = tokio::time::Instant::now();
    loop {
        let status = ask(&connection, &api, &source.name_any(), &key).await?;
        let Some(status) = status else { break };
        if let Some(error) = &status.error {
            output::message(&format!("looked, and cannot go on: {}", error.message));
            return Ok(Exit::Failed.code());
        }
        let applied = status.applied.as_ref().map(|applied| applied.commit.as_str());
        match &commit {
            Some(commit) if !has(&status, commit) => {
                if began.elapsed() > ANSWER_MAX {
                    break;
                }
                tokio::time::sleep(LOOK_EVERY * 10).await;
            }
            Some(_) | None => {
                let asked = commit.as_ref().map(CommitId::as_str).or(applied);
                let partly = asked.and_then(|commit| partly(&status, commit));
                let short = applied.and_then(|commit| commit.get(..7)).unwrap_or("nothing");
                output::data(&format!(
                    "{}@{short} is applied{}\n",
                    status.branch,
                    if partly.is_some() { " in part" } else { "" }
                ))?;
                let Some(words) = partly else { return Ok(Exit::Done.code()) };
                output::message(&format!("{words}; `serin get` shows all"));
                return Ok(Exit::Failed.code());
            }
        }
    }
    output::message(&format!(
        "not done within {} s: is `serin run` up? `serin get` says what keeps it",
        ANSWER_MAX.as_secs()
    ));
    Ok(Exit::Failed.code())
}

/// Whether a commit has been worked through, lately or last.
fn has(status: &SourceStatus, commit: &CommitId) -> bool {
    status.applied.as_ref().is_some_and(|applied| applied.commit == commit.as_str())
        || status.commits.iter().any(|known| known.commit == *commit)
}

/// The one Source that is meant.
async fn find(connection: &Connection, name: Option<&str>, namespace: Option<&str>) -> anyhow::Result<Source> {
    let client = connection.client.clone();
    let api: Api<Source> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let sources = api.list(&ListParams::default()).await;
    let mut sources = sources.map_err(|error| connection.failed(error, "list Sources"))?.items;
    sources.retain(|source| name.is_none_or(|name| source.name_any() == name));
    match sources.len() {
        1 => Ok(sources.remove(0)),
        0 => Err(CliError::input(anyhow::anyhow!("there is no such Source"))
            .hint("`serin run` makes it when it has looked for the first time; `serin get` lists them")
            .into()),
        many => Err(CliError::input(anyhow::anyhow!("{many} Sources could be meant"))
            .hint("name one: `serin sync NAME -n NAMESPACE`")
            .into()),
    }
}

/// Asks once; the Source's status when it has been answered, `None` if it was not.
async fn ask(
    connection: &Connection,
    api: &Api<Source>,
    name: &str,
    key: &str,
) -> anyhow::Result<Option<SourceStatus>> {
    let request = Timestamp::now().as_nanosecond().to_string();
    let patch = json!({"metadata": {"annotations": {SYNC: request}}});
    api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map_err(|error| connection.failed(error, &format!("patch {key}")))?;
    let answered = async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // An API server that is away for a moment is asked again.
            let Ok(source) = api.get(name).await else { continue };
            let status = source.status.unwrap_or_default();
            if status.handled_request.as_deref() == Some(request.as_str()) {
                return status;
            }
        }
    };
    Ok(tokio::time::timeout(ANSWER_MAX, answered).await.ok())
}
