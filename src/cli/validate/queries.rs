//! Queries are rendered as the daemon renders them: everything that is needed stands in the manifests.

use std::collections::{BTreeMap, HashMap};

use kube::ResourceExt;

use crate::api::{Canary, MetricTemplate};
use crate::metrics::QueryContext;
use crate::model::ObjectRef;

use super::finding::{Finding, Rule, Severity};
use super::references::{Located, finding, ours, placed};

/// Renders every query of a Canary. One whose template is not among the manifests has been named already.
pub(super) fn check(
    canary: &Canary,
    namespace: &str,
    located: &Located<'_>,
    all: &HashMap<ObjectRef, &Located<'_>>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, metric) in canary.spec.analysis.metrics.iter().enumerate() {
        let path = format!("spec.analysis.metrics[{index}]");
        let window = metric.window().unwrap_or_default();
        let mut context = QueryContext {
            name: canary.name_any(),
            namespace: namespace.to_owned(),
            target: canary.spec.target_ref.name.clone(),
            service: canary.spec.service_name().to_owned(),
            ingress: canary.spec.ingress_ref.as_ref().map(|found| found.name.clone()).unwrap_or_default(),
            route: canary.spec.route_ref.as_ref().map(|found| found.name.clone()).unwrap_or_default(),
            interval: window,
            variables: BTreeMap::new(),
            lent: false,
        };
        let (path, rendered) = match (&metric.template_ref, &metric.query) {
            (Some(reference), _) => {
                let of = reference.namespace.as_deref().unwrap_or(namespace);
                let Some(query) = query_of(all, of, &reference.name) else { continue };
                context.variables.clone_from(&metric.template_variables);
                context.lent = of != namespace;
                let rendered = context.render(&query);
                let name = format!("the query of MetricTemplate {of}/{} cannot be rendered: ", reference.name);
                (format!("{path}.templateRef.name"), rendered.map_err(|error| format!("{name}{error}")))
            }
            (None, Some(query)) => {
                let rendered = context.render(query);
                (
                    format!("{path}.query"),
                    rendered.map_err(|error| format!("the query cannot be rendered: {error}")),
                )
            }
            (None, None) => continue,
        };
        if let Err(message) = rendered {
            findings.push(finding((Severity::Error, Rule::Query), located, &path, message));
        }
    }
    findings
}

fn query_of(all: &HashMap<ObjectRef, &Located<'_>>, namespace: &str, name: &str) -> Option<String> {
    let template = all.get(&placed(&ours("MetricTemplate", namespace, name)))?;
    let template: MetricTemplate = serde_json::from_value(template.manifest.object.clone()).ok()?;
    Some(template.spec.query)
}
