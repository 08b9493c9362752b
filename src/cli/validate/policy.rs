//! What the daemon would say to an object beyond its schema: asked of the rooms that would say it.

use kube::ResourceExt;

use crate::api::ARGO_GROUP;
use crate::manifest::Manifest;
use crate::model::NamespacedName;
use crate::{analysisrun, controller, metrics, sync};

use super::files::Source;
use super::finding::{Finding, Rule, Severity};
use super::kinds;
use super::references::canary_of;

/// Argo Rollouts' kinds that have metrics.
const ANALYSES: [&str; 3] = ["AnalysisTemplate", "ClusterAnalysisTemplate", "AnalysisRun"];

/// Gone API versions; metric providers that cannot be asked; for a Canary, whether this version of Serin carries it out; metrics of
/// Argo Rollouts' analysis that no run could measure.
pub(super) fn check(source: &Source, manifest: &Manifest) -> Vec<Finding> {
    let of = |severity, rule, path: &str, message| Finding::at((severity, rule), source, manifest, path, message);
    let finding = |severity, path: &str, message| of(severity, Rule::Policy, path, message);
    let mut findings = Vec::new();
    if let Some(message) = sync::gone_version(&manifest.object) {
        findings.push(of(Severity::Warning, Rule::Version, "apiVersion", message));
    }
    if let Some(message) = sync::not_served(&manifest.object) {
        findings.push(of(Severity::Error, Rule::Version, "apiVersion", message));
    }
    if let Some(message) = kinds::unknown(&manifest.object) {
        findings.push(of(Severity::Error, Rule::Version, "kind", message));
    }
    let provider = manifest.object["spec"]["provider"]["type"].as_str();
    if manifest.kind() == "MetricTemplate"
        && let Some(reason) = provider.and_then(metrics::unsupported)
    {
        let message = format!("{reason}; a Canary that uses it is blocked");
        findings.push(finding(Severity::Warning, "spec.provider.type", message));
    }
    if ANALYSES.contains(&manifest.kind()) && manifest.object_ref().group == ARGO_GROUP {
        let faults = analysisrun::faults(&manifest.object["spec"], jiff::Timestamp::now());
        findings.extend(faults.into_iter().map(|fault| {
            let severity = if fault.may_be_right { Severity::Warning } else { Severity::Error };
            finding(severity, &fault.path, fault.message)
        }));
    }
    let Some(canary) = canary_of(manifest) else { return findings };
    let key = NamespacedName::new(manifest.namespace().unwrap_or("default"), canary.name_any());
    match controller::check_policy(&key, &canary.spec) {
        Ok(notices) => findings
            .extend(notices.into_iter().map(|notice| finding(Severity::Warning, &notice.path, notice.message))),
        Err(error) => {
            let words = crate::cluster::explain(&error);
            findings.push(finding(Severity::Error, error.path(), words));
        }
    }
    findings
}
