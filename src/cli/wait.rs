//! `serin wait`: until a release is over, for CI; the exit code says how it ended.

use std::time::Duration;

use clap::{Args, ValueEnum};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::time::Instant;

use crate::api::annotations::SOURCE;
use crate::api::{Canary, Source};
use crate::model::{CommitId, NamespacedName};
use crate::release::{Outcome, OutcomeKind, Phase, State, wire};

use super::connect::{CanaryArgs, ClusterArgs};
use super::exit::{CliError, Exit};
use super::output;
use super::verdict::kept_away;

/// Time that a refusal has to last before it is taken for final: the daemon tries again meanwhile, and what an API server or an
/// admission webhook could not do for a moment may pass.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// Arguments of `serin wait`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  git push && serin wait podinfo -n test --commit $(git rev-parse HEAD) --timeout 30m\n  \
    serin wait podinfo -n test --for idle\n\nRight after a push name the commit: until the daemon has read it, the release before \
    it is the last one.\n\nExit codes: 0 it is so, 1 it ended otherwise or not in time, 2 not found or bad usage, 3 the cluster \
    cannot be reached."
)]
pub struct WaitArgs {
    #[command(flatten)]
    canary: CanaryArgs,
    /// What is waited for
    #[arg(long = "for", value_enum, default_value = "promoted", value_name = "STATE")]
    what: Awaited,
    /// The release of this commit, which has to change the Canary's target
    #[arg(long, value_name = "SHA")]
    commit: Option<CommitId>,
    /// Longest wait, as in 90s, 30m, 2h
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = parse_timeout)]
    timeout: Duration,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Awaited {
    /// Primary runs it
    Promoted,
    /// It was rolled back
    Failed,
    /// It is over, one way or the other
    Idle,
}

/// How what was waited for stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// Not over.
    UnderWay(String),
    /// Over.
    Ended { kind: OutcomeKind, words: String },
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a time above zero, as in 90s, 30m or 2h".to_owned();
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(span).ok().filter(|time| !time.is_zero()).ok_or_else(wrong)
}

/// Waits and prints how it ended; what happens meanwhile goes to stderr.
pub async fn run(args: WaitArgs) -> anyhow::Result<u8> {
    let WaitArgs { canary, what, commit, timeout, cluster } = args;
    let connection = cluster.connect().await?;
    let (namespace, name) = canary.place(&connection)?;
    let api: Api<Canary> = Api::namespaced(connection.client.clone(), &namespace);
    let subject = format!("Canary {namespace}/{name}");
    let found = api.get_opt(&name).await;
    if found.map_err(|error| connection.failed(error, &format!("read {subject}")))?.is_none() {
        let missing = anyhow::anyhow!("{subject} does not exist");
        return Err(CliError::input(missing).hint("`serin get -A` lists all of them").into());
    }
    let commit = commit.map(|commit| OfCommit::new(&connection.client, commit, &namespace, &name));
    let ended = tokio::time::timeout(timeout, follow(api, &name, commit)).await;
    let Ok(ended) = ended else {
        output::message(&format!("{subject}: not over within {} s", timeout.as_secs()));
        return Ok(Exit::Failed.code());
    };
    match ended? {
        Ended::Release { kind, words } => {
            output::data(&format!("{words}\n"))?;
            Ok(exit(what, kind).code())
        }
        Ended::Never(words) => {
            output::data(&format!("{words}\n"))?;
            Ok(Exit::Failed.code())
        }
    }
}

fn exit(what: Awaited, kind: OutcomeKind) -> Exit {
    let promoted = matches!(kind, OutcomeKind::Initialized | OutcomeKind::Succeeded);
    let holds = match what {
        Awaited::Promoted => promoted,
        Awaited::Failed => kind == OutcomeKind::Failed,
        Awaited::Idle => true,
    };
    if holds { Exit::Done } else { Exit::Failed }
}

/// How the wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ended {
    /// With a release.
    Release { kind: OutcomeKind, words: String },
    /// There will be none.
    Never(String),
}

/// The release of one commit, which may never come.
struct OfCommit {
    commit: CommitId,
    canary: NamespacedName,
    sources: BoxStream<'static, Result<Source, watcher::Error>>,
    /// Why none will come, and since when that is so.
    refused: Option<(String, Instant)>,
}

impl OfCommit {
    fn new(client: &Client, commit: CommitId, namespace: &str, name: &str) -> Self {
        let sources = watcher(Api::<Source>::all(client.clone()), watcher::Config::default());
        let sources = sources.default_backoff().applied_objects().boxed();
        Self { commit, canary: NamespacedName::new(namespace, name), sources, refused: None }
    }

    /// Waits until it is sure that no release will come. Whoever may not read Sources waits for the release alone.
    async fn refused(&mut self, source_of: Option<&str>) -> String {
        loop {
            let lasting = self.refused.clone();
            let source = tokio::select! {
                words = lasts(lasting) => return words,
                change = self.sources.next() => match change {
                    Some(Ok(source)) => source,
                    Some(Err(error)) => {
                        tracing::debug!(%error, "the watch on Sources is interrupted");
                        continue;
                    }
                    None => std::future::pending().await,
                },
            };
            let name = format!("{}/{}", source.namespace().unwrap_or_default(), source.name_any());
            if source_of.is_some_and(|own| own != name) {
                continue;
            }
            let status = source.status.unwrap_or_default();
            let words = kept_away(&status, &self.commit, &self.canary);
            if let Some(words) = words.as_ref().filter(|_| self.refused.is_none()) {
                output::message(words);
            }
            self.refused = words.map(|words| {
                let since = self.refused.as_ref().map_or_else(Instant::now, |(_, since)| *since);
                (words, since)
            });
        }
    }
}

