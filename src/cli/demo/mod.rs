//! `serin demo`: releases, a rollback and a supersede on the embedded cluster, shown live.

mod comparison;
mod event;
mod example;
mod observe;
mod print;
mod scenario;
mod users;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{RunArgs, Settings, SourceArgs};
use crate::sandbox::metrics;
use crate::sandbox::repository::{BRANCH, Repository};
use crate::sandbox::traffic::TrafficOptions;
use crate::sandbox::world::{Sandbox, SandboxOptions, mark};

use super::LogOptions;
use super::exit::{CliError, Exit};
use super::{run, signal};
use event::DemoEvent;
use example::DemoProvider;
use observe::Seen;
use print::Printer;
use scenario::{Pace, Scenario, Stage};
use users::Users;

/// What the Canary's webhooks run, beside the built-in load generator.
const PROGRAMS: [&str; 2] = ["bash", "curl"];
/// How long the daemon may take to finish after the last scenario.
const STOP_MAX: Duration = Duration::from_secs(10);
/// The Canary of the example.
const CANARY: (&str, &str) = ("test", "podinfo");

/// Arguments of `serin demo`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  serin demo\n  serin demo --scenario rollback --dir /tmp/serin\n  serin demo --scenario comparison -o json | jq 'select(.event == \"compared\")'\n  serin demo -o json | jq .\n\n\
    Exit codes: 0 every scenario ended as it should, 1 one did not, 2 bad usage, 3 a program that is needed is missing."
)]
pub struct DemoArgs {
    /// What is played
    #[arg(long, value_enum, default_value = "all")]
    scenario: Scenario,
    /// Divides analysis interval, query windows, progress deadline and load test duration; 30, for the comparison 10 when absent
    #[arg(long, value_name = "N", value_parser = parse_speed)]
    speed: Option<f64>,
    /// What shifts traffic
    #[arg(long, value_enum, default_value = "istio")]
    provider: DemoProvider,
    /// Keep everything in this folder: repo.git, kubeconfig, logs, state; otherwise it is removed at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Show every Event in Flagger's words, too
    #[arg(long)]
    verbose: bool,
    /// How it is shown
    #[arg(short, long, value_enum, default_value = "text")]
    output: DemoFormat,
}

/// How the demo is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DemoFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (1.0..=60.0).contains(&speed) => Ok(speed),
        Ok(_) | Err(_) => {
            Err("must be a number from 1 to 60: beyond that a query window is shorter than two samples".into())
        }
    }
}

/// Plays the scenarios.
pub async fn run(args: DemoArgs, log: &LogOptions) -> anyhow::Result<u8> {
    let DemoArgs { scenario, speed, provider, dir, verbose, output } = args;
    check_programs()?;
    let temporary =
        if dir.is_none() { Some(tempfile::tempdir().context("failed to make a folder")?) } else { None };
    let kept = dir.is_some();
    let folder = match (&dir, &temporary) {
        (Some(dir), _) => dir.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => anyhow::bail!("no folder to work in"),
    };
    refuse_used(&folder)?;
    mark(&folder).map_err(|error| CliError::input(error).hint("name a new or an empty folder with --dir"))?;
    let made = std::fs::create_dir_all(folder.join("logs"));
    made.with_context(|| format!("failed to make {}", folder.display()))
        .map_err(|error| CliError::input(error).hint("name another folder with --dir"))?;
    log.init_to(&folder.join("logs/serin.log"))?;
    let printer = Arc::new(Printer::new(output == DemoFormat::Json, verbose));
    let ok = play((scenario, provider), pace(scenario, speed), &folder, kept, printer).await?;
    Ok(if ok { Exit::Done } else { Exit::Failed }.code())
}

/// How fast everything goes. The comparison is shown at what 20 requests a second and a sample every quarter of the interval are
/// where time is nobody's.
fn pace(scenario: Scenario, speed: Option<f64>) -> Pace {
    let compares = scenario == Scenario::Comparison;
    let speed = speed.unwrap_or(if compares { 10.0 } else { 30.0 });
    // Exact: the speed is at most 60.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let crowd = if compares { speed.round() as u32 } else { 1 };
    let quarter = Duration::from_secs(15).div_f64(speed);
    Pace { speed, crowd, sample_step: if compares { quarter } else { metrics::sample_step(speed) } }
}

