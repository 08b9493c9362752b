//! `serin get`: releases as a table, or one release as a tree.

mod table;
mod tree;
mod view;

use std::io::{IsTerminal, stdout};

use clap::Args;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};

use crate::api::Canary;

use super::connect::{ClusterArgs, request_failed};
use super::exit::{CliError, Exit};
use super::output::{self, Format};

/// Clears the screen and goes to its top left corner, for a live display on a terminal.
const CLEAR_SCREEN: &str = "\u{1b}[H\u{1b}[2J";

/// Arguments of `serin get`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  serin get -A                      every release\n  \
    serin get podinfo -n test         one release: weights, checks, what it waits for\n  \
    serin get podinfo -n test --watch the same, live\n  serin get -A -o json\n\n\
    Exit codes: 0 done, 1 the named release failed, 2 not found or bad usage, 3 the cluster cannot be reached.")]
pub struct GetArgs {
    /// Name of the Canary; all of them without it
    name: Option<String>,
    /// Namespace; the context's without it
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Every namespace
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "name"])]
    all_namespaces: bool,
    /// Go on showing changes
    #[arg(short, long)]
    watch: bool,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Prints what is asked for, once or until interrupted.
pub async fn run(args: GetArgs) -> anyhow::Result<u8> {
    let GetArgs { name, namespace, all_namespaces, watch, output, cluster } = args;
    let client = cluster.connect().await?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let api: Api<Canary> =
        if all_namespaces { Api::all(client.clone()) } else { Api::namespaced(client.clone(), &namespace) };
    let screen = Screen { client, api, namespace, name, all_namespaces, output };
    let exit = screen.show().await?;
    if watch { screen.follow().await } else { Ok(exit.code()) }
}

struct Screen {
    client: Client,
    api: Api<Canary>,
    namespace: String,
    name: Option<String>,
    all_namespaces: bool,
    output: Format,
}

impl Screen {
    async fn show(&self) -> anyhow::Result<Exit> {
        match &self.name {
            Some(name) => self.show_one(name).await,
            None => self.show_all().await,
        }
    }

    async fn show_all(&self) -> anyhow::Result<Exit> {
        let list =
            self.api.list(&ListParams::default()).await.map_err(|error| request_failed(error, "list Canaries"))?;
        if list.items.is_empty() && self.output == Format::Table {
            let place = if self.all_namespaces {
                "any namespace".to_owned()
            } else {
                format!("namespace {}", self.namespace)
            };
            output::message(&format!("no Canary in {place}"));
            return Ok(Exit::Done);
        }
        let text = match self.output {
            Format::Table => table::render(&list.items, self.all_namespaces, jiff::Timestamp::now()),
            Format::Json => format!("{}\n", serde_json::to_string_pretty(&view::all(&list.items))?),
            Format::Yaml => serde_yaml::to_string(&view::all(&list.items))?,
        };
        output::data(&text)?;
        Ok(Exit::Done)
    }

    async fn show_one(&self, name: &str) -> anyhow::Result<Exit> {
        let canary =
            self.api.get_opt(name).await.map_err(|error| request_failed(error, "read the Canary"))?.ok_or_else(
                || {
                    let missing = anyhow::anyhow!("Canary {}/{name} does not exist", self.namespace);
                    CliError::input(missing).hint("`serin get -A` lists all of them")
                },
            )?;
        let view = view::View::of(&canary);
        let text = match self.output {
            Format::Table => {
                let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
                let target = &canary.spec.target_ref.name;
                let read = |name: String| {
                    let deployments = deployments.clone();
                    async move { deployments.get_opt(&name).await }
                };
                let (canary_side, primary_side) =
                    futures::future::try_join(read(target.clone()), read(format!("{target}-primary")))
                        .await
                        .map_err(|error| request_failed(error, "read the workloads"))?;
                let sides = tree::Sides { primary: primary_side.as_ref(), canary: canary_side.as_ref() };
                tree::render(&view, &sides, jiff::Timestamp::now(), output::colours())
            }
            Format::Json => format!("{}\n", serde_json::to_string_pretty(&view)?),
            Format::Yaml => serde_yaml::to_string(&view)?,
        };
        output::data(&text)?;
        Ok(if view.phase == "Failed" { Exit::Failed } else { Exit::Done })
    }

    /// Shows again at every change until the user interrupts.
    async fn follow(&self) -> anyhow::Result<u8> {
        let config = match &self.name {
            Some(name) => watcher::Config::default().fields(&format!("metadata.name={name}")),
            None => watcher::Config::default(),
        };
        let mut changes = watcher(self.api.clone(), config).default_backoff().applied_objects().boxed();
        loop {
            tokio::select! {
                change = changes.try_next() => match change {
                    Ok(Some(_)) => self.refresh().await?,
                    Ok(None) => return Ok(Exit::Done.code()),
                    // The watcher reconnects by itself, with backoff; the screen keeps what was true last.
                    Err(error) => output::message(&format!("watch interrupted, reconnecting: {error}")),
                },
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    return Ok(Exit::Done.code());
                }
            }
        }
    }

    async fn refresh(&self) -> anyhow::Result<()> {
        if stdout().is_terminal() && self.output == Format::Table {
            output::data(CLEAR_SCREEN)?;
        }
        self.show().await.map(|_| ())
    }
}
