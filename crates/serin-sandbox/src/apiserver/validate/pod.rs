//! Pods and pod templates.

use std::collections::HashSet;

use serde_json::Value;

use super::super::json::text;
use super::super::quantity::Quantity;
use super::super::status::{FieldError, Problem};
use super::{names, not_negative, one_of, port};

/// What is wrong with a PodSpec.
pub(super) fn validate(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    validate_with_claims(spec, path, &Value::Null, errors);
}

/// What is wrong with the PodSpec of a StatefulSet, whose claims are volumes, too.
pub(super) fn validate_with_claims(spec: &Value, path: &str, claims: &Value, errors: &mut Vec<FieldError>) {
    one_of(&spec["restartPolicy"], &format!("{path}.restartPolicy"), &["Always", "OnFailure", "Never"], errors);
    one_of(
        &spec["dnsPolicy"],
        &format!("{path}.dnsPolicy"),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        errors,
    );
    not_negative(&spec["terminationGracePeriodSeconds"], &format!("{path}.terminationGracePeriodSeconds"), errors);
    let mut volumes = unique_names(&spec["volumes"], &format!("{path}.volumes"), errors);
    volumes.extend(items(claims).iter().map(|claim| text(&claim["metadata"]["name"]).to_owned()));
    let mut seen = HashSet::new();
    for list in ["initContainers", "containers"] {
        for (index, container) in items(&spec[list]).iter().enumerate() {
            let path = format!("{path}.{list}[{index}]");
            let name = text(&container["name"]);
            if !name.is_empty() && !seen.insert(name.to_owned()) {
                errors.push(duplicate(format!("{path}.name"), &container["name"]));
            }
            validate_container(container, &path, &volumes, errors);
        }
    }
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[][..], Vec::as_slice)
}

fn duplicate(path: String, value: &Value) -> FieldError {
    FieldError { path, problem: Problem::Duplicate(value.clone()) }
}

fn unique_names(list: &Value, path: &str, errors: &mut Vec<FieldError>) -> HashSet<String> {
    let mut seen = HashSet::new();
    for (index, item) in items(list).iter().enumerate() {
        let name = text(&item["name"]);
        let path = format!("{path}[{index}].name");
        if let Some(why) = names::dns_label(name).filter(|_| !name.is_empty()) {
            errors.push(FieldError::invalid(path, &item["name"], why));
        } else if !name.is_empty() && !seen.insert(name.to_owned()) {
            errors.push(duplicate(path, &item["name"]));
        }
    }
    seen
}

fn validate_container(container: &Value, path: &str, volumes: &HashSet<String>, errors: &mut Vec<FieldError>) {
    let name = text(&container["name"]);
    if let Some(why) = names::dns_label(name).filter(|_| !name.is_empty()) {
        errors.push(FieldError::invalid(format!("{path}.name"), &container["name"], why));
    }
    let image = text(&container["image"]);
    if image.is_empty() {
        errors.push(FieldError::required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(format!("{path}.image"), &container["image"], why));
    }
    one_of(
        &container["imagePullPolicy"],
        &format!("{path}.imagePullPolicy"),
        &["Always", "IfNotPresent", "Never"],
        errors,
    );
    validate_ports(&container["ports"], &format!("{path}.ports"), errors);
    for (index, variable) in items(&container["env"]).iter().enumerate() {
        let name = text(&variable["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.env[{index}].name"), ""));
        } else if !name.chars().all(|it| matches!(it, ' '..='~') && it != '=') {
            let why =
                "a valid environment variable name must consist only of printable ASCII characters other than '='";
            errors.push(FieldError::invalid(format!("{path}.env[{index}].name"), &variable["name"], why));
        }
        if variable["valueFrom"].is_object() && !text(&variable["value"]).is_empty() {
            let why = "may not be specified when `value` is not empty";
            errors.push(FieldError::invalid(format!("{path}.env[{index}].valueFrom"), &Value::from(""), why));
        }
    }
    for (index, mount) in items(&container["volumeMounts"]).iter().enumerate() {
        if !volumes.contains(text(&mount["name"])) {
            let path = format!("{path}.volumeMounts[{index}].name");
            errors.push(FieldError::invalid(path, &mount["name"], "not found among spec.volumes"));
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        validate_probe(&container[probe], &format!("{path}.{probe}"), errors);
    }
    validate_resources(&container["resources"], &format!("{path}.resources"), errors);
}

fn validate_ports(ports: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut seen = HashSet::new();
    for (index, item) in items(ports).iter().enumerate() {
        let path = format!("{path}[{index}]");
        port(&item["containerPort"], &format!("{path}.containerPort"), errors);
        one_of(&item["protocol"], &format!("{path}.protocol"), &["SCTP", "TCP", "UDP"], errors);
        let name = text(&item["name"]);
        if name.is_empty() {
            continue;
        }
        if let Some(why) = names::port_name(name) {
            errors.push(FieldError::invalid(format!("{path}.name"), &item["name"], why));
        } else if !seen.insert(name) {
            errors.push(duplicate(format!("{path}.name"), &item["name"]));
        }
    }
}

fn validate_probe(probe: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if !probe.is_object() {
        return;
    }
    let handlers = ["exec", "httpGet", "tcpSocket", "grpc"];
    match handlers.iter().filter(|handler| probe[**handler].is_object()).count() {
        0 => errors.push(FieldError::required(path, "must specify a handler type")),
        1 => {}
        _ => errors.push(FieldError::forbidden(path, "may not specify more than 1 handler type")),
    }
    for name in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        not_negative(&probe[name], &format!("{path}.{name}"), errors);
    }
    port(&probe["httpGet"]["port"], &format!("{path}.httpGet.port"), errors);
}

fn validate_resources(resources: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for kind in ["limits", "requests"] {
        for (name, quantity) in resources[kind].as_object().into_iter().flatten() {
            let Some(amount) = Quantity::parse(quantity) else {
                let why =
                    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
                errors.push(FieldError::invalid(format!("{path}.{kind}[{name}]"), quantity, why));
                continue;
            };
            let limit = resources["limits"].get(name).and_then(Quantity::parse);
            if kind == "requests" && limit.is_some_and(|limit| amount > limit) {
                let why =
                    format!("must be less than or equal to {name} limit of {}", text(&resources["limits"][name]));
                errors.push(FieldError::invalid(format!("{path}.requests"), quantity, why));
            }
        }
    }
}

/// Of a pod only images, tolerations and deadlines can change.
pub(super) fn validate_change(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let fixed = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for list in ["containers", "initContainers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                container["image"] = Value::Null;
            }
        }
        for name in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates"] {
            super::super::json::remove(&mut spec, name);
        }
        spec
    };
    if fixed(old) != fixed(new) {
        errors.push(FieldError::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`, \
             `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to \
             existing tolerations), `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
             previously negative)",
        ));
    }
}
