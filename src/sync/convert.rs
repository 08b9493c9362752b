//! Objects written in API versions that Kubernetes no longer serves. PURE.

use serde_json::{Map, Value, json};

/// What `sync` warns of when it applies this object: its API version is gone and it is applied as another.
pub fn gone_version(object: &Value) -> Option<String> {
    to_served(&mut object.clone())
}

/// Groups and versions that Kubernetes no longer serves, each with the kinds that are meant (none: all of them) and what to
/// write instead. All were gone by 1.32.
const GONE: [(&str, &[&str], &str); 22] = [
    ("extensions/v1beta1", &["DaemonSet", "Deployment", "ReplicaSet"], "apps/v1"),
    ("extensions/v1beta1", &["Ingress", "NetworkPolicy"], "networking.k8s.io/v1"),
    ("extensions/v1beta1", &["PodSecurityPolicy"], ""),
    ("apps/v1beta1", &[], "apps/v1"),
    ("apps/v1beta2", &[], "apps/v1"),
    ("networking.k8s.io/v1beta1", &["Ingress", "IngressClass"], "networking.k8s.io/v1"),
    ("policy/v1beta1", &["PodDisruptionBudget"], "policy/v1"),
    ("policy/v1beta1", &["PodSecurityPolicy"], ""),
    ("batch/v1beta1", &[], "batch/v1"),
    ("batch/v2alpha1", &[], "batch/v1"),
    ("rbac.authorization.k8s.io/v1alpha1", &[], "rbac.authorization.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1", &[], "rbac.authorization.k8s.io/v1"),
    ("apiextensions.k8s.io/v1beta1", &[], "apiextensions.k8s.io/v1"),
    (
        "admissionregistration.k8s.io/v1beta1",
        &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"],
        "admissionregistration.k8s.io/v1",
    ),
    ("apiregistration.k8s.io/v1beta1", &[], "apiregistration.k8s.io/v1"),
    ("scheduling.k8s.io/v1beta1", &[], "scheduling.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", &["CSIDriver", "CSINode", "StorageClass"], "storage.k8s.io/v1"),
    ("coordination.k8s.io/v1beta1", &["Lease"], "coordination.k8s.io/v1"),
    ("discovery.k8s.io/v1beta1", &[], "discovery.k8s.io/v1"),
    ("events.k8s.io/v1beta1", &[], "events.k8s.io/v1"),
    ("node.k8s.io/v1beta1", &[], "node.k8s.io/v1"),
    ("certificates.k8s.io/v1beta1", &["CertificateSigningRequest"], "certificates.k8s.io/v1"),
];

