//! Several templates become one list of metrics and arguments.

use std::collections::BTreeMap;

use crate::api::argo::{AnalysisTemplateSpec, Argument, DryRun, MeasurementRetention, Metric};

/// What a run is made of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Merged {
    /// What is measured.
    pub metrics: Vec<Metric>,
    /// With their values.
    pub args: Vec<Argument>,
    /// Metrics that end nothing.
    pub dry_run: Vec<DryRun>,
    /// How many measurements are kept.
    pub measurement_retention: Vec<MeasurementRetention>,
}

/// Merges templates, in their order, with the arguments that whoever runs them gives: those win.
///
/// # Errors
/// When two metrics have one name, two templates give one argument different values, or an argument has none; in upstream's
/// words.
pub fn merge(templates: &[AnalysisTemplateSpec], given: &[Argument]) -> Result<Merged, String> {
    let mut merged = Merged::default();
    for AnalysisTemplateSpec { metrics, args, dry_run, measurement_retention, templates: _ } in templates {
        for metric in metrics {
            if merged.metrics.iter().any(|known| known.name == metric.name) {
                return Err(format!("two metrics have the same name '{}'", metric.name));
            }
            merged.metrics.push(metric.clone());
        }
        for argument in args {
            add_argument(&mut merged.args, argument)?;
        }
        for rule in dry_run {
            if merged.dry_run.contains(rule) {
                return Err(format!("two Dry-Run metric rules have the same name '{}'", rule.metric_name));
            }
            merged.dry_run.push(rule.clone());
        }
        for rule in measurement_retention {
            if merged.measurement_retention.iter().any(|known| known.metric_name == rule.metric_name) {
                let name = &rule.metric_name;
                return Err(format!("two Measurement Retention metric rules have the same name '{name}'"));
            }
            merged.measurement_retention.push(rule.clone());
        }
    }
    let given: BTreeMap<&str, &Argument> =
        given.iter().map(|argument| (argument.name.as_str(), argument)).collect();
    for argument in &mut merged.args {
        match given.get(argument.name.as_str()) {
            Some(Argument { value: Some(value), .. }) => argument.value = Some(value.clone()),
            Some(Argument { value_from: Some(from), .. }) => argument.value_from = Some(from.clone()),
            Some(_) | None => {}
        }
        if argument.value.is_none() && argument.value_from.is_none() {
            return Err(format!("args.{} was not resolved", argument.name));
        }
    }
    Ok(merged)
}

fn add_argument(all: &mut Vec<Argument>, new: &Argument) -> Result<(), String> {
    let Some(known) = all.iter_mut().find(|known| known.name == new.name) else {
        all.push(new.clone());
        return Ok(());
    };
    match (&known.value, &new.value) {
        (Some(before), Some(now)) if before != now => Err(format!(
            "Argument `{}` specified multiple times with different values: '{before}', '{now}'",
            new.name
        )),
        (None, _) => {
            *known = new.clone();
            Ok(())
        }
        (Some(_), _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn template(metrics: &[&str], args: Value) -> AnalysisTemplateSpec {
        let metrics: Vec<Value> =
            metrics.iter().map(|name| json!({"name": name, "provider": {"web": {"url": "http://x"}}})).collect();
        serde_json::from_value(json!({"metrics": metrics, "args": args})).unwrap()
    }

    fn args(args: Value) -> Vec<Argument> {
        serde_json::from_value(args).unwrap()
    }

    #[test]
    fn templates_become_one_and_given_arguments_win() {
        let all = [
            template(&["a"], json!([{"name": "service"}, {"name": "port", "value": "80"}])),
            template(&["b"], json!([{"name": "port", "value": "80"}, {"name": "service", "value": "x"}])),
        ];
        let merged =
            merge(&all, &args(json!([{"name": "service", "value": "web"}, {"name": "other", "value": "1"}])));
        let merged = merged.unwrap();
        assert_eq!(merged.metrics.iter().map(|metric| metric.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            merged.args,
            args(json!([{"name": "service", "value": "web"}, {"name": "port", "value": "80"}]))
        );
    }

    #[test]
    fn what_contradicts_itself_is_told_in_upstreams_words() {
        let twice = [template(&["a"], json!([])), template(&["a"], json!([]))];
        assert_eq!(merge(&twice, &[]), Err("two metrics have the same name 'a'".to_owned()));
        let other = [
            template(&["a"], json!([{"name": "p", "value": "1"}])),
            template(&["b"], json!([{"name": "p", "value": "2"}])),
        ];
        let said = "Argument `p` specified multiple times with different values: '1', '2'";
        assert_eq!(merge(&other, &[]), Err(said.to_owned()));
        let open = [template(&["a"], json!([{"name": "service"}]))];
        assert_eq!(merge(&open, &[]), Err("args.service was not resolved".to_owned()));
    }
}
