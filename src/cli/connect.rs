//! A client for the verbs that talk to a cluster, found as kubectl finds it.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::exit::CliError;

/// Which cluster.
#[derive(Debug, Clone, Default, Args)]
pub struct ClusterArgs {
    /// Path of the kubeconfig; otherwise $KUBECONFIG, ~/.kube/config or the pod's service account
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context within the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// A client and the namespace that its context names.
pub struct Connection {
    /// The client.
    pub client: Client,
    /// The context's namespace, `default` if it names none.
    pub namespace: String,
}

impl ClusterArgs {
    /// Reads the configuration and builds a client; nothing is sent yet.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let config = self.config().await.map_err(|error| {
            CliError::input(error).hint("name a cluster with --kubeconfig or $KUBECONFIG; `serin sandbox` makes one")
        })?;
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).context("failed to build a Kubernetes client").map_err(CliError::input)?;
        Ok(Connection { client, namespace })
    }

    async fn config(&self) -> anyhow::Result<Config> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        match &self.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).with_context(|| format!("failed to read {}", path.display()))?;
                Config::from_custom_kubeconfig(file, &options)
                    .await
                    .with_context(|| format!("{} does not describe a cluster", path.display()))
            }
            None if self.context.is_some() => {
                Config::from_kubeconfig(&options).await.context("failed to read the kubeconfig")
            }
            None => Config::infer().await.context("no cluster configuration was found"),
        }
    }
}

/// An error of a request: whether the cluster answered decides the exit code.
pub fn request_failed(error: kube::Error, what: &str) -> anyhow::Error {
    let answered = matches!(error, kube::Error::Api(_));
    let error = anyhow::Error::new(error).context(format!("failed to {what}"));
    if answered { CliError::input(error).into() } else { CliError::unreachable(error).into() }
}
