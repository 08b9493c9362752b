//! `serin sandbox`: the demo's world, left running for one's own kubectl and `git push`.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use futures::FutureExt as _;
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::exit::{CliError, Exit};
use super::{LogOptions, output, signal};
use crate::config::{RunArgs, SourceArgs};
use crate::sandbox::behaviour::TAGS;
use crate::sandbox::controllers::Parts;
use crate::sandbox::metrics;
use crate::sandbox::repository::{BRANCH, FileEdit};
use crate::sandbox::traffic::TrafficOptions;
use crate::sandbox::world::{ClusterChoice, FolderError, Sandbox, SandboxError, SandboxOptions, mark};

/// Largest file that is seeded: manifests are far smaller, and a repository full of binaries is a mistyped folder.
const SEED_FILE_MAX: u64 = 1024 * 1024;
/// Deepest folder that is seeded; deeper is a loop of links.
const SEED_DEPTH_MAX: usize = 16;

/// Arguments of `serin sandbox`.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub struct SandboxArgs {
    /// Folder for repo.git, kubeconfig, serin.yaml, logs and state; otherwise a temporary one, removed at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Port of the API server on 127.0.0.1; 0 takes any free one
    #[arg(long, default_value_t = 0, value_name = "N")]
    port: u16,
    /// Run the daemon, too; its log goes to DIR/logs/serin.log
    #[arg(long)]
    with_daemon: bool,
    /// Argo Rollouts' definition is there, and the daemon leads Rollouts
    #[arg(long)]
    rollouts: bool,
    /// Be the only node of a control plane that has none: for tests of Serin itself, never for a cluster in use
    #[arg(long, value_name = "KUBECONFIG", conflicts_with = "port", help_heading = "For developers of Serin")]
    attach: Option<PathBuf>,
    /// The control plane has no controller manager: run its controllers, too
    #[arg(long, requires = "attach", help_heading = "For developers of Serin")]
    attach_controllers: bool,
    /// Commit this folder's files to the repository if it is empty
    #[arg(long, value_name = "DIR")]
    seed_dir: Option<PathBuf>,
    /// Divides analysis interval, query windows, progress deadline and load test duration in serin.yaml
    #[arg(long, default_value_t = 1.0, value_name = "N", value_parser = parse_speed)]
    speed: f64,
    /// Seed of every random choice: weights, endpoints, delays
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Longest time until the mesh takes up a changed route or endpoint, in milliseconds
    #[arg(long, default_value_t = 0, value_name = "MS")]
    propagation: u64,
    /// Time between two samples of the metrics, in seconds; 2.5, a quarter of the shortest interval, divided by the speed when absent
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    sample_step: Option<Duration>,
    /// A Prometheus of your own that scrapes the sandbox: it answers the checks as prometheus.istio-system:9090
    #[arg(long, value_name = "URL", value_parser = parse_prometheus)]
    prometheus: Option<SocketAddr>,
    /// How the addresses are printed
    #[arg(short, long, value_enum, default_value = "text")]
    output: SandboxFormat,
}

/// The end of the help: examples, and what tags of images do.
fn after_help() -> String {
    let tags: String = TAGS.iter().map(|(tag, effect)| format!("\n  {tag:<13} {effect}")).collect();
    format!(
        "Examples:\n  serin sandbox --with-daemon --seed-dir examples/podinfo --dir /tmp/serin --speed 30\n  \
         serin sandbox --with-daemon --rollouts --seed-dir examples/rollouts --dir /tmp/serin\n  \
         serin sandbox --dir /tmp/serin --port 6443\n\nThen, in other terminals:\n  \
         serin run --install-crds --config DIR/serin.yaml      not with --with-daemon\n  \
         kubectl --kubeconfig DIR/kubeconfig get canaries -A --watch\n  git clone DIR/repo.git\n\n\
         What an image's tag makes its pods do, as in podinfo:3.1.2-errors-50:{tags}\nAny other tag is healthy."
    )
}

/// How the addresses are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SandboxFormat {
    /// For people
    Text,
    /// One JSON object on one line
    Json,
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed >= 1.0 => Ok(speed),
        Ok(_) | Err(_) => Err("must be a number, 1 or more".into()),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=60.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "must be a number of seconds from 0.1 to 60".to_owned())
}

/// `http://HOST:PORT`, resolved once: the sandbox's proxy connects to an address.
fn parse_prometheus(text: &str) -> Result<SocketAddr, String> {
    let authority = text.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let Some(authority) = authority.filter(|authority| !authority.contains(['/', '?', '@'])) else {
        return Err("must be http://HOST:PORT, without a path".into());
    };
    let mut found = authority.to_socket_addrs().map_err(|error| format!("must be http://HOST:PORT ({error})"))?;
    found.next().ok_or_else(|| format!("{authority} has no address"))
}

