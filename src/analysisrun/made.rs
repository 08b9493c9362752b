//! Runs that a Rollout makes: their names and labels, and what their templates are given.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::argo::{AnalysisTemplateSpec, Argument, RolloutAnalysis, RolloutArgument, RolloutValueFrom};
use crate::api::{ARGO_GROUP, ARGO_VERSION};

use super::args::field;
use super::merge::merge;

/// Labels of a run: what it is for, and the step.
const TYPE: &str = "rollout-type";
const STEP: &str = "step-index";
/// Label of a revision, and annotation of its number.
const HASH: &str = "rollouts-pod-template-hash";
const REVISION: &str = "rollout.argoproj.io/revision";
/// Label of objects that a controller of that id alone leads.
const INSTANCE: &str = "argo-rollouts.argoproj.io/controller-instance-id";

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// It goes on beside the steps.
    Background,
    /// It is this step, from 0.
    Step(u32),
    /// Before users are sent to the other side at once.
    PrePromotion,
    /// After that.
    PostPromotion,
}

impl Purpose {
    /// Upstream's word, which is also the label's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Step(_) => "Step",
            Self::PrePromotion => "PrePromotion",
            Self::PostPromotion => "PostPromotion",
        }
    }

    /// What a Rollout says whose update a run of it has ended.
    pub fn ended(self, message: Option<&str>) -> String {
        let what = match self {
            Self::Background => "Background analysis phase error/failed",
            Self::Step(_) => "Step-based analysis phase error/failed",
            Self::PrePromotion => "Blue/green pre-promotion analysis phase error/failed",
            Self::PostPromotion => "Blue/green post-promotion analysis phase error/failed",
        };
        message.map_or_else(|| what.to_owned(), |message| format!("{what}: {message}"))
    }
}

/// The Rollout that makes a run.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The object.
    pub rollout: &'a Value,
    /// Hash of the ReplicaSet that is new.
    pub latest: &'a str,
    /// Hash of the one that serves.
    pub stable: &'a str,
    /// Number of the new revision.
    pub revision: u64,
}

/// The name of a run, before it is told from others of the same name.
pub fn name(origin: Origin<'_>, purpose: Purpose) -> String {
    let Origin { rollout, latest, revision, .. } = origin;
    let base = format!("{}-{latest}-{revision}", rollout["metadata"]["name"].as_str().unwrap_or_default());
    match purpose {
        Purpose::Background => base,
        Purpose::Step(index) => format!("{base}-{index}"),
        Purpose::PrePromotion => format!("{base}-pre"),
        Purpose::PostPromotion => format!("{base}-post"),
    }
}

