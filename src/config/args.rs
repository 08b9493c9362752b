//! What was typed on the command line of `serin run`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::reader::ConfigError;
use super::settings::Settings;

/// Flags of the verbs that read the daemon's settings; each overrides its field in serin.yaml.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SourceArgs {
    /// Settings file
    #[arg(long, value_name = "FILE", env = "SERIN_CONFIG")]
    pub config: Option<PathBuf>,
    /// Name of this cluster on the status branch
    #[arg(long, value_name = "NAME")]
    pub cluster_name: Option<String>,
    /// Kubeconfig file; otherwise $KUBECONFIG, ~/.kube/config or the pod's service account
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Repository to release from: a path, https:// or ssh:// URL
    #[arg(long, value_name = "URL")]
    pub git_url: Option<String>,
    /// Branch to watch
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
    /// Folder of the manifests in the repository
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
    /// Only this namespace
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// Flags of `serin run`; each overrides its field in serin.yaml.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(after_help = "Examples:\n  serin run --config serin.yaml\n  \
    serin run --cluster-name dev --git-url ./repo.git --kubeconfig ~/.kube/config --install-crds\n\n\
    Exit codes: 0 stopped by SIGTERM or Ctrl-C, 1 failed under way, 2 bad settings.")]
pub struct RunArgs {
    /// What is read, and for which cluster.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Address of the Prometheus that measures
    #[arg(long, value_name = "URL")]
    pub metrics_server: Option<String>,
    /// Where probes and metrics are served
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// HTTP proxy for webhooks and metric queries
    #[arg(long, value_name = "URL")]
    pub http_proxy: Option<String>,
    /// Folder for caches; /var/lib/serin without it
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Divides analysis interval, query windows and progress deadline, for demonstrations
    #[arg(long, value_name = "N")]
    pub speed: Option<f64>,
    /// Install or update the custom resource definitions first
    #[arg(long)]
    pub install_crds: bool,
    /// Release Argo Rollouts' Rollouts, too; their own controller must not run
    #[arg(long)]
    pub rollouts: bool,
    /// Work without a lease; only where no second daemon can run
    #[arg(long)]
    pub no_lease: bool,
}

impl From<SourceArgs> for RunArgs {
    fn from(source: SourceArgs) -> Self {
        Self { source, ..Self::default() }
    }
}

impl RunArgs {
    /// The settings: file and flags together.
    ///
    /// # Errors
    /// With everything that is wrong with them.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let (name, text) = match &self.source.config {
            None => (String::new(), String::new()),
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path)
                    .map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
                (name, text)
            }
        };
        Settings::for_here(&name, &text, self)
    }
}
