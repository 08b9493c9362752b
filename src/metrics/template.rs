//! Query templates: Flagger's Go-template functions, rendered strictly.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use minijinja::value::{Object, ObjectRepr, Value};
use minijinja::{Environment, State, UndefinedBehavior};

/// Longest rendered query, in bytes; anything longer is a template that repeats itself.
const QUERY_MAX: usize = 64 * 1024;

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
}

/// A template that cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A syntax error or an unknown name.
    #[error("query render error")]
    Render(#[from] minijinja::Error),
    /// The result is too long.
    #[error("the rendered query is {0} bytes long, more than {QUERY_MAX}")]
    TooLong(usize),
}

impl QueryContext {
    /// Renders `template`; an unknown name or variable is an error, never an empty string.
    pub fn render(&self, template: &str) -> Result<String, TemplateError> {
        let Self { name, namespace, target, service, ingress, route, interval, variables } = self;
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let words: BTreeMap<&str, Value> = [
            ("name", name.as_str()),
            ("namespace", namespace),
            ("target", target),
            ("service", service),
            ("ingress", ingress),
            ("route", route),
            ("interval", &prometheus_duration(*interval)),
        ]
        .into_iter()
        .map(|(key, word)| (key, Value::from_object(Word(word.to_owned()))))
        .chain([("variables", Value::from_object(Variables(variables.clone())))])
        .collect();
        let query = environment.render_str(&from_go(template), words)?;
        if query.len() > QUERY_MAX { Err(TemplateError::TooLong(query.len())) } else { Ok(query) }
    }
}

/// Go's spellings that Jinja reads differently: `{{/* … */}}` and `{{ index variables "x" }}`.
fn from_go(template: &str) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((inside, after)) = after.split_once("}}") else {
            out.push_str("{{");
            out.push_str(after);
            return out;
        };
        let bare = inside.trim_matches(|c: char| c == '-' || c.is_whitespace());
        if !(bare.starts_with("/*") && bare.ends_with("*/")) {
            out.push_str("{{");
            match bare.strip_prefix("index ").and_then(|args| args.trim().split_once(' ')) {
                Some((map, key)) => out.push_str(&format!(" {map}[{}] ", key.trim())),
                None => out.push_str(inside),
            }
            out.push_str("}}");
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// A name that is a function in Go templates: `{{ target }}` and `{{ target() }}` give the same.
#[derive(Debug)]
struct Word(String);

impl Object for Word {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _state: &mut State<'_, '_>, _args: &[Value]) -> Result<Value, minijinja::Error> {
        Ok(Value::from(self.0.clone()))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `variables` and `variables()`.
#[derive(Debug)]
struct Variables(BTreeMap<String, String>);

impl Object for Variables {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_str()?).map(|value| Value::from(value.clone()))
    }

    fn call(self: &Arc<Self>, _state: &mut State<'_, '_>, _args: &[Value]) -> Result<Value, minijinja::Error> {
        Ok(Value::from_dyn_object(Arc::clone(self)))
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
    use super::super::ISTIO;
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
        }
    }

    #[test]
    fn renders_what_flagger_users_write() {
        let rendered = context()
            .render("a{n=\"{{ namespace }}\",t=~\"{{target}}-.*\",s=\"{{ service() }}\",c=\"{{ variables.code }}\"}[{{- interval -}}]")
            .unwrap();
        assert_eq!(rendered, "a{n=\"test\",t=~\"podinfo-.*\",s=\"web\",c=\"404\"}[1m]");
        assert_eq!(context().render("{{/* why */}}{{ index variables \"code\" }}{{ ingress }}").unwrap(), "404");
    }

    #[test]
    fn unknown_names_are_errors() {
        for template in ["{{ nmespace }}", "{{ variables.missing }}", "{{ target "] {
            assert!(context().render(template).is_err(), "{template}");
        }
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
        for query in [ISTIO.success_rate, ISTIO.duration] {
            let rendered = context().render(query).unwrap();
            promql_parser::parser::parse(&rendered).unwrap();
            assert!(!rendered.contains("{{"));
        }
    }
}
