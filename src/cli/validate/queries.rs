//! What Canaries measure is looked at as the daemon looks at it: what is needed stands in the manifests.

use std::collections::HashMap;

use kube::ResourceExt;

use crate::api::{Canary, MetricTemplate, MetricTemplateSpec};
use crate::controller::check_metrics;
use crate::model::{NamespacedName, ObjectRef};

use super::finding::{Finding, Rule, Severity};
use super::references::{Located, finding, ours, placed};

/// Looks at every metric of a Canary. One whose template is not among the manifests has been named already.
pub(super) fn check(
    canary: &Canary,
    namespace: &str,
    located: &Located<'_>,
    all: &HashMap<ObjectRef, &Located<'_>>,
) -> Vec<Finding> {
    let key = NamespacedName::new(namespace, canary.name_any());
    let faults = check_metrics(&key, &canary.spec, |template| template_of(all, template));
    let findings = faults
        .into_iter()
        .map(|fault| finding((Severity::Error, Rule::Query), located, &fault.path, fault.message));
    findings.collect()
}

fn template_of(
    all: &HashMap<ObjectRef, &Located<'_>>,
    NamespacedName { namespace, name }: &NamespacedName,
) -> Option<MetricTemplateSpec> {
    let template = all.get(&placed(&ours("MetricTemplate", namespace, name)))?;
    let template: MetricTemplate = serde_json::from_value(template.manifest.object.clone()).ok()?;
    Some(template.spec)
}
