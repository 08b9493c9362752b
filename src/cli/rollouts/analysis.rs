//! `create analysisrun` and `terminate analysisrun`: a run of a template's metrics without a Rollout, and its end.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::Target;
use crate::analysisrun::merge;
use crate::api::annotations::MANAGER_CLI;
use crate::api::argo::{AnalysisTemplateSpec, Argument};
use crate::api::{ARGO_GROUP, ARGO_VERSION};
use crate::cli::exit::{CliError, Exit};
use crate::cli::output;
use crate::manifest;

/// Arguments of `create analysisrun`.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Name of the run; made of the template's without it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Beginning of a name that the API server completes
    #[arg(long, value_name = "PREFIX")]
    generate_name: Option<String>,
    /// Only for the controller of this instance id
    #[arg(long, value_name = "ID")]
    instance_id: Option<String>,
    /// An argument of the template
    #[arg(short = 'a', long = "argument", value_name = "NAME=VALUE")]
    arguments: Vec<String>,
    /// The AnalysisTemplate in the cluster
    #[arg(long, value_name = "NAME", required_unless_present = "from_file", conflicts_with = "from_file")]
    from: Option<String>,
    /// A file with an AnalysisTemplate, a ClusterAnalysisTemplate or an AnalysisRun
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// The template is a ClusterAnalysisTemplate
    #[arg(long)]
    global: bool,
}

/// A kind of Argo Rollouts.
pub(super) fn kind(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(ARGO_GROUP, ARGO_VERSION, kind))
}

/// AnalysisRuns of a namespace.
pub(super) fn runs(target: &Target) -> Api<DynamicObject> {
    Api::namespaced_with(target.connection.client.clone(), &target.namespace, &kind("AnalysisRun"))
}

/// Makes a run.
pub(super) async fn create(target: &Target, args: &CreateArgs) -> anyhow::Result<u8> {
    let arguments = arguments(&args.arguments).map_err(CliError::input)?;
    let template = match (&args.from, &args.from_file) {
        (Some(name), _) => in_cluster(target, name, args.global).await?,
        (None, Some(file)) => in_file(file).map_err(CliError::input)?,
        (None, None) => {
            return Err(CliError::input(anyhow::anyhow!("name a template with --from or --from-file")).into());
        }
    };
    let run = run(&template, &arguments, args).map_err(CliError::input)?;
    let params = PostParams { field_manager: Some(MANAGER_CLI.to_owned()), ..PostParams::default() };
    let made = runs(target).create(&params, &run).await;
    let made = made.map_err(|error| target.connection.failed(error, "create the AnalysisRun"))?;
    output::data(&format!("analysisrun.argoproj.io/{} created\n", made.metadata.name.unwrap_or_default()))?;
    Ok(Exit::Done.code())
}

/// Ends a run.
pub(super) async fn terminate(target: &Target, name: &str) -> anyhow::Result<u8> {
    let params = PatchParams { field_manager: Some(MANAGER_CLI.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({"spec": {"terminate": true}}));
    let done = runs(target).patch(name, &params, &patch).await;
    done.map_err(|error| target.connection.failed(error, &format!("terminate AnalysisRun {name}")))?;
    output::data(&format!("analysisrun '{name}' terminated\n"))?;
    Ok(Exit::Done.code())
}

fn arguments(given: &[String]) -> anyhow::Result<Vec<Argument>> {
    let one = |text: &String| {
        let (name, value) =
            text.split_once('=').with_context(|| format!("argument `{text}` is not NAME=VALUE"))?;
        Ok(Argument { name: name.to_owned(), value: Some(value.to_owned()), value_from: None })
    };
    given.iter().map(one).collect()
}

async fn in_cluster(target: &Target, name: &str, global: bool) -> anyhow::Result<Value> {
    let client = target.connection.client.clone();
    let (what, api): (_, Api<DynamicObject>) = match global {
        true => ("ClusterAnalysisTemplate", Api::all_with(client, &kind("ClusterAnalysisTemplate"))),
        false => ("AnalysisTemplate", Api::namespaced_with(client, &target.namespace, &kind("AnalysisTemplate"))),
    };
    let found = api.get_opt(name).await;
    let found = found.map_err(|error| target.connection.failed(error, &format!("read {what} {name}")))?;
    let missing = || CliError::input(anyhow::anyhow!("{what} \"{name}\" not found in {}", target.namespace));
    Ok(serde_json::to_value(found.ok_or_else(missing)?)?)
}

fn in_file(file: &Path) -> anyhow::Result<Value> {
    let shown = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read {shown}"))?;
    let objects = manifest::parse(&shown, &text).with_context(|| format!("{shown} is no manifest"))?;
    let known = ["AnalysisTemplate", "ClusterAnalysisTemplate", "AnalysisRun"];
    let found = objects.into_iter().find(|object| known.contains(&object.kind()));
    found.map(|found| found.object).with_context(|| format!("{shown} has no AnalysisTemplate"))
}

fn run(template: &Value, given: &[Argument], args: &CreateArgs) -> anyhow::Result<DynamicObject> {
    let spec: AnalysisTemplateSpec =
        serde_json::from_value(template["spec"].clone()).context("the template cannot be read")?;
    if !spec.templates.is_empty() {
        anyhow::bail!("the template names other templates, which `create` does not put together");
    }
    let merged = merge(&[spec], given).map_err(|why| anyhow::anyhow!(why))?;
    let called = template["metadata"]["name"].as_str();
    let metadata = match (&args.name, &args.generate_name) {
        (Some(name), _) => json!({"name": name}),
        (None, Some(prefix)) => json!({"generateName": prefix}),
        (None, None) => json!({"generateName": format!("{}-", called.context("give it a --name")?)}),
    };
    let mut object = json!({
        "apiVersion": format!("{ARGO_GROUP}/{ARGO_VERSION}"), "kind": "AnalysisRun", "metadata": metadata,
        "spec": {
            "metrics": merged.metrics, "args": merged.args, "dryRun": merged.dry_run,
            "measurementRetention": merged.measurement_retention,
        },
    });
    if let Some(id) = &args.instance_id {
        object["metadata"]["labels"] = json!({"argo-rollouts.argoproj.io/controller-instance-id": id});
    }
    Ok(serde_json::from_value(object)?)
}
