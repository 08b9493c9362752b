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
    // The new and the old name of one field; where they differ the new one counts.
    let account = [&spec["serviceAccountName"], &spec["serviceAccount"]].into_iter().find_map(Value::as_str);
    if let Some(account) = account.map(ToOwned::to_owned) {
        spec["serviceAccountName"] = json!(account);
        spec["serviceAccount"] = json!(account);
    }
    for list in ["containers", "initContainers"] {
        each(spec.get_mut(list), fill_container);
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
    // Since Kubernetes 1.28 a template keeps its ports as they are.
    if spec["hostNetwork"] == json!(true) {
        each(spec.get_mut("containers"), |container| {
            each(container.get_mut("ports"), |port| {
                let own = port["containerPort"].clone();
                default(port, "hostPort", own);
            });
        });
    }
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

fn fill_container(container: &mut Value) {
    let policy = if is_latest(text(&container["image"])) { "Always" } else { "IfNotPresent" };
    default(container, "imagePullPolicy", policy);
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    default(container, "resources", json!({}));
    each(container.get_mut("ports"), |port| default(port, "protocol", "TCP"));
    each(container.get_mut("env"), |variable| {
        if let Some(source) = variable.get_mut("valueFrom") {
            fill_field_source(source);
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

/// What refers to a field of the pod: a variable's source, or an item of a downward API volume.
fn fill_field_source(source: &mut Value) {
    if source["fieldRef"].is_object() {
        default(&mut source["fieldRef"], "apiVersion", "v1");
    }
    if source["resourceFieldRef"].is_object() {
        default(&mut source["resourceFieldRef"], "divisor", "0");
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
    each(volume.get_mut("downwardAPI").and_then(|source| source.get_mut("items")), fill_field_source);
    each(volume.get_mut("projected").and_then(|source| source.get_mut("sources")), |source| {
        if source["serviceAccountToken"].is_object() {
            default(&mut source["serviceAccountToken"], "expirationSeconds", 3600);
        }
        each(source.get_mut("downwardAPI").and_then(|source| source.get_mut("items")), fill_field_source);
    });
    if volume["hostPath"].is_object() {
        default(&mut volume["hostPath"], "type", "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Captured from Kubernetes 1.36.2.
    #[test]
    fn a_template_on_the_host_network_keeps_its_ports_and_downward_fields_are_filled() {
        let item = |reference: Value| json!({"path": "p", "resourceFieldRef": reference});
        let mut spec = json!({
            "hostNetwork": true,
            "containers": [{"name": "a", "image": "a:1", "ports": [{"containerPort": 80}]}],
            "volumes": [
                {"name": "down", "downwardAPI": {"items": [item(json!({"resource": "limits.cpu"}))]}},
                {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            ],
        });
        fill(&mut spec);
        assert_eq!(spec["containers"][0]["ports"], json!([{"containerPort": 80, "protocol": "TCP"}]));
        let filled = item(json!({"resource": "limits.cpu", "divisor": "0"}));
        assert_eq!(
            spec["volumes"],
            json!([
                {"name": "down", "downwardAPI": {"defaultMode": 420, "items": [filled]}},
                {"name": "token", "projected": {
                    "defaultMode": 420, "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]
                }},
            ])
        );
        let mut pod = json!({"spec": spec});
        default_created_pod(&mut pod);
        assert_eq!(pod["spec"]["containers"][0]["ports"][0]["hostPort"], json!(80));
    }
}
