//! The queries of a Canary's checks: what they are rendered with, and what is wrong with them before anybody is exposed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::api::{CanarySpec, MetricTemplateSpec};
use crate::cluster::explain;
use crate::metrics::{self, QueryContext};
use crate::model::NamespacedName;
use crate::release::{Check, CheckSource};

use super::settings::ControllerSettings;
use super::{checks, webhooks};

/// Finds a MetricTemplate; why it cannot be had, in words.
pub(super) type FindTemplate<'a> = &'a dyn Fn(&NamespacedName) -> Result<Arc<MetricTemplateSpec>, String>;

/// Two windows: a query that is the same for both does not use its window.
const WINDOWS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(90)];

/// What a query of this Canary is rendered with.
pub(super) fn context(
    canary: &NamespacedName,
    spec: &CanarySpec,
    window: Duration,
    source: &CheckSource,
) -> QueryContext {
    let (variables, lent) = match source {
        CheckSource::SuccessRate | CheckSource::Duration => (BTreeMap::new(), true),
        CheckSource::Query(_) => (BTreeMap::new(), false),
        CheckSource::Template { template, variables } => {
            (variables.clone(), template.namespace != canary.namespace)
        }
    };
    QueryContext {
        name: canary.name.clone(),
        namespace: canary.namespace.clone(),
        target: spec.target_ref.name.clone(),
        service: spec.service_name().to_owned(),
        ingress: spec.ingress_ref.as_ref().map(|found| found.name.clone()).unwrap_or_default(),
        route: spec.route_ref.as_ref().map(|found| found.name.clone()).unwrap_or_default(),
        interval: window,
        variables,
        lent,
    }
}

/// Whether the query of a metric looks back as far as it was written to, whatever window it is given. What cannot be
/// rendered has no window.
pub(super) fn has_own_window(
    canary: &NamespacedName,
    spec: &CanarySpec,
    source: &CheckSource,
    find: FindTemplate<'_>,
) -> bool {
    let text = match source {
        CheckSource::SuccessRate | CheckSource::Duration => return false,
        CheckSource::Query(text) => text.clone(),
        CheckSource::Template { template, variables: _ } => match find(template) {
            Ok(found) => found.query.clone(),
            Err(_) => return false,
        },
    };
    let [short, long] = WINDOWS.map(|window| context(canary, spec, window, source).render(&text).ok());
    short.is_some() && short == long
}

/// What is wrong with a check, in words: a release would only find that out with users on its canary.
pub(super) fn problem(
    canary: &NamespacedName,
    spec: &CanarySpec,
    check: &Check,
    find: FindTemplate<'_>,
) -> Option<String> {
    let found = match &check.source {
        CheckSource::SuccessRate | CheckSource::Duration | CheckSource::Query(_) => Ok(None),
        CheckSource::Template { template, variables: _ } => find(template).map(Some),
    };
    let reason = match found {
        Err(reason) => reason,
        Ok(found) => of_source(canary, spec, check, found.as_deref()).or_else(|| check.condition.problem())?,
    };
    Some(unmeasurable(&check.name, &reason))
}

fn unmeasurable(name: &str, reason: &str) -> String {
    format!("metric `{name}` cannot be checked: {reason}")
}

/// Why a check's query cannot be asked, with the template that it names.
fn of_source(
    canary: &NamespacedName,
    spec: &CanarySpec,
    check: &Check,
    found: Option<&MetricTemplateSpec>,
) -> Option<String> {
    let render = |text: &str| context(canary, spec, check.window, &check.source).render(text).err();
    match &check.source {
        CheckSource::SuccessRate | CheckSource::Duration => None,
        CheckSource::Query(text) => render(text).map(|error| explain(&error)),
        CheckSource::Template { template, variables: _ } => {
            let found = found?;
            let reason = of_template(found).or_else(|| render(&found.query).map(|error| explain(&error)));
            reason.map(|reason| format!("MetricTemplate {template}: {reason}"))
        }
    }
}

/// Why nobody can be asked by a template, whatever its query says.
fn of_template(MetricTemplateSpec { provider, .. }: &MetricTemplateSpec) -> Option<String> {
    let address = || {
        // Without an address the daemon's own Prometheus is asked.
        let error = webhooks::address(provider.address.as_deref()?, true).err()?;
        Some(format!("spec.provider.address: {error}"))
    };
    metrics::unsupported(&provider.type_).or_else(address)
}

/// A metric that could not be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricFault {
    /// Which field of the Canary: `spec.analysis.metrics[0].query`.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// Every metric of a Canary that would block it. `find` gives the templates that are at hand; one that is not says nothing.
