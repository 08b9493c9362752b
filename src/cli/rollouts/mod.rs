//! `serin rollouts`, and the same binary under the name `kubectl-argo-rollouts`: Argo Rollouts' commands, its words and its screens.

mod analysis;
mod ask;
mod edit;
mod tree;
mod watch;

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};

use crate::rollout::keys::{GROUP, KIND, VERSION};

use super::connect::{ClusterArgs, Connection};
use super::exit::CliError;

/// The name under which kubectl finds it as `kubectl argo rollouts`.
const NAME: &str = "kubectl-argo-rollouts";

/// The binary under the plugin's name.
#[derive(Debug, Parser)]
#[command(name = "kubectl-argo-rollouts", version, about = "Argo Rollouts' commands, by Serin")]
#[command(arg_required_else_help = true)]
pub struct Plugin {
    #[command(flatten)]
    args: RolloutsArgs,
}

impl Plugin {
    /// What was typed, if the process was started under that name.
    pub(super) fn started() -> Option<Self> {
        let called = std::env::args_os().next()?;
        (Path::new(&called).file_name() == Some(OsStr::new(NAME))).then(Self::parse)
    }

    /// Runs it.
    pub(super) async fn run(self) -> anyhow::Result<u8> {
        run(self.args).await
    }
}

/// Arguments of `serin rollouts`.
#[derive(Debug, Args)]
pub struct RolloutsArgs {
    /// Namespace; the context's without it
    #[arg(short, long, global = true, value_name = "NAME")]
    namespace: Option<String>,
    /// Path of the kubeconfig; otherwise $KUBECONFIG, ~/.kube/config or the pod's service account
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<std::path::PathBuf>,
    /// Context within the kubeconfig
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show a Rollout as a tree
    Get {
        #[command(subcommand)]
        what: Get,
    },
    /// List Rollouts
    List {
        #[command(subcommand)]
        what: List,
    },
    /// Say how a Rollout stands, until it is done or Degraded
    Status {
        /// Name of the Rollout
        name: String,
        /// Wait until it is Healthy or Degraded
        #[arg(short, long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
        watch: bool,
        /// Longest wait, e.g. `5m`; none without it
        #[arg(short, long, value_name = "DURATION", value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Let a paused Rollout go on, or promote it whole
    Promote {
        /// Name of the Rollout
        name: String,
        /// Skip all steps that are left
        #[arg(long)]
        full: bool,
    },
    /// Go back to what serves
    Abort {
        /// Names of the Rollouts
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Try an aborted update again
    Retry {
        #[command(subcommand)]
        what: Retry,
    },
    /// Keep Rollouts where they are
    Pause {
        /// Names of the Rollouts
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Change what a Rollout runs
    Set {
        #[command(subcommand)]
        what: Set,
    },
    /// Make an AnalysisRun of a template
    Create {
        #[command(subcommand)]
        what: Create,
    },
    /// End an AnalysisRun
    Terminate {
        #[command(subcommand)]
        what: Terminate,
    },
    /// Go back to an earlier revision
    Undo {
        /// Name of the Rollout
        name: String,
        /// Its number; 0 is the one before
        #[arg(long, default_value_t = 0, value_name = "N")]
        to_revision: u64,
    },
}

#[derive(Debug, Subcommand)]
enum Get {
    /// Show a Rollout with its revisions, ReplicaSets and pods
    #[command(aliases = ["rollouts", "ro"])]
    Rollout {
        /// Its name
        name: String,
        /// Show it again whenever it changes
        #[arg(short, long)]
        watch: bool,
        /// Without colours, as ever
        #[arg(long)]
        no_color: bool,
        /// Seconds until watching ends; 0 is never
        #[arg(long, default_value_t = 0, value_name = "SECONDS")]
        timeout_seconds: u64,
    },
}

#[derive(Debug, Subcommand)]
enum List {
    /// List Rollouts
    #[command(aliases = ["rollout", "ro"])]
    Rollouts {
        /// Of all namespaces
        #[arg(short = 'A', long)]
        all_namespaces: bool,
    },
}

#[derive(Debug, Subcommand)]
enum Retry {
    /// Try aborted updates again
    #[command(aliases = ["rollouts", "ro"])]
    Rollout {
        /// Names of the Rollouts
        #[arg(required = true)]
        names: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
enum Create {
    /// Make an AnalysisRun of a template
    #[command(aliases = ["analysisruns", "ar"])]
    Analysisrun(analysis::CreateArgs),
}

#[derive(Debug, Subcommand)]
enum Terminate {
    /// End an AnalysisRun
    #[command(aliases = ["analysisruns", "ar"])]
    Analysisrun {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Subcommand)]
enum Set {
    /// Give a container another image
    Image {
        /// Name of the Rollout
        name: String,
        /// `CONTAINER=IMAGE`; `*` is every container
        image: String,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::api::duration::parse(text).map_err(|error| error.to_string())
}

/// Rollouts of a namespace.
struct Target {
    connection: Connection,
    namespace: String,
}

impl Target {
    fn rollouts(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.connection.client.clone(), &self.namespace, &kind())
    }

    async fn get(&self, name: &str) -> anyhow::Result<DynamicObject> {
        let found = self.rollouts().get_opt(name).await;
        let found = found.map_err(|error| self.connection.failed(error, &format!("read Rollout {name}")))?;
        found.ok_or_else(|| {
            CliError::input(anyhow::anyhow!("rollouts.argoproj.io \"{name}\" not found in {}", self.namespace))
                .into()
        })
    }
}

fn kind() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, KIND))
}

/// Runs the verb.
pub async fn run(args: RolloutsArgs) -> anyhow::Result<u8> {
    let RolloutsArgs { namespace, kubeconfig, context, verb } = args;
    let connection = ClusterArgs { kubeconfig, context }.connect().await?;
    let namespace = namespace.unwrap_or_else(|| connection.client.default_namespace().to_owned());
    let target = Target { connection, namespace };
    match verb {
        Verb::Get { what: Get::Rollout { name, watch, no_color: _, timeout_seconds } } => {
            let limit = Some(Duration::from_secs(timeout_seconds)).filter(|limit| !limit.is_zero());
            watch::get(&target, &name, watch, limit).await
        }
        Verb::List { what: List::Rollouts { all_namespaces } } => watch::list(&target, all_namespaces).await,
        Verb::Status { name, watch, timeout } => watch::status(&target, &name, watch, timeout).await,
        Verb::Promote { name, full } => ask::promote(&target, &name, full).await,
        Verb::Abort { names } => ask::abort(&target, &names).await,
        Verb::Retry { what: Retry::Rollout { names } } => ask::retry(&target, &names).await,
        Verb::Pause { names } => ask::pause(&target, &names).await,
        Verb::Set { what: Set::Image { name, image } } => edit::set_image(&target, &name, &image).await,
        Verb::Create { what: Create::Analysisrun(args) } => analysis::create(&target, &args).await,
        Verb::Terminate { what: Terminate::Analysisrun { name } } => analysis::terminate(&target, &name).await,
        Verb::Undo { name, to_revision } => edit::undo(&target, &name, to_revision).await,
    }
}