/// Where everything is.
#[derive(Debug, Serialize)]
struct Addresses {
    kubeconfig: String,
    repository: String,
    metrics: String,
    scrape: String,
    ingress: String,
    proxy: String,
    config: String,
}

/// Runs the world until Ctrl-C or SIGTERM.
///
/// # Errors
/// When it cannot be started or seeded.
pub async fn run(args: SandboxArgs, log: &LogOptions) -> anyhow::Result<u8> {
    let SandboxArgs {
        dir,
        port,
        with_daemon,
        rollouts,
        attach,
        attach_controllers,
        seed_dir,
        speed,
        seed,
        propagation,
        sample_step,
        prometheus,
        output,
    } = args;
    // Listened for first: a signal during the start is not lost.
    let told_to_stop = signal::stop()?;
    let temporary =
        if dir.is_none() { Some(tempfile::tempdir().context("failed to make a folder")?) } else { None };
    let dir = match (dir, &temporary) {
        (Some(dir), _) => dir,
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => bail!("no folder to work in"),
    };
    mark(&dir).map_err(|error| start_failed(error.into()))?;
    if with_daemon {
        let logs = dir.join("logs");
        std::fs::create_dir_all(&logs).with_context(|| format!("failed to make {}", logs.display()))?;
        log.init_to(&logs.join("serin.log"))?;
    } else {
        log.init()?;
    }
    let cluster = match attach {
        None => ClusterChoice::Embedded { port },
        Some(kubeconfig) => {
            let parts = if attach_controllers { Parts::All } else { Parts::Node };
            ClusterChoice::Attached { kubeconfig, parts }
        }
    };
    let propagation_max = Duration::from_millis(propagation);
    let programs = crate::loadtest::programs();
    let sample_step = sample_step.unwrap_or_else(|| metrics::sample_step(speed));
    let traffic = TrafficOptions { seed, propagation_max, programs, sample_step, ..TrafficOptions::default() };
    let options =
        SandboxOptions { dir, cluster, speed, traffic, prometheus, rollouts, ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).await.map_err(start_failed)?;
    if let Some(folder) = seed_dir {
        seed_repository(&sandbox, &folder)?;
    }
    let shutdown = CancellationToken::new();
    let daemon = with_daemon.then(|| daemon(&sandbox, shutdown.clone())).transpose()?;
    print(&sandbox, output, with_daemon)?;
    let ended = match daemon {
        None => told_to_stop.map(|_| Ok(())).await,
        Some(mut daemon) => tokio::select! {
            _ = told_to_stop => {
                shutdown.cancel();
                daemon.await.context("the daemon's task ended")?
            }
            // By itself it ends only for an error.
            ended = &mut daemon => ended.context("the daemon's task ended")?,
        },
    };
    sandbox.shutdown().await;
    ended.map(|()| Exit::Done.code())
}

/// Starts the daemon with the world's settings.
fn daemon(sandbox: &Sandbox, shutdown: CancellationToken) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let config = sandbox.dir().join("serin.yaml");
    let args =
        RunArgs { install_crds: true, ..SourceArgs { config: Some(config), ..SourceArgs::default() }.into() };
    Ok(tokio::spawn(super::run::daemon(args.settings()?, shutdown)))
}

fn start_failed(error: SandboxError) -> anyhow::Error {
    let hint = match &error {
        SandboxError::Listen { .. } | SandboxError::Traffic(_) => "choose another --port, or 0 for any free one",
        SandboxError::Kubeconfig { .. } | SandboxError::NoKubeconfig { .. } => {
            "name a readable kubeconfig with --attach"
        }
        SandboxError::Client(_)
        | SandboxError::Nodes(_)
        | SandboxError::Object { .. }
        | SandboxError::NotServed { .. } => {
            "is the control plane up, and may you create definitions, namespaces and services?"
        }
        SandboxError::Folder(FolderError::InUse { .. }) => "stop that sandbox, or choose another --dir",
        SandboxError::Folder(_) | SandboxError::Write { .. } | SandboxError::Repository(_) => {
            "choose another --dir: a new or an empty folder"
        }
        SandboxError::OtherNodes { .. } => {
            "--attach makes a node that runs no images: only for a control plane without nodes"
        }
        SandboxError::Definitions(_) => return anyhow::Error::new(error),
    };
    let unreachable =
        matches!(&error, SandboxError::Nodes(_) | SandboxError::Object { .. } | SandboxError::NotServed { .. });
    let error = if unreachable { CliError::unreachable(error) } else { CliError::input(error) };
    error.hint(hint).into()
}

