//! What is wrong with a template or a run before anybody runs it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::expression::Language;
use super::plan::Plan;

/// Fields that are a number or a duration: one that an argument fills in is nobody's to judge yet.
const NUMBERS: [&str; 5] =
    ["count", "failureLimit", "inconclusiveLimit", "consecutiveErrorLimit", "consecutiveSuccessLimit"];
const DURATIONS: [&str; 2] = ["interval", "initialDelay"];

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `spec.metrics[0]`.
    pub path: String,
    /// What, in upstream's words where it has some.
    pub message: String,
    /// It may be right together with other templates.
    pub may_be_right: bool,
}

/// Everything that is wrong with the metrics of a template or of a run. `now` is only a moment at which `now()` may stand.
pub fn faults(spec: &Value, now: Timestamp) -> Vec<Fault> {
    let language = Language::at(now);
    let declared: BTreeSet<&str> = names(&spec["args"]).collect();
    let metrics = spec["metrics"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (index, metric) in metrics.iter().enumerate() {
        let path = format!("spec.metrics[{index}]");
        let error = |message: String| Fault { path: path.clone(), message, may_be_right: false };
        if let Some(name) = metric["name"].as_str().filter(|name| !seen.insert(*name)) {
            found.push(error(format!("duplicate name '{name}'")));
        }
        let mut asked = BTreeSet::new();
        arguments(metric, &mut asked);
        let unknown = asked.iter().filter(|name| !declared.contains(name.as_str()));
        found.extend(unknown.map(|name| Fault {
            path: path.clone(),
            message: format!("{{{{args.{name}}}}} is no argument of this template"),
            may_be_right: true,
        }));
        let given: Vec<Value> = asked.iter().map(|name| json!({"name": name, "value": "1"})).collect();
        let alone = json!({"args": given, "metrics": [guessed(metric)]});
        if let Err(message) = Plan::of(&alone, &language) {
            let message = message.trim_start_matches("Analysis spec invalid: ").trim_start_matches("metrics[0]: ");
            found.push(error(message.to_owned()));
        }
    }
    found
}

fn names(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str())
}

/// The arguments that a value names.
fn arguments(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            let tags =
                text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(tag, _)| tag.trim());
            found.extend(tags.filter_map(|tag| tag.strip_prefix("args.")).map(str::to_owned));
        }
        Value::Array(items) => items.iter().for_each(|item| arguments(item, found)),
        Value::Object(map) => map.values().for_each(|item| arguments(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A metric with something that fits where an argument will stand.
fn guessed(metric: &Value) -> Value {
    let mut metric = metric.clone();
    let Some(fields) = metric.as_object_mut() else { return metric };
    let is_open = |value: Option<&Value>| value.and_then(Value::as_str).is_some_and(|text| text.contains("{{"));
    for field in NUMBERS.into_iter().filter(|field| is_open(fields.get(*field))).collect::<Vec<_>>() {
        fields.remove(field);
    }
    for field in DURATIONS.into_iter().filter(|field| is_open(fields.get(*field))).collect::<Vec<_>>() {
        fields.insert(field.to_owned(), json!("1m"));
    }
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(spec: Value) -> Vec<String> {
        let faults = faults(&spec, Timestamp::UNIX_EPOCH);
        faults.into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
    }

    #[test]
    fn the_seeds_template_is_right_and_mistakes_are_told_with_their_place() {
        let metric = json!({
            "name": "success-rate", "initialDelay": "60s", "interval": "20s", "successCondition": "result[0] > 0.90",
            "provider": {"prometheus": {"address": "http://x.example.com:9090/api/v1/prometheus/", "query": "up{s=~\"{{args.service}}.{{args.namespace}}\"}"}},
        });
        let args = json!([{"name": "service"}, {"name": "namespace"}]);
        assert_eq!(told(json!({"args": args, "metrics": [metric]})), Vec::<String>::new());

        let mut open = metric.clone();
        open["count"] = json!("{{args.count}}");
        open["interval"] = json!("{{args.every}}");
        let args = json!([{"name": "service"}, {"name": "namespace"}, {"name": "count"}, {"name": "every"}]);
        assert_eq!(told(json!({"args": args, "metrics": [open]})), Vec::<String>::new());

        let mut wrong = metric.clone();
        wrong["successCondition"] = json!("result[0] >> 0.9");
        let told = told(json!({"args": [{"name": "service"}], "metrics": [metric, wrong]}));
        assert_eq!(told.len(), 4, "{told:#?}");
        assert_eq!(told[0], "spec.metrics[0]: {{args.namespace}} is no argument of this template");
        assert_eq!(told[1], "spec.metrics[1]: duplicate name 'success-rate'");
        assert!(told[3].starts_with("spec.metrics[1]: successCondition \"result[0] >> 0.9\" cannot be read"));
    }
}
