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
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let Self { kubeconfig, context } = self.clone();
        let cluster = Cluster::connect(&ConnectOptions { kubeconfig, context }).await.map_err(|error| {
            CliError::input(error)
                .hint("name a cluster with --kubeconfig or $KUBECONFIG; `serin sandbox` makes one")
        })?;
        Ok(Connection { client: cluster.client(), server: cluster.server().to_owned() })
    }
}

/// Which Canary.
#[derive(Debug, Clone, Args)]
pub struct CanaryArgs {
    /// Name of the Canary, or NAMESPACE/NAME as it is printed
    name: String,
    /// Namespace; the context's without it
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
}

impl CanaryArgs {
    /// Namespace and name.
    ///
    /// # Errors
    /// If two namespaces are named.
    pub fn place(self, connection: &Connection) -> Result<(String, String), CliError> {
        place(self.name, self.namespace, connection)
    }
}

/// Namespace and name of a Canary.
///
/// # Errors
/// If two namespaces are named.
pub fn place(
    name: String,
    namespace: Option<String>,
    connection: &Connection,
) -> Result<(String, String), CliError> {
    match (name.split_once('/'), namespace) {
        (Some((one, name)), Some(other)) if one != other => Err(CliError::input(anyhow::anyhow!(
            "{one}/{name} is in namespace {one}, and --namespace says {other}: name one of them"
        ))),
        (Some((namespace, name)), _) => Ok((namespace.to_owned(), name.to_owned())),
        (None, Some(namespace)) => Ok((namespace, name)),
        (None, None) => Ok((connection.client.default_namespace().to_owned(), name)),
    }
}

/// A client and where it leads to.
#[derive(Clone)]
pub struct Connection {
    /// The client.
    pub client: Client,
    /// The API server's address.
    pub server: String,
}

impl Connection {
    /// An error of a request: whether the cluster answered decides the exit code.
    pub fn failed(&self, error: kube::Error, what: &str) -> anyhow::Error {
        /// HTTP status of a kind that is not served; a missing object is told apart before.
        const NOT_FOUND: u16 = 404;
        /// HTTP statuses of a refusal.
        const REFUSED: [u16; 2] = [401, 403];
        let code = match &error {
            kube::Error::Api(status) => Some(status.code),
            _ => None,
        };
        let error = anyhow::Error::new(error).context(format!("failed to {what}"));
        match code {
            Some(NOT_FOUND) => CliError::input(error)
                .hint("are the definitions there? `serin crds | kubectl apply --server-side -f -` installs them")
                .into(),
            // The exit code of a refused request, as of anything that broke under way.
            Some(code) if REFUSED.contains(&code) => error,
            Some(_) => CliError::input(error).into(),
            None => CliError::unreachable(error)
                .hint(format!("is the cluster at {} up, and is this its kubeconfig?", self.server))
                .into(),
        }
    }
}
