//! `serin plan`: what a branch or tag would change in the cluster, in words and as data, without changing anything.

mod print;

use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use crate::api::{self, Canary, TargetResult};
use crate::cluster::{Cluster, ConnectOptions, explain};
use crate::config::{RunArgs, SourceArgs};
use crate::controller;
use crate::git::{Reference, Store};
use crate::model::NamespacedName;
use crate::release::wire;
use crate::render::{Program, Renderer};
use crate::sync::{self, Action, Content, GitSource, Preview, PreviewContext, Source as _};
use crate::workload::{Own, Risk, Sides, risks};

use super::exit::{CliError, Exit};
use super::output;
use print::{Format, Plan};

/// Arguments of `serin plan`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  serin plan --config serin.yaml                 what the watched branch would change\n  \
    serin plan --config serin.yaml --ref new -o markdown\n\n\
    Exit codes: 0 nothing would change, 1 something would, 2 something would be refused, 3 Git or the cluster cannot be reached."
)]
pub struct PlanArgs {
    /// Branch or tag (refs/tags/NAME) to look at instead of the watched one
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
    /// How the plan is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    source: SourceArgs,
}

/// Prints the plan.
pub async fn run(args: PlanArgs) -> anyhow::Result<u8> {
    let PlanArgs { reference, output, source } = args;
    let settings = RunArgs::from(source).settings().map_err(|error| {
        CliError::input(error).hint("name the daemon's settings file with --config, or give its flags")
    })?;
    let reference = match reference {
        Some(name) => name.parse::<Reference>().map_err(CliError::input)?,
        None => settings.git.branch.clone(),
    };
    let options = ConnectOptions { kubeconfig: settings.kubeconfig.clone(), context: settings.context.clone() };
    let cluster = Cluster::connect(&options).await.map_err(|error| {
        CliError::input(error).hint("name a cluster with --kubeconfig or $KUBECONFIG; `serin sandbox` makes one")
    })?;
    // The daemon's own cache may be in use.
    let folder = tempfile::tempdir().context("failed to make a folder for the Git cache")?;
    let store = Store::open(folder.path().join("git")).context("failed to make a Git cache")?;
    let store = store.ignoring(settings.git.leaves_out());
    let program = Program::find(std::env::var_os("PATH").as_deref());
    let renderer = Renderer::new(store.clone(), program, folder.path().join("render"));
    let source = GitSource::new(store, settings.git.remote.clone(), reference.clone(), settings.git.path.clone())
        .rendering(renderer);
    let content = read(&source).await?;
    let found = canaries(&cluster, settings.namespace.as_deref()).await;
    let context = PreviewContext {
        cluster,
        content: content.clone(),
        judge: |canary, spec| controller::check_policy(canary, spec).err().map(|error| explain(&error)),
        source: NamespacedName::new(&settings.lease.namespace, &settings.cluster_name),
        only_namespace: settings.namespace.clone(),
        selector_labels: settings.selector_labels.clone(),
        canaries: found.iter().map(link).collect(),
    };
    let preview = sync::preview(context).await;
    let mut preview = preview.map_err(|words| CliError::unreachable(anyhow::anyhow!(words)))?;
    refuse_quarantined(&mut preview, &found);
    let plan = Plan {
        reference: reference.short().to_owned(),
        risks: at_risk(&content, &preview, &settings.selector_labels),
        content,
        preview,
    };
    output::data(&print::render(&plan, output)?)?;
    Ok(code(&plan.preview).code())
}

fn code(preview: &Preview) -> Exit {
    match (preview.status.conditions.is_empty() && preview.status.problems.is_empty(), preview.changes.is_empty())
    {
        (false, _) => Exit::Input,
        (true, false) => Exit::Failed,
        (true, true) => Exit::Done,
    }
}

