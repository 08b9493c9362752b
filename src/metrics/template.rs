//! Query templates: Go templates with Flagger's functions, rendered strictly.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::template::{self, Budget, Scope, TemplateError, Value};

use super::promql;

/// What rendering a query may cost: far more than any query needs, and milliseconds at most.
const BUDGET: Budget = Budget { bytes: 64 * 1024, steps: 100_000 };

/// What a query template may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryContext {
    /// `{{ name }}`: the Canary's name.
    pub name: String,
    /// `{{ namespace }}`: the Canary's namespace.
    pub namespace: String,
    /// `{{ target }}`: the target workload's name.
    pub target: String,
    /// `{{ service }}`: the apex service's name.
    pub service: String,
    /// `{{ ingress }}`: `spec.ingressRef.name`, empty without one.
    pub ingress: String,
    /// `{{ route }}`: `spec.routeRef.name`, empty without one.
    pub route: String,
    /// `{{ interval }}`: the query window.
    pub interval: Duration,
    /// `{{ variables.x }}`.
    pub variables: BTreeMap<String, String>,
    /// Whether the query is somebody else's than the Canary's: what the Canary fills in then stays within the quotes it
    /// stands in, or is one word, so that it asks nothing else with rights that are not its own.
    pub lent: bool,
}

impl QueryContext {
    /// Renders `template`; an unknown name or variable is an error, never an empty string.
    ///
    /// # Errors
    /// With the place in the template.
    pub fn render(&self, template: &str) -> Result<String, TemplateError> {
        let Self { name, namespace, target, service, ingress, route, interval, variables, lent } = self;
        let variables = variables.iter().map(|(name, text)| (name.clone(), Value::text_of(text.as_str(), true)));
        let window = prometheus_duration(*interval);
        let words = [
            ("name", name),
            ("namespace", namespace),
            ("target", target),
            ("service", service),
            ("ingress", ingress),
            ("route", route),
            ("interval", &window),
        ];
        let names = words.map(|(key, word)| (key, Value::text_of(word.as_str(), true)));
        let names = names.into_iter().chain([("variables", Value::texts(variables))]).collect();
        let guard: Option<template::Guard<'_>> = if *lent { Some(&promql::fill_in) } else { None };
        template::render(template, &Scope { names, budget: BUDGET, guard })
    }
}

/// A duration as PromQL writes it: `1m30s`, `250ms`. Never empty: a window is at least one millisecond.
pub fn prometheus_duration(duration: Duration) -> String {
    let millis = duration.as_millis().max(1);
    let parts = [
        (millis / 3_600_000, "h"),
        (millis / 60_000 % 60, "m"),
        (millis / 1_000 % 60, "s"),
        (millis % 1_000, "ms"),
    ];
    parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{BuiltIn, HTTP, ISTIO};
    use super::*;

    fn context() -> QueryContext {
        QueryContext {
            name: "podinfo".into(),
            namespace: "test".into(),
            target: "podinfo".into(),
            service: "web".into(),
            ingress: String::new(),
            route: String::new(),
            interval: Duration::from_secs(60),
            variables: [("code".to_owned(), "404".to_owned())].into(),
            lent: false,
        }
    }

    #[test]
    fn renders_what_flagger_users_write() {
        let rendered = context()
            .render("a{n=\"{{ namespace }}\",t=~\"{{target}}-.*\",s=\"{{ service | printf \"%s-canary\" }}\",c=\"{{ variables.code }}\"}[{{- interval -}}]")
            .unwrap();
        assert_eq!(rendered, "a{n=\"test\",t=~\"podinfo-.*\",s=\"web-canary\",c=\"404\"}[1m]");
        assert_eq!(context().render("{{/* why */}}{{ index variables \"code\" }}{{ ingress }}").unwrap(), "404");
    }

    #[test]
    fn unknown_names_are_errors() {
        for template in ["{{ nmespace }}", "{{ variables.missing }}", "{{ target "] {
            assert!(context().render(template).is_err(), "{template}");
        }
    }

    #[test]
    fn a_canary_that_is_lent_a_query_asks_nothing_else_with_it() {
        let attack = "\"})) or sum(secret_metric{a=\"";
        let variables = [("code".to_owned(), attack.to_owned())].into();
        let context = QueryContext { variables, service: attack.to_owned(), lent: true, ..context() };
        for template in [
            "sum(rate(requests{code=\"{{ variables.code }}\"}[{{ interval }}]))",
            "sum(rate(requests{code=\"{{ printf \"%s\" variables.code }}\"}[1m]))",
            "sum(rate(requests{service={{ quote service }}}[1m]))",
        ] {
            let query = context.render(template).unwrap();
            promql_parser::parser::parse(&query).unwrap();
            // Whatever stands in the one quoted text, there is one selector.
            assert_eq!(query.split('"').next().unwrap().matches('{').count(), 1, "{query}");
            assert!(query.starts_with("sum(rate(requests{") && query.ends_with("}[1m]))"), "{query}");
            assert!(query.contains("\\\""), "{query}");
        }
        let outside = [("code".to_owned(), "a) or sum(secret_metric".to_owned())].into();
        let context = QueryContext { variables: outside, ..context };
        assert!(context.render("sum({{ variables.code }})").is_err());
        let own = QueryContext { lent: false, ..context };
        assert!(own.render("sum({{ variables.code }})").is_ok(), "one's own query is as one writes it");
    }

    #[test]
    fn windows_are_promql_durations() {
        for (millis, expected) in
            [(60_000, "1m"), (90_000, "1m30s"), (250, "250ms"), (1_500, "1s500ms"), (0, "1ms"), (3_600_000, "1h")]
        {
            assert_eq!(prometheus_duration(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn built_in_queries_are_valid_promql() {
        let counters = |all: &BuiltIn| {
            let counters = all.counters.as_ref().unwrap();
            [counters.both, counters.primary, counters.primary_failed]
        };
        let checks = |all: &BuiltIn| [all.success_rate, all.duration, all.requests.unwrap()];
        for query in [ISTIO, HTTP].iter().flat_map(|all| checks(all).into_iter().chain(counters(all))) {
            let rendered = context().render(query).unwrap();
            promql_parser::parser::parse(&rendered).unwrap();
            assert!(!rendered.contains("{{"));
        }
    }
}