/// A run of merged templates, under `name`, with further annotations.
///
/// # Errors
/// When arguments or templates do not fit, in upstream's words.
pub fn made(
    origin: Origin<'_>,
    purpose: Purpose,
    analysis: &RolloutAnalysis,
    templates: &[AnalysisTemplateSpec],
    (name, annotations): (&str, &[(&str, &str)]),
) -> Result<Value, String> {
    let Origin { rollout, latest, revision, .. } = origin;
    let given = analysis.args.iter().map(|argument| value_of(origin, argument)).collect::<Result<Vec<_>, _>>()?;
    let merged = merge(templates, &given)?;
    let own = AnalysisTemplateSpec {
        dry_run: analysis.dry_run.clone(),
        measurement_retention: analysis.measurement_retention.clone(),
        ..AnalysisTemplateSpec::default()
    };
    let rules = AnalysisTemplateSpec {
        dry_run: merged.dry_run,
        measurement_retention: merged.measurement_retention,
        ..AnalysisTemplateSpec::default()
    };
    let rules = merge(&[own, rules], &[])?;
    let metadata = analysis.analysis_run_metadata.clone().unwrap_or_default();
    let mut labels: BTreeMap<String, String> = [(HASH, latest), (TYPE, purpose.as_str())].map(owned).into();
    if let Purpose::Step(index) = purpose {
        labels.insert(STEP.to_owned(), index.to_string());
    }
    if let Some(id) = rollout["metadata"]["labels"][INSTANCE].as_str() {
        labels.insert(INSTANCE.to_owned(), id.to_owned());
    }
    labels.extend(metadata.labels);
    let selected = rollout["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
    labels.extend(selected.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))));
    let mut all: BTreeMap<String, String> = [owned((REVISION, &revision.to_string()))].into();
    all.extend(metadata.annotations);
    all.extend(annotations.iter().copied().map(owned));
    Ok(json!({
        "apiVersion": format!("{ARGO_GROUP}/{ARGO_VERSION}"), "kind": "AnalysisRun",
        "metadata": {
            "name": name, "namespace": rollout["metadata"]["namespace"], "labels": labels, "annotations": all,
            "ownerReferences": [{
                "apiVersion": format!("{ARGO_GROUP}/{ARGO_VERSION}"), "kind": "Rollout",
                "name": rollout["metadata"]["name"], "uid": rollout["metadata"]["uid"],
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "metrics": merged.metrics, "args": merged.args, "dryRun": rules.dry_run,
            "measurementRetention": rules.measurement_retention,
        },
    }))
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

fn value_of(origin: Origin<'_>, argument: &RolloutArgument) -> Result<Argument, String> {
    let RolloutArgument { name, value, value_from } = argument;
    let found = match value_from {
        None => value.clone().unwrap_or_default(),
        Some(RolloutValueFrom { pod_template_hash_value: Some(side), .. }) => match side.as_str() {
            "Latest" => origin.latest.to_owned(),
            "Stable" => origin.stable.to_owned(),
            other => {
                return Err(format!("args.{name}: podTemplateHashValue {other} is neither Stable nor Latest"));
            }
        },
        Some(RolloutValueFrom { field_ref: Some(reference), .. }) => field(origin.rollout, &reference.field_path)?,
        Some(RolloutValueFrom { pod_template_hash_value: None, field_ref: None }) => {
            value.clone().unwrap_or_default()
        }
    };
    Ok(Argument { name: name.clone(), value: Some(found), value_from: None })
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn a_run_has_upstreams_name_labels_and_owner_and_the_rollouts_values() {
        let rollout = json!({
            "metadata": {"name": "web", "namespace": "demo", "uid": "u1"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}},
        });
        let origin = Origin { rollout: &rollout, latest: "bbb", stable: "aaa", revision: 4 };
        let analysis: RolloutAnalysis = serde_json::from_value(json!({
            "templates": [{"templateName": "istio-success-rate"}],
            "args": [
                {"name": "service", "value": "canary"},
                {"name": "namespace", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                {"name": "hash", "valueFrom": {"podTemplateHashValue": "Stable"}},
            ],
            "dryRun": [{"metricName": "rate"}],
            "analysisRunMetadata": {"labels": {"team": "a"}, "annotations": {"link": "x"}},
        }))
        .unwrap();
        let template: AnalysisTemplateSpec = serde_json::from_value(json!({
            "args": [{"name": "service"}, {"name": "namespace"}, {"name": "hash"}],
            "metrics": [{"name": "rate", "provider": {"web": {"url": "http://x"}}}],
        }))
        .unwrap();
        let purpose = Purpose::Step(3);
        let called = name(origin, purpose);
        let run = made(origin, purpose, &analysis, &[template], (&called, &[("serin.dev/run", "k")])).unwrap();
        assert_eq!(run["metadata"]["name"], "web-bbb-4-3");
        let labels = json!({"app": "web", "team": "a", HASH: "bbb", TYPE: "Step", STEP: "3"});
        assert_eq!(run["metadata"]["labels"], labels);
        assert_eq!(run["metadata"]["annotations"], json!({REVISION: "4", "link": "x", "serin.dev/run": "k"}));
        assert_eq!(run["metadata"]["ownerReferences"][0]["uid"], "u1");
        let args = json!([
            {"name": "service", "value": "canary"}, {"name": "namespace", "value": "demo"}, {"name": "hash", "value": "aaa"},
        ]);
        assert_eq!(run["spec"]["args"], args);
        assert_eq!(run["spec"]["dryRun"], json!([{"metricName": "rate"}]));
        assert_eq!(name(origin, Purpose::Background), "web-bbb-4");
        let said = Purpose::Background.ended(Some("Metric \"rate\" assessed Failed"));
        assert_eq!(said, "Background analysis phase error/failed: Metric \"rate\" assessed Failed");
    }
}