/// Why no current Kubernetes takes this object, if its API version is gone and is not rewritten.
pub fn not_served(object: &Value) -> Option<String> {
    let (version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    let (_, _, instead) =
        GONE.iter().find(|(gone, kinds, _)| *gone == version && (kinds.is_empty() || kinds.contains(&kind)))?;
    Some(match *instead {
        "" => format!("{version} {kind} is no longer served by Kubernetes, and nothing took its place"),
        instead => format!("{version} {kind} is no longer served by Kubernetes: write it as {instead}"),
    })
}

/// Rewrites the object to a served version if it is one of those that can be rewritten; returns the warning to show.
///
/// `autoscaling/v2beta2` and `v2beta1` went with Kubernetes 1.26 and 1.25; today's manifests still carry them.
pub(super) fn to_served(object: &mut Value) -> Option<String> {
    if object["kind"] != "HorizontalPodAutoscaler" {
        return None;
    }
    let version = object["apiVersion"].as_str()?.to_owned();
    match version.as_str() {
        // The two versions have the same shape.
        "autoscaling/v2beta2" => {}
        "autoscaling/v2beta1" => {
            if let Some(metrics) = object["spec"]["metrics"].as_array_mut() {
                metrics.iter_mut().for_each(metric_from_v2beta1);
            }
        }
        _ => return None,
    }
    object["apiVersion"] = json!("autoscaling/v2");
    Some(format!("{version} is no longer served by Kubernetes; applied as autoscaling/v2"))
}

/// Moves v2beta1's flat names and targets into v2's `metric` and `target`.
fn metric_from_v2beta1(metric: &mut Value) {
    let Some(source) = metric["type"].as_str().map(|kind| format!("{}{}", kind[..1].to_lowercase(), &kind[1..]))
    else {
        return;
    };
    let Some(old) = metric.get_mut(&source).and_then(Value::as_object_mut) else {
        return;
    };
    if source == "object"
        && let Some(described) = old.remove("target")
    {
        old.insert("describedObject".to_owned(), described);
    }
    let mut target = Map::new();
    for (from, to, kind) in [
        ("targetAverageUtilization", "averageUtilization", "Utilization"),
        ("targetAverageValue", "averageValue", "AverageValue"),
        ("averageValue", "averageValue", "AverageValue"),
        ("targetValue", "value", "Value"),
    ] {
        if let Some(value) = old.remove(from) {
            target.insert(to.to_owned(), value);
            target.insert("type".to_owned(), json!(kind));
        }
    }
    old.insert("target".to_owned(), Value::Object(target));
    if let Some(name) = old.remove("metricName") {
        let mut named = json!({ "name": name });
        if let Some(selector) = old.remove("selector").or_else(|| old.remove("metricSelector")) {
            named["selector"] = selector;
        }
        old.insert("metric".to_owned(), named);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn autoscaler(version: &str, metrics: Value) -> Value {
        json!({"apiVersion": version, "kind": "HorizontalPodAutoscaler", "spec": {"metrics": metrics}})
    }

    #[test]
    fn versions_that_are_gone_are_told_with_what_took_their_place() {
        let told = |version: &str, kind: &str| not_served(&json!({"apiVersion": version, "kind": kind}));
        assert_eq!(
            told("extensions/v1beta1", "Ingress").as_deref(),
            Some("extensions/v1beta1 Ingress is no longer served by Kubernetes: write it as networking.k8s.io/v1")
        );
        assert!(told("policy/v1beta1", "PodSecurityPolicy").unwrap().ends_with("nothing took its place"));
        assert_eq!(told("apps/v1", "Deployment"), None);
        assert_eq!(told("networking.k8s.io/v1beta1", "IPAddress"), None, "other kinds of the version are served");
    }

    #[test]
    fn v2beta2_keeps_its_shape() {
        let metrics = json!([{"type": "Resource", "resource":
            {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 99}}}]);
        let mut object = autoscaler("autoscaling/v2beta2", metrics.clone());
        assert!(to_served(&mut object).unwrap().contains("autoscaling/v2beta2"));
        assert_eq!(object, autoscaler("autoscaling/v2", metrics));
        assert_eq!(to_served(&mut object), None);
    }

    #[test]
    fn v2beta1_is_reshaped() {
        let mut object = autoscaler(
            "autoscaling/v2beta1",
            json!([
                {"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 80}},
                {"type": "Pods", "pods": {"metricName": "rps", "targetAverageValue": "10"}},
                {"type": "Object", "object":
                    {"target": {"kind": "Ingress", "name": "a"}, "metricName": "hits", "targetValue": "5"}},
                {"type": "External", "external":
                    {"metricName": "queue", "metricSelector": {"matchLabels": {"q": "a"}}, "targetValue": "30"}},
            ]),
        );
        to_served(&mut object).unwrap();
        assert_eq!(
            object["spec"]["metrics"],
            json!([
                {"type": "Resource", "resource":
                    {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
                {"type": "Pods", "pods":
                    {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "Ingress", "name": "a"},
                    "metric": {"name": "hits"}, "target": {"type": "Value", "value": "5"}}},
                {"type": "External", "external": {"metric": {"name": "queue", "selector": {"matchLabels": {"q": "a"}}},
                    "target": {"type": "Value", "value": "30"}}},
            ])
        );
    }
}