/// Ends with the words once they have been so for long enough.
async fn lasts(refused: Option<(String, Instant)>) -> String {
    match refused {
        Some((words, since)) => {
            tokio::time::sleep_until(since + REFUSED_FOR).await;
            words
        }
        None => std::future::pending().await,
    }
}

async fn never(of: &mut Option<OfCommit>, source_of: Option<&str>) -> String {
    match of {
        Some(of) => of.refused(source_of).await,
        None => std::future::pending().await,
    }
}

async fn follow(api: Api<Canary>, name: &str, mut of: Option<OfCommit>) -> anyhow::Result<Ended> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut changes = watcher(api, config).default_backoff().applied_objects().boxed();
    let (mut said, mut source_of) = (String::new(), None);
    let commit = of.as_ref().map(|of| of.commit.clone());
    loop {
        let change = tokio::select! {
            change = changes.try_next() => change,
            words = never(&mut of, source_of.as_deref()), if !said.is_empty() => return Ok(Ended::Never(words)),
        };
        // Interruptions are the watcher's to get over; the timeout ends what does not come back.
        let canary = match change {
            Ok(Some(canary)) => canary,
            Ok(None) => anyhow::bail!("the watch on Canary {name} ended"),
            Err(error) => {
                tracing::debug!(%error, "the watch on a Canary is interrupted");
                continue;
            }
        };
        source_of = canary.annotations().get(SOURCE).cloned();
        match standing(&canary, commit.as_ref()) {
            Standing::Ended { kind, words } => return Ok(Ended::Release { kind, words }),
            Standing::UnderWay(words) if words != said => {
                output::message(&words);
                said = words;
            }
            Standing::UnderWay(_) => {}
        }
    }
}

fn standing(canary: &Canary, commit: Option<&CommitId>) -> Standing {
    let status = canary.status.clone().unwrap_or_default();
    let serin = status.serin.unwrap_or_default();
    let phase = status.phase.as_str();
    let Ok(Some(state)) = wire::read(serin.version, serin.state) else {
        return Standing::UnderWay("the daemon has not seen it yet".to_owned());
    };
    let waits = serin.waiting_on.map(|waits| format!(", waits for {waits}")).unwrap_or_default();
    let under_way = Standing::UnderWay(format!("{phase} {} %{waits}", status.canary_weight));
    match commit {
        Some(commit) => of_commit(&state, commit).unwrap_or(under_way),
        None => match (&state.phase, state.last_outcome.as_deref()) {
            (Phase::Idle { .. }, Some(outcome)) => ended(outcome),
            (Phase::Idle { last, .. }, None) => Standing::Ended { kind: *last, words: phase.to_owned() },
            _ => under_way,
        },
    }
}

/// How the release of a commit ended, if it did: the newest end counts, since a commit may be retried.
fn of_commit(state: &State, commit: &CommitId) -> Option<Standing> {
    let is_it = |outcome: &&Outcome| outcome.revision.commit.as_ref() == Some(commit);
    if state.release().is_some_and(|release| release.revision.commit.as_ref() == Some(commit)) {
        return None;
    }
    let last = state.last_outcome.as_deref().filter(is_it);
    if let Some(outcome) = last.or_else(|| state.outbox.iter().rev().find(is_it)) {
        return Some(ended(outcome));
    }
    let promoted = state.promoted.as_ref().filter(|promoted| promoted.revision.commit.as_ref() == Some(commit))?;
    let words = format!("Succeeded: {} was promoted at {}", promoted.revision.digest.short(), promoted.at);
    Some(Standing::Ended { kind: OutcomeKind::Succeeded, words })
}

fn ended(outcome: &Outcome) -> Standing {
    let Outcome { kind, revision, cause, ended, .. } = outcome;
    let cause = cause.as_ref().map(|cause| format!(": {}", cause.message)).unwrap_or_default();
    let words = format!("{kind:?}{cause} ({} at {ended})", revision.digest.short());
    Standing::Ended { kind: *kind, words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_says_whether_it_is_so() {
        use OutcomeKind::{Failed, Initialized, Succeeded, Superseded, Withdrawn};
        for (what, kind, code) in [
            (Awaited::Promoted, Succeeded, Exit::Done),
            (Awaited::Promoted, Initialized, Exit::Done),
            (Awaited::Promoted, Failed, Exit::Failed),
            (Awaited::Promoted, Superseded, Exit::Failed),
            (Awaited::Promoted, Withdrawn, Exit::Failed),
            (Awaited::Failed, Failed, Exit::Done),
            (Awaited::Failed, Succeeded, Exit::Failed),
            (Awaited::Idle, Superseded, Exit::Done),
        ] {
            assert_eq!(exit(what, kind), code, "{what:?} {kind:?}");
        }
    }

    #[test]
    fn times_are_written_as_people_write_them() {
        assert_eq!(parse_timeout("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_timeout("30m"), Ok(Duration::from_secs(1_800)));
        assert_eq!(parse_timeout("1h30m"), Ok(Duration::from_secs(5_400)));
        for wrong in ["", "0s", "-5m", "soon", "5"] {
            assert!(parse_timeout(wrong).is_err(), "{wrong}");
        }
    }
}
