//! `serin check --install`: whether everything that the daemon needs is there, before and after it is installed. Nothing is changed.
//!
//! Each line passes, warns or fails, and says what helps. What is asked is asked with the rights of whoever runs it: in the daemon's
//! pod, those of the daemon.

mod cluster;
mod git;
mod outside;
mod rights;

#[cfg(test)]
#[cfg(feature = "sandbox")]
mod tests;

use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;

use crate::cluster::{Cluster, ConnectOptions};
use crate::config::{RunArgs, Settings};
use crate::git::Store;
use crate::http::HttpClients;
use crate::metrics::{MetricProvider, Providers};

use super::exit::{CliError, Exit};
use super::output::{self, Paint};

/// Arguments of `serin check`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  serin check --install --config serin.yaml\n  \
    kubectl exec -n serin-system deploy/serin -- serin check --install --config /etc/serin/config/serin.yaml\n\n\
    Exit codes: 0 nothing fails, 1 something does, 2 bad settings.")]
pub struct CheckArgs {
    /// Check the installation: API server, definitions, rights, mesh, metrics, webhooks, Git, clock
    #[arg(long, required = true)]
    install: bool,
    #[command(flatten)]
    settings: RunArgs,
}

/// What came of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    Warn,
    Fail,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    verdict: Verdict,
    what: &'static str,
    words: String,
    /// What helps.
    remedy: Option<String>,
}

impl Line {
    fn pass(what: &'static str, words: impl Into<String>) -> Self {
        Self { verdict: Verdict::Pass, what, words: words.into(), remedy: None }
    }

    fn warn(what: &'static str, words: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, what, words: words.into(), remedy: Some(remedy.into()) }
    }

    fn fail(what: &'static str, words: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, what, words: words.into(), remedy: Some(remedy.into()) }
    }
}

/// What is checked, and through what.
struct World {
    settings: Settings,
    cluster: Cluster,
    store: Store,
    metrics: Arc<dyn MetricProvider>,
    clients: HttpClients,
    /// This machine's time.
    now: fn() -> Timestamp,
}

/// Checks, and prints a line for each.
pub async fn run(args: CheckArgs) -> anyhow::Result<u8> {
    let CheckArgs { install: _, settings } = args;
    let settings = settings.settings().map_err(|error| {
        CliError::input(error).hint("name the daemon's settings file with --config, or give its flags")
    })?;
    let options = ConnectOptions { kubeconfig: settings.kubeconfig.clone(), context: settings.context.clone() };
    let cluster = Cluster::connect(&options).await.map_err(|error| {
        CliError::input(error).hint("name a cluster with --kubeconfig or $KUBECONFIG; `serin sandbox` makes one")
    })?;
    // The daemon's own cache may be in use.
    let folder = tempfile::tempdir().context("failed to make a folder for the Git cache")?;
    let store = Store::open(folder.path().join("git")).context("failed to make a Git cache")?;
    let clients = HttpClients::new(settings.http.proxy.as_deref()).map_err(CliError::input)?;
    let metrics = Arc::new(Providers::new(clients.clone()));
    let lines = lines(&World { settings, cluster, store, metrics, clients, now: Timestamp::now }).await;
    output::data(&text(&lines, output::colours()))?;
    let fails = lines.iter().any(|line| line.verdict == Verdict::Fail);
    Ok(if fails { Exit::Failed.code() } else { Exit::Done.code() })
}

/// Everything, in an order in which what comes first explains what comes later.
async fn lines(world: &World) -> Vec<Line> {
    let mut lines = Vec::new();
    let server = cluster::server(world).await;
    let answers = server.verdict != Verdict::Fail;
    lines.push(server);
    if answers {
        lines.push(cluster::clock(world));
        lines.push(cluster::namespace(world).await);
        lines.extend(cluster::definitions(world).await);
        lines.extend(rights::lines(world).await);
        let canaries = cluster::canaries(world).await;
        lines.extend(cluster::mesh(world, &canaries).await);
        lines.push(cluster::daemon(world).await);
        lines.extend(outside::prometheus(world, &canaries).await);
        lines.extend(outside::webhooks(world, &canaries).await);
    } else {
        lines.extend(outside::prometheus(world, &[]).await);
    }
    lines.extend(git::lines(world).await);
    lines
}

fn text(lines: &[Line], colours: bool) -> String {
    let mut out = String::new();
    let width = lines.iter().map(|line| line.what.chars().count()).max().unwrap_or(0);
    for Line { verdict, what, words, remedy } in lines {
        let (word, paint) = match verdict {
            Verdict::Pass => ("pass", Paint::Green),
            Verdict::Warn => ("warn", Paint::Yellow),
            Verdict::Fail => ("FAIL", Paint::Red),
        };
        let words = output::tame(words);
        out.push_str(&format!("{}  {what:<width$}  {words}\n", paint.apply(word, colours)));
        if let Some(remedy) = remedy {
            out.push_str(&format!("{:width$}      -> {}\n", "", output::tame(remedy)));
        }
    }
    let count = |verdict: Verdict| lines.iter().filter(|line| line.verdict == verdict).count();
    let (passed, warned, failed) = (count(Verdict::Pass), count(Verdict::Warn), count(Verdict::Fail));
    out.push_str(&format!("\n{passed} passed, {warned} warned, {failed} failed\n"));
    out
}