async fn play(
    (scenario, provider): (Scenario, DemoProvider),
    pace: Pace,
    dir: &Path,
    kept: bool,
    printer: Arc<Printer>,
) -> anyhow::Result<bool> {
    let Pace { speed, crowd, sample_step } = pace;
    let programs = crate::loadtest::programs();
    let traffic = TrafficOptions { programs, sample_step, ..TrafficOptions::default() };
    let options = SandboxOptions { dir: dir.to_owned(), speed, traffic, ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).await.context("failed to start the sandbox")?;
    let settings = settings(&sandbox, speed)?;
    let status_branch = settings.git.status_branch.short().to_owned();
    printer.event(DemoEvent::Started {
        dir: dir.display().to_string(),
        kubeconfig: sandbox.kubeconfig().display().to_string(),
        repository: sandbox.repository().path().display().to_string(),
        ingress: sandbox.ingress_url().to_owned(),
        metrics: sandbox.metrics_url().to_owned(),
        speed,
    });

    let shutdown = CancellationToken::new();
    let daemon = tokio::spawn(run::daemon(settings, shutdown.clone()));
    let (seen_tx, seen) = watch::channel(Seen::default());
    let client = sandbox.client();
    let canary = observe::canary(client.clone(), CANARY.1, CANARY.0, printer.clone(), seen_tx, shutdown.clone());
    let canary = tokio::spawn(canary);
    let watched = vec![BRANCH.to_owned(), status_branch.clone()];
    let repository: Repository = sandbox.repository().clone();
    let (told_tx, told) = watch::channel(BTreeSet::new());
    let branches = observe::branches(repository.clone(), watched, printer.clone(), told_tx, shutdown.clone());
    let branches = tokio::spawn(branches);

    let users = Arc::new(Users::default());
    let (asking, ingress, stop) = (users.clone(), sandbox.ingress_url().to_owned(), shutdown.clone());
    let asking = tokio::spawn(async move {
        if let Err(error) = asking.ask(&ingress, crowd, stop).await {
            tracing::error!("the demo has no users: {error}");
        }
    });

    let told_to_stop = signal::stop()?;
    let mut stage = Stage {
        provider,
        repository,
        client,
        seen,
        told,
        users,
        pace,
        printer: printer.clone(),
        status_branch,
        played: Vec::new(),
    };
    let played = tokio::select! {
        played = play_all(&mut stage, scenario) => played,
        // The daemon ends by itself only for an error; that is the news then, not the time-out that follows from it.
        ended = daemon_error(&shutdown, daemon) => Err(ended),
        signal = told_to_stop => Err(anyhow::anyhow!("{signal}")),
    };
    shutdown.cancel();
    let tasks = futures::future::join3(canary, branches, asking);
    if tokio::time::timeout(STOP_MAX, tasks).await.is_err() {
        tracing::warn!("the display did not stop within {} s", STOP_MAX.as_secs());
    }
    sandbox.shutdown().await;
    let ok = played?;
    printer.event(DemoEvent::Finished { ok, played: stage.played, hints: hints(kept, dir) });
    Ok(ok)
}

async fn play_all(stage: &mut Stage, scenario: Scenario) -> anyhow::Result<bool> {
    let mut ok = stage.first_sync().await?;
    for scenario in scenario.chosen() {
        // One that failed leaves a world in which the next one proves nothing.
        ok = ok && stage.play(scenario).await?;
    }
    Ok(ok)
}

async fn daemon_error(
    shutdown: &CancellationToken,
    daemon: tokio::task::JoinHandle<anyhow::Result<()>>,
) -> anyhow::Error {
    let ended = daemon.await;
    if shutdown.is_cancelled() {
        return anyhow::anyhow!("the demo is over");
    }
    match ended {
        Ok(Ok(())) => anyhow::anyhow!("the daemon stopped by itself"),
        Ok(Err(error)) => error.context("the daemon stopped"),
        Err(error) => anyhow::Error::new(error).context("the daemon's task ended"),
    }
}

/// The daemon's settings as a user would write them.
fn settings(sandbox: &Sandbox, speed: f64) -> anyhow::Result<Settings> {
    let text = sandbox.serin_yaml(speed);
    let path = sandbox.dir().join("serin.yaml");
    std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    let args = RunArgs { install_crds: true, ..SourceArgs { config: Some(path), ..SourceArgs::default() }.into() };
    Ok(args.settings()?)
}

/// A demo begins at the beginning: what an earlier one recorded would be taken for the past of this one's cluster.
fn refuse_used(folder: &Path) -> anyhow::Result<()> {
    if !folder.join("repo.git").exists() {
        return Ok(());
    }
    let used = anyhow::anyhow!("{} holds the repository of an earlier run", folder.display());
    Err(CliError::input(used).hint("remove it or name another folder with --dir").into())
}

fn check_programs() -> anyhow::Result<()> {
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|program| !on_path(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let error = anyhow::anyhow!("{} not found on the PATH", missing.join(" and "));
    Err(CliError::unreachable(error)
        .hint("the example's acceptance test runs them; install them and try again")
        .into())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn hints(kept: bool, dir: &Path) -> Vec<String> {
    if kept {
        let dir = dir.display();
        return vec![
            format!("git --git-dir {dir}/repo.git log --oneline --all   what was committed"),
            format!("git --git-dir {dir}/repo.git show serin/status/sandbox:README.md   the record"),
            format!("less {dir}/logs/serin.log   what the daemon did"),
        ];
    }
    vec![
        "serin sandbox --with-daemon --seed-dir examples/podinfo   the same world, yours: push any tag and watch"
            .into(),
        "serin demo --dir /tmp/serin                               keep the repository, the logs and the state"
            .into(),
        "serin validate DIR                                        check your own manifests".into(),
    ]
}