async fn read(source: &GitSource) -> anyhow::Result<Arc<Content>> {
    let unreachable = |error: sync::SourceError| CliError::unreachable(anyhow::Error::new(error));
    let tip = source.tip().await.map_err(unreachable)?;
    Ok(source.content(&tip).await.map_err(unreachable)?)
}

/// The cluster's Canaries: one that is not in Git still owns its target. Without the definition there are none.
async fn canaries(cluster: &Cluster, namespace: Option<&str>) -> Vec<Canary> {
    let api: Api<Canary> = match namespace {
        Some(namespace) => Api::namespaced(cluster.client(), namespace),
        None => Api::all(cluster.client()),
    };
    api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default()
}

fn key_of(canary: &Canary) -> NamespacedName {
    NamespacedName::new(canary.namespace().unwrap_or_default(), canary.name_any())
}

/// A Canary with its target and its service.
fn link(canary: &Canary) -> (NamespacedName, String, String) {
    (key_of(canary), canary.spec.target_ref.name.clone(), canary.spec.service_name().to_owned())
}

/// Says of releases that will not begin that they will not: what failed once is released again when a person says so.
fn refuse_quarantined(preview: &mut Preview, canaries: &[Canary]) {
    let refused = preview.changes.iter().filter_map(|planned| {
        let release = planned.release.as_ref()?;
        let (TargetResult::Written { revision } | TargetResult::Announced { revision }) = &release.result else {
            return None;
        };
        let canary = canaries.iter().find(|canary| key_of(canary) == release.canary)?;
        let serin = canary.status.as_ref()?.serin.as_ref()?;
        let state = wire::read(serin.version, serin.state.clone()).ok().flatten()?;
        let failed = state.quarantine.iter().find(|failed| failed.revision.digest == revision.digest)?;
        let NamespacedName { namespace, name } = &release.canary;
        let words = format!(
            "{} failed before and is not released again by itself: `serin retry {name} -n {namespace}` once it is merged",
            failed.revision.digest.short()
        );
        Some((planned.id.clone(), words))
    });
    let refused: Vec<_> = refused.collect();
    preview.status.conditions.extend(refused);
}

/// What of the commit leaves primary's pods out, for the targets that it makes or releases.
fn at_risk(content: &Content, preview: &Preview, labels: &[String]) -> Vec<Risk> {
    let objects: Vec<serde_json::Value> = content.documents.iter().map(|kept| kept.thaw().object).collect();
    let touched = |namespace: &str, name: &str| {
        let mut changes = preview.changes.iter().filter(|planned| planned.action != Action::Prune);
        changes.any(|planned| {
            planned.id.namespace.as_deref() == Some(namespace)
                && (planned.id.name == name || planned.id.kind == "Canary" || planned.id.kind != "Deployment")
        })
    };
    let mut all: Vec<Risk> = Vec::new();
    for canary in objects.iter().filter(|object| object["kind"] == "Canary").filter_map(as_canary) {
        let namespace = canary.namespace().unwrap_or_else(|| "default".to_owned());
        let name = &canary.spec.target_ref.name;
        let is_target = |object: &&serde_json::Value| {
            let metadata = &object["metadata"];
            object["kind"] == "Deployment"
                && metadata["name"] == name.as_str()
                && metadata["namespace"].as_str().unwrap_or("default") == namespace
        };
        let Some(target) = objects.iter().find(is_target).filter(|_| touched(&namespace, name)) else { continue };
        let Ok(sides) = Sides::of(target, labels) else { continue };
        let scaler = canary.spec.autoscaler_ref.as_ref().map(|scaler| scaler.name.as_str());
        all.extend(risks(&objects, target, &sides, Own { service: canary.spec.service_name(), scaler }));
    }
    all.dedup();
    all
}

fn as_canary(object: &serde_json::Value) -> Option<Canary> {
    let group = object["apiVersion"].as_str()?.split_once('/')?.0;
    (group == api::GROUP).then(|| serde_json::from_value(object.clone()).ok()).flatten()
}