fn print(sandbox: &Sandbox, format: SandboxFormat, with_daemon: bool) -> anyhow::Result<()> {
    let path = |path: &Path| path.display().to_string();
    let addresses = Addresses {
        kubeconfig: path(sandbox.kubeconfig()),
        repository: path(sandbox.repository().path()),
        metrics: sandbox.metrics_url().to_owned(),
        scrape: sandbox.traffic().scrape_url.clone(),
        ingress: sandbox.ingress_url().to_owned(),
        proxy: sandbox.proxy_url().to_owned(),
        config: path(&sandbox.dir().join("serin.yaml")),
    };
    let text = match format {
        SandboxFormat::Json => {
            serde_json::to_string(&addresses).context("failed to write the addresses as JSON")?
        }
        SandboxFormat::Text => {
            let Addresses { kubeconfig, repository, metrics, scrape, ingress, proxy, config } = &addresses;
            let lines = [
                ("kubeconfig", kubeconfig, "kubectl --kubeconfig"),
                ("repository", repository, "git clone; push to main"),
                ("metrics", metrics, "Prometheus' query API"),
                ("scrape", scrape, "the same for a Prometheus of your own"),
                ("ingress", ingress, "curl -H 'Host: app.example.com'"),
                ("proxy", proxy, "http_proxy, under which service names resolve"),
                ("settings", config, "serin run --install-crds --config"),
            ];
            let lines: Vec<String> = lines
                .iter()
                // With the daemon in this process there is nothing to run with the settings.
                .filter(|(name, ..)| !with_daemon || *name != "settings")
                .map(|(name, value, hint)| format!("{name:<11} {value:<44} {hint}"))
                .collect();
            let next = if with_daemon { now(kubeconfig, repository) } else { String::new() };
            format!("{}\n{next}\nCtrl-C stops it", lines.join("\n"))
        }
    };
    output::data(&format!("{text}\n")).context("failed to print the addresses")
}

/// What to do with a world in which the daemon runs.
fn now(kubeconfig: &str, repository: &str) -> String {
    let tags: String = TAGS.iter().map(|(tag, effect)| format!("\n  podinfo:3.1.2{tag:<13} {effect}")).collect();
    format!(
        "\nNow, in another terminal:\n  export KUBECONFIG={kubeconfig}\n  serin get -A --watch\nand in a third one push a \
         version:\n  git clone {repository} && cd repo    # change the image's tag, commit, push\n\nTags to try:{tags}\n"
    )
}

fn seed_repository(sandbox: &Sandbox, folder: &Path) -> anyhow::Result<()> {
    let repository = sandbox.repository();
    if repository.tip(BRANCH)?.is_some() {
        output::message(&format!("{} has commits already and is not seeded", repository.path().display()));
        return Ok(());
    }
    let mut files = Vec::new();
    collect(folder, "", 0, &mut files)?;
    if files.is_empty() {
        let error = anyhow::anyhow!("{} holds no files", folder.display());
        return Err(CliError::input(error).hint("name a folder with manifests in --seed-dir").into());
    }
    repository.commit("Seed the sandbox", |_| Ok(files.clone()))?;
    Ok(())
}

/// Reads a folder's text files; hidden ones (`.git`) are left out.
fn collect(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<FileEdit>) -> anyhow::Result<()> {
    if depth > SEED_DEPTH_MAX {
        bail!("{} is nested more than {SEED_DEPTH_MAX} folders deep", folder.display());
    }
    let entries = std::fs::read_dir(folder);
    let entries =
        entries.map_err(|error| CliError::input(anyhow::Error::new(error).context(unreadable(folder))))?;
    for entry in entries {
        let entry = entry.with_context(|| unreadable(folder))?;
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let inner = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        let kind = std::fs::metadata(&path).with_context(|| unreadable(&path))?;
        if kind.is_dir() {
            collect(&path, &inner, depth + 1, files)?;
        } else if kind.len() > SEED_FILE_MAX {
            bail!(
                "{} is larger than {SEED_FILE_MAX} bytes: is {} a folder of manifests?",
                path.display(),
                folder.display()
            );
        } else {
            let content = std::fs::read_to_string(&path).with_context(|| unreadable(&path))?;
            files.push(FileEdit { path: inner, content });
        }
    }
    Ok(())
}

fn unreadable(path: &Path) -> String {
    format!("failed to read {}", path.display())
}
