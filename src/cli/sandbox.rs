//! `serin sandbox`: the demo's world, left running for one's own kubectl and `git push`.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::exit::{CliError, Exit};
use super::{output, signal};
use crate::sandbox::controllers::Parts;
use crate::sandbox::repository::{BRANCH, FileEdit};
use crate::sandbox::traffic::TrafficOptions;
use crate::sandbox::world::{ClusterChoice, Sandbox, SandboxError, SandboxOptions};

/// Largest file that is seeded: manifests are far smaller, and a repository full of binaries is a mistyped folder.
const SEED_FILE_MAX: u64 = 1024 * 1024;
/// Deepest folder that is seeded; deeper is a loop of links.
const SEED_DEPTH_MAX: usize = 16;

/// Arguments of `serin sandbox`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  serin sandbox --seed-dir examples/podinfo\n  serin sandbox --dir /tmp/serin --port 6443\n  \
    serin sandbox --attach ~/.kube/config\n\nThen, in other terminals:\n  serin run --install-crds --config DIR/serin.yaml\n  \
    kubectl --kubeconfig DIR/kubeconfig get canaries -A --watch\n  git clone DIR/repo.git"
)]
pub struct SandboxArgs {
    /// Folder for repo.git, kubeconfig, serin.yaml, logs and state; otherwise a temporary one, removed at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Port of the API server on 127.0.0.1; 0 takes any free one
    #[arg(long, default_value_t = 0, value_name = "N")]
    port: u16,
    /// Be the only node of a real control plane instead of running one
    #[arg(long, value_name = "KUBECONFIG", conflicts_with = "port")]
    attach: Option<PathBuf>,
    /// The control plane has no controller manager: run its controllers, too
    #[arg(long, requires = "attach")]
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
    /// A Prometheus of your own that scrapes the sandbox: it answers the checks as prometheus.istio-system:9090
    #[arg(long, value_name = "URL", value_parser = parse_prometheus)]
    prometheus: Option<SocketAddr>,
    /// How the addresses are printed
    #[arg(short, long, value_enum, default_value = "text")]
    output: SandboxFormat,
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
pub async fn run(args: SandboxArgs) -> anyhow::Result<u8> {
    let SandboxArgs {
        dir,
        port,
        attach,
        attach_controllers,
        seed_dir,
        speed,
        seed,
        propagation,
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
    let cluster = match attach {
        None => ClusterChoice::Embedded { port },
        Some(kubeconfig) => {
            let parts = if attach_controllers { Parts::All } else { Parts::Node };
            ClusterChoice::Attached { kubeconfig, parts }
        }
    };
    let propagation_max = Duration::from_millis(propagation);
    let programs = crate::loadtest::programs();
    let traffic = TrafficOptions { seed, propagation_max, programs, ..TrafficOptions::default() };
    let options = SandboxOptions { dir, cluster, speed, traffic, prometheus, ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).await.map_err(start_failed)?;
    if let Some(folder) = seed_dir {
        seed_repository(&sandbox, &folder)?;
    }
    print(&sandbox, output)?;
    told_to_stop.await;
    sandbox.shutdown().await;
    Ok(Exit::Done.code())
}

fn start_failed(error: SandboxError) -> anyhow::Error {
    let hint = match &error {
        SandboxError::Listen { .. } | SandboxError::Traffic(_) => "choose another --port, or 0 for any free one",
        SandboxError::Kubeconfig { .. } | SandboxError::NoKubeconfig { .. } => {
            "name a readable kubeconfig with --attach"
        }
        SandboxError::Client(_) | SandboxError::Object { .. } | SandboxError::NotServed { .. } => {
            "is the control plane up, and may you create definitions, namespaces and services?"
        }
        SandboxError::Write { .. } | SandboxError::Repository(_) => "choose another --dir",
        SandboxError::Definitions(_) => return anyhow::Error::new(error),
    };
    let unreachable = matches!(&error, SandboxError::Object { .. } | SandboxError::NotServed { .. });
    let error = if unreachable { CliError::unreachable(error) } else { CliError::input(error) };
    error.hint(hint).into()
}

fn print(sandbox: &Sandbox, format: SandboxFormat) -> anyhow::Result<()> {
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
            let lines = lines.map(|(name, value, hint)| format!("{name:<11} {value:<44} {hint}"));
            format!("{}\n\nCtrl-C stops it", lines.join("\n"))
        }
    };
    output::data(&format!("{text}\n")).context("failed to print the addresses")
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
