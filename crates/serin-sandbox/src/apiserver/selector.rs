//! Label and field selectors.

use serde_json::Value;

use super::kinds::Resource;
use super::status::ApiError;

/// A requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// A requirement on one field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldRequirement {
    path: String,
    value: String,
    equal: bool,
}

/// Both selectors of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<FieldRequirement>,
}

impl Selector {
    /// Parses both, refusing field labels that the kind does not support.
    pub(super) fn parse(resource: &Resource, labels: &str, fields: &str) -> Result<Self, ApiError> {
        let fields = parse_fields(fields)?;
        for field in &fields {
            if !is_supported(resource, &field.path) {
                let path = &field.path;
                return Err(ApiError::bad_request(format!(
                    "Unable to find \"{}\" that match label selector \"\", field selector \"{path}={}\": field label not supported: {path}",
                    resource.api_version(),
                    field.value
                )));
            }
        }
        Ok(Self { labels: parse_labels(labels)?, fields })
    }

    /// Selects everything.
    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether a stored object is selected.
    pub(super) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|requirement| requirement.matches(labels))
            && self.fields.iter().all(|field| (field_value(object, &field.path) == field.value) == field.equal)
    }
}

impl Requirement {
    fn matches(&self, labels: &Value) -> bool {
        let value = |key: &str| labels.get(key).and_then(Value::as_str);
        let among = |key: &str, values: &[String]| value(key).is_some_and(|own| values.iter().any(|v| v == own));
        match self {
            Self::In(key, values) => among(key, values),
            Self::NotIn(key, values) => !among(key, values),
            Self::Exists(key) => value(key).is_some(),
            Self::Absent(key) => value(key).is_none(),
        }
    }
}

fn parse_labels(text: &str) -> Result<Vec<Requirement>, ApiError> {
    split_outside_parentheses(text).into_iter().map(parse_requirement).collect()
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_u32, 0, Vec::new());
    for (index, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn parse_requirement(text: &str) -> Result<Requirement, ApiError> {
    let unparsable = || ApiError::bad_request(format!("unable to parse requirement: invalid selector \"{text}\""));
    if let Some(key) = text.strip_prefix('!') {
        return Ok(Requirement::Absent(key.trim().to_owned()));
    }
    if let Some(list) = text.strip_suffix(')') {
        let (head, values) = list.split_once('(').ok_or_else(unparsable)?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        let (key, operator) = head.trim().rsplit_once(char::is_whitespace).ok_or_else(unparsable)?;
        return match operator {
            "in" => Ok(Requirement::In(key.trim().to_owned(), values)),
            "notin" => Ok(Requirement::NotIn(key.trim().to_owned(), values)),
            _ => Err(unparsable()),
        };
    }
    for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((key, value)) = text.split_once(operator) {
            if value.starts_with('=') {
                return Err(ApiError::bad_request("unable to parse requirement: found '=', expected: identifier"));
            }
            let (key, values) = (key.trim().to_owned(), vec![value.trim().to_owned()]);
            return Ok(if negated { Requirement::NotIn(key, values) } else { Requirement::In(key, values) });
        }
    }
    if text.contains(char::is_whitespace) { Err(unparsable()) } else { Ok(Requirement::Exists(text.to_owned())) }
}

fn parse_fields(text: &str) -> Result<Vec<FieldRequirement>, ApiError> {
    let parse = |part: &str| {
        let split = [("!=", false), ("==", true), ("=", true)]
            .into_iter()
            .find_map(|(operator, equal)| part.split_once(operator).map(|(path, value)| (path, value, equal)));
        let (path, value, equal) = split.ok_or_else(|| {
            ApiError::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'"))
        })?;
        Ok(FieldRequirement { path: path.to_owned(), value: value.to_owned(), equal })
    };
    text.split(',').filter(|part| !part.is_empty()).map(parse).collect()
}

/// Field labels beyond metadata's, per kind, as Kubernetes registers them.
fn is_supported(resource: &Resource, path: &str) -> bool {
    if path == "metadata.name" || (path == "metadata.namespace" && resource.namespaced) {
        return true;
    }
    let more: &[&str] = match resource.storage.as_str() {
        "events" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        "pods" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "namespaces" => &["status.phase", "name"],
        "nodes" => &["spec.unschedulable"],
        "secrets" => &["type"],
        "services" => &["spec.clusterIP", "spec.type"],
        "replicasets.apps" => &["status.replicas"],
        "jobs.batch" => &["status.successful"],
        _ => &[],
    };
    more.contains(&path)
}

/// A field as selector text; booleans and numbers in their JSON form.
fn field_value(object: &Value, path: &str) -> String {
    let path = match path {
        "source" => "source.component",
        "name" => "metadata.name",
        other => other,
    };
    let value = path.split('.').try_fold(object, |value, name| value.get(name));
    match value {
        None | Some(Value::Null) if path == "spec.unschedulable" => "false".to_owned(),
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_as_kubectl_writes_them() {
        let object = json!({"metadata": {"labels": {"app": "podinfo", "tier": "web"}}});
        let check = |text: &str| {
            let labels = parse_labels(text).unwrap();
            Selector { labels, fields: Vec::new() }.matches(&object)
        };
        for text in ["app=podinfo", "app==podinfo,tier!=db", "app in (a, podinfo),!gone", "app", "x notin (y)"] {
            assert!(check(text), "{text}");
        }
        for text in ["app=other", "app notin (podinfo)", "!app", "missing"] {
            assert!(!check(text), "{text}");
        }
        assert!(parse_labels("a b c").is_err());
    }
}
