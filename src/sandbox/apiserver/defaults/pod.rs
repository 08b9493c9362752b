//! Pods and pod templates.

use serde_json::{Value, json};

use super::super::json::{default, text};
use super::each;

/// Fills a PodSpec, of a pod or of a template.
pub(super) fn fill(spec: &mut Value) {
    default(spec, "restartPolicy", "Always");
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "schedulerName", "default-scheduler");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "securityContext", json!({}));
    // The old and the new name of one field.
    for (from, to) in [("serviceAccountName", "serviceAccount"), ("serviceAccount", "serviceAccountName")] {
        if let Some(name) = spec[from].as_str().map(ToOwned::to_owned) {
            default(spec, to, name);
        }
    }
    let host_network = spec["hostNetwork"] == json!(true);
    for list in ["containers", "initContainers"] {
        each(spec.get_mut(list), |container| fill_container(container, host_network));
    }
    each(spec.get_mut("volumes"), fill_volume);
}

/// What admission adds to a pod, and not to a template.
pub(in super::super) fn default_created_pod(pod: &mut Value) {
    let spec = &mut pod["spec"];
    default(spec, "enableServiceLinks", true);
    default(spec, "serviceAccountName", "default");
    default(spec, "serviceAccount", "default");
    default(spec, "priority", 0);
    default(spec, "preemptionPolicy", "PreemptLowerPriority");
    let toleration = |key: &str| {
        json!({
            "key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 300
        })
    };
    default(spec, "tolerations", json!([toleration("not-ready"), toleration("unreachable")]));
    each(spec.get_mut("containers"), |container| {
        // A limit without a request is also the request.
        for (name, limit) in container["resources"]["limits"].as_object().cloned().unwrap_or_default() {
            default(&mut container["resources"]["requests"], &name, limit);
        }
    });
    let class = quality_of_service(&pod["spec"]);
    pod["status"] = json!({"phase": "Pending", "qosClass": class});
}

/// How the pod ranks under pressure.
fn quality_of_service(spec: &Value) -> &'static str {
    let containers = spec["containers"].as_array().map_or(&[][..], Vec::as_slice);
    let has = |container: &Value, kind: &str, name: &str| container["resources"][kind].get(name).is_some();
    let any = |container: &Value| {
        ["limits", "requests"].iter().any(|kind| ["cpu", "memory"].iter().any(|name| has(container, kind, name)))
    };
    let all = |container: &Value| {
        ["cpu", "memory"].iter().all(|name| {
            has(container, "limits", name)
                && container["resources"]["limits"][name] == container["resources"]["requests"][name]
        })
    };
    if containers.iter().all(all) {
        "Guaranteed"
    } else if containers.iter().any(any) {
        "Burstable"
    } else {
        "BestEffort"
    }
}

fn fill_container(container: &mut Value, host_network: bool) {
    let policy = if is_latest(text(&container["image"])) { "Always" } else { "IfNotPresent" };
    default(container, "imagePullPolicy", policy);
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    default(container, "resources", json!({}));
    each(container.get_mut("ports"), |port| {
        default(port, "protocol", "TCP");
        if host_network {
            let own = port["containerPort"].clone();
            default(port, "hostPort", own);
        }
    });
    each(container.get_mut("env"), |variable| {
        if variable["valueFrom"]["fieldRef"].is_object() {
            default(&mut variable["valueFrom"]["fieldRef"], "apiVersion", "v1");
        }
    });
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe) {
            fill_probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(action) = container.get_mut("lifecycle").and_then(|lifecycle| lifecycle.get_mut(hook)) {
            fill_http_get(action);
        }
    }
}

/// An image without a tag, or with `latest`, is pulled always.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn fill_probe(probe: &mut Value) {
    default(probe, "timeoutSeconds", 1);
    default(probe, "periodSeconds", 10);
    default(probe, "successThreshold", 1);
    default(probe, "failureThreshold", 3);
    fill_http_get(probe);
    if probe["grpc"].is_object() {
        default(&mut probe["grpc"], "service", "");
    }
}

fn fill_http_get(action: &mut Value) {
    if action["httpGet"].is_object() {
        default(&mut action["httpGet"], "path", "/");
        default(&mut action["httpGet"], "scheme", "HTTP");
    }
}

fn fill_volume(volume: &mut Value) {
    const MODE: i32 = 0o644;
    if volume.as_object().is_some_and(|map| map.len() == 1) {
        volume["emptyDir"] = json!({});
    }
    for source in ["configMap", "secret", "projected", "downwardAPI"] {
        if volume[source].is_object() {
            default(&mut volume[source], "defaultMode", MODE);
        }
    }
    if volume["hostPath"].is_object() {
        default(&mut volume["hostPath"], "type", "");
    }
}