pub fn check_metrics(
    canary: &NamespacedName,
    spec: &CanarySpec,
    find: impl Fn(&NamespacedName) -> Option<MetricTemplateSpec>,
) -> Vec<MetricFault> {
    let settings = ControllerSettings::of_nobody();
    let nowhere = |_: &NamespacedName| Err(String::new());
    let metrics = spec.analysis.metrics.iter().enumerate();
    // What is no check at all has been said of the Canary as a whole.
    let checks = metrics.filter_map(|(index, metric)| {
        Some((index, checks::check(canary, spec, (index, metric), &settings, &nowhere).ok()?))
    });
    let faults = checks.flat_map(|(index, check)| {
        let (field, found) = match &check.source {
            CheckSource::SuccessRate | CheckSource::Duration => (".name", None),
            CheckSource::Query(_) => (".query", None),
            CheckSource::Template { template, variables: _ } => (".templateRef.name", find(template)),
        };
        let of_source = of_source(canary, spec, &check, found.as_ref()).map(|reason| (field, reason));
        let of_limit = check.condition.problem().map(|reason| (".thresholdRange", reason));
        [of_source, of_limit].into_iter().flatten().map(move |(field, reason)| MetricFault {
            path: format!("spec.analysis.metrics[{index}]{field}"),
            message: unmeasurable(&check.name, &reason),
        })
    });
    faults.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::analysis::{Condition, Range};
    use crate::release::OnMissing;

    fn said(source: CheckSource, range: Range) -> Option<String> {
        let spec: CanarySpec = serde_json::from_value(json!({
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"}, "service": {"port": 80},
            "analysis": {"stepWeight": 10}
        }))
        .unwrap();
        let check = Check {
            name: "errors".to_owned(),
            source,
            condition: Condition::Range(range),
            window: Duration::from_secs(60),
            own_window: false,
            patience: Duration::from_secs(30),
            on_no_data: OnMissing::Hold,
            on_error: OnMissing::Hold,
            min_samples: 0,
            on_few: OnMissing::Hold,
        };
        let find = |key: &NamespacedName| match key.name.as_str() {
            "good" => template("prometheus", "rate(a{b=\"{{ variables.code }}\"}[{{ interval }}])"),
            "typo" => template("prometheus", "rate(a[{{ intreval }}])"),
            "elsewhere" => template("datadog", "a"),
            "unaddressed" => {
                let spec = json!({"provider": {"type": "prometheus", "address": "prometheus:9090"}, "query": "a"});
                Ok(Arc::new(serde_json::from_value(spec).unwrap()))
            }
            _ => Err(format!("MetricTemplate {key} does not exist")),
        };
        problem(&NamespacedName::new("test", "podinfo"), &spec, &check, &find)
    }

    fn template(kind: &str, query: &str) -> Result<Arc<MetricTemplateSpec>, String> {
        let spec = json!({"provider": {"type": kind, "address": "http://p"}, "query": query});
        Ok(Arc::new(serde_json::from_value(spec).unwrap()))
    }

    fn of(name: &str, variables: &[(&str, &str)]) -> CheckSource {
        let variables = variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        CheckSource::Template { template: NamespacedName::new("test", name), variables }
    }

    #[test]
    fn what_a_release_would_stumble_over_is_found_before() {
        let limit = Range { min: None, max: Some(1.0) };
        let code = [("code", "5.*")];
        assert_eq!(said(of("good", &code), limit), None);
        assert_eq!(said(CheckSource::SuccessRate, limit), None);
        let cases = [
            (said(of("gone", &code), limit), "does not exist"),
            (said(of("good", &[]), limit), "no variable \"code\""),
            (said(of("typo", &[]), limit), "MetricTemplate test/typo: "),
            (said(of("elsewhere", &[]), limit), "datadog is not supported yet"),
            (said(CheckSource::Query("{{ nobody }}".to_owned()), limit), "nobody"),
            (said(CheckSource::Duration, Range::default()), "no limit"),
            (said(CheckSource::Duration, Range { min: Some(3.0), max: Some(1.0) }), "no value is in 3 to 1"),
            (
                said(of("unaddressed", &[]), limit),
                "MetricTemplate test/unaddressed: spec.provider.address: the address",
            ),
        ];
        for (said, expected) in cases {
            let said = said.unwrap_or_default();
            assert!(said.starts_with("metric `errors` cannot be checked: ") && said.contains(expected), "{said}");
        }
    }
}
