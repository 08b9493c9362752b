//! Services, ingresses, ConfigMaps and Secrets.

use std::collections::HashSet;

use serde_json::Value;

use super::super::json::text;
use super::super::status::{FieldError, Problem};
use super::{names, one_of, port};

/// Data of a ConfigMap or Secret together, as in Kubernetes.
const DATA_BYTES_MAX: usize = 1024 * 1024;

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[][..], Vec::as_slice)
}

/// What is wrong with a ServiceSpec.
pub(super) fn validate(spec: &Value, errors: &mut Vec<FieldError>) {
    one_of(&spec["type"], "spec.type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], errors);
    one_of(&spec["sessionAffinity"], "spec.sessionAffinity", &["ClientIP", "None"], errors);
    let ports = items(&spec["ports"]);
    let external = spec["type"] == "ExternalName";
    if ports.is_empty() && !external && spec["clusterIP"] != "None" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    if external {
        let name = text(&spec["externalName"]);
        if let Some(why) = names::dns_subdomain(name) {
            errors.push(FieldError::invalid("spec.externalName", &spec["externalName"], why));
        }
    }
    let (mut seen_names, mut seen_ports) = (HashSet::new(), HashSet::new());
    for (index, item) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let name = text(&item["name"]);
        if name.is_empty() {
            if ports.len() > 1 {
                errors.push(FieldError::required(format!("{path}.name"), ""));
            }
        } else if let Some(why) = names::dns_label(name) {
            errors.push(FieldError::invalid(format!("{path}.name"), &item["name"], why));
        } else if !seen_names.insert(name) {
            let problem = Problem::Duplicate(item["name"].clone());
            errors.push(FieldError { path: format!("{path}.name"), problem });
        }
        port(&item["port"], &format!("{path}.port"), errors);
        one_of(&item["protocol"], &format!("{path}.protocol"), &["SCTP", "TCP", "UDP"], errors);
        match &item["targetPort"] {
            Value::String(target) => {
                if let Some(why) = names::port_name(target) {
                    errors.push(FieldError::invalid(format!("{path}.targetPort"), &item["targetPort"], why));
                }
            }
            target => port(target, &format!("{path}.targetPort"), errors),
        }
        if !seen_ports.insert((item["port"].to_string(), text(&item["protocol"]))) {
            errors.push(FieldError { path, problem: Problem::Duplicate(item.clone()) });
        }
    }
    super::meta::validate_labels(&spec["selector"], "spec.selector", errors);
}

/// A cluster IP stays, unless the service stops having one.
pub(super) fn validate_change(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let (before, after) = (&old["spec"], &new["spec"]);
    let external = |spec: &Value| spec["type"] == "ExternalName";
    if external(before) || external(after) || text(&before["clusterIP"]).is_empty() {
        return;
    }
    if before["clusterIP"] != after["clusterIP"] {
        let why = "may not change once set";
        errors.push(FieldError::invalid("spec.clusterIPs[0]", &after["clusterIP"], why));
    }
}

/// What is wrong with an IngressSpec.
pub(super) fn validate_ingress(spec: &Value, errors: &mut Vec<FieldError>) {
    if items(&spec["rules"]).is_empty() && spec["defaultBackend"].is_null() {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid("spec", spec, why));
    }
    for (index, rule) in items(&spec["rules"]).iter().enumerate() {
        let host = text(&rule["host"]);
        if let Some(why) =
            names::dns_subdomain(host.strip_prefix("*.").unwrap_or(host)).filter(|_| !host.is_empty())
        {
            errors.push(FieldError::invalid(format!("spec.rules[{index}].host"), &rule["host"], why));
        }
        for (place, entry) in items(&rule["http"]["paths"]).iter().enumerate() {
            let path = format!("spec.rules[{index}].http.paths[{place}]");
            let kinds = ["Exact", "ImplementationSpecific", "Prefix"];
            one_of(&entry["pathType"], &format!("{path}.pathType"), &kinds, errors);
            if entry["pathType"] != "ImplementationSpecific" && !text(&entry["path"]).starts_with('/') {
                let why = "must be an absolute path";
                errors.push(FieldError::invalid(format!("{path}.path"), &entry["path"], why));
            }
        }
    }
}

/// What is wrong with the data of a ConfigMap or Secret.
pub(super) fn validate_data(object: &Value, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in object[field].as_object().into_iter().flatten() {
            if let Some(why) = names::config_key(key) {
                errors.push(FieldError::invalid(format!("{field}[{key}]"), &Value::from(key.as_str()), why));
            }
            size += text(value).len();
        }
    }
    for (key, _) in object["data"].as_object().into_iter().flatten() {
        if object["binaryData"].get(key).is_some() {
            let why = "duplicate of key present in binaryData";
            errors.push(FieldError::invalid(format!("data[{key}]"), &Value::from(key.as_str()), why));
        }
    }
    if size > DATA_BYTES_MAX {
        let problem = Problem::TooLong(format!("may not be more than {DATA_BYTES_MAX} bytes"));
        errors.push(FieldError { path: String::new(), problem });
    }
}

/// Immutable data stays; so does a Secret's type.
pub(super) fn validate_data_change(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    if old["type"] != new["type"] {
        errors.push(FieldError::invalid("type", &new["type"], "field is immutable"));
    }
    if old["immutable"] != Value::Bool(true) {
        return;
    }
    for field in ["immutable", "data", "binaryData"] {
        if old[field] != new[field] {
            errors.push(FieldError::forbidden(field, "field is immutable when `immutable` is set"));
        }
    }
}
