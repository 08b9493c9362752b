//! Workloads, jobs, autoscalers and disruption budgets.

use serde_json::{Value, json};

use super::super::json::{remove, text};
use super::super::status::FieldError;
use super::{meta, not_negative, one_of, pod};

/// What is wrong with the spec of a Deployment, ReplicaSet, DaemonSet or StatefulSet.
pub(super) fn validate_workload(kind: &str, spec: &Value, errors: &mut Vec<FieldError>) {
    for name in ["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        not_negative(&spec[name], &format!("spec.{name}"), errors);
    }
    let selector = &spec["selector"];
    if selector.is_object() {
        let empty = |name: &str| match &selector[name] {
            Value::Object(map) => map.is_empty(),
            Value::Array(list) => list.is_empty(),
            _ => true,
        };
        if empty("matchLabels") && empty("matchExpressions") {
            let why = format!("empty selector is invalid for {}", kind.to_lowercase());
            errors.push(FieldError::invalid("spec.selector", selector, why));
        }
    }
    let labels = &spec["template"]["metadata"]["labels"];
    meta::validate_labels(labels, "spec.template.metadata.labels", errors);
    if spec["template"].is_object() {
        if !selects(selector, labels) {
            errors.push(FieldError::invalid(
                "spec.template.metadata.labels",
                labels,
                "`selector` does not match template `labels`",
            ));
        }
        let claims = &spec["volumeClaimTemplates"];
        pod::validate_with_claims(&spec["template"]["spec"], "spec.template.spec", claims, errors);
        let policy = &spec["template"]["spec"]["restartPolicy"];
        if matches!(text(policy), "OnFailure" | "Never") {
            errors.push(FieldError::unsupported("spec.template.spec.restartPolicy", policy, &["Always"]));
        }
    }
    if kind == "Deployment" {
        let (deadline, ready) = (&spec["progressDeadlineSeconds"], spec["minReadySeconds"].as_i64().unwrap_or(0));
        if deadline.as_i64().is_some_and(|deadline| deadline <= ready) {
            let why = "must be greater than minReadySeconds";
            errors.push(FieldError::invalid("spec.progressDeadlineSeconds", deadline, why));
        }
        validate_strategy(&spec["strategy"], errors);
    }
}

fn validate_strategy(strategy: &Value, errors: &mut Vec<FieldError>) {
    one_of(&strategy["type"], "spec.strategy.type", &["Recreate", "RollingUpdate"], errors);
    let rolling = &strategy["rollingUpdate"];
    if strategy["type"] == "Recreate" && rolling.is_object() {
        errors.push(FieldError::forbidden(
            "spec.strategy.rollingUpdate",
            "may not be specified when strategy `type` is 'Recreate'",
        ));
    }
    let zero = |value: &Value| *value == json!(0) || *value == "0%";
    if rolling.is_object() && zero(&rolling["maxUnavailable"]) && zero(&rolling["maxSurge"]) {
        let why = "may not be 0 when `maxSurge` is 0";
        errors.push(FieldError::invalid(
            "spec.strategy.rollingUpdate.maxUnavailable",
            &rolling["maxUnavailable"],
            why,
        ));
    }
    for name in ["maxUnavailable", "maxSurge"] {
        let path = format!("spec.strategy.rollingUpdate.{name}");
        not_negative(&rolling[name], &path, errors);
        let percent = rolling[name].as_str().map(|text| text.strip_suffix('%').map(str::parse::<u32>));
        if percent.is_some_and(|percent| !matches!(percent, Some(Ok(_)))) {
            let why =
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%')";
            errors.push(FieldError::invalid(path, &rolling[name], why));
        }
    }
}

/// Whether a LabelSelector selects the labels.
fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = |(key, value): (&String, &Value)| labels.get(key) == Some(value);
    let fits = |expression: &Value| {
        let own = labels.get(text(&expression["key"]));
        let among = own.is_some_and(|own| expression["values"].as_array().is_some_and(|list| list.contains(own)));
        match text(&expression["operator"]) {
            "In" => among,
            "NotIn" => !among,
            "Exists" => own.is_some(),
            "DoesNotExist" => own.is_none(),
            _ => false,
        }
    };
    selector["matchLabels"].as_object().into_iter().flatten().all(equal)
        && selector["matchExpressions"].as_array().into_iter().flatten().all(fits)
}

/// Of a StatefulSet's spec only a few fields can change.
pub(super) fn validate_stateful_set_change(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    const MUTABLE: &[&str] = &[
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let fixed = |object: &Value| {
        let mut spec = object["spec"].clone();
        for name in MUTABLE {
            remove(&mut spec, name);
        }
        spec
    };
    if fixed(old) != fixed(new) {
        errors.push(FieldError::forbidden(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ));
    }
}

/// What is wrong with a JobSpec.
pub(super) fn validate_job(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for name in ["parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"]
    {
        not_negative(&spec[name], &format!("{path}.{name}"), errors);
    }
    if !spec["template"].is_object() {
        return;
    }
    pod::validate(&spec["template"]["spec"], &format!("{path}.template.spec"), errors);
    let policy = &spec["template"]["spec"]["restartPolicy"];
    if *policy == "Always" {
        let at = format!("{path}.template.spec.restartPolicy");
        errors.push(FieldError::unsupported(at, policy, &["OnFailure", "Never"]));
    }
}

/// What is wrong with a CronJobSpec.
pub(super) fn validate_cron_job(spec: &Value, errors: &mut Vec<FieldError>) {
    one_of(&spec["concurrencyPolicy"], "spec.concurrencyPolicy", &["Allow", "Forbid", "Replace"], errors);
    let schedule = text(&spec["schedule"]);
    if !schedule.is_empty() && !schedule.starts_with('@') && schedule.split_whitespace().count() != 5 {
        let why = format!("expected exactly 5 fields, found {}", schedule.split_whitespace().count());
        errors.push(FieldError::invalid("spec.schedule", &spec["schedule"], why));
    }
    validate_job(&spec["jobTemplate"]["spec"], "spec.jobTemplate.spec", errors);
}

/// What is wrong with a HorizontalPodAutoscalerSpec.
pub(super) fn validate_autoscaler(spec: &Value, errors: &mut Vec<FieldError>) {
    let (least, most) = (spec["minReplicas"].as_i64().unwrap_or(1), spec["maxReplicas"].as_i64());
    if least < 1 {
        let why = "must be greater than or equal to 1";
        errors.push(FieldError::invalid("spec.minReplicas", &spec["minReplicas"], why));
    }
    if most.is_some_and(|most| most < 1) {
        errors.push(FieldError::invalid("spec.maxReplicas", &spec["maxReplicas"], "must be greater than 0"));
    } else if most.is_some_and(|most| most < least) {
        let why = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid("spec.maxReplicas", &spec["maxReplicas"], why));
    }
    let kinds = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    for (index, metric) in spec["metrics"].as_array().into_iter().flatten().enumerate() {
        let path = format!("spec.metrics[{index}]");
        one_of(&metric["type"], &format!("{path}.type"), &kinds, errors);
        let mut name = text(&metric["type"]).to_owned();
        if let Some(first) = name.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        if kinds.contains(&text(&metric["type"])) && !metric[&name].is_object() {
            let why = "must populate information for the given metric source";
            errors.push(FieldError::required(format!("{path}.{name}"), why));
        }
    }
}

/// What is wrong with a PodDisruptionBudgetSpec.
pub(super) fn validate_budget(spec: &Value, errors: &mut Vec<FieldError>) {
    if !spec["minAvailable"].is_null() && !spec["maxUnavailable"].is_null() {
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid("spec", spec, why));
    }
}
