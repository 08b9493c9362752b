//! A client for the verbs that talk to a cluster, found as kubectl finds it.

use std::path::PathBuf;

use clap::Args;
use kube::Client;

use crate::cluster::{Cluster, ConnectOptions};

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

impl ClusterArgs {
    /// Reads the configuration and builds a client; nothing is sent yet.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let Self { kubeconfig, context } = self.clone();
        let cluster = Cluster::connect(&ConnectOptions { kubeconfig, context }).await.map_err(|error| {
            CliError::input(error)
                .hint("name a cluster with --kubeconfig or $KUBECONFIG; `serin sandbox` makes one")
        })?;
        Ok(cluster.client())
    }
}

/// An error of a request: whether the cluster answered decides the exit code.
pub fn request_failed(error: kube::Error, what: &str) -> anyhow::Error {
    let answered = matches!(error, kube::Error::Api(_));
    let error = anyhow::Error::new(error).context(format!("failed to {what}"));
    if answered { CliError::input(error).into() } else { CliError::unreachable(error).into() }
}
